"""Which images the supernet sees and which the generator: the split, and its record beside a supernet's weights.

With the record nothing is scored on images that a supernet was trained on.

Whatever uses a trained supernet follows this record: images come from the set and the split of its training, and
architectures are scored under the codes that its sampling has trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.data import parts
from common.errors import UserError
from common.run.files import read_json
from papers.sgnas.data.sets import ImageSet, pixel_statistics
from papers.sgnas.method.sampling import ACTIVE


@dataclass(frozen=True)
class Split:
    """How a set is shared out between supernet and generator; everything that decides which image goes where.

    portion: the supernet's share of all images, 1: all but ``search_images``. train_images, search_images: at most so
    many of the supernet's share, and exactly so many for the generator (0: all).
    """

    portion: float
    train_images: int
    search_images: int

    def parts(self, images: Any, search_images: int | None = None) -> tuple[Any, Any]:
        """(supernet's, generator's) images, every class in both: CIFAR and digits in file order, the supernet's first;
        of other sets the classes in turn. Raises UserError.

        search_images: another number of images that the supernet has not seen (0: all of them).
        """
        count, what = len(images), "--train-portion and --search-images"
        cut = int(np.floor(self.portion * count)) if self.portion < 1 else count - self.search_images
        if not 0 < cut < count or cut + self.search_images > count:
            share = f"a share of {self.portion:g}" if self.portion < 1 else "the rest"
            wanted = f"{self.search_images:,}" if self.search_images else "the rest"
            most = max(1, count - cut) if self.portion < 1 else max(1, count // 5)
            raise UserError(
                f"{images.name}: {count:,} images do not give the supernet {share} and the generator {wanted} of them; "
                f"set --search-images to {most} or less{' (0: all of the rest)' if self.portion < 1 else ''}"
            )
        train, rest = parts.split(images, cut, what)
        held = self.search_images if search_images is None else search_images
        return parts.take(train, self.train_images, "--train-images"), parts.take(rest, held, "--search-images")


@dataclass(frozen=True)
class Provenance:
    """dataset, data: the set as the user named it, and its pins. images: how many it has. split: see ``Split``.

    active: the sampling of sub-blocks. mean, std: of the pixels, on the 0..1 scale.
    """

    dataset: str
    data: Mapping[str, str]
    images: int
    split: Split
    active: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """What supernet.json holds."""
        return {**asdict(self), "data": dict(self.data), "mean": list(self.mean), "std": list(self.std)}

    def check_set(self, name: str, images: ImageSet) -> None:
        """Raises UserError where the set is not the one of the training."""
        same = dict(images.pins) == dict(self.data) and len(images) == self.images
        if not same or pixel_statistics(name, images) != (self.mean, self.std):
            raise UserError(
                f"the supernet was trained on {self.dataset} ({self.images:,} images) and {name} is not that set "
                f"({len(images):,} images, or other content): which of them it was trained on is then not known; leave "
                f"--dataset out, give the same set, or train a supernet on this one"
            )

    def check_settings(self, settings: Any) -> None:
        """Raises UserError for a search whose settings say something else than the supernet's training."""
        split = self.split
        stored = {"train_portion": split.portion, "train_images": split.train_images, "active": self.active}
        if split.portion == 1:  # then the generator's number decides what is left for the supernet
            stored["search_images"] = split.search_images
        for name, value in stored.items():
            if getattr(settings, name) != value:
                flag = "--" + name.replace("_", "-")
                raise UserError(
                    f"the supernet was trained with {flag} {value}, these settings say {getattr(settings, name)}; "
                    f"set {flag} {value}, or train another supernet"
                )


def _of(kind: Any, value: Any) -> Any:
    """The value, if it is of that type. Raises TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind}, got {value!r}")
    return value


def provenance_of(file: Path) -> Provenance:
    """The record beside a supernet (its file or folder). Raises UserError where there is none."""
    file = file / "supernet.safetensors" if file.is_dir() else file
    about = read_json(file.with_suffix(".json"))
    try:
        stored = about["provenance"]
        split = stored["split"]
        found = Provenance(
            dataset=_of(str, stored["dataset"]),
            data=dict(_of(dict, stored["data"])),
            images=_of(int, stored["images"]),
            split=Split(
                float(_of((int, float), split["portion"])), _of(int, split["train_images"]),
                _of(int, split["search_images"]),
            ),
            active=_of(str, stored["active"]), mean=tuple(stored["mean"]), std=tuple(stored["std"]),
        )  # fmt: skip
        if not 0 < found.split.portion <= 1 or min(found.split.train_images, found.split.search_images) < 0:
            raise ValueError(found.split)
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{file.with_suffix('.json')} does not say which images the supernet was trained on, so none can be told "
            f"apart for scoring; train it again with this version"
        ) from None
    if found.active not in ACTIVE:
        raise UserError(f"{file.with_suffix('.json')}: unknown sampling {found.active!r}")
    return found
