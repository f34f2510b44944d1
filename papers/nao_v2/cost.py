"""Time estimates of ``--plan`` for one CPU thread.

Measured at 8 to 12 channels and 5 to 8 cells (a search of the proxy profile): time grows with images x cells x initial
channels. The published widths are somewhat slower per unit, since convolutions grow with the width squared.
"""

from __future__ import annotations

TRAIN_S, SCORE_S = 1.1e-4, 0.5e-4  # seconds per image, cell and initial channel: training step, scoring
CONTROLLER_S = 0.031  # seconds per controller step of 100 sequences
IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "digits": 4_000, "imagenet": 1_281_167}


def train_seconds(images: float, channels: int, layers: int) -> float:
    """Training steps over so many images in all."""
    return images * (3 * layers + 2) * channels * TRAIN_S


def score_seconds(images: float, channels: int, layers: int) -> float:
    """Scoring, or testing, with so many images in all."""
    return images * (3 * layers + 2) * channels * SCORE_S


def duration(seconds: float) -> str:
    """In the largest unit that fits."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
