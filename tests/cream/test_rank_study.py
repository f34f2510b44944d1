"""The rank study: both sides on the same images, paths, agreement, mistakes."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.weights.read import load_strict, load_tensors
from papers.cream.data import batches as data
from papers.cream.data.sets import search_parts
from papers.cream.method.space import space_of
from papers.cream.networks.networks import Supernet
from papers.cream.studies.rank_study import agreement, random_paths, rank_study
from tests.cream.tools import RANDOM, STUDY, options


def test_a_study_of_a_random_search(studied):
    folder, result = studied
    with (folder / "rank.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == result["metrics"]["paths"] == 3
    assert len({row["path"] for row in rows}) == 3
    assert all(
        0 <= float(row[side]) <= 100 and float(row[side]) % 5 == 0 for row in rows for side in ("score", "accuracy")
    )
    shared, alone = ([float(row[side]) for row in rows] for side in ("score", "accuracy"))
    again = agreement("shared", shared, alone)
    assert {name: result["metrics"][name] for name in again} == again
    assert not list(folder.glob("path-*"))


def test_the_shared_side_is_the_recalibrated_supernet(studied, study):
    folder, _ = studied
    with (folder / "rank.csv").open() as lines:
        row = next(csv.DictReader(lines))
    space = space_of(RANDOM)
    net = Supernet(space.window.built, 10, RANDOM.slice, space.layout)
    load_strict(net, load_tensors(Path(study.search) / "supernet.safetensors"))
    source, held_out, _ = search_parts(RANDOM, 32, options(folder, "rank_study"))
    path = json.loads(row["path"])
    for norm in net.path_norms(path):
        norm.reset_running_stats()
        norm.momentum = None
    net.train()
    with torch.no_grad():
        for x in data.calibration_batches(source, 2, 8, 32, "cpu", 0):
            net(x, path)
        net.eval()
        right = sum(
            int((net(x, path).argmax(1) == y).sum()) for x, y in data.plain_batches(held_out, 20, 32, "cpu", 0).epoch(0)
        )
    assert float(row["score"]) == pytest.approx(100 * right / 20)


def test_paths():
    space = space_of(RANDOM)
    c = replace(STUDY, paths=12, macs_min=95.0, macs_max=105.0)
    paths = random_paths(c, space, 0)
    assert all(95 <= space.mflops(path) <= 105 for path in paths) and len({str(path) for path in paths}) == 12
    assert random_paths(c, space, 0) == paths != random_paths(c, space, 1)
    with pytest.raises(UserError, match="0 different paths in 10000 draws, --paths asks for 12"):
        random_paths(replace(c, macs_min=1.0, macs_max=2.0), space, 0)


def test_agreement():
    rising = agreement("a", [1, 2, 3, 4], [10, 20, 30, 50])
    assert rising["a_kendall_tau"] == rising["a_spearman"] == rising["a_kendall_tau_low"] == 1
    assert 0.9 < rising["a_pearson"] < 1
    assert agreement("a", [1, 2, 3], [3, 2, 1])["a_kendall_tau"] == -1
    # tau-b by hand: 4 concordant, 1 discordant, one tie in x: 3 / sqrt(5 * 6)
    assert agreement("a", [1, 1, 2, 3], [1, 2, 4, 3])["a_kendall_tau"] == pytest.approx(3 / 30**0.5)
    assert set(agreement("a", [1, 1, 1], [1, 2, 3]).values()) == {None}


def test_mistakes(study, tmp_path):
    with pytest.raises(UserError, match="no search given"):
        rank_study(STUDY, options(tmp_path / "a", "rank_study"))
    with pytest.raises(UserError, match="paths"):
        rank_study(replace(study, paths=0), options(tmp_path / "b", "rank_study"))
    folder = tmp_path / "moved"
    folder.mkdir()
    (folder / "result.json").write_bytes((Path(study.search) / "result.json").read_bytes())
    with pytest.raises(UserError, match=r"supernet\.safetensors is missing"):
        rank_study(replace(study, search=str(folder)), options(tmp_path / "c", "rank_study"))
