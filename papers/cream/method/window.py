"""From a FLOPs window to the supernet's size: blocks per stage and input resolution (Method 1). No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

from common.errors import UserError
from papers.cream.networks.layout import PUBLISHED_LAYOUT, FlopsTable

GROWTH_ORDER = (2, 3, 4, 1, 0, 2, 3, 4, 1, 0)  # stages 1..5 counted from 0
GROWTH_LIMITS = (3, 3, 3, 2, 2, 4, 4, 4, 4, 4)
SMALLEST, LARGEST = 0, 5  # choices (k3, e4) and (k7, e6)
DEEPEST = 4  # declared positions of a stage; the fourth of stage 3 stands for two blocks


@dataclass(frozen=True)
class Window:
    """What a FLOPs window yields. sampled, built: blocks of stages 1 to 5 (built has stage 3's extra fifth block)."""

    sampled: tuple[int, ...]
    resolution: int

    @property
    def built(self) -> list[int]:
        """Blocks of stages 1 to 5 that the supernet holds."""
        return [count + (stage == 2 and count == DEEPEST) for stage, count in enumerate(self.sampled)]


def one_block_mflops() -> tuple[float, float]:
    """MFLOPs of the cheapest and the dearest path through stages 1 to 5 with one block each: lo and hi of the rule."""
    stages = [rows[0] for rows in FlopsTable([1] * 5, PUBLISHED_LAYOUT).mflops[1:6]]
    return fsum(row[SMALLEST] for row in stages), fsum(row[LARGEST] for row in stages)


def supernet_window(minimum: float, maximum: float) -> Window:
    """Blocks per stage and resolution for paths of ``minimum`` to ``maximum`` MFLOPs.

    lo, hi: cheapest and dearest one-block-per-stage network. Above the maximum, the resolution shrinks in steps of 32;
    below the minimum, blocks are added in a fixed order; then as many more as fit. Costs are those of the published
    layout at 224. Raises UserError for a window no supernet can serve.
    """
    table = FlopsTable([2] * 5, PUBLISHED_LAYOUT).mflops
    later = lambda stage, choice: table[stage + 1][1][choice]  # noqa: E731
    impossible = UserError(
        f"no supernet fits the window {minimum:g} to {maximum:g} MFLOPs; the maximum must be at least about 5 and the "
        f"minimum at most about 590"
    )
    if not (minimum <= maximum and 0 < maximum < float("inf")):  # so written, NaN is refused as well
        raise UserError(f"impossible window: --macs-min {minimum:g} and --macs-max {maximum:g}; need 0 <= min <= max")
    blocks = [1] * 5
    low, high = one_block_mflops()
    factor, pointer = 7, 0
    if low > maximum:
        while low > maximum and factor >= 2:
            factor -= 1
            minimum *= 7 / factor  # compounds over the rounds, as released
            maximum *= 7 / factor
        if factor < 2:
            raise impossible
    elif high < minimum:
        while high < minimum and pointer <= 9:
            stage = GROWTH_ORDER[pointer]
            if blocks[stage] >= GROWTH_LIMITS[pointer]:
                pointer += 1
                continue
            high += later(stage, LARGEST)
            blocks[stage] += 1
        if pointer > 7 and high < minimum:
            raise impossible
    pointer = 0
    while pointer <= 9:
        stage = GROWTH_ORDER[pointer]
        if blocks[stage] >= GROWTH_LIMITS[pointer]:
            pointer += 1
            continue
        high += later(stage, LARGEST)
        if high > maximum:
            break
        blocks[stage] += 1
    return Window(tuple(blocks), 32 * factor)
