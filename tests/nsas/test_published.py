"""The published settings of every stage, typed a second time."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from papers.nsas.__main__ import TRAIN
from papers.nsas.nasbench201.settings import SearchNb201Gdas, SearchNb201Random
from papers.nsas.recurrent.settings import SearchRecurrent, TrainRecurrent
from papers.nsas.settings import SearchGdas, SearchRandom, Train

SUPERNET = {
    "constraints": 4, "recent": 50, "neighbours": 10, "mix": 0.5, "dataset": "cifar10", "train_images": 0,
    "train_portion": 0.5, "constraint": "nsas", "constraint_gradient": False, "table": "softmax", "channels": 16,
    "layers": 8, "epochs": 50, "batch_size": 32, "lr": 0.025, "lr_min": 0.001, "shifted_lr": False, "momentum": 0.9,
    "weight_decay": 3e-4, "clip": 5.0,
}  # fmt: skip
NB201 = {
    "dataset": "cifar10", "train_images": 0, "channels": 16, "cells": 5, "batch_size": 64, "lr": 0.025, "lr_min": 0.001,
    "momentum": 0.9, "weight_decay": 5e-4, "clip": 5.0, "constraint": "nsas", "constraints": 2,
}  # fmt: skip
TEXT = {
    "text": "ptb", "max_tokens": 0, "max_types": 0, "bptt": 35, "batch_size": 64, "eval_batch_size": 10, "lr": 20.0,
    "clip": 0.25, "drop_output": 0.75, "drop_hidden": 0.25, "drop_x": 0.75, "drop_input": 0.2, "beta": 1e-3,
}  # fmt: skip
PUBLISHED = {
    SearchRandom: {
        **SUPERNET, "inputs": "released", "unsampled_statistics": True, "select_rounds": 5, "select_candidates": 100,
        "select_images": 0, "select_batch_size": 100, "select_augment": True, "recalibrate_batches": 0,
        "monitor": False,
    },
    SearchGdas: {
        **SUPERNET, "constraints": 8, "train_images": 10_000, "semantics": "2019", "weighted": True, "arch_lr": 3e-4,
        "arch_weight_decay": 1e-3,
    },
    SearchNb201Random: {
        **NB201, "epochs": 100, "constraint_gradient": True, "structure_bug": True, "argument_bug": True,
        "selection": "released", "select_candidates": 100, "epoch_candidates": 2, "select_images": 0,
        "select_batch_size": 64, "recalibrate_batches": 0,
    },
    SearchNb201Gdas: {
        **NB201, "epochs": 250, "constraint_gradient": False, "shared_cells": True, "stale_clip": True, "penalty": 0.2,
        "tau_max": 10.0, "tau_min": 0.1, "arch_lr": 3e-4, "arch_weight_decay": 1e-3,
    },
    SearchRecurrent: {
        **TEXT, "width": 300, "epochs": 300, "weight_decay": 5e-7, "drop_embedding": 0.0, "constraints": 8,
        "recent": 20, "neighbours": 10, "mix": 0.5, "path": "fixed", "table": "softmax", "select_candidates": 100,
        "select_rows": 0, "recalibrate_chunks": 10,
    },
    TrainRecurrent: {
        **TEXT, "width": 850, "epochs": 3600, "weight_decay": 8e-7, "drop_embedding": 0.1, "arch": "Random_NSAS",
        "checkpoint": "", "alpha": 0.0, "nonmono": 5, "rollbacks": 20,
    },
    Train: {
        "arch": "Random_NSAS", "checkpoint": "", "dataset": "cifar10", "train_images": 0, "channels": 36, "layers": 20,
        "auxiliary": True, "auxiliary_weight": 0.4, "epochs": 600, "batch_size": 96, "parts": 0,
        "eval_batch_size": 250, "eval_every": 1, "lr": 0.025, "momentum": 0.9, "weight_decay": 3e-4, "clip": 5.0,
        "drop_path": 0.2, "network": "auto", "cutout": 16, "label_smoothing": 0.0, "schedule": "cosine", "lr_min": 0.0,
        "shifted_lr": False, "workers": 4,
    },
}  # fmt: skip
IMAGENET = {
    "dataset": "imagenet", "channels": 50, "layers": 14, "drop_path": 0.0, "cutout": 0, "label_smoothing": 0.1,
    "epochs": 250, "weight_decay": 3e-5,
}  # fmt: skip


@pytest.mark.parametrize("settings", PUBLISHED)
def test_defaults(settings):
    assert asdict(settings()) == PUBLISHED[settings]


def test_the_recipes_of_imagenet():
    recipes = TRAIN[("darts",)].variants
    assert recipes["imagenet-step"] == {**IMAGENET, "schedule": "step", "lr": 0.1, "batch_size": 128}
    assert recipes["imagenet-linear"] == {**IMAGENET, "schedule": "linear", "lr": 0.2, "batch_size": 256}
