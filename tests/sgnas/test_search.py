"""Both phases on a few digits: phases run alone equal the joint run, and what search writes is what others take."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from common.errors import UserError
from common.run.files import write_json
from papers.sgnas.data.search_data import open_search_data
from papers.sgnas.method.trained_generator import load_generator
from papers.sgnas.networks.architectures import MACROS
from papers.sgnas.networks.supernet import load_supernet
from papers.sgnas.search import search, search_generator, search_supernet
from papers.sgnas.studies.evolve import evolve
from papers.sgnas.studies.settings import Evolve
from tests.sgnas.small import FLAGS, SMALL, command, options

TINY = MACROS["tiny"]
ONE = replace(SMALL, switchable_bn=False, generator_epochs=1)
RANGE = "--low-mflops 0.8 --high-mflops 1.2 --target-step 0.05 --target-noise 0.01 --validation-step 0.1 --alpha 20"


def test_phases_alone(whole, tmp_path):
    reference, _ = whole
    search_supernet(SMALL, options(tmp_path / "one"))
    supernet = tmp_path / "one" / "supernet.safetensors"
    assert supernet.read_bytes() == (reference / "supernet.safetensors").read_bytes()
    search_generator(replace(SMALL, supernet=str(supernet)), options(tmp_path / "two"))
    assert (tmp_path / "two" / "generator.safetensors").read_bytes() == (
        reference / "generator.safetensors"
    ).read_bytes()


def test_result_and_generator(whole):
    folder, result = whole
    assert set(result["metrics"]) >= {"kendall_tau", "total_hardware_loss", "parameters", "macs"}
    assert json.loads((folder / "architecture.json").read_text())["origin"]["target"] == 3.75
    loaded = load_generator(str(folder))
    assert [kernels for kernels, _ in loaded.kernels([3.0, 3.75, 4.5])] == [
        r["kernels"] for r in result["architectures"]
    ]
    assert search(SMALL, options(folder))["fingerprint"] == result["fingerprint"]


def test_warm_start(trained, tmp_path):
    """``search --supernet`` starts from the given weights; with no supernet epoch it uses them as they are."""
    base = replace(SMALL, train_images=64, active="prefix", supernet=str(trained), generator_epochs=1)
    search(replace(base, supernet_epochs=0), options(tmp_path / "none"))
    search(base, options(tmp_path / "more"))
    cold = replace(base, supernet="")
    search_supernet(cold, options(tmp_path / "cold", "search_supernet"))
    given, none, more, fresh = (
        load_supernet(folder).state_dict() for folder in (trained, *(tmp_path / n for n in ("none", "more", "cold")))
    )
    assert all(torch.equal(given[name], none[name]) for name in given)
    assert not torch.equal(given["first.conv.weight"], more["first.conv.weight"])
    near, far = (float((given["first.conv.weight"] - w["first.conv.weight"]).norm()) for w in (more, fresh))
    assert near < far / 2  # one epoch away from the given weights, not from others


def test_validation_draws_its_own_crops():
    data = open_search_data(SMALL, options(None))
    training, first, second = (
        next(iter(b.epoch(e)))[0] for b, e in ((data.search, 0), (data.validation, 0), (data.validation, 1))
    )
    assert not torch.equal(training, first) and not torch.equal(first, second)
    assert torch.equal(first, next(iter(data.validation.epoch(0)))[0])


def test_latency_targets_end_to_end(tmp_path):
    command("latency", "--macro", "tiny", "--repeats", 1, "--device", "cpu", "--out", tmp_path / "table")
    measured = json.loads((tmp_path / "table" / "latency.json").read_text())
    assert measured["unit"] == "ms" and measured["device"] == "cpu"
    # times of a busy machine are noisy: the search gets a table of the same form with plain numbers
    entries = {"base": 0.1, "depthwise": [[0.01, 0.02, 0.04]] * 5, "expand": [0.06] * 5, "project": [0.06] * 5}
    write_json(tmp_path / "plain.json", {**measured, **entries})
    command(
        "search", *FLAGS, *RANGE.split(), "--prior-tolerance", 0.05, "--targets", 0.9, 1.0, 1.1, "--latency-table",
        tmp_path / "plain.json", "--out", tmp_path / "run",
    )  # fmt: skip
    loaded = load_generator(str(tmp_path / "run"))
    assert loaded.lookup.unit == "ms" and (loaded.pool.low, loaded.pool.high) == (0.8, 1.2)
    document = json.loads((tmp_path / "run" / "architecture-0.9.json").read_text())
    assert document["origin"]["unit"] == "ms"
    assert document["origin"]["lookup_cost"] == pytest.approx(loaded.kernels([0.9])[0][1])


def test_search_evolve_and_other_form_refused(tmp_path):
    result = search(ONE, options(tmp_path / "one"))
    assert load_supernet(tmp_path / "one").stages[0].switchable_bn.weight.shape == (1, TINY.layers[0][0])
    assert result["fingerprint"] != search(replace(ONE, switchable_bn=True), options(tmp_path / "six"))["fingerprint"]
    with pytest.raises(UserError, match="switchable_bn"):  # the folder holds a run of the other form
        search(replace(ONE, switchable_bn=True), options(tmp_path / "one"))
    small = Evolve(
        supernet=str(tmp_path / "one"), dataset="digits", search_images=32, targets=(3.0,), population=2, generations=1
    )
    evolve(replace(small, recalibrate_batches=1, parents=1, tolerance=0.2), options(tmp_path / "evolve", "evolve"))
    for name, switchable, word in (("one", True, "one normalisation"), ("six", False, "six switchable")):
        other = replace(ONE, switchable_bn=switchable, supernet=str(tmp_path / name))
        with pytest.raises(UserError, match=f"is a supernet with {word}") as caught:
            search_generator(other, options(tmp_path / f"from-{name}"))
        assert "\n" not in str(caught.value)
