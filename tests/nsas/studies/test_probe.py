"""Forgetting: what the last cells that were trained lose from one probe to the next."""

from __future__ import annotations

import copy

import pytest
import torch

from papers.nsas.nasbench201.supernet import build_nb201_supernet, code_logits
from papers.nsas.studies.forgetting import ranking, shares
from papers.nsas.studies.probe import Probe


def test_losses_between_two_probes(monkeypatch):
    accuracies = {"c": 30.0, "d": 40.0, "e": 50.0, "f": 60.0}
    monkeypatch.setattr(Probe, "accuracy", lambda self, code: accuracies[code])
    probe = Probe(None, None, None)
    for code in "abcdef":
        probe.trained(code)
    probe.measure(10)
    assert probe.drops == [] and probe.mean() == 0.0
    accuracies.update(c=25.0, d=41.0, e=50.0, f=40.0, g=70.0)
    probe.trained("g")
    probe.measure(20)
    assert probe.drops == [(20, 5.0), (20, -1.0), (20, 0.0), (20, 20.0)] and probe.mean() == 6.0
    assert [code for code, _ in probe.watched] == ["d", "e", "f", "g"]


def test_accuracy_takes_the_batch_s_own_statistics_and_moves_nothing():
    torch.manual_seed(0)
    model = build_nb201_supernet(2, 1, 10).eval()
    x, code, before = torch.randn(40, 3, 8, 8), (3, 1, 2, 3, 0, 4), copy.deepcopy(model.state_dict())
    with torch.no_grad():
        y = code_logits(copy.deepcopy(model).train(), x, code).argmax(1)
        resting = code_logits(copy.deepcopy(model), x, code).argmax(1)
    assert Probe(model, x, y).accuracy(code) == 100.0 and not torch.equal(resting, y)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_weights_of_the_terms_and_the_chosen_cell():
    assert shares(0.3, 4) == pytest.approx([0.7] + [0.075] * 4) and shares(0.3, 0) == [1.0]
    found = ranking([10.0, 30.0, 20.0], [91.0, 92.0, 93.0])
    assert (found["chosen_supernet_accuracy_percent"], found["mean_supernet_accuracy_percent"]) == (30.0, 20.0)
    assert found["chosen_test_accuracy_percent"] == 92.0 and found["tau"] == pytest.approx(1 / 3)
