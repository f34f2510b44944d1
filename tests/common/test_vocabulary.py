"""One word for one thing: what settings are called in all papers, and the README's table of the words."""

import dataclasses
import importlib
import re
from pathlib import Path

import pytest

from common.papers import PAPERS
from reproductions.docs.words import MEANING

ROOT = Path(__file__).resolve().parents[2]
# a word of one paper for what another calls otherwise
UNUSED = {
    "learning_rate": "lr", "learning_rate_min": "lr_min", "min_lr": "lr_min", "minimum_learning_rate": "lr_min",
    "arch_learning_rate": "arch_lr", "controller_learning_rate": "controller_lr", "evaluate_every": "eval_every",
    "smoothing": "label_smoothing", "gradients": "zero_grad", "idle": "zero_grad", "keep": "dropout_keep",
    "optimizer_momentum": "momentum", "decay": "decay_rate", "decay_every": "decay_epochs", "ema": "ema_decay",
    "recalibrate": "recalibrate_batches", "fitness_size": "fitness_images",
}  # fmt: skip


def settings_of(paper):
    verbs = importlib.import_module(f"papers.{paper}.__main__").VERBS
    return {stage.section: stage.settings for verb in verbs.values() for stage in verb.stages.values()}


@pytest.mark.parametrize("paper", PAPERS)
def test_settings_have_the_words_of_all_papers(paper):
    found = {
        f"{section}: {field.name} is called {UNUSED[field.name]}"
        for section, cls in settings_of(paper).items()
        for field in dataclasses.fields(cls)
        if field.name in UNUSED
    }
    assert not found


@pytest.mark.parametrize("paper", PAPERS)
def test_every_setting_says_what_it_is(paper):
    silent = {
        f"{section} {field.name}"
        for section, cls in settings_of(paper).items()
        for field in dataclasses.fields(cls)
        if not field.metadata.get("help")
    }
    assert not silent


def test_the_table_of_words_names_settings_that_are_there():
    text = (ROOT / "docs" / "words.md").read_text(encoding="utf-8")
    table = text[text.index("<!-- words:start -->") : text.index("<!-- words:end -->")]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    words = {word for cell in first_cells for word in re.findall(r"`([a-z_]+)`", cell)}
    known = {field.name for paper in PAPERS for cls in settings_of(paper).values() for field in dataclasses.fields(cls)}
    assert words - {"darts", "nb201", "ptb", "macs"} <= known


def test_columns_and_metrics_have_the_words_of_all_papers():
    """What selects is ``valid_…`` everywhere; a column is called so before its meaning may be written down."""
    assert "valid_loss" in MEANING
    assert not [name for name in MEANING if name.startswith(("validation_", "val_", "training_"))]
