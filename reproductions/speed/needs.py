"""What a search at the papers' scale needs on one H100 and on eight: a reckoning, not a measurement.

A step takes the longer of its arithmetic and of the starting of its operators:

    t = max((F images / G + B) / (R u), n o)    F operations an image, B besides and n operators a step, counted by
                                         ``make bench``
    R = 67 TFLOP/s                       an H100's fp32 rate without tensor cores, as its maker states it
    u = 0.3                              share of it that steps reach: what they reach of a matrix product on a CPU
    o = seconds / (steps n)              of the one search of the suite that ran on such a GPU, whose steps were
                                         that short: Cream's proxy search on an H200, loading and saving included
    G                                    GPUs that share the images of a step; those that each take a candidate of
                                         their own share its operators too

Numbers of steps follow from the published settings. Reading images is assumed to keep up.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import Any

from common.run.files import read_json
from papers.cream.settings import Search as Cream
from papers.evnas.settings import Search as EvNAS
from papers.evnas.settings import SearchDARTS, SearchNB201
from papers.nao_v2.settings import Search as NAO
from papers.nsas.settings import SearchRandom as NSAS
from papers.sgnas.settings import SearchGenerator, SearchSupernet
from reproductions.claims import ROOT

RATE, SHARE = 67e12, 0.3
MEASURED = ROOT / "results" / "proxy" / "cream" / "search_gpu-0"
CIFAR, IMAGENET = 50_000, 1_281_167


@dataclass(frozen=True)
class Phase:
    """steps of so many images; of_candidates: GPUs take candidates of their own."""

    search: str
    name: str
    steps: int
    images: float
    of_candidates: bool = False


def evnas(search: str, settings: EvNAS) -> list[Phase]:
    """Every generation an epoch of the half that trains, and a pass of each individual over the other half."""
    half, passes = CIFAR // 2, settings.generations * settings.population
    train = settings.generations * math.ceil(half / settings.batch_size)
    fitness = math.ceil(half / settings.fitness_batch_size)
    return [
        Phase(search, "train", train, settings.batch_size),
        Phase(search, "fitness", passes * fitness, half / fitness),
    ]


def nsas() -> list[Phase]:
    """Epochs of the part that trains, and a pass of every candidate over the rest."""
    c = NSAS()
    half = int(CIFAR * c.train_portion)
    scored = c.select_rounds * c.select_candidates * (CIFAR - half) // c.select_batch_size
    return [
        Phase("nsas", "train", c.epochs * math.ceil(half / c.batch_size), c.batch_size),
        Phase("nsas", "select", scored, c.select_batch_size),
    ]


def nao_v2() -> list[Phase]:
    """Every iteration trains the supernet and scores the pool; all but the last train the controller on it."""
    c = NAO()
    steps = c.iterations * c.epochs * math.ceil((CIFAR - c.valid_images) / c.batch_size)
    pools = [c.seed_architectures + i * c.new_architectures for i in range(c.iterations)]
    taught = [c.controller_copies * int(0.9 * pool) for pool in pools[:-1]]  # the rest validates it
    epoch = sum(math.ceil(sequences / c.controller_batch_size) for sequences in taught)
    return [
        Phase("nao_v2", "train", steps, c.batch_size),
        Phase("nao_v2", "score", sum(pools), c.score_images, True),
        Phase("nao_v2", "controller", c.controller_epochs * epoch, 0),
    ]


def cream() -> list[Phase]:
    """Whole batches of every epoch; the board's work is counted with the steps."""
    c = Cream()
    return [Phase("cream", "train", c.epochs * (IMAGENET // c.batch_size), c.batch_size)]


def sgnas() -> list[Phase]:
    """The supernet on the images that are not the generator's, then the generator on its own."""
    a, b = SearchSupernet(), SearchGenerator()
    images = IMAGENET - a.search_images
    return [
        Phase("sgnas", "train", a.supernet_epochs * math.ceil(images / a.batch_size), a.batch_size),
        Phase("sgnas", "generator", b.generator_epochs * math.ceil(b.search_images / b.batch_size), b.batch_size),
    ]


SEARCHES = {
    "EvNAS, DARTS space, CIFAR-10": lambda: evnas("evnas_darts", SearchDARTS()),
    "EvNAS, NAS-Bench-201": lambda: evnas("evnas_nb201", SearchNB201()),
    "NSAS, DARTS space, CIFAR-10": nsas,
    "NAO-V2, CIFAR-10": nao_v2,
    "Cream, ImageNet": cream,
    "SGNAS, ImageNet": sgnas,
}


def overhead(published: dict[str, Any]) -> float:
    """Seconds that an operator takes to start, o."""
    seconds = read_json(MEASURED / "timing.json")["seconds"]
    with (MEASURED / "history.csv").open(newline="", encoding="utf-8") as table:
        steps = int([row["iterations"] for row in csv.DictReader(table)][-1])
    return seconds / steps / published["cream"]["train"]["operators"]


def hours(phase: Phase, published: dict[str, Any], gpus: int) -> tuple[float, bool]:
    """(hours of a phase on so many GPUs, whether the starting of operators decides)."""
    counted = published[phase.search][phase.name]
    each = counted["flops_an_image"] * phase.images / gpus
    arithmetic = (each + counted["flops_besides"]) / (RATE * SHARE)
    starting = counted["operators"] * overhead(published)
    if phase.of_candidates:
        starting /= gpus
    return phase.steps * max(arithmetic, starting) / 3600, starting > arithmetic


def rows(published: dict[str, Any]) -> list[list[str]]:
    """search, phase, steps, images a step, TFLOP a step, operators a step, hours on 1 and on 8, what decides."""
    found = []
    for name, phases in SEARCHES.items():
        for phase in phases():
            counted = published[phase.search][phase.name]
            (one, starts), (eight, still) = (hours(phase, published, gpus) for gpus in (1, 8))
            bound = "operators" if starts else "arithmetic, operators on 8" if still else "arithmetic"
            found.append([
                name, phase.name, f"{phase.steps:,}", f"{phase.images:,.0f}" if phase.images else "–",
                f"{(counted['flops_an_image'] * phase.images + counted['flops_besides']) / 1e12:.3g}",
                f"{counted['operators']:,}", f"{one:,.1f}", f"{eight:,.1f}", bound,
            ])  # fmt: skip
    return found
