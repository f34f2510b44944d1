"""``python -m papers.sgnas VERB``: see README.md."""

from typing import Any

from common.cli.verbs import COMPUTES, NO_RUN, Stage, Verb, alone, main
from papers.sgnas import settings as stages
from papers.sgnas.studies import settings as studies


def _verb(settings: type, run: str, section: str, about: str, **more: Any) -> Verb:
    parts = {"section": section, "about": about, "ending": "papers.sgnas.ending:ending", **more}
    return alone(Stage(settings=settings, run=f"papers.sgnas.{run}", **parts))


def _search(settings: type, run: str, section: str, about: str, cifar: dict[str, Any], usual: tuple[str, ...]) -> Verb:
    variants = {"cifar": cifar, "paper": {"active": "prefix"}}
    compiles = section != "search_generator"  # there the supernet is a fixed function of all its operations
    return _verb(settings, run, section, about, variants=variants, bf16=True, compiles=compiles, usual=usual)


VERBS = {
    "search": _search(
        stages.Search, "search:search", "search", "train supernet and generator", stages.CIFAR_SEARCH,
        ("dataset", "supernet_epochs", "generator_epochs", "targets", "train_images"),
    ),
    "search-supernet": _search(
        stages.SearchSupernet, "search:search_supernet", "search_supernet", "train the supernet alone",
        stages.CIFAR_SUPERNET, ("dataset", "supernet_epochs", "paths", "batch_size", "train_images"),
    ),
    "search-generator": _search(
        stages.SearchGenerator, "search:search_generator", "search_generator", "train the generator on a supernet",
        stages.CIFAR_GENERATOR, ("supernet", "dataset", "generator_epochs", "targets", "search_images"),
    ),
    "generate": _verb(
        stages.Generate, "generate:generate", "generate", "architectures for any number of targets",
        ignores=("device",), cheap=True, usual=("generator", "target_mflops", "hit"),
    ),
    "sweep": _verb(
        studies.Sweep, "studies.sweep:sweep", "sweep", "target against obtained MACs and error, with a plot",
        cheap=True, usual=("generator", "supernet", "dataset", "step_mflops", "search_images"),
    ),
    "train": _verb(
        stages.Train, "train:train", "train", "train an architecture from scratch",
        variants={"cifar": stages.CIFAR_TRAIN}, bf16=True, compiles=True,
        usual=("arch", "dataset", "epochs", "batch_size", "se"),
    ),
    "evaluate": _verb(
        stages.Evaluate, "evaluate:evaluate", "evaluate", "test error of weights", bf16=True, compiles=True, cheap=True,
        usual=("arch", "checkpoint", "dataset", "weights", "batch_size"),
    ),
    "predict": _verb(
        stages.Predict, "use:predict", "predict", "what pictures show, by trained weights", bf16=True, file=True,
        ignores=NO_RUN,
    ),
    "export": _verb(
        stages.Export, "use:export", "export", "trained weights as ONNX or TorchScript", file=True, ignores=COMPUTES
    ),
    "evolve": _verb(
        studies.Evolve, "studies.evolve:evolve", "evolve", "one evolutionary search per constraint (compared method)",
        cheap=True, usual=("supernet", "targets", "population", "generations", "random"),
    ),
    "cost": _verb(
        studies.Cost, "studies.speedup:speedup", "cost", "time for N constraints: generator against evolution",
        cheap=True,
    ),
    "latency": _verb(
        studies.Latency, "studies.latency:latency", "latency", "measure a latency table on this device",
        ignores=("seed", "data", "allow_unpinned", "resume"), cheap=True,
    ),
    "convert-lmdb": _verb(
        stages.Convert, "data.convert:convert_lmdb", "convert_lmdb", "pack a folder of pictures",
        writes=False, ignores=COMPUTES,
    ),
    "describe": _verb(
        stages.Describe, "describe:describe", "describe", "counts and kernels of an architecture",
        writes=False, ignores=COMPUTES,
    ),
    "draw": _verb(stages.Draw, "describe:draw", "draw", "draw an architecture", ignores=COMPUTES),
}  # fmt: skip

if __name__ == "__main__":
    main("sgnas", VERBS)
