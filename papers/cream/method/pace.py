"""How the search's schedule and intervals follow the images at hand. No torch here.

ImageNet, as released: the rate falls to 0 over 1,280,000 images an epoch (the set has 1,281,167), and a meta update
comes every 200 of 1,251 iterations. On any other set the rate falls to 0 over the iterations there are, and meta
updates come as often an epoch as they do there.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.cli.errors import UserError
from papers.cream.settings import Search

IMAGENET = 1_281_167  # training images
RELEASED_IMAGES, RELEASED_EVERY, RELEASED_ITERATIONS = 1_280_000, 200, 1251


@dataclass(frozen=True)
class Pace:
    """iterations: of an epoch; total: T, the iterations until the rate is 0; update_every: 0 = no meta updates."""

    iterations: int
    total: float
    update_every: int

    def meta_updates(self, settings: Search) -> int:
        """Meta updates of the whole search, provided that the board holds a path by then."""
        epochs = max(0, settings.epochs - settings.start_epoch - 1)
        return epochs * ((self.iterations - 1) // self.update_every) if self.update_every else 0


def pace_of(settings: Search, images: int) -> Pace:
    """The pace of a search on ``images`` training images. Raises UserError where no meta update would ever be made."""
    iterations = images // settings.batch_size
    whole = images == IMAGENET
    nominal = settings.schedule_images or (RELEASED_IMAGES if whole else iterations * settings.batch_size)
    total = settings.epochs * nominal / settings.batch_size
    if settings.method == "random" or settings.pick == "top1":
        return Pace(iterations, total, 0)
    every = settings.update_every
    if not every:
        as_often = max(1, round(RELEASED_EVERY * iterations / RELEASED_ITERATIONS))
        every = RELEASED_EVERY if whole and iterations > RELEASED_EVERY else as_often
    if every >= iterations:
        remedy = "lower --batch-size" if iterations < 2 else "lower --update-every (0: as often as on ImageNet)"
        raise UserError(
            f"no meta update would be made: they come every {every} iterations inside an epoch (not at its first), and "
            f"an epoch of {images} images has {iterations}; {remedy}"
        )
    return Pace(iterations, total, every)
