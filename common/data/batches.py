"""Batches of images that stay on the device.

Order and augmentation are functions of (seed, stream, epoch, batch number) and of nothing else: an epoch can be
entered at any batch, so a resumed run sees exactly what the uninterrupted one saw.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from common import seeds
from common.data.augment import Augmentation, apply, plain
from common.data.sources import Images
from common.errors import UserError


class Batches:
    """The epochs of one image set.

    images: the set (moved to ``device`` once). batch_size: images per batch. augmentation: constants and augmentation;
    with ``augment=False`` only its mean and std are used. stream: names the random stream, so that two users of one set
    draw independently. rank, world: process ``rank`` of ``world`` takes the batches ``rank, rank + world, …`` of
    the same sequence a single process would see, so N processes equal one that accumulates N batches.

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
    ) -> None:
        if batch_size < 1:
            raise UserError(f"a batch of {batch_size} images holds nothing; use a batch size of 1 or more")
        count = len(images)
        if count == 0 or (count < batch_size and (shuffle or drop_last)):
            raise UserError(
                f"{images.name}: {count} images are too few for a batch of {batch_size}; lower the batch size "
                f"or use more images"
            )
        self.images = images.to(device)
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed
        self.shuffle = shuffle
        self.stream = stream
        self.augment = shuffle if augment is None else augment
        self.rank, self.world = rank, world
        self.total = count // batch_size if drop_last else -(-count // batch_size)
        if world > 1 and self.total < world:
            raise UserError(
                f"{images.name}: {self.total} batches of {batch_size} are too few for {world} processes; use fewer "
                f"processes, a smaller batch or more images"
            )

    def __len__(self) -> int:
        """Batches per epoch and process (with several processes an incomplete round is dropped)."""
        return self.total // self.world

    def order(self, epoch: int) -> torch.Tensor:
        """The images' order in an epoch, int64 [N] on the CPU."""
        if not self.shuffle:
            return torch.arange(len(self.images))
        return torch.randperm(len(self.images), generator=seeds.generator(self.seed, self.stream, "order", epoch))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (float32 [B, 3, H, W] channels last, int64 [B]) from this process's batch ``start`` on."""
        order = self.order(epoch).to(self.images.labels.device)
        for step in range(start, len(self)):
            number = step * self.world + self.rank
            index = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield self._batch(index, epoch, number)

    def drawn(self, number: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """``count`` images drawn uniformly with replacement: float32 [count, 3, H, W] channels last, int64 [count].

        A function of (seed, stream, number).
        """
        generator = seeds.generator(self.seed, self.stream, "drawn", number)
        index = torch.randint(len(self.images), (count,), generator=generator)
        return self._batch(index.to(self.images.labels.device), "drawn", number)

    def _batch(self, index: torch.Tensor, epoch: int | str, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = self.images.pixels[index]
        if self.augment:
            generator = seeds.generator(self.seed, self.stream, "augment", epoch, number)
            return apply(pixels, self.augmentation, generator), self.images.labels[index]
        return plain(pixels, self.augmentation), self.images.labels[index]
