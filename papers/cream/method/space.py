"""The search space of a run: the supernet's size, what paths cost, and how they are drawn (Method 1 and 2).

No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import UserError
from common.run import seeds
from papers.cream.method.window import Window, supernet_window
from papers.cream.networks.architectures import ChoicePath
from papers.cream.networks.layout import SMALLEST_INPUT, FlopsTable, Layout, NetworkSpec, network_spec, variant_of
from papers.cream.settings import Search

REDRAWS = 10_000  # tries to find a path inside the window


def sample_path(
    rng: np.random.RandomState, sampled: Sequence[int], choices: int = 6, weights: Sequence[float] | None = None
) -> ChoicePath:
    """A path with ``sampled`` entries in stages 1 to 5, uniform unless ``weights`` are given (Method 2).

    One ``choice(C, n)`` per stage. The released code hands its probability vector to NumPy in the place of ``replace``,
    so it samples uniformly whatever the vector says: uniform is what made the published numbers.
    """
    inner = [rng.choice(choices, count, p=weights).tolist() for count in sampled]
    return [[0], *inner, [0]]


def board_probabilities(paths: Sequence[ChoicePath], choices: int = 6) -> list[float]:
    """Choice frequencies of the board's paths, with both constant stages (+2 for choice 0 per path).

    What the release's sampling "teacher" computes, and loses in the same way.
    """
    counts = np.zeros(choices)
    for path in paths:
        for stage in path:
            for choice in stage:
                counts[choice] += 1
    return (counts / counts.sum()).tolist()


@dataclass(frozen=True)
class Space:
    """What a search trains and draws from.

    resolution: side of its pictures. table: what paths are ranked by. macs_min, macs_max: its window in MFLOPs, which
    only ``enforced`` draws respect. weights: probabilities of the choices, None: uniform.
    """

    window: Window
    layout: Layout
    table: FlopsTable
    resolution: int
    macs_min: float
    macs_max: float
    enforced: bool
    weights: tuple[float, ...] | None

    def mflops(self, path: ChoicePath) -> float:
        """Cost of a path by the search's table, in millions."""
        return self.table.flops(path)

    def draw(self, seed: int, number: int) -> ChoicePath:
        """Path ``number`` of a run: a function of both alone, so the same in every process and after a resume.

        Raises UserError where no path lies in an enforced window.
        """
        rng = seeds.numpy_rng(seed, "path", number)
        for _ in range(REDRAWS):
            path = sample_path(rng, self.window.sampled, self.layout.choices, self.weights)
            if not self.enforced or self.macs_min <= self.mflops(path) <= self.macs_max:
                return path
        raise UserError(
            f"no path with {self.macs_min:g} to {self.macs_max:g} MFLOPs in {REDRAWS} draws (counted at "
            f"{'224' if self.table.size == 224 else 'the resolution of the window'}); widen the window or use "
            f"--no-enforce-window"
        )

    def derived(self, path: ChoicePath, classes: int) -> NetworkSpec:
        """The network of a path as searched: every entry counts."""
        return network_spec(path, classes, self.layout, single_block_default=False)

    def sizes(self, path: ChoicePath, classes: int) -> dict[str, float]:
        """What a result says about the size of the network of a path."""
        spec = self.derived(path, classes)
        return {
            "mflops_search_table": self.mflops(path), "parameters": spec.count("parameters"),
            "macs": spec.count("macs", self.resolution),
        }  # fmt: skip

    def architecture(self, path: ChoicePath) -> dict[str, Any]:
        """What an architecture file says about a path."""
        return {"path": path, "resolution": self.resolution, **variant_of(self.layout)}


def space_of(settings: Search) -> Space:
    """The space of a search. Raises UserError for a window that no supernet, or no picture, serves.

    The table is measured at 224 as released; with ``apply_resolution`` at the window's own resolution, without which no
    path fits a window below 80 MFLOPs. The pictures then shrink in the window's proportion to 224.
    """
    window = supernet_window(settings.macs_min, settings.macs_max)
    layout = Layout(resunit=settings.resunit, dil_conv=settings.dil_conv, pool=settings.pool)
    resolution, measured_at = settings.resolution, 224
    if settings.apply_resolution:
        resolution, measured_at = settings.resolution * window.resolution // 224, window.resolution
        if resolution < SMALLEST_INPUT:
            raise UserError(
                f"--apply-resolution makes {resolution} pixels of --resolution {settings.resolution} in this window "
                f"({window.resolution} of 224), the least is {SMALLEST_INPUT}; raise --resolution or --macs-max"
            )
    return Space(
        window, layout, FlopsTable(window.built, layout, measured_at), resolution, settings.macs_min,
        settings.macs_max, settings.enforce_window, settings.probabilities if settings.sampling == "weighted" else None,
    )  # fmt: skip
