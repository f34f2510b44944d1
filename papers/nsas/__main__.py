"""``python -m papers.nsas search|select|train|evaluate|describe|lookup|draw|experiments``: see README.md beside it."""

from __future__ import annotations

from typing import Any

from common.cli.verbs import COMPUTES, NO_RUN, Stage, Verb, main
from common.spaces.nasbench201.settings import Lookup, TrainCell
from common.use.settings import Export, Predict
from papers.nsas import settings
from papers.nsas.nasbench201.settings import SearchNb201Gdas, SearchNb201Random
from papers.nsas.recurrent.settings import EvaluateRecurrent, SearchGdasRecurrent, SearchRecurrent, TrainRecurrent
from papers.nsas.studies.settings import Experiment

MEANT = {"constraint_gradient": True, "table": "raw"}
PROPER = {"selection": "proper", "recalibrate_batches": 20, "structure_bug": False, "argument_bug": False}
SEPARATE = {"constraint_gradient": True, "shared_cells": False, "stale_clip": False}
IMAGENET = {
    "dataset": "imagenet", "channels": 50, "layers": 14, "drop_path": 0.0, "cutout": 0, "label_smoothing": 0.1,
    "epochs": 250, "weight_decay": 3e-5,
}  # fmt: skip
SAME: dict[str, dict[str, Any]] = {"paper": {}, "modern": {}}  # the paper's form is the authors'


def _stage(settings: type, run: str, section: str, about: str, **more: Any) -> Stage:
    parts = {"section": section, "about": about, "ending": "papers.nsas.ending:ending", **more}
    return Stage(settings=settings, run=f"papers.nsas.{run}", **parts)


SEARCH: dict[tuple[str, ...], Stage] = {
    ("darts", "random"): _stage(
        settings.SearchRandom, "search_random:search", "search", "RandomNAS-NSAS in the DARTS space",
        compiles=True,
        usual=("dataset", "epochs", "constraints", "constraint_gradient", "select_candidates"),
        variants={
            "paper": MEANT,
            "modern": {**MEANT, "select_augment": False, "recalibrate_batches": 20},
            "2019": {"monitor": True},
            "head": {"table": "raw", "constraints": 8, "select_candidates": 10, "epochs": 2},
        },
    ),
    ("darts", "gdas"): _stage(
        settings.SearchGdas, "search_gdas:search", "search_gdas", "GDAS-NSAS in the DARTS space (2019 semantics)",
        compiles=True,
        usual=("dataset", "epochs", "constraints", "semantics", "channels"),
        variants={
            "paper": {**MEANT, "weighted": False},
            "modern": {**MEANT, "weighted": False},
            "head": {"semantics": "head", "table": "raw", "epochs": 240, "train_images": 0},
        },
    ),
    ("nb201", "random"): _stage(
        SearchNb201Random, "nasbench201.search_random:search", "search_nb201_random",
        "RandomNAS variants on NAS-Bench-201", variants={"paper": PROPER, "modern": PROPER}, compiles=True,
    ),
    ("nb201", "gdas"): _stage(
        SearchNb201Gdas, "nasbench201.search_gdas:search", "search_nb201", "GDAS variants on NAS-Bench-201",
        variants={"paper": SEPARATE, "modern": SEPARATE}, compiles=True,
    ),
    ("ptb", "random"): _stage(
        SearchRecurrent, "recurrent.search:search", "search_ptb", "RandomNAS-NSAS for recurrent cells",
        usual=("text", "epochs", "constraints", "path", "width"),
        variants={
            "paper": {"path": "sampled"},
            "modern": {"path": "sampled"},
            "head": {"table": "raw", "batch_size": 256},
        },
    ),
    ("ptb", "gdas"): _stage(
        SearchGdasRecurrent, "recurrent.search:unavailable_gdas", "search_ptb_gdas",
        "not available: GDAS for recurrent cells was never released",
    ),
}  # fmt: skip

TRAIN: dict[tuple[str, ...], Stage] = {
    ("darts",): _stage(
        settings.Train, "train:train", "train", "A derived CNN from scratch", bf16=True,
        compiles=True,
        usual=("arch", "dataset", "epochs", "channels", "layers"),
        variants={
            **SAME,
            "imagenet-step": {**IMAGENET, "schedule": "step", "lr": 0.1, "batch_size": 128},
            "imagenet-linear": {**IMAGENET, "schedule": "linear", "lr": 0.2, "batch_size": 256},
        },
    ),
    ("nb201",): _stage(
        TrainCell, "nasbench201.result:train", "train_nb201", "A cell of NAS-Bench-201 by the benchmark's recipe",
        bf16=True, compiles=True, usual=("arch", "dataset", "split", "epochs"), variants=SAME,
    ),
    ("ptb",): _stage(
        TrainRecurrent, "recurrent.train:train", "train_ptb", "A recurrent cell from scratch",
        usual=("arch", "text", "epochs", "width", "batch_size"),
        variants=SAME,
    ),
}  # fmt: skip

EVALUATE: dict[tuple[str, ...], Stage] = {
    ("darts",): _stage(
        settings.Evaluate, "evaluate:evaluate", "evaluate", "A trained CNN on its test set", bf16=True,
        compiles=True,
        usual=("arch", "checkpoint", "dataset", "weights"),
        variants=SAME,
    ),
    ("ptb",): _stage(
        EvaluateRecurrent, "recurrent.evaluate:evaluate", "evaluate_ptb", "Perplexities of a trained recurrent network",
        usual=("arch", "checkpoint", "text", "weights"), variants=SAME,
    ),
}  # fmt: skip

DESCRIBE = _stage(
    settings.Describe, "describe:describe", "describe", "Parameters, MACs, cell", writes=False, ignores=COMPUTES
)
LOOKUP = _stage(
    Lookup, "nasbench201.result:lookup", "lookup", "NAS-Bench-201's accuracies of cells", writes=False,
    ignores=("seed", "device", "resume"),
)  # fmt: skip
DRAW = _stage(settings.Draw, "describe:draw", "draw", "Pictures of the cells", ignores=COMPUTES)
SELECT = _stage(
    settings.Select,
    "studies.select:select",
    "select",
    "The cell that an unfinished search would choose now",
    ignores=("seed",),
)
EXPERIMENTS = _stage(
    Experiment, "studies.forgetting:experiment", "experiments", "Does the constraint matter?",
    usual=("dataset", "loss", "constraints", "epochs", "summarise"),
    variants={"paper": {"loss": "paper"}, "modern": {"loss": "paper"}},
)  # fmt: skip

IMAGES, TEXT = {"darts": "cells of the DARTS space, for images"}, {"ptb": "recurrent cells, for text"}
METHODS = {"random": "RandomNAS with the NSAS loss", "gdas": "GDAS with the NSAS loss"}
PREDICT = _stage(Predict, "use:predict", "predict", "What pictures show", bf16=True, file=True, ignores=NO_RUN)
EXPORT = _stage(Export, "use:export", "export", "ONNX or TorchScript", file=True, ignores=COMPUTES)

VERBS = {
    "search": Verb(
        SEARCH,
        selectors={"space": {**IMAGES, "nb201": "cells of NAS-Bench-201, for images", **TEXT}, "method": METHODS},
        about="Search for an architecture",
    ),
    "select": Verb({(): SELECT}, about="The cell that an unfinished search would choose now"),
    "train": Verb(
        TRAIN,
        selectors={"space": {**IMAGES, "nb201": "a cell of NAS-Bench-201, by the benchmark's recipe", **TEXT}},
        about="Train an architecture from scratch",
    ),
    "evaluate": Verb(EVALUATE, selectors={"space": {**IMAGES, **TEXT}}, about="Test trained weights"),
    "predict": Verb({(): PREDICT}, about="What pictures show, by trained weights"),
    "export": Verb({(): EXPORT}, about="Trained weights as ONNX or TorchScript"),
    "describe": Verb({(): DESCRIBE}, about="Counts of an architecture"),
    "lookup": Verb({(): LOOKUP}, about="NAS-Bench-201's accuracies of cells"),
    "draw": Verb({(): DRAW}, about="Draw the cells"),
    "experiments": Verb(
        {(): EXPERIMENTS}, about="Forgetting, ranking and the chosen cell with and without constraints"
    ),
}

if __name__ == "__main__":
    main("nsas", VERBS)
