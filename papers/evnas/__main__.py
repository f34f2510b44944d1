"""``python -m papers.evnas search|train|evaluate|describe|lookup|draw``: see README.md beside this file."""

from __future__ import annotations

from typing import Any

from common.cli.verbs import COMPUTES, NO_RUN, Stage, Verb, main
from common.spaces.nasbench201.settings import Lookup, TrainCell
from common.use.settings import Export, Predict
from papers.evnas import settings


def _stage(cls: type, run: str, section: str, about: str, **more: Any) -> Stage:
    parts = {"section": section, "about": about, "ending": "papers.evnas.ending:ending", **more}
    return Stage(settings=cls, run=f"papers.evnas.{run}", **parts)


def _search(cls: type[settings.Search], section: str, about: str) -> Stage:
    variants = settings.VARIANTS[cls]
    usual = ("dataset", "strategy", "generations", "population", "channels")
    return _stage(cls, "search:search", section, about, variants=variants, bf16=True, compiles=True, usual=usual)


def _train(cls: type, section: str, about: str) -> Stage:
    return _stage(
        cls,
        "train:train",
        section,
        about,
        bf16=True,
        compiles=True,
        usual=("arch", "dataset", "epochs", "channels", "layers"),
    )


VERBS = {
    "search": Verb(
        {
            ("darts",): _search(settings.SearchDARTS, "search", "Evolution in the DARTS cell space"),
            ("nb201",): _search(settings.SearchNB201, "search_nb201", "Evolution in NAS-Bench-201"),
        },
        selectors={
            "space": {"darts": "cells of the DARTS space (S1 in the paper)", "nb201": "NAS-Bench-201 cells (S2)"}
        },
        about="Search for an architecture",
    ),
    "train": Verb(
        {
            ("darts", "cifar"): _train(settings.Train, "train", "The CIFAR recipe"),
            ("darts", "imagenet"): _train(settings.TrainImageNet, "train_imagenet", "The ImageNet recipe"),
            ("nb201", "cifar"): _stage(
                TrainCell, "train:train_nb201", "train_nb201", "A cell of NAS-Bench-201 by the benchmark's recipe",
                bf16=True, compiles=True, usual=("arch", "dataset", "split", "epochs"),
            ),
        },
        selectors={
            "space": {
                "darts": "a network of DARTS cells",
                "nb201": "a cell of NAS-Bench-201, by the benchmark's own recipe",
            },
            "recipe": {
                "cifar": "small images in memory: 20 cells, 600 epochs as published",
                "imagenet": "pictures at 224 pixels: 14 cells, 250 epochs as published",
            }
        },
        about="Train an architecture from scratch",
    ),
    "evaluate": Verb(
        {
            (): _stage(
                settings.Evaluate, "evaluate:evaluate", "evaluate", "Test error of trained weights", bf16=True,
                compiles=True,
                usual=("arch", "checkpoint", "dataset", "weights"),
            )
        },
        about="Test error of trained weights",
    ),
    "describe": Verb(
        {
            (): _stage(
                settings.Describe, "describe:describe", "describe", "Counts of an architecture", writes=False,
                ignores=COMPUTES,
            )
        },
        about="Counts of an architecture",
    ),
    "lookup": Verb(
        {
            (): _stage(
                Lookup, "lookup:lookup", "lookup", "NAS-Bench-201's accuracies of cells", writes=False,
                ignores=("seed", "device", "resume"),
            )
        },
        about="NAS-Bench-201's accuracies of cells",
    ),
    "predict": Verb(
        {(): _stage(Predict, "use:predict", "predict", "What pictures show", bf16=True, file=True, ignores=NO_RUN)},
        about="What pictures show, by trained weights",
    ),
    "export": Verb(
        {(): _stage(Export, "use:export", "export", "ONNX or TorchScript", file=True, ignores=COMPUTES)},
        about="Trained weights as ONNX or TorchScript",
    ),
    "draw": Verb(
        {(): _stage(settings.Draw, "describe:draw", "draw", "Draw the cells", ignores=COMPUTES)},
        about="Draw the cells",
    ),
}  # fmt: skip

if __name__ == "__main__":
    main("evnas", VERBS)
