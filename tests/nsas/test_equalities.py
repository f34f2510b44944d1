"""Shared and separate constraint forwards agree bit for bit; the released RNN container loads without running code."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from common.cli.errors import UserError
from common.weights.read import load_strict, read_checkpoint
from papers.nsas.method.sampling import sample_depth_published, sample_free
from papers.nsas.network import paths
from papers.nsas.network.supernet import build_supernet, table_logits
from papers.nsas.recurrent.architecture import load_cell
from papers.nsas.recurrent.evaluate import PICKLED_CLASSES
from papers.nsas.recurrent.model import Cell, Dropouts, LanguageModel
from papers.nsas.recurrent.products import deferred, linear_nll


def load(model, path: str) -> None:
    """A recurrent network's weights, from any container."""
    found = read_checkpoint(path, classes=PICKLED_CLASSES)
    found.tensors.setdefault("decoder.weight", found.tensors["encoder.weight"])
    load_strict(model, found.tensors)


@pytest.mark.parametrize("draw", [sample_free, sample_depth_published])
def test_shared_constraint_forwards(draw):
    torch.manual_seed(0)
    rng = np.random.RandomState(3)
    model = build_supernet(4, 10, 3).train()
    x, y = torch.randn(4, 3, 16, 16), torch.randint(0, 10, (4,))
    architectures = [(draw(rng), draw(rng)) for _ in range(6)]
    architectures.append(architectures[0])  # twice the same: all of the first cells shared
    before = {k: v.clone() for k, v in model.state_dict().items()}
    together = paths.constraint_losses(model, x, y, architectures)
    for k, v in model.state_dict().items():
        assert torch.equal(v, before[k]), k
    with torch.no_grad():
        separate = [nn.functional.cross_entropy(paths.forward(model, x, a), y).item() for a in architectures]
    assert together == separate


@pytest.mark.parametrize("draw", [sample_free, sample_depth_published])
def test_sampled_operations_equal_dense_execution(draw):
    """Raw 0/1 tables: logits, gradients and statistics of the path are those of all operations run."""
    from papers.nsas.method.sampling import encode

    rng = np.random.RandomState(1)
    architecture = (draw(rng), draw(rng))
    x, y = torch.randn(4, 3, 16, 16), torch.randint(0, 10, (4,))
    found = []
    for dense in (True, False):
        torch.manual_seed(0)
        model = build_supernet(4, 10, 3).train()
        tables = tuple(torch.from_numpy(encode(c)) for c in architecture)
        logits = model.forward_plain(x, tables) if dense else paths.forward(model, x, architecture, statistics=True)
        nn.functional.cross_entropy(logits, y).backward()
        gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()}
        found.append((logits.detach(), gradients, dict(model.named_buffers())))
    (logits, gradients, buffers), (logits_2, gradients_2, buffers_2) = found
    torch.testing.assert_close(logits, logits_2, rtol=1e-4, atol=1e-5)
    for name, want in buffers.items():
        torch.testing.assert_close(buffers_2[name], want, rtol=1e-3, atol=1e-4, msg=name)
    scale = max(float(g.abs().max()) for g in gradients.values())
    for name, want in gradients.items():
        assert float((gradients_2[name] - want).abs().max()) <= 1e-3 * scale, name


def test_softmax_table_runs_every_operation():
    rng = np.random.RandomState(2)
    model = build_supernet(2, 10, 3).train()
    table_logits(model, torch.randn(2, 3, 16, 16), (sample_free(rng), sample_free(rng))).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def legacy_modules(monkeypatch) -> tuple[type, type, type]:
    """Classes under the released names, as the authors' process had them."""
    names = {"model": types.ModuleType("model"), "utils": types.ModuleType("utils")}
    names["genotypes"] = types.ModuleType("genotypes")
    made = []
    for module, name, base in (("model", "RNNModel", nn.Module), ("model", "DARTSCell", nn.Module),
                               ("utils", "LockedDropout", nn.Module)):  # fmt: skip
        made.append(type(name, (base,), {"__module__": module}))
        setattr(names[module], name, made[-1])
    for name, module in names.items():
        monkeypatch.setitem(sys.modules, name, module)
    return tuple(made)


@pytest.mark.parametrize("zipped", [False, True])
def test_whole_module_pickle(zipped, tmp_path, monkeypatch):
    outer, inner, dropout = legacy_modules(monkeypatch)
    words, width = 12, 4
    published = load_cell("Random_NSAS")
    source = LanguageModel(words, width, Cell(width, published.recurrent, published.concat), Dropouts())
    rnn = inner()
    rnn._W0 = nn.Parameter(source.rnns[0]._W0.detach().clone())
    rnn._Ws = nn.ParameterList(nn.Parameter(w.detach().clone()) for w in source.rnns[0]._Ws)
    rnn.nhid, rnn.dropouth = width, 0.25
    whole = outer()
    whole.lockdrop = dropout()
    whole.encoder = nn.Embedding(words, width)
    whole.rnns = nn.ModuleList([rnn])
    whole.decoder = nn.Linear(width, words)
    whole.encoder.weight.data.copy_(source.encoder.weight)
    whole.decoder.weight = whole.encoder.weight
    whole.ninp, whole.ntoken = width, words
    path = tmp_path / "whole.pt"
    torch.save(whole, path, _use_new_zipfile_serialization=zipped)
    for name in ("model", "utils", "genotypes"):
        monkeypatch.delitem(sys.modules, name)  # nothing of the authors' code is there when it is read
    fresh = LanguageModel(words, width, Cell(width, published.recurrent, published.concat), Dropouts())
    load(fresh, str(path))
    assert torch.equal(fresh.encoder.weight, source.encoder.weight)
    assert torch.equal(fresh.rnns[0]._W0, source.rnns[0]._W0)
    assert all(torch.equal(a, b) for a, b in zip(fresh.rnns[0]._Ws, source.rnns[0]._Ws))
    assert fresh.decoder.weight is fresh.encoder.weight


def test_whole_module_with_a_foreign_class_is_refused(tmp_path, monkeypatch):
    class Foreign(nn.Module):
        pass

    module = types.ModuleType("foreign_code")
    Foreign.__module__, Foreign.__qualname__, module.Foreign = "foreign_code", "Foreign", Foreign
    monkeypatch.setitem(sys.modules, "foreign_code", module)
    path = tmp_path / "foreign.pt"
    torch.save(Foreign(), path)
    published = load_cell("Random_NSAS")
    model = LanguageModel(12, 4, Cell(4, published.recurrent, published.concat), Dropouts())
    with pytest.raises(UserError) as caught:
        load(model, str(path))
    assert "\n" not in str(caught.value)


def test_loss_without_stored_logits_equals_the_plain_one():
    """Value and all three gradients, in float64, also where a softmax of raw logits would overflow."""
    generator = torch.Generator().manual_seed(0)
    output, weight, bias = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((6, 5), (11, 5), (11,)))
    targets = torch.randint(0, 11, (6,), generator=generator)
    for scale in (1.0, 400.0):
        mine = [t.clone().mul_(scale).requires_grad_() for t in (output, weight, bias)]
        plain = [t.detach().clone().requires_grad_() for t in mine]
        value = linear_nll(*mine, targets)
        want = torch.nn.functional.cross_entropy(plain[0] @ plain[1].t() + plain[2], targets)
        torch.testing.assert_close(value, want)
        (3 * value).backward()
        (3 * want).backward()
        for a, b in zip(mine, plain):
            torch.testing.assert_close(a.grad, b.grad)


def test_deferred_weight_gradients_equal_autograd():
    """A recurrence that uses one matrix at every step, twice on one of them, with an unused second matrix."""
    generator = torch.Generator().manual_seed(0)
    weight, first = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((4, 4), (3, 4)))

    def run(weight, multiply):
        state = first.clone().requires_grad_()
        start, total = state, 0.0
        for _ in range(3):
            state = torch.tanh(multiply(state, start)) + multiply(state)
            total = total + state.square().sum()
        (total + weight.sum()).backward()  # a direct use of the matrix beside its products
        return start.grad

    mine, plain, unused = (weight.clone().requires_grad_() for _ in range(3))
    deferred(unused)
    a = run(mine, deferred(mine))
    b = run(plain, lambda state, base=0.0: state @ plain + base)
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(mine.grad, plain.grad)
    assert unused.grad is None
    with torch.no_grad():
        torch.testing.assert_close(deferred(mine)(first, first), first @ weight + first)
