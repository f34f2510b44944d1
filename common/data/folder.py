"""Pictures of ImageNet's size: read from class folders or an LMDB, transformed by PIL in loader workers.

What an item looks like is a function of (seed, stream, epoch, position): results do not depend on the number of
workers, and an epoch can be entered at any batch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from common import seeds
from common.data import vision
from common.data.augment import Augmentation, plain
from common.data.batches import Epochs
from common.data.class_folders import PictureList, decode, list_pictures, tree_digest
from common.data.lmdb_images import LmdbStore
from common.data.pins import allow_unpinned, cached_tree_hash, data_root, fetch_command, pins_of
from common.data.sources import IMAGE_SETS, SPLITS
from common.errors import UserError

IMAGENET_COUNTS = {"train": (1000, 1_281_167), "test": (1000, 50_000)}
INTERPOLATIONS = ("bilinear", "bicubic", "random")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Store(Protocol):
    """Where encoded pictures lie."""

    def read(self, position: int) -> bytes: ...

    def name(self, position: int) -> str: ...


@dataclass(frozen=True)
class FolderStore:
    """Picture files below a folder."""

    pictures: PictureList

    def read(self, position: int) -> bytes:
        path = self.pictures.root / self.pictures.samples[position][0]
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None

    def name(self, position: int) -> str:
        return str(self.pictures.root / self.pictures.samples[position][0])


@dataclass(frozen=True)
class Pictures:
    """A set of encoded pictures. labels: int64 [N]; positions: where each stands in the store (int64 [N])."""

    store: Store
    labels: np.ndarray
    positions: np.ndarray
    classes: tuple[str, ...]
    name: str
    pinned: bool = False
    pins: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: np.ndarray | list[int] | range) -> Pictures:
        """The pictures at the given indices, in that order."""
        index = np.asarray(indices, dtype=np.int64)
        return replace(self, labels=self.labels[index], positions=self.positions[index])

    def picture(self, index: int) -> Image.Image:
        """One picture, decoded to RGB. Raises UserError when it is damaged."""
        position = int(self.positions[index])
        return decode(self.store.read(position), self.store.name(position))


def open_pictures(name: str, split: str, options: Any = None) -> Pictures:
    """Open ``imagenet`` or ``tiny-imagenet-20`` under the data root, or a path: class folders, or ``FILE.lmdb``.

    A folder that holds ``train.lmdb`` and ``val.lmdb`` is read from these. ImageNet must have its official numbers of
    classes and pictures, the Tiny-ImageNet subset its pinned content (``allow_unpinned`` lets others through). Raises
    UserError.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}; use train or test")
    split = SPLITS[split]
    known = name in ("imagenet", "tiny-imagenet-20")
    path = data_root(options) / name if known else Path(name).expanduser()
    if not path.exists():
        how = "put the official archives there and run: python -m reproductions data prepare imagenet"
        remedy = how if name == "imagenet" else "give a folder of class folders or an .lmdb"
        if name == "tiny-imagenet-20":
            remedy = f"get it with: {fetch_command(name, data_root(options))}"
        elif name in IMAGE_SETS:
            raise UserError(
                f"{name} holds small images, and this network takes pictures of ImageNet's size: use imagenet, a "
                f"folder of class folders or an .lmdb"
            )
        raise UserError(f"{path} is missing; {remedy}")
    packed = path if path.suffix == ".lmdb" else path / ("train.lmdb" if split == "train" else "val.lmdb")
    if packed.exists():
        records = LmdbStore(packed)
        opened = Pictures(records, records.labels, np.arange(len(records)), records.classes, path.name)
        pins = {f"{path.name}/{packed.name}": "sha256:" + records.meta["index_sha256"]}
    else:
        listed = list_pictures(path, split)
        labels = np.array([label for _, label in listed.samples], dtype=np.int64)
        opened = Pictures(FolderStore(listed), labels, np.arange(len(listed)), listed.classes, path.name)
        pins = {f"{path.name}/{split}": f"counts:{len(listed.classes)} classes, {len(listed)} pictures"}
        if name == "tiny-imagenet-20":
            digest, pinned = _pinned_tree(name, listed, options)
            return replace(opened, pinned=pinned, pins={f"{path.name}/{listed.root.name}": f"sha256:{digest}"})
    pinned = False
    if name == "imagenet":
        found, expected = (len(opened.classes), len(opened)), IMAGENET_COUNTS[split]
        pinned = found == expected
        if not pinned and not allow_unpinned(options):
            raise UserError(
                f"{path} ({split}) has {found[0]} classes and {found[1]} pictures, ImageNet has {expected[0]} and "
                f"{expected[1]}; complete it or pass --allow-unpinned"
            )
    return replace(opened, pinned=pinned, pins=pins)


def _pinned_tree(name: str, listed: PictureList, options: Any) -> tuple[str, bool]:
    """(SHA-256 over names and bytes, whether it is the pinned one). Raises UserError for any other content."""
    root = data_root(options)
    files = [listed.root / relative for relative, _ in listed.samples]
    found = cached_tree_hash(listed.root, files, lambda: tree_digest(listed), root)
    expected = pins_of(name)["tree"][listed.root.name]
    if found != expected and not allow_unpinned(options):
        raise UserError(
            f"{listed.root} is not the pinned set: sha256 of its files is {found}, expected {expected}; remove it and "
            f"get it with: {fetch_command(name, root)} (or pass --allow-unpinned: results are then marked as made from "
            f"unpinned data)"
        )
    return found, found == expected


@dataclass(frozen=True)
class TrainPictures:
    """Random resized crop, flip, colour jitter, then ``extra(picture, rng)`` where given (such as RandAugment).

    size: side of the result. scale, ratio: of the crop. interpolation: bilinear, bicubic, or random (either, per
    picture). jitter: brightness, contrast, saturation, hue. ``resize`` > 0: resize the shorter side to it and crop
    ``size`` at a random place instead of the random resized crop.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    flip: bool = True
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    resize: int = 0
    extra: Callable[[Image.Image, random.Random], Image.Image] | None = None

    def __call__(self, picture: Image.Image, rng: random.Random) -> Image.Image:
        transforms, functional = vision.transforms(), vision.functional()
        name = rng.choice(("bilinear", "bicubic")) if self.interpolation == "random" else self.interpolation
        mode = transforms.InterpolationMode(name)
        if self.resize:
            picture = functional.resize(picture, self.resize, mode)
            corner = transforms.RandomCrop.get_params(picture, (self.size, self.size))
            picture = functional.crop(picture, *corner)
        else:
            box = transforms.RandomResizedCrop.get_params(picture, list(self.scale), list(self.ratio))
            picture = functional.resized_crop(picture, *box, [self.size, self.size], mode)
        if self.flip and rng.random() < 0.5:
            picture = functional.hflip(picture)
        if any(self.jitter):
            picture = transforms.ColorJitter(*self.jitter)(picture)
        return self.extra(picture, rng) if self.extra else picture


@dataclass(frozen=True)
class EvalPictures:
    """Resize the shorter side, crop the centre."""

    resize: int = 256
    size: int = 224
    interpolation: str = "bilinear"

    def __call__(self, picture: Image.Image, rng: random.Random) -> Image.Image:
        transforms, functional = vision.transforms(), vision.functional()
        mode = transforms.InterpolationMode(self.interpolation)
        return functional.center_crop(functional.resize(picture, self.resize, mode), [self.size, self.size])


class _Items(torch.utils.data.Dataset):
    """The items of one epoch: (uint8 [3, H, W], label), each from its own random streams."""

    def __init__(self, pictures: Pictures, transform: Any, seed: int, stream: str, epoch: int) -> None:
        self.pictures, self.transform = pictures, transform
        self.names = (seed, stream, "item", epoch)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        source = seeds.generator(*self.names, index)
        rng = random.Random(source.initial_seed())
        with torch.random.fork_rng(devices=[]):  # torchvision's transforms draw from the global generator
            torch.set_rng_state(source.get_state())
            picture = self.transform(self.pictures.picture(index), rng)
        pixels = torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1)
        return pixels, int(self.pictures.labels[index])

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """A share of a batch: (uint8 [B, 3, H, W], int64 [B]); an empty one has the shape of any item."""
        items = [self[index] for index in indices or [0]]
        pixels, labels = torch.stack([pixels for pixels, _ in items]), torch.tensor([label for _, label in items])
        return pixels[: len(indices)], labels[: len(indices)]


def _as_it_is(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return batch


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def _plain_errors(loader: torch.utils.data.DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The loader's batches; a worker's UserError comes without the worker's traceback around it."""
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UserError as error:
            last = str(error).strip().splitlines()[-1]
            raise UserError(last.removeprefix("common.errors.UserError: ")) from None
        yield batch


class FolderBatches(Epochs):
    """The epochs of a set of pictures, with the interface of ``Batches``.

    transform: ``TrainPictures``, ``EvalPictures`` or any picklable ``(picture, rng) -> picture`` with results of
    one size. erase: applied to every normalised picture, ``(float32 [1, 3, H, W], generator) -> the same shape`` (random
    erasing). workers: loader processes. rank, world, parts: as in ``Batches``. Raises UserError when there are too few
    pictures for a batch.
    """

    def __init__(
        self,
        pictures: Pictures,
        batch_size: int,
        transform: Callable[[Image.Image, random.Random], Image.Image],
        seed: int,
        shuffle: bool = True,
        drop_last: bool = False,
        device: torch.device | str = "cpu",
        stream: str = "train",
        workers: int = 0,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        erase: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None,
        rank: int = 0,
        world: int = 1,
        parts: int | None = None,
    ) -> None:
        super().__init__(pictures.name, len(pictures), batch_size, seed, stream, shuffle, drop_last, rank, world, parts)
        self.pictures, self.transform, self.workers = pictures, transform, workers
        self.device, self.erase = torch.device(device), erase
        self.constants = Augmentation(mean, std)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (float32 [B, 3, H, W] channels last, int64 [B]) on the device: this process's pictures of every batch
        from ``start`` on.
        """
        order = self.order(epoch).split(self.batch_size)
        steps = range(start, len(self))
        shares = [order[self._number(step)][self._mine(step)] for step in steps]
        loader = torch.utils.data.DataLoader(
            _Items(self.pictures, self.transform, self.seed, self.stream, epoch),
            batch_sampler=[share.tolist() for share in shares],
            collate_fn=_as_it_is,
            num_workers=min(self.workers, len(shares)),
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_one_thread,
            generator=torch.Generator(),  # else the loader would draw from, and so shift, the global stream
        )
        for share, (pixels, labels) in zip(shares, _plain_errors(loader), strict=True):
            batch = plain(pixels.to(self.device, non_blocking=True), self.constants)
            yield self._erased(batch, epoch, share.tolist()), labels.to(self.device, non_blocking=True)
