"""``python -m papers.evnas search|train|evaluate|describe|draw``: see README.md beside this file."""

from __future__ import annotations

from typing import Any

from common.cli.verbs import COMPUTES, Stage, Verb, main
from papers.evnas import settings as s
from papers.evnas import settings_train as t


def _verb(settings: type, run: str, section: str, about: str, **more: Any) -> Verb:
    return Verb(
        {(): Stage(settings=settings, run=f"papers.evnas.{run}", section=section, about=about, **more)}, about=about
    )


VERBS = {
    "search": Verb(
        {
            ("s1",): Stage(
                settings=s.SearchS1,
                run="papers.evnas.search:search",
                section="search",
                about="Evolution in the DARTS cell space",
                variants=s.S1_VARIANTS,
                bf16=True,
            ),
            ("s2",): Stage(
                settings=s.SearchS2,
                run="papers.evnas.search:search",
                section="search_s2",
                about="Evolution in NAS-Bench-201",
                variants=s.S2_VARIANTS,
                bf16=True,
            ),
        },
        selectors={"space": ("s1", "s2")},
        about="Search for an architecture",
    ),
    "train": Verb(
        {
            ("cifar",): Stage(
                settings=t.TrainSettings,
                run="papers.evnas.train:train",
                section="train",
                about="The CIFAR recipe",
                bf16=True,
                plan="papers.evnas.planning:plan_train",
            ),
            ("imagenet",): Stage(
                settings=t.TrainImageNetSettings,
                run="papers.evnas.train:train_imagenet",
                section="train_imagenet",
                about="The ImageNet recipe",
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
