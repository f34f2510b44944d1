"""``python -m papers.evnas search|train|evaluate|describe|draw``: see README.md beside this file."""

from __future__ import annotations

from typing import Any

from common.cli import COMPUTES, Stage, Verb, main
from papers.evnas import settings as s
from papers.evnas import settings_train as t


def _verb(settings: type, run: str, section: str, about: str, **more: Any) -> Verb:
    return Verb({(): Stage(settings, f"papers.evnas.{run}", section, about, **more)}, about=about)


VERBS = {
    "search": Verb(
        {
            ("s1",): Stage(
                s.SearchS1,
                "papers.evnas.search:search",
                "search",
                "Evolution in the DARTS cell space",
                s.S1_VARIANTS,
                bf16=True,
            ),
            ("s2",): Stage(
                s.SearchS2,
                "papers.evnas.search:search",
                "search_s2",
                "Evolution in NAS-Bench-201",
                s.S2_VARIANTS,
                bf16=True,
            ),
        },
        selectors={"space": ("s1", "s2")},
        about="Search for an architecture",
    ),
    "train": Verb(
        {
            ("cifar",): Stage(
                t.TrainSettings,
                "papers.evnas.train:train",
                "train",
                "The CIFAR recipe",
                bf16=True,
                plan="papers.evnas.planning:plan_train",
            ),
            ("imagenet",): Stage(
                t.TrainImageNetSettings,
                "papers.evnas.train:train_imagenet",
                "train_imagenet",
                "The ImageNet recipe",
                bf16=True,
                plan="papers.evnas.planning:plan_train",
            ),
        },
        selectors={"recipe": ("cifar", "imagenet")},
        about="Train an architecture from scratch",
    ),
    "evaluate": _verb(
        t.EvaluateSettings,
        "evaluate:evaluate",
        "evaluate",
        "Test error of trained weights",
        bf16=True,
        plan="papers.evnas.planning:plan_evaluate",
    ),
    "describe": _verb(
        t.DescribeSettings, "describe:run", "describe", "Counts of an architecture", writes=False, ignores=COMPUTES
    ),
    "draw": _verb(t.DrawSettings, "describe:draw", "draw", "Draw the cells", ignores=COMPUTES),
}

if __name__ == "__main__":
    main("evnas", VERBS)
