"""The released recurrent network is a whole pickled module; it is read without running code."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn

from common.errors import UserError
from papers.nsas.recurrent.architecture import load_cell
from papers.nsas.recurrent.model import DerivedCell, Dropouts, LanguageModel
from tests.nsas.small import load_recurrent


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
    source = LanguageModel(words, width, DerivedCell(width, published.recurrent, published.concat), Dropouts())
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
    fresh = LanguageModel(words, width, DerivedCell(width, published.recurrent, published.concat), Dropouts())
    load_recurrent(fresh, str(path))
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
    model = LanguageModel(12, 4, DerivedCell(4, published.recurrent, published.concat), Dropouts())
    with pytest.raises(UserError) as caught:
        load_recurrent(model, str(path))
    assert "\n" not in str(caught.value)
