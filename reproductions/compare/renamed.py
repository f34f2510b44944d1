"""Names that settings and stages had when committed results were made: such results are read under today's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LR = {"learning_rate": "lr"}
EVNAS_SEARCH = {
    **LR, "learning_rate_min": "lr_min", "fitness_size": "fitness_images", "fitness_images": "fitness_augment",
}  # fmt: skip
# paper -> stage, as it is called today -> old name of a setting -> its name today
OLD_NAMES: dict[str, dict[str, dict[str, str]]] = {
    "cream": {
        "search": {"smoothing": "label_smoothing", "idle": "zero_grad"},
        "train": {"smoothing": "label_smoothing", "min_lr": "lr_min"},
        "rank_study": {"smoothing": "label_smoothing", "min_lr": "lr_min"},
    },
    "evnas": {
        "search": EVNAS_SEARCH,
        "search_nb201": EVNAS_SEARCH,
        "train": {"evaluate_every": "eval_every"},
    },
    "nao_v2": {
        "search": {
            **LR, "minimum_learning_rate": "lr_min", "controller_learning_rate": "controller_lr",
            "gradients": "zero_grad", "keep": "dropout_keep", "final_keep": "final_dropout_keep",
        },
        "random_search": {**LR, "minimum_learning_rate": "lr_min", "keep": "dropout_keep"},
        "rank_study": {
            **LR, "minimum_learning_rate": "lr_min", "gradients": "zero_grad", "alone_keep": "alone_dropout_keep",
        },
        "train": {
            **LR, "minimum_learning_rate": "lr_min", "optimizer_momentum": "momentum", "decay": "decay_rate",
            "decay_every": "decay_epochs", "keep": "dropout_keep", "evaluate_every": "eval_every",
        },
    },
    "nsas": {
        "search": {**LR, "learning_rate_min": "lr_min"},
        "search_gdas": {**LR, "learning_rate_min": "lr_min", "arch_learning_rate": "arch_lr"},
        "train": {**LR, "learning_rate_min": "lr_min", "evaluate_every": "eval_every"},
        "search_nb201": {**LR, "learning_rate_min": "lr_min", "arch_learning_rate": "arch_lr"},
        "search_nb201_random": {**LR, "learning_rate_min": "lr_min"},
        "search_ptb": LR,
        "train_ptb": LR,
        "evaluate_ptb": {"eval_batch_size": "batch_size"},
        "experiments": {**LR, "learning_rate_min": "lr_min"},
    },
    "sgnas": {
        "search": {
            **LR, "gradients": "zero_grad", "low": "low_mflops", "high": "high_mflops",
            "recalibrate": "recalibrate_batches",
        },
        "train": {**LR, "ema": "ema_decay"},
        "evolve": {"recalibrate": "recalibrate_batches"},
        "sweep": {"step": "step_mflops", "recalibrate": "recalibrate_batches"},
    },
}  # fmt: skip
# paper -> old name of a stage -> its name today
OLD_STAGES: dict[str, dict[str, str]] = {"evnas": {"search_s2": "search_nb201"}}
# paper -> name of a setting today -> old value -> its value today
OLD_VALUES: dict[str, dict[str, dict[Any, Any]]] = {
    "cream": {"zero_grad": {"move": "zeros", "freeze": "none"}},
    "evnas": {"fitness_augment": {"augmented": True, "clean": False}},
    "sgnas": {"zero_grad": {"zero": "zeros"}},
}


def stage_today(paper: str, stage: str) -> str:
    """A stage's name today."""
    return OLD_STAGES.get(paper, {}).get(stage, stage)


def settings_today(paper: str, stage: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a result under today's names and values; those of a new result as they are.

    A result is old where it has a name that no setting of the stage has today.
    """
    names = OLD_NAMES.get(paper, {}).get(stage_today(paper, stage), {})
    if not (set(names) - set(names.values())) & set(settings):
        return dict(settings)
    values = OLD_VALUES.get(paper, {})
    renamed = {names.get(name, name): value for name, value in settings.items()}
    return {n: values[n].get(v, v) if n in values and isinstance(v, str) else v for n, v in renamed.items()}
