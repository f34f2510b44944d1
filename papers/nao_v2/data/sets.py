"""The paper's data recipes: constants, augmentation, the search's split, AutoAugment batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from common.data import names
from common.data import parts as divisions
from common.data.augment import Augmentation, Normalisation, cutout_mask, draw, normalise, plain, transform
from common.data.batches import Batches, Order, as_they_stand
from common.data.parts import fitting_batch, fitting_part, refuse_sizes
from common.data.pictures.batches import IMAGENET_MEAN, IMAGENET_STD, EvalPictures, FolderBatches, TrainPictures
from common.data.pictures.sets import Pictures, open_pictures
from common.data.pictures.sizes import image_size
from common.data.sets import Images, open_images
from common.errors import UserError
from common.run import seeds
from common.run.distributed import per_process
from papers.nao_v2.data.autoaugment import augment_batch, choose
from papers.nao_v2.settings import Search, SmallImages, Train

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

MEAN, STD = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)  # CIFAR-10 and CIFAR-100
IMAGENET_JITTER = (0.4, 0.4, 0.4, 0.2)
SMALLEST, LARGEST = 32, 40  # images of the CIFAR network, in pixels


def augmentation(dataset: str, cutout: int = 0) -> Augmentation:
    """Crop 32 with pad 4, flip, cutout; of digits what they bear."""
    return Augmentation(MEAN, STD, pad=4, flip=True, cutout=cutout).on(dataset)


def refuse_small(settings: SmallImages, images: Images) -> None:
    """Raises UserError with sizes that fit, where a set is too small for the present ones."""
    count, classes = len(images), len(images.classes)
    valid = fitting_part(count, classes, settings.valid_images)
    limit = settings.train_images if settings.train_images >= classes else 0
    rest = min(count - valid, limit or count)
    fits = {"batch_size": fitting_batch(rest, settings.batch_size)}
    if isinstance(settings, Search):
        fits["final_batch_size"] = fitting_batch(rest, settings.final_batch_size)
    refuse_sizes(images.name, count, classes, settings, {"valid_images": valid, "train_images": limit, **fits})


def refuse_few(settings: Train, images: divisions.Set) -> None:
    """Raises UserError with a batch size that fits, where a training set is too small for the present one."""
    batch = fitting_batch(len(images), settings.batch_size)
    refuse_sizes(images.name, len(images), len(images.classes), settings, {"batch_size": batch})


def split(
    rng: np.random.RandomState, images: divisions.Set, train_images: int, valid_images: int, seed: int
) -> tuple[divisions.Set, divisions.Set]:
    """(the supernet's images, the images that score): the last ``valid_images`` of the shuffled set score.

    Sets in file order are shuffled by the search's numpy stream, as in the original; of other sets both parts hold the
    same share of every class, drawn by the seed. Raises UserError when a part is empty or lacks a class.
    """
    places = np.arange(len(images))
    rng.shuffle(places)
    rest = len(places) - valid_images
    if valid_images < 1 or rest < 1:
        raise UserError(f"{images.name}: {len(images)} images leave nothing after {valid_images} for validation; set "
                        f"--valid-images to {max(1, len(images) // 5)} for a fifth of them")  # fmt: skip
    if not divisions.in_file_order(images):
        train, valid = divisions.split(images, -valid_images, "--valid-images", seed)
        return divisions.take(train, train_images, "--train-images", seed), valid
    train = images.subset(places[:rest][:train_images] if train_images else places[:rest])
    valid = images.subset(places[rest:])
    divisions.check_classes(train, images, "--train-images" if train_images else "--valid-images")
    divisions.check_classes(valid, images, "--valid-images")
    return train, valid


class AutoAugmentBatches(Batches):
    """Crop, flip, AutoAugment on the uint8 pictures, normalise, cutout: as ``Batches``, a function of (seed, …)."""

    def _augmented(self, pixels: Tensor, mine: slice, size: int, epoch: int | str, number: int) -> Tensor:
        constants, draws = self.augmentation, self._draws(size, epoch, number).part(mine)
        unit = Augmentation((0.0,) * 3, (1 / 255,) * 3, constants.pad, constants.flip)  # gives pixel values back
        rng = seeds.numpy_rng(self.order.seed, "autoaugment", self.order.stream, "augment", epoch, number)
        choices = [choose(rng) for _ in range(size)][mine]  # drawn for the whole batch, whoever holds which share
        moved = transform(pixels, unit, draws).round().clamp(0, 255).to(torch.uint8)
        out = normalise(augment_batch(moved, choices), constants)
        if constants.cutout // 2:
            cut = (draws.cut_y.to(out.device), draws.cut_x.to(out.device))
            out = out * cutout_mask(*cut, out.shape[-2], out.shape[-1], constants.cutout)
        return out.contiguous(memory_format=torch.channels_last)


def train_batches(
    images: Images, batch_size: int, seed: int, stream: str, *, cutout: int = 0, autoaugment: bool = False,
    parts: int = 0,
) -> Batches:  # fmt: skip
    """Training batches of small images, on the device where they are; of each this process's shares (of ``parts``)."""
    kind = AutoAugmentBatches if autoaugment else Batches
    augment, device = augmentation(images.name, cutout), images.labels.device
    return kind(images, batch_size, augment, Order(seed, stream), per_process(parts), device)


def validation_batch(
    images: Images, count: int, seed: int, iteration: int, number: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A random batch for one architecture: a function of (seed, iteration, its number)."""
    chosen = torch.randperm(len(images), generator=seeds.generator(seed, "score", iteration, number))[:count]
    chosen = chosen.to(images.labels.device)
    return plain(images.pixels[chosen], augmentation(images.name)), images.labels[chosen]


def all_batches(images: Images, size: int = 500) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """All images, without augmentation, in file order."""
    constants = augmentation(images.name)
    pairs = zip(images.pixels.split(size), images.labels.split(size))
    return [(plain(pixels, constants), labels) for pixels, labels in pairs]


def small_images(dataset: str, split_name: str, options: RunOptions) -> Images:
    """Small images in memory, for the CIFAR network. Raises UserError for others."""
    images = open_images(dataset, split_name, options)
    check_pixels(dataset, images.size)
    return images


def open_set(dataset: str, split_name: str, kind: str, options: RunOptions) -> Images | Pictures:
    """Small images in memory (cifar network), or pictures read one by one (imagenet network)."""
    if kind == "imagenet":
        return open_pictures(dataset, split_name, options)
    return small_images(dataset, split_name, options)


def test_batches(images: Images | Pictures, batch_size: int, seed: int, device: torch.device, workers: int) -> Any:
    """Test batches: normalised only; pictures: shorter side 256, centre crop 224."""
    if isinstance(images, Pictures):
        transform = EvalPictures(256, 224)
        return FolderBatches(images, batch_size, transform, as_they_stand(seed), device=device, workers=workers)
    return Batches(images, batch_size, augmentation(images.name), as_they_stand(seed), device=device)


def picture_batches(
    images: Pictures, batch_size: int, seed: int, device: torch.device, workers: int, cutout: int = 0, parts: int = 0
) -> FolderBatches:
    """ImageNet training: random resized crop 224, flip, colour jitter; cutout where it is asked for."""
    transforms = TrainPictures(jitter=IMAGENET_JITTER)

    def cut(batch: Tensor, generator: torch.Generator) -> Tensor:
        height, width = batch.shape[-2:]
        draws = draw(Augmentation((0.0,) * 3, (1.0,) * 3), len(batch), height, width, generator)
        return batch * cutout_mask(draws.cut_y, draws.cut_x, height, width, cutout).to(batch.device)

    constants = Normalisation(IMAGENET_MEAN, IMAGENET_STD, erase=cut if cutout // 2 else None)
    return FolderBatches(images, batch_size, transforms, Order(seed), per_process(parts), device, workers, constants)


def kind_of(network: str, dataset: str, options: RunOptions | None) -> str:
    """``cifar`` or ``imagenet``: as asked for, or (auto) by the size of the set's images, whatever its name."""
    if network != "auto":
        return network
    if names.in_memory(dataset):  # small by name, or by NAME@SIZE
        return "cifar"
    return "cifar" if image_size(dataset, options) <= LARGEST else "imagenet"


def check_pixels(dataset: str, size: int) -> None:
    """Raises UserError for images that the CIFAR network does not take."""
    if not SMALLEST <= size <= LARGEST:
        raise UserError(
            f"{dataset}: {size} x {size} images; the CIFAR network takes {SMALLEST} to {LARGEST}, try "
            f"{names.parse(dataset)[0]}@32"
        )
