"""Batches of images that stay on the device, whole or in shares.

Order and augmentation are functions of (seed, stream, epoch, batch number) and of nothing else: an epoch can be
entered at any batch, so a resumed run sees exactly what the uninterrupted one saw.

The batch size is that of the whole batch. Several processes, or one process that works through a batch in parts, see
the very sequence of batches that one process sees, each a share of every batch (cut as ``torch.tensor_split`` cuts:
uneven where the numbers do not divide, empty where a last batch has fewer images than there are shares). Chance is
drawn for the whole batch, so an image's pixels do not depend on how many share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from common.data.augment import Augmentation, Draws, Normalisation, draw, plain, transform
from common.data.sets import Images
from common.errors import UserError
from common.run import seeds
from common.run.device import onto
from common.run.distributed import Sharing

Batch = tuple[Tensor, Tensor]
USUAL_PAD = 16  # pixels that any image may be padded by


@dataclass(frozen=True)
class Order:
    """In which order the images of a set come: drawn anew by ``seed`` for every epoch, or as they stand.

    stream: names what is drawn from the seed (order, augmentation), so that two users of one set draw independently.
    drop_last: whether an epoch leaves out a last batch that is not full.
    """

    seed: int
    stream: str = "train"
    shuffle: bool = True
    drop_last: bool = False

    def places(self, count: int, epoch: int) -> Tensor:
        """The places of ``count`` images in the order of an epoch, int64 [count] on the CPU."""
        if not self.shuffle:
            return torch.arange(count)
        return torch.randperm(count, generator=self.generator("order", epoch))

    def generator(self, *names: str | int) -> torch.Generator:
        """A generator that belongs to seed, stream and names."""
        return seeds.generator(self.seed, self.stream, *names)


def as_they_stand(seed: int, stream: str = "test") -> Order:
    """The order of tests: the images of the set as they stand, every one of them."""
    return Order(seed, stream, shuffle=False)


class Epochs:
    """Which images stand in which batch, and which of them are this process's (``Batches`` and ``FolderBatches``).

    name, count: the set's. batch_size: images of the whole batch, which ``sharing`` shares out. Raises UserError when
    the set has too few images for a batch.
    """

    def __init__(self, name: str, count: int, batch_size: int, order: Order, sharing: Sharing) -> None:
        if batch_size < 1:
            raise UserError(f"a batch of {batch_size} images holds nothing; use a batch size of 1 or more")
        if count == 0 or (count < batch_size and (order.shuffle or order.drop_last)):
            raise UserError(
                f"{name}: {count} images are too few for a batch of {batch_size}; use a batch size of {count} or "
                f"less, or more images"
            )
        if sharing.shares > batch_size:
            raise UserError(
                f"a batch of {batch_size} images cannot be cut into {sharing.shares} parts; use a larger batch"
            )
        self.count, self.batch_size, self.order, self.sharing = count, batch_size, order, sharing
        self.total = count // batch_size if order.drop_last else -(-count // batch_size)

    def __len__(self) -> int:
        """Batches per epoch: the same number for every process, and as many as one process has."""
        return self.total

    def size(self, step: int) -> int:
        """Images of the whole batch number ``step`` (the last one of an epoch may be smaller)."""
        return min(self.batch_size, self.count - step * self.batch_size)

    def share_sizes(self, step: int) -> list[int]:
        """Images in each of this process's shares of batch ``step``; 0 where a share is empty."""
        limits = self.sharing.limits(self.size(step))
        return [end - start for start, end in pairwise(limits)]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield this process's images of every batch from number ``start`` on: (float32 [B, 3, H, W] channels last,
        int64 [B]) on the device. B may differ by process and be 0.
        """
        raise NotImplementedError

    def shares(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """As ``epoch``, each batch as the list of this process's shares of it, in order; a share may be empty."""
        for step, (images, labels) in enumerate(self.epoch(epoch, start), start):
            sizes = self.share_sizes(step)
            yield list(zip(images.split(sizes), labels.split(sizes), strict=True))

    def in_shares(self) -> InShares:
        """These epochs with every batch as the list of its shares, as ``run.steps`` takes them."""
        return InShares(self)

    def _erased(self, batch: Tensor, constants: Normalisation, epoch: int, chosen: Tensor) -> Tensor:
        """``erase`` applied to each image by a stream of its own, so that it looks the same in whichever share it is.

        chosen: the images' places in the set, on the CPU.
        """
        erase = constants.erase
        if erase is None or not len(chosen):
            return batch
        streams = [self.order.generator("erase", epoch, at) for at in chosen.tolist()]
        erased = [erase(batch[i : i + 1], stream) for i, stream in enumerate(streams)]
        return torch.cat(erased).contiguous(memory_format=torch.channels_last)

    def _mine(self, step: int) -> slice:
        """This process's places in batch ``step``."""
        limits = self.sharing.limits(self.size(step))
        return slice(limits[0], limits[-1])


class InShares:
    """Epochs whose batches are lists of shares: ``epoch(number, start)`` is ``batches.shares(number, start)``."""

    def __init__(self, batches: Epochs) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """Every batch from ``start`` on as the list of this process's shares of it."""
        return self.batches.shares(epoch, start)


class Batches(Epochs):
    """The epochs of one image set.

    images: the set (moved to ``device`` once). batch_size: images per (whole) batch. augmentation: constants and
    augmentation; with ``augment=False`` only what every image goes through (None: as ``order`` shuffles).

    Raises UserError when the set has too few images for a batch, and for a crop wider than the padded image.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        augmentation: Augmentation,
        order: Order,
        sharing: Sharing = Sharing(),
        device: torch.device | str = "cpu",
        augment: bool | None = None,
    ) -> None:
        super().__init__(images.name, len(images), batch_size, order, sharing)
        if augmentation.pad > max(side := min(images.pixels.shape[-2:]), USUAL_PAD):
            raise UserError(
                f"{images.name}: --pad {augmentation.pad} is more than the side of its images, {side} pixels"
            )
        self.images, self.augmentation = images.to(device), augmentation
        self.augment = order.shuffle if augment is None else augment

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield (float32 [B, 3, H, W] channels last, int64 [B]): this process's images of every batch from ``start``.

        B is the whole batch for one process; with several it may differ by process and be 0.
        """
        order = self.order.places(self.count, epoch)
        for step in range(start, len(self)):
            mine = self._mine(step)
            chosen = order[step * self.batch_size :][mine]
            index = onto(self.images.labels.device, chosen)
            batch = self._augmented(self.images.pixels[index], mine, self.size(step), epoch, step)
            yield self._erased(batch, self.augmentation, epoch, chosen), self.images.labels[index]

    def drawn(self, number: int, count: int) -> Batch:
        """``count`` images drawn uniformly with replacement: float32 [count, 3, H, W] channels last, int64 [count].

        A function of (seed, stream, number).
        """
        generator = self.order.generator("drawn", number)
        index = onto(self.images.labels.device, torch.randint(self.count, (count,), generator=generator))
        pixels = self._augmented(self.images.pixels[index], slice(0, count), count, "drawn", number)
        return pixels, self.images.labels[index]

    def drawn_shares(self, number: int, count: int) -> list[Batch]:
        """``drawn`` as the list of this process's shares of it."""
        images, labels = self.drawn(number, count)
        return [(images[a:b], labels[a:b]) for a, b in pairwise(self.sharing.limits(count))]

    def _augmented(self, pixels: Tensor, mine: slice, size: int, epoch: int | str, number: int) -> Tensor:
        """Places ``mine`` of a batch of ``size`` images (uint8), augmented with what is drawn for the whole batch."""
        if not self.augment:
            return plain(pixels, self.augmentation)
        draws = self._draws(size, epoch, number)
        return transform(pixels, self.augmentation, draws.part(mine))

    def _draws(self, size: int, epoch: int | str, number: int) -> Draws:
        generator = self.order.generator("augment", epoch, number)
        height, width = self.images.pixels.shape[-2:]
        return draw(self.augmentation, size, height, width, generator)
