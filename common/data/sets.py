"""Opening an image set: the embedded digits, the pinned official layouts, or any folder of class folders.

``open_images(name, split, options)`` returns all images as one uint8 tensor, so that they can stay on the device.
Names, in any case: ``digits``, ``cifar10``, ``cifar100``, ``imagenet16-120``, ``tiny-imagenet-20``; or a path.
``NAME@SIZE`` resizes the pictures of a folder or an LMDB to SIZE x SIZE (block averages where SIZE divides them, else
bilinear with antialiasing).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from common.data import absent, pickles
from common.data.names import IMAGE_SETS, PICTURE_SETS, SMALL_SETS, exists, parse
from common.data.pictures.folders import split_of
from common.data.pictures.sets import open_pictures, read_all
from common.data.pins import (
    EMBEDDED_SHA256,
    Checked,
    allow_unpinned,
    check_file,
    data_root,
    embedded_file,
    fetch_command,
    pin_of,
    pins_of,
)
from common.errors import UserError
from common.words import hint

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGENET16_CLASSES = 120


@dataclass(frozen=True)
class Images:
    """A set of images held in memory.

    pixels: uint8 [N, 3, H, W]; labels: int64 [N]; classes: their names; pinned: whether every file had its pinned hash;
    pins: file -> ``algorithm:digest``, to be written into results.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    name: str
    pinned: bool
    pins: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.labels.numel())

    @property
    def size(self) -> int:
        """Height of the (square) images in pixels."""
        return int(self.pixels.shape[-2])

    def subset(self, indices: torch.Tensor | np.ndarray | list[int] | range) -> Images:
        """The images at the given positions, in that order."""
        index = torch.as_tensor(np.asarray(indices), dtype=torch.int64, device=self.pixels.device)
        return Images(self.pixels[index], self.labels[index], self.classes, self.name, self.pinned, self.pins)

    def to(self, device: torch.device | str) -> Images:
        """The same set with its tensors on a device."""
        return Images(self.pixels.to(device), self.labels.to(device), self.classes, self.name, self.pinned, self.pins)


def blank(name: str, images: int, classes: int = 10, size: int = 1) -> Images:
    """A set as far as its numbers go, every picture black: enough to split it, and to count batches. It takes no
    memory; the classes take turns.
    """
    pixels = torch.zeros((), dtype=torch.uint8).expand(images, 3, size, size)
    return Images(pixels, torch.arange(images) % classes, tuple(map(str, range(classes))), name, True)


def open_images(name: str, split: str, options: Any = None) -> Images:
    """Open an image set; ``split`` is ``train``, ``val`` or ``test`` (published sets and plain folders have no ``val``
    of their own: it is their test set).

    ``options`` gives ``data`` (the data root) and ``allow_unpinned``. Raises UserError for an unknown set, absent,
    damaged or unpinned files.
    """
    split = split_of(split)
    plain, size = parse(name)
    if plain in _OPENERS:
        if size:
            raise UserError(f"{name!r}: only folders of pictures can be resized; {plain} has one size")
        if absent.stood_in_for(plain, options):
            count, classes = absent.counts(plain, split)
            return blank(plain, count, classes, SMALL_SETS[plain])
        return _OPENERS[plain]("train" if split == "train" else "test", options)
    if plain not in PICTURE_SETS and not exists(plain):
        raise UserError(
            f"unknown data set or missing folder {plain!r}{hint(plain, IMAGE_SETS)}; known sets: "
            f"{', '.join(IMAGE_SETS)}, or a path to a folder of class folders"
        )
    return _open_folder(plain, split, size, options)


def _open_digits(split: str, options: Any) -> Images:
    """5,000 MNIST digits: of each class the images number 4, 9, 14, … are the test set (see embedded/README.md)."""
    with np.load(io.BytesIO(embedded_file("digits.npz")), allow_pickle=False) as archive:
        grey, labels = archive["pixels"], archive["labels"].astype(np.int64)
    rank = np.empty(len(labels), dtype=np.int64)  # number of each image inside its class
    for label in range(10):
        members = np.flatnonzero(labels == label)
        rank[members] = np.arange(len(members))
    chosen = np.flatnonzero((rank % 5 == 4) == (split == "test"))
    chosen = chosen[np.lexsort((labels[chosen], rank[chosen]))]
    pixels = torch.from_numpy(grey[chosen]).unsqueeze(1).expand(-1, 3, -1, -1).contiguous()
    pins = {"embedded/digits.npz": "sha256:" + EMBEDDED_SHA256["digits.npz"]}
    return Images(pixels, torch.from_numpy(labels[chosen]), tuple("0123456789"), "digits", True, pins)


def _read_batches(
    name: str, files: list[str], label_key: str, shape: tuple[int, int, int], options: Any
) -> tuple[np.ndarray, np.ndarray, list[Checked]]:
    """Pixels [N, *shape] and labels [N] of published pickles, in order, each checked against its pin."""
    entry, root = pins_of(name), data_root(options)
    remedy = fetch_command(name, root)
    pixels, labels, checks = [], [], []
    for file in files:
        path = root / entry["folder"] / file
        checked = check_file(
            path, pin_of(name, file), root=root, remedy=remedy, unpinned_allowed=allow_unpinned(options)
        )
        content = pickles.load_arrays(path, remedy)
        data, targets = content.get("data"), content.get(label_key)
        width = int(np.prod(shape))
        if (
            not isinstance(data, np.ndarray)
            or data.dtype != np.uint8
            or data.ndim != 2
            or data.shape[1] != width
            or targets is None
            or len(targets) != len(data)
        ):
            raise UserError(f"{path} does not hold images as {width} bytes each with one label; get it with: {remedy}")
        pixels.append(data.reshape(-1, *shape))
        labels.append(np.asarray(targets, dtype=np.int64))
        checks.append(checked)
    return np.concatenate(pixels), np.concatenate(labels), checks


def _images(
    pixels: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], name: str, checks: list[Checked]
) -> Images:
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
        raise UserError(f"{name}: labels from {labels.min()} to {labels.max()}, but {len(classes)} classes")
    pins = {f"{check.path.parent.name}/{check.path.name}": check.digest for check in checks}
    pinned = all(check.pinned for check in checks)
    return Images(torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(labels), classes, name, pinned, pins)


def _open_cifar10(split: str, options: Any) -> Images:
    files = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    pixels, labels, checks = _read_batches("cifar10", files, "labels", (3, 32, 32), options)
    return _images(pixels, labels, CIFAR10_CLASSES, "cifar10", checks)


def _open_cifar100(split: str, options: Any) -> Images:
    pixels, labels, checks = _read_batches("cifar100", [split], "fine_labels", (3, 32, 32), options)
    return _images(pixels, labels, tuple(str(i) for i in range(100)), "cifar100", checks)


def _open_imagenet16(split: str, options: Any) -> Images:
    """ImageNet16 in file order, reduced to its labels 1 to 120, which become classes 0 to 119."""
    files = [f"train_data_batch_{i}" for i in range(1, 11)] if split == "train" else ["val_data"]
    pixels, labels, checks = _read_batches("imagenet16-120", files, "labels", (3, 16, 16), options)
    kept = np.flatnonzero((labels >= 1) & (labels <= IMAGENET16_CLASSES))
    classes = tuple(str(i) for i in range(1, IMAGENET16_CLASSES + 1))
    return _images(pixels[kept], labels[kept] - 1, classes, "imagenet16-120", checks)


def _open_folder(name: str, split: str, size: int, options: Any) -> Images:
    """Pictures of class folders or of an LMDB, all in memory."""
    opened = open_pictures(name, split, options)
    labels = torch.from_numpy(np.array(opened.labels, dtype=np.int64))
    return Images(read_all(opened, size), labels, opened.classes, opened.name, opened.pinned, dict(opened.pins))


_OPENERS: dict[str, Callable[[str, Any], Images]] = {
    "digits": _open_digits,
    "cifar10": _open_cifar10,
    "cifar100": _open_cifar100,
    "imagenet16-120": _open_imagenet16,
}
