"""``python -m papers.nsas search|train|evaluate|describe|draw|experiments``: see README.md beside this file."""

from __future__ import annotations

from common.cli.verbs import COMPUTES, Stage, Verb, main
from papers.nsas import settings as s
from papers.nsas.nasbench201.settings import SearchNb201Gdas, SearchNb201Random
from papers.nsas.recurrent.settings import EvaluateRecurrent, SearchRecurrent, TrainRecurrent
from papers.nsas.studies.settings import Experiment

MEANT = {"constraint_gradient": True, "table": "raw"}
PROPER = {"selection": "proper", "recalibrate_batches": 20, "structure_bug": False, "argument_bug": False}
SEPARATE = {"constraint_gradient": True, "shared_cells": False, "stale_clip": False}
IMAGENET = {
    "dataset": "imagenet", "channels": 50, "layers": 14, "drop_path": 0.0, "cutout": 0, "label_smoothing": 0.1,
    "epochs": 250, "weight_decay": 3e-5,
}  # fmt: skip

SEARCH = {
    ("darts", "random"): Stage(
        s.SearchRandom,
        "papers.nsas.search_random:search",
        "search",
        "RandomNAS-NSAS in the DARTS space",
        {
            "paper": MEANT,
            "modern": {**MEANT, "select_augment": False, "recalibrate_batches": 20},
            "2019": {"monitor": True},
            "head": {"table": "raw", "constraints": 8, "select_candidates": 10, "epochs": 2},
        },
        plan="papers.nsas.planning:plan_random",
    ),
    ("darts", "gdas"): Stage(
        s.SearchGdas,
        "papers.nsas.search_gdas:search",
        "search_gdas",
        "GDAS-NSAS in the DARTS space (2019 semantics)",
        {
            "paper": {**MEANT, "weighted": False},
            "modern": {**MEANT, "weighted": False},
            "head": {"semantics": "head", "table": "raw", "epochs": 240, "train_images": 0},
        },
        plan="papers.nsas.planning:plan_gdas",
    ),
    ("nb201", "random"): Stage(
        SearchNb201Random,
        "papers.nsas.nasbench201.search_random:search",
        "search_nb201_random",
        "RandomNAS variants on NAS-Bench-201",
        {"paper": PROPER, "modern": PROPER},
        plan="papers.nsas.planning:plan_201",
    ),
    ("nb201", "gdas"): Stage(
        SearchNb201Gdas,
        "papers.nsas.nasbench201.search_gdas:search",
        "search_nb201",
        "GDAS variants on NAS-Bench-201",
        {"paper": SEPARATE, "modern": SEPARATE},
        plan="papers.nsas.planning:plan_201",
    ),
    ("ptb", "random"): Stage(
        SearchRecurrent,
        "papers.nsas.recurrent.search:search",
        "search_ptb",
        "RandomNAS-NSAS for recurrent cells",
        {
            "paper": {"path": "sampled"},
            "modern": {"path": "sampled"},
            "head": {"table": "raw", "batch_size": 256},
        },
        plan="papers.nsas.planning:plan_recurrent_search",
    ),
    ("ptb", "gdas"): Stage(
        s.NotReleasedSettings,
        "papers.nsas.unavailable:recurrent_gdas",
        "search_ptb_gdas",
        "not available: GDAS for recurrent cells was never released",
    ),
}

TRAIN = {
    ("darts",): Stage(
        s.Train,
        "papers.nsas.train:train",
        "train",
        "A derived CNN from scratch",
        {
            "paper": {},
            "modern": {},
            "imagenet-step": {**IMAGENET, "schedule": "step", "lr": 0.1, "batch_size": 128},
            "imagenet-linear": {**IMAGENET, "schedule": "linear", "lr": 0.2, "batch_size": 256},
        },
        bf16=True,
        plan="papers.nsas.planning:plan_train",
    ),
    ("ptb",): Stage(
        TrainRecurrent,
        "papers.nsas.recurrent.train:train",
        "train_ptb",
        "A recurrent cell from scratch",
        {"paper": {}, "modern": {}},
        plan="papers.nsas.planning:plan_recurrent_train",
    ),
}

EVALUATE = {
    ("darts",): Stage(
        s.Evaluate,
        "papers.nsas.evaluate:evaluate",
        "evaluate",
        "A trained CNN on its test set",
        {"paper": {}, "modern": {}},
        bf16=True,
        plan="papers.nsas.planning:plan_evaluate",
    ),
    ("ptb",): Stage(
        EvaluateRecurrent,
        "papers.nsas.recurrent.evaluate:evaluate",
        "evaluate_ptb",
        "Perplexities of a trained recurrent network",
        {"paper": {}, "modern": {}},
        plan="papers.nsas.planning:plan_recurrent_evaluate",
    ),
}

VERBS = {
    "search": Verb(
        SEARCH,
        selectors={"space": ("darts", "nb201", "ptb"), "method": ("random", "gdas")},
        about="Search for an architecture",
    ),
    "train": Verb(TRAIN, selectors={"space": ("darts", "ptb")}, about="Train an architecture from scratch"),
    "evaluate": Verb(EVALUATE, selectors={"space": ("darts", "ptb")}, about="Test trained weights"),
    "describe": Verb(
        {
            (): Stage(
                s.Describe,
                "papers.nsas.describe:run",
                "describe",
                "Parameters, MACs, cell",
                writes=False,
                ignores=COMPUTES,
            )
        },
        about="Counts of an architecture",
    ),
    "draw": Verb(
        {(): Stage(s.Draw, "papers.nsas.draw:draw", "draw", "Pictures of the cells", ignores=COMPUTES)},
        about="Draw the cells",
    ),
    "experiments": Verb(
        {
            (): Stage(
                Experiment,
                "papers.nsas.studies.forgetting:experiment",
                "experiments",
                "Does the constraint matter?",
                {"paper": {"loss": "paper"}, "modern": {"loss": "paper"}},
                plan="papers.nsas.planning:plan_experiment",
            )
        },
        about="Forgetting, ranking and the chosen cell with and without constraints",
    ),
}

if __name__ == "__main__":
    main("nsas", VERBS)
