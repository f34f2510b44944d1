"""Golden: sampling, board decisions, losses, the optimiser, EMA, schedules, the subset list."""

import numpy as np
import pytest
import torch

from common.train.losses import label_smoothing_cross_entropy, soft_target_cross_entropy
from papers.cream.method.board import Board, Entry
from papers.cream.method.distillation import distillation_mix
from papers.cream.method.space import board_probabilities, sample_path
from papers.cream.settings import Search


def test_sampling(golden):
    sampling = golden.load("sampling.json")
    for row in sampling["draws"]:
        for weights, key in (
            (None, "uniform"),
            (None, "as_coded_with_pre_prob"),
            (Search().probabilities, "really_weighted"),
        ):
            rng = np.random.RandomState(row["seed"])
            drawn = [sample_path(rng, row["blocks_per_stage"], weights=weights)[1:6] for _ in range(3)]
            assert drawn == row[key]
        assert row["same"]
    teacher = sampling["teacher_prob"]
    assert board_probabilities(teacher["board"]) == pytest.approx(teacher["prob"])


def test_board(golden):
    for sequence in golden.load("board.json"):
        board = Board(sequence["pool_size"], sequence["acc_gap"])
        for step in sequence["steps"]:
            is_open = step["epoch"] > sequence["meta_start_epoch"]  # as papers.cream.search has it
            accepted = is_open and board.admits(step["prec1"], step["flops"])
            assert accepted == step["accepted"]
            if accepted:
                board.add(Entry(step["prec1"], step["flops"], step["path"]))
            assert [[e.score, e.flops, e.path] for e in board.entries] == step["board_after"]


def test_losses(golden):
    arrays = golden.load("losses_optim_ema.npz")
    target, soft = torch.from_numpy(arrays["loss/target"]), torch.from_numpy(arrays["loss/soft"])
    for function, argument, key in (
        (label_smoothing_cross_entropy, target, "smooth"),
        (soft_target_cross_entropy, soft, "softce"),
    ):
        logits = torch.from_numpy(arrays["loss/logits"]).requires_grad_()
        value = function(logits, argument)
        value.backward()
        assert np.allclose(value.detach(), arrays[f"loss/{key}"], rtol=0, atol=1e-10)
        assert np.allclose(logits.grad, arrays[f"loss/{key}_grad"], rtol=0, atol=1e-10)
    logits = torch.from_numpy(arrays["loss/logits"])
    for m in (0.2, 0.5, 0.9):
        mixed = distillation_mix(
            m, soft_target_cross_entropy(logits, soft), label_smoothing_cross_entropy(logits, target)
        )
        assert np.allclose(mixed, arrays[f"loss/mix_{m}"], rtol=0, atol=1e-10)
