"""The searches in the DARTS space: every variant runs; what GDAS draws and keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from papers.nsas.__main__ import SEARCH
from tests.nsas.small import GDAS, RANDOM, module_of, options


def variants(key):
    return [{}, *SEARCH[key].variants.values()]


@pytest.mark.parametrize("constraint", ["nsas", "nsas-c"])
@pytest.mark.parametrize("variant", range(5))
def test_variants_of_random(variant, constraint, tmp_path):
    overrides = {**variants(("darts", "random"))[variant], "epochs": 1, "constraints": 2, "select_candidates": 2}
    table = overrides.get("table", "softmax")
    settings = replace(RANDOM, **{**overrides, "table": table, "constraint": constraint})
    result = module_of("search_random:search")[1](settings, options(tmp_path))
    assert len(result["architecture"]["normal"]) == 8 and 0 <= result["metrics"]["supernet_accuracy_percent"] <= 100
    pairs = result["architecture"]["normal"]
    assert constraint == "nsas" or [i for _, i in pairs] == [0, 1, 1, 2, 2, 3, 3, 4]


@pytest.mark.parametrize("variant", [0, 1, 3])  # "modern" is "paper" here
def test_variants_of_gdas(variant, tmp_path):
    overrides = {**variants(("darts", "gdas"))[variant], "epochs": 1, "constraints": 2, "train_images": 24}
    settings = replace(GDAS, **{**overrides, "table": overrides.get("table", "softmax")})
    result = module_of("search_gdas:search")[1](settings, options(tmp_path))
    assert all(op != "none" for op, _ in result["architecture"]["normal"])
    from papers.nsas.networks.architectures import load_genotype

    assert len(load_genotype(str(tmp_path / "architecture.json")).reduce) == 8


@pytest.mark.parametrize("constraint", ["nsas", "nsas-c"])
def test_gdas_archive(constraint, tmp_path, monkeypatch):
    """2019: the archive takes the step's cell before the loss uses it; its own cells come from the free sampler."""
    module, run = module_of("search_gdas:search")
    used, sizes, drawn = [], [], []

    class Watched(module.ConstraintSet):
        def update(self, current, draw):
            found = super().update(current, draw)
            drawn.extend(archive.members[-1] for archive in self.archives)
            return found

    def loss_function(settings):
        def loss(model, x, y, current, constraints):
            sizes.append(len(constraints))
            used.append(x)
            return torch.zeros(()), torch.zeros(len(y), 10)

        return loss

    monkeypatch.setattr(module, "ConstraintSet", Watched)
    monkeypatch.setattr(module, "loss_function", loss_function)
    monkeypatch.setattr(
        module, "unrolled_gradient", lambda loss, model, tables, *_: [torch.zeros_like(t) for t in tables]
    )
    run(replace(GDAS, constraint=constraint, constraints=3, epochs=2), options(tmp_path, "search_gdas"))
    assert sizes == [1, 2, 3, 3]
    inputs = [tuple(i for _, i in cell) for cell in drawn]
    assert any(one != (0, 1, 0, 2, 0, 3, 0, 4) for one in inputs)  # not the decoder's depth-fixed inputs


def test_gdas_selection_batches_are_drawn_anew(tmp_path, monkeypatch):
    """The first batch of a freshly shuffled loader at every step; each search measures the whole half."""
    module, run = module_of("search_gdas:search")
    held = []
    gradient = module.unrolled_gradient

    def watched(loss, model, tables, batch, held_out, optimizer):
        held.append(held_out[0][1].tolist())
        return gradient(loss, model, tables, batch, held_out, optimizer)

    monkeypatch.setattr(module, "unrolled_gradient", watched)
    result = run(replace(GDAS, epochs=1), options(tmp_path, "search_gdas"))
    _, valid = module.open_batches(GDAS, options(tmp_path, "search_gdas"), torch.device("cpu"))
    assert held == [next(iter(valid.epoch(step)))[1].tolist() for step in range(len(held))] and held[0] != held[1]
    assert 0 <= result["metrics"]["supernet_accuracy_percent"] <= 100
