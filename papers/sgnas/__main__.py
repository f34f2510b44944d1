"""``python -m papers.sgnas VERB``: see README.md."""

from typing import Any

from common.cli.verbs import COMPUTES, Stage, Verb, main
from papers.sgnas import settings as s

SEARCH = {"cifar": s.CIFAR_SEARCH, "paper": {"active": "prefix"}}
TRAIN = {"cifar": s.CIFAR_TRAIN}


def _verb(settings: type, run: str, section: str, about: str, variants: dict | None = None, **more: Any) -> Verb:
    module = run.partition(":")[0].rpartition(".")[2].replace("speedup", "cost")
    plan = f"papers.sgnas.plan:plan_{module}"
    stage = Stage(settings, f"papers.sgnas.{run}", section, about, variants or {}, plan=plan, **more)
    return Verb({(): stage}, about=about)


VERBS = {
    "search": _verb(s.SearchSettings, "search:search", "search", "train supernet and generator", SEARCH, bf16=True),
    "search-supernet": _verb(
        s.SearchSettings, "search:search_supernet", "search_supernet", "train the supernet alone", SEARCH, bf16=True
    ),
    "search-generator": _verb(
        s.SearchSettings,
        "search:search_generator",
        "search_generator",
        "train the generator on a supernet",
        SEARCH,
        bf16=True,
    ),
    "generate": _verb(
        s.GenerateSettings,
        "generate:generate",
        "generate",
        "architectures for any number of targets",
        ignores=("device",),
        cheap=True,
    ),
    "sweep": _verb(
        s.SweepSettings,
        "studies.sweep:sweep",
        "sweep",
        "target against obtained MACs and error, with a plot",
        cheap=True,
    ),
    "train": _verb(s.TrainSettings, "train:train", "train", "train an architecture from scratch", TRAIN, bf16=True),
    "evaluate": _verb(
        s.EvaluateSettings, "evaluate:evaluate", "evaluate", "test error of weights", bf16=True, cheap=True
    ),
    "evolve": _verb(
        s.EvolveSettings,
        "studies.evolve:evolve",
        "evolve",
        "one evolutionary search per constraint (compared method)",
        cheap=True,
    ),
    "cost": _verb(
        s.CostSettings,
        "studies.speedup:cost",
        "cost",
        "time for N constraints: generator against evolution",
        cheap=True,
    ),
    "latency": _verb(
        s.LatencySettings,
        "studies.latency:latency",
        "latency",
        "measure a latency table on this device",
        ignores=("seed", "data", "allow_unpinned", "resume"),
        cheap=True,
    ),
    "convert-lmdb": _verb(
        s.ConvertSettings,
        "data.convert:convert_lmdb",
        "convert_lmdb",
        "pack a folder of pictures",
        writes=False,
        ignores=COMPUTES,
    ),
    "describe": _verb(
        s.DescribeSettings,
        "describe:run_describe",
        "describe",
        "counts and kernels of an architecture",
        writes=False,
        ignores=COMPUTES,
    ),
    "draw": _verb(s.DrawSettings, "describe:run_draw", "draw", "draw an architecture", ignores=COMPUTES),
}

if __name__ == "__main__":
    main("sgnas", VERBS)
