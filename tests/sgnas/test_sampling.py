"""Paths of supernet training, and the codes that it trains."""

from __future__ import annotations

import numpy as np
import torch

from papers.sgnas.method.lookup import one_hot
from papers.sgnas.method.sampling import sample_paths, trained_code, trained_parameters
from papers.sgnas.networks.architectures import SKIP


def test_samplers():
    rng = np.random.RandomState(1)
    for active in ("random", "prefix"):
        paths = sample_paths(rng, 7, 4, active)
        for layer in range(7):
            expansions = [sum(op != SKIP for op in path[layer]) for path in paths]
            assert len(set(expansions)) == 4 and min(expansions) >= 2
            if active == "prefix":
                assert all(row[layer] == sorted(row[layer], key=lambda op: op == SKIP) for row in paths)
    assert all(row == sorted(row) and row[0] != SKIP for path in sample_paths(rng, 7, 4, "sorted") for row in path)


def test_codes_that_were_trained():
    ops = [[2, 3, 0, 3, 1, 3], [0, 3, 3, 3, 3, 2]]
    assert trained_code(ops, "random") == ops
    assert trained_code(ops, "prefix") == [[2, 0, 1, 3, 3, 3], [0, 2, 3, 3, 3, 3]]
    assert trained_code(ops, "sorted") == [[0, 1, 2, 3, 3, 3], [0, 2, 3, 3, 3, 3]]
    for active in ("random", "prefix", "sorted"):
        p = one_hot(torch.tensor(ops))
        assert torch.equal(trained_parameters(p, active), one_hot(torch.tensor(trained_code(ops, active))))
        for path in sample_paths(np.random.RandomState(0), 5, 8, active):
            assert trained_code(path, active) == [list(row) for row in path]
    soft = torch.softmax(torch.randn(5, 6, 4, generator=torch.Generator().manual_seed(0)), -1).requires_grad_()
    moved = trained_parameters(soft, "prefix")
    assert trained_code(moved.argmax(-1).tolist(), "prefix") == moved.argmax(-1).tolist()
    moved[..., 0].sum().backward()
    assert soft.grad[..., 0].eq(1).all() and soft.grad[..., 1:].eq(0).all()
