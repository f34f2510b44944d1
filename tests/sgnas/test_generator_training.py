"""Targets, priors and the hardware loss."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from common.errors import UserError
from papers.sgnas.method.generator_training import target_pool, targets_of_step
from papers.sgnas.method.lookup import hardware_loss, macs_table
from papers.sgnas.method.prior import PriorPool, make_pool, pool_from, prior_keys, read_pool
from papers.sgnas.networks.architectures import MACROS

TINY = MACROS["tiny"]


def test_target_pool_covers_all_before_it_repeats():
    pool = target_pool(80, 120, 5)
    rounds = [targets_of_step(pool, 0.0, 1, 7, step)[0] for step in range(2 * len(pool))]
    assert sorted(rounds[: len(pool)]) == pool and sorted(rounds[len(pool) :]) == pool
    noisy = targets_of_step(pool, 0.5, 3, 7, 0)
    assert len(noisy) == 3 and all(abs(n - r) <= 0.5 for n, r in zip(noisy, rounds))


def test_priors(tmp_path, monkeypatch):
    table = macs_table(TINY)
    pool = make_pool(table, 2.5, 5.0, 1, np.random.RandomState(42), 0.2)
    (tmp_path / "p.json").write_text(json.dumps(pool.to_json()))
    read_pool(tmp_path / "p.json").check(2.5, 5.0, table)
    with pytest.raises(UserError, match="another look-up table"):
        other = macs_table(replace(TINY, stem_stride=1))
        read_pool(tmp_path / "p.json").check(2.5, 5.0, other)
    with pytest.raises(UserError, match="layers"):
        read_pool(tmp_path / "p.json").check(2.5, 5.0, macs_table(MACROS["cifar"]))
    with pytest.raises(UserError, match="no prior pool"):
        pool_from({"a": [[1]]}, "x", 1, 2)
    assert prior_keys(80, 81, 3) == [80.25, 80.5, 80.75]  # too narrow for the rule's whole numbers
    with pytest.raises(UserError, match="at least one prior"):
        prior_keys(80, 120, 0)
    with pytest.raises(UserError, match="no random architecture"):
        monkeypatch.setattr("papers.sgnas.method.prior.MAX_DRAWS", 20)
        make_pool(table, 0.1, 3.5, 1, np.random.RandomState(0), 0.01)


def test_margin_follows_the_unit():
    table = macs_table(TINY)
    assert PriorPool({}, 80, 120, "").margin(table) == 0.1
    assert PriorPool({}, 0, 1.8, "").margin(replace(table, unit="ms")) == pytest.approx(1e-3)
    near = torch.tensor(1.005)
    assert float(hardware_loss(near, 1.0)) == 0.0
    assert float(hardware_loss(near, 1.0, margin=1e-3)) == pytest.approx(0.0003 * 1.2 * 0.005**2, rel=1e-3)
