"""Predictions for picture files: read, cut and normalised as in tests, the most probable classes of each.

All pictures are looked at before anything is written: where some cannot be read, each is named in a line of its own
and nothing is written.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from common.data.augment import Augmentation, plain
from common.data.pictures.decoding import SUFFIXES, decode, resize_square
from common.data.pictures.folders import picture_files
from common.errors import UserError
from common.run.device import autocast, pick_device
from common.run.files import write_bytes
from common.run.folder import say
from common.use.settings import Predict

COLUMNS = ("image", "rank", "class", "probability")
Transform = Callable[[Image.Image, random.Random], Image.Image]


@dataclass(frozen=True)
class Square:
    """What becomes of pictures of a set held in memory: the whole picture as size x size."""

    size: int

    def __call__(self, picture: Image.Image, rng: random.Random) -> Image.Image:
        return resize_square(picture, self.size)


@dataclass(frozen=True)
class View:
    """What a network sees of a picture, as in the paper's tests, and what its outputs mean.

    transform: RGB picture -> RGB picture of ``pixels`` x ``pixels``. mean, std: of its channels, on the 0..1 scale.
    classes: names in the order of the logits.
    """

    transform: Transform
    pixels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]

    def pixels_of(self, path: Path) -> Tensor:
        """A file as the network's view of it, uint8 [3, pixels, pixels]. Raises UserError where it cannot be read."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
        picture = self.transform(decode(content, path), random.Random(0))
        return torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1)

    def normalised(self, pixels: Tensor) -> Tensor:
        """uint8 [N, 3, H, W] -> float32 of the same shape."""
        return plain(pixels, Augmentation(self.mean, self.std))


def picture_paths(given: Sequence[str]) -> list[Path]:
    """The files of paths, folders (all pictures below them) and patterns, each once, in order. Raises UserError."""
    if not given:
        raise UserError("no pictures given; name files, folders or patterns behind the flags: predict … photos/ a.png")
    found: list[Path] = []
    for word in given:
        path = Path(word).expanduser()
        if path.is_dir():
            inside = picture_files(path)
            if not inside:
                raise UserError(f"{word} holds no picture ({', '.join(sorted(SUFFIXES))})")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            matching = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
            files = [file for file in matching if file.is_file()]
            if not files:
                raise UserError(f"{word}: no such file or folder" + (", and no file matches it" if "*" in word else ""))
            found += files
    return list(dict.fromkeys(found))


def predict(net: nn.Module, view: View, settings: Predict, options: Any) -> Any:
    """The ``predict`` verb, from the network on: the table as text (rows with ``--json``), or, written to ``--out``,
    what was written. Raises UserError.
    """
    if options.json and "format" in (options.given or ()) and settings.format != "json":
        raise UserError(f"--json and --format {settings.format} exclude each other; leave one out")
    if settings.top > len(view.classes) and "top" in (options.given or ()):
        raise UserError(f"--top {settings.top}: there are {len(view.classes)} classes; use at most as many")
    form = "json" if options.json else settings.format
    if options.out is not None and options.out.is_dir():
        raise UserError(f"--out {options.out} is a folder; give a file, such as {options.out / ('table.' + form)}")
    paths = picture_paths(settings.images)
    found = list(rows(net, view, paths, settings.top, settings.batch_size, pick_device(options), options.precision))
    if options.out is None:
        return found if options.json else as_text(found, form).rstrip("\n")
    write_bytes(options.out, as_text(found, form).encode())
    return {"file": str(options.out), "images": len(paths)}


def rows(
    net: nn.Module, view: View, paths: Iterable[Path], top: int, batch_size: int = 64,
    device: torch.device | str = "cpu", precision: str = "fp32",
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """The ``top`` most probable classes of every picture: {image, rank (from 1), class, probability}.

    probability: of the softmax over all classes. Raises UserError after all pictures were tried, with how many cannot
    be read; each of them is named on standard error.
    """
    net, count = net.to(device).eval(), min(top, len(view.classes))
    unreadable, tables = 0, []
    paths = list(paths)
    for start in range(0, len(paths), batch_size):
        names, batch = [], []
        for path in paths[start : start + batch_size]:
            try:
                batch.append(view.pixels_of(path))
                names.append(str(path))
            except UserError as error:
                unreadable += 1
                say(f"unreadable: {error}")
        if batch and not unreadable:
            with torch.inference_mode(), autocast(torch.device(device), precision):
                logits = net(view.normalised(torch.stack(batch).to(device)))
            shares = logits.float().softmax(1)
            if not bool(shares.isfinite().all()):
                raise UserError(
                    f"{names[0]} and others of its batch: probabilities are not finite; look at the weights"
                )
            tables.append((names, shares.topk(count)))
    if unreadable:
        raise UserError(f"{unreadable} of {len(paths)} pictures cannot be read (named above); nothing was written")
    for names, best in tables:
        for name, values, places in zip(names, best.values.tolist(), best.indices.tolist(), strict=True):
            for rank, (value, place) in enumerate(zip(values, places, strict=True), 1):
                yield dict(zip(COLUMNS, (name, rank, view.classes[place], float(f"{value:.6g}")), strict=True))


def as_text(found: Sequence[dict[str, Any]], form: str) -> str:
    """The table as CSV with a header, or as a JSON list of rows."""
    if form == "json":
        return json.dumps(found, indent=1) + "\n"
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(found)
    return text.getvalue()
