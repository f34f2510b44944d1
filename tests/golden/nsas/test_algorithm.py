"""Samplers, distance, novelty, archive, decoding, weighted loss, relaxed samples against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.data.augment import cutout_mask
from common.train.losses import TopK
from papers.nsas.method import relaxation, sampling
from papers.nsas.method.loss import similarity_weights, weighted_recursion
from papers.nsas.method.novelty import Archive, distance, nearest, novelty
from papers.nsas.train import loss_function


def cell(pairs) -> tuple:
    return tuple((int(o), int(i)) for o, i in pairs)


@pytest.mark.parametrize(
    "name, sampler",
    [("NSAS", sampling.sample_free), ("NSAS_C", sampling.sample_depth_released), ("GDAS", sampling.sample_distinct)],
)
def test_samplers(golden, name, sampler):
    case = golden.json("algorithm.json")["sampling"][name]
    rng = np.random.RandomState(case["numpy_seed"])
    for want in case["archs"]:
        assert sampler(rng) == cell(want)


def test_distance_novelty_and_nearest(golden):
    cases = golden.json("algorithm.json")
    cells = [cell(a) for a in cases["distance"]["archs"]]
    assert [[distance(a, b) for b in cells] for a in cells] == cases["distance"]["matrix"]
    for case in cases["novelty"]:
        score = novelty(cells[case["arch"]], [cells[i] for i in case["archive"]])
        assert score == pytest.approx(case["score"], abs=1e-12)
    for case in cases["nearest"]:
        assert nearest(cells[case["arch"]], [cells[i] for i in case["archive"]]) == case["index"]


@pytest.mark.parametrize("name, sampler", [("NSAS", sampling.sample_free), ("NSAS_C", sampling.sample_depth_released)])
def test_archive_trace(golden, name, sampler):
    trace = golden.json("algorithm.json")["archive_trace"][name]
    rng = np.random.RandomState(trace["numpy_seed"])
    drawn = []

    def draw():
        drawn.append(sampler(rng))
        return drawn[-1]

    archives = [Archive(trace["M"], trace["C"], trace["k"], trace["candidates"]) for _ in range(2)]
    for archive, want in zip(archives, trace["initial_recent"]):
        archive.recent.append(draw())
        assert archive.recent[0] == cell(want)
    for step in trace["steps"]:
        current = [draw(), draw()]
        slots = [archive.update(c, draw) for archive, c in zip(archives, current)]
        assert len(drawn) == step["generated"]
        if "appended" in step:
            assert [a.members[-1] for a in archives] == [cell(c) for c in step["appended"]]
        else:
            changed = [2 * s + kind for kind, s in enumerate(slots) if s is not None]
            assert changed == step["changed"]
            assert [archives[c % 2].members[c // 2] for c in changed] == [cell(c) for c in step["new"]]
    assert drawn == [cell(c) for c in trace["stream"]]
    last = 0
    for step in range(len(trace["steps"]), trace["long_run"]["steps"]):
        current = [draw(), draw()]
        changed = [archive.update(c, draw) is not None for archive, c in zip(archives, current)]
        last = step if any(changed) else last
    assert last == trace["long_run"]["last_change_at"]
    for archive, key in zip(archives, ("mean_distance_normal", "mean_distance_reduce")):
        means = [
            np.mean([distance(a, b) for j, b in enumerate(archive.members) if j != i])
            for i, a in enumerate(archive.members)
        ]
        assert means == pytest.approx(trace["long_run"][key])


def test_encode_and_decode(golden):
    from common.spaces.darts.genotype import PRIMITIVES

    cases = golden.json("algorithm.json")
    for case in cases["encode"]:
        for pairs, key in zip(case["arch"], ("ones_normal", "ones_reduce")):
            ones = np.argwhere(sampling.encode(cell(pairs)))
            assert ones.tolist() == case[key]
    for case in cases["decode"]:
        table = np.array(case["alphas"], dtype=np.float32)
        assert sampling.decode_top2(table) == cell(case["top2"]) == cell(case["gene"])
        assert sampling.decode_depth(table) == cell(case["depth_fixed"])
        names = [[PRIMITIVES[o], i] for o, i in sampling.decode_top2(table)]
        assert names == case["genotype"]


def test_weighted_recursion(golden):
    for case in golden.json("algorithm.json")["weighted_recursion"]:
        assert weighted_recursion(case["w"], case["loss"]) == pytest.approx(case["value"], abs=1e-9)
    case = golden.json("weighted_archive_loss.json")
    assert weighted_recursion(case["weights"], case["losses"]) == pytest.approx(case["value"], abs=1e-9)
    archs = golden.npz("supernet.npz")["archs"]
    members = [tuple(cell(c) for c in a) for a in archs]
    assert len(similarity_weights(members[0], members[1:])) == 3
    assert similarity_weights(members[0], members[:1]) == [1.0]


def test_relaxed_samples(golden):
    for case in golden.json("gdas_sampling.json"):
        assert relaxation.darts_temperature(case["step"]) == pytest.approx(case["temperature"])
        table = torch.tensor(case["alphas"], dtype=torch.float32)
        uniforms = torch.tensor(case["uniforms"], dtype=torch.float32)
        sample = relaxation.relaxed_one_hot(table, uniforms, case["temperature"])
        golden.close(sample, case["sample"], 1e-4)
        drawn = sample.numpy()
        assert sampling.decode_top2(drawn) == cell(case["top2"])
        assert sampling.decode_depth(drawn) == cell(case["depth_fixed"])


def test_cutout(golden):
    """The hole's rows and columns, clipped at the border."""
    for case in golden.json("algorithm.json")["cutout"]:
        y, x = torch.tensor([case["y"]]), torch.tensor([case["x"]])
        hole = cutout_mask(y, x, case["h"], case["w"], case["length"])[0, 0] == 0
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        assert [int(rows[0]), int(rows[-1])] == case["rows"] and [int(columns[0]), int(columns[-1])] == case["cols"]
        assert 3 * int(hole.sum()) == case["zeros"]  # all channels


def test_label_smoothing_and_accuracy(golden):
    cases = golden.json("algorithm.json")
    case = cases["label_smooth"]
    logits, targets = torch.tensor(case["logits"]), torch.tensor(case["targets"])
    smoothed, plain = (loss_function(eps) for eps in (case["eps"], 0.0))
    assert float(smoothed(logits, targets)) == pytest.approx(case["value"], rel=1e-6)
    assert float(plain(logits, targets)) == pytest.approx(case["ce"], rel=1e-6)
    case, counter = cases["accuracy"], TopK()
    counter.add(torch.tensor(case["logits"]), torch.tensor(case["targets"]))
    _, top1_error, top5_error, _ = counter.read()
    assert [100 - top1_error, 100 - top5_error] == pytest.approx([case["top1"], case["top5"]], rel=1e-6)
