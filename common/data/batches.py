"""Batches of images that stay on the device, whole or in shares.

Order and augmentation are functions of (seed, stream, epoch, batch number) and of nothing else: an epoch can be
entered at any batch, so a resumed run sees exactly what the uninterrupted one saw.

The batch size is that of the whole batch. Several processes, or one process that works through a batch in parts, see
the very sequence of batches that one process sees, each a share of every batch (cut as ``torch.tensor_split`` cuts:
uneven where the numbers do not divide, empty where a last batch has fewer images than there are shares). Chance is
drawn for the whole batch, so an image's pixels do not depend on how many share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from common.data.augment import Augmentation, Draws, draw, plain, transform
from common.data.sets import Images
from common.errors import UserError
from common.run import seeds

Batch = tuple[Tensor, Tensor]


class Epochs:
    """Which images stand in which batch, and which of them are this process's (``Batches`` and ``FolderBatches``).

    batch_size: images of the whole batch. parts: shares that every batch is cut into, a multiple of ``world`` (0: one
    per process); process ``rank`` takes ``parts // world`` consecutive ones. Raises UserError when the set has too few
    images for a batch, or the parts cannot be shared by the processes.
    """

    erase: Callable[[Tensor, torch.Generator], Tensor] | None = None

    def __init__(
        self, name: str, count: int, batch_size: int, seed: int, stream: str, shuffle: bool, drop_last: bool,
        rank: int, world: int, parts: int,
    ) -> None:  # fmt: skip
        if batch_size < 1:
            raise UserError(f"a batch of {batch_size} images holds nothing; use a batch size of 1 or more")
        if count == 0 or (count < batch_size and (shuffle or drop_last)):
            raise UserError(
                f"{name}: {count} images are too few for a batch of {batch_size}; lower the batch size or use more "
                f"images"
            )
        self.count, self.batch_size, self.seed, self.stream, self.shuffle = count, batch_size, seed, stream, shuffle
        self.rank, self.world = rank, world
        self.parts = parts or world
        if self.parts < 1 or self.parts % world:
            raise UserError(f"{self.parts} parts cannot be shared by {world} processes; use a multiple of {world}")
        if self.parts > batch_size:
            raise UserError(f"a batch of {batch_size} images cannot be cut into {self.parts} parts; use a larger batch")
        self.total = count // batch_size if drop_last else -(-count // batch_size)

    def __len__(self) -> int:
        """Batches per epoch: the same number for every process, and as many as one process has."""
        return self.total

    def size(self, step: int) -> int:
        """Images of the whole batch number ``step`` (the last one of an epoch may be smaller)."""
        return min(self.batch_size, self.count - step * self.batch_size)

    def share_sizes(self, step: int) -> list[int]:
        """Images in each of this process's shares of batch ``step``; 0 where a share is empty."""
        limits = share_limits(self.size(step), self.parts)
        mine = self.parts // self.world
        return [limits[i + 1] - limits[i] for i in range(self.rank * mine, (self.rank + 1) * mine)]

    def order(self, epoch: int) -> Tensor:
        """The images' order in an epoch, int64 [N] on the CPU."""
        if not self.shuffle:
            return torch.arange(self.count)
        return torch.randperm(self.count, generator=seeds.generator(self.seed, self.stream, "order", epoch))

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

    def _erased(self, batch: Tensor, epoch: int | str, chosen: list[int]) -> Tensor:
        """``erase`` applied to each image by a stream of its own, so that it looks the same in whichever share it is.

        chosen: the images' places in the set.
        """
        if self.erase is None or not chosen:
            return batch
        names = (self.seed, self.stream, "erase", epoch)
        erased = [self.erase(batch[i : i + 1], seeds.generator(*names, at)) for i, at in enumerate(chosen)]
        return torch.cat(erased).contiguous(memory_format=torch.channels_last)

    def _mine(self, step: int) -> slice:
        """This process's places in batch ``step``."""
        limits, mine = share_limits(self.size(step), self.parts), self.parts // self.world
        return slice(limits[self.rank * mine], limits[(self.rank + 1) * mine])


class InShares:
    """Epochs whose batches are lists of shares: ``epoch(number, start)`` is ``batches.shares(number, start)``."""

    def __init__(self, batches: Epochs) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """Every batch from ``start`` on as the list of this process's shares of it."""
        return self.batches.shares(epoch, start)


def share_limits(count: int, parts: int) -> list[int]:
    """Where ``torch.tensor_split`` cuts ``count`` images into ``parts`` shares: parts + 1 limits from 0 to count."""
    each, more = divmod(count, parts)
    return [i * each + min(i, more) for i in range(parts + 1)]


class Batches(Epochs):
    """The epochs of one image set.

    images: the set (moved to ``device`` once). batch_size: images per (whole) batch. augmentation: constants and
    augmentation; with ``augment=False`` only its mean and std are used. stream: names the random stream, so that two
    users of one set draw independently. rank, world, parts: see ``Epochs``. erase: applied to every normalised image,
    ``(float32 [1, 3, H, W], generator) -> the same shape`` (random erasing).

    Raises UserError when the set has too few images for a batch.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        shuffle: bool = True,
        drop_last: bool = False,
        device: torch.device | str = "cpu",
        stream: str = "train",
        augment: bool | None = None,
        rank: int = 0,
        world: int = 1,
        parts: int = 0,
        erase: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    ) -> None:
        super().__init__(images.name, len(images), batch_size, seed, stream, shuffle, drop_last, rank, world, parts)
        self.images = images.to(device)
        self.augmentation, self.erase = augmentation, erase
        self.augment = shuffle if augment is None else augment

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield (float32 [B, 3, H, W] channels last, int64 [B]): this process's images of every batch from ``start``.

        B is the whole batch for one process; with several it may differ by process and be 0.
        """
        order = self.order(epoch).to(self.images.labels.device)
        for step in range(start, len(self)):
            mine = self._mine(step)
            index = order[step * self.batch_size :][mine]
            batch = self._augmented(self.images.pixels[index], mine, self.size(step), epoch, step)
            yield self._erased(batch, epoch, index.tolist() if self.erase else []), self.images.labels[index]

    def drawn(self, number: int, count: int) -> Batch:
        """``count`` images drawn uniformly with replacement: float32 [count, 3, H, W] channels last, int64 [count].

        A function of (seed, stream, number).
        """
        generator = seeds.generator(self.seed, self.stream, "drawn", number)
        index = torch.randint(self.count, (count,), generator=generator).to(self.images.labels.device)
        pixels = self._augmented(self.images.pixels[index], slice(0, count), count, "drawn", number)
        return pixels, self.images.labels[index]

    def _augmented(self, pixels: Tensor, mine: slice, size: int, epoch: int | str, number: int) -> Tensor:
        """Places ``mine`` of a batch of ``size`` images (uint8), augmented with what is drawn for the whole batch."""
        if not self.augment:
            return plain(pixels, self.augmentation)
        draws = self._draws(size, epoch, number)
        return transform(pixels, self.augmentation, draws.part(mine))

    def _draws(self, size: int, epoch: int | str, number: int) -> Draws:
        generator = seeds.generator(self.seed, self.stream, "augment", epoch, number)
        height, width = self.images.pixels.shape[-2:]
        return draw(self.augmentation, size, height, width, generator)
