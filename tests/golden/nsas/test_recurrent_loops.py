"""The recurrent search as released and as the paper means it, and the recurrent training, chunk by chunk."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from papers.nsas.recurrent import averaging
from papers.nsas.recurrent import evaluate as evaluate_recurrent
from papers.nsas.recurrent import loss as losses
from papers.nsas.recurrent import search as search_recurrent
from papers.nsas.recurrent import train as train_recurrent
from papers.nsas.recurrent.model import DerivedCell, Dropouts, LanguageModel
from papers.nsas.recurrent.settings import SearchRecurrent, TrainRecurrent
from papers.nsas.recurrent.supernet import SupernetCell
from tests.golden.nsas import loops

KEEP = {"embedding": 0.9, "input": 0.8, "x": 0.25, "hidden": 0.75, "output": 0.25}


def near(golden, got, want, tolerance: float) -> None:
    """Relative to the largest magnitude; entries below 1e-12 are rounding."""
    got = np.asarray(got.detach() if isinstance(got, torch.Tensor) else got, dtype=np.float64)
    assert got.shape == np.shape(want)
    if float(np.abs(want).max()) < 1e-12:
        assert float(np.abs(got).max()) < 1e-12
    else:
        golden.close(got, want, tolerance)


def history(folder) -> list[dict[str, str]]:
    with (folder / "history.csv").open() as lines:
        return list(csv.DictReader(lines))


def search(golden, monkeypatch, tmp_path, settings, arrays, chunks, prefixes, precision):
    """One epoch of the real search over ``chunks``; returns what was recorded."""
    recorder, dtype = loops.Recorder(), loops.DTYPES[precision]
    words, width, batch, bptt = (int(n) for n in arrays["meta_V_H_B_bptt"])
    loops.corpus(monkeypatch, search_recurrent, arrays["stream"], arrays["stream"], words)
    queue = iter([loops.masks(arrays, prefix, KEEP, dtype) for prefix in prefixes])
    settings = replace(settings, width=width, batch_size=batch, bptt=bptt, epochs=1)

    def build(types, made):
        drops = Dropouts(made.drop_output, made.drop_hidden, made.drop_x, made.drop_input, made.drop_embedding)
        assert drops == Dropouts(0.75, 0.25, 0.75, 0.2, 0.0)
        model = golden.load(LanguageModel(types, width, SupernetCell(width, made.table), drops), arrays).to(dtype)
        model.rnns[0].set_table(torch.from_numpy(arrays["table"]).to(dtype))
        model.masks = lambda *_: next(queue)
        recorder.clipping(monkeypatch, model)
        recorder.notes["model"] = model
        return model

    def statistics() -> dict:
        bn = recorder.notes["model"].rnns[0].bn
        return {
            "bn_running_mean": bn.running_mean.clone(), "bn_running_var": bn.running_var.clone(),
            "bn_batches": int(bn.num_batches_tracked), "passes": len(recorder.notes["nll"]),
        }  # fmt: skip

    make_sgd, one_pass = search_recurrent.make_sgd, losses.pass_loss
    monkeypatch.setattr(search_recurrent, "build", build)
    monkeypatch.setattr(search_recurrent, "epoch_chunks", lambda *_, **__: chunks)
    monkeypatch.setattr(search_recurrent, "text_loss", lambda *_: 1.0)
    monkeypatch.setattr(
        search_recurrent, "make_sgd", lambda model, *a: recorder.steps(make_sgd(model, *a), model, statistics)
    )

    def pass_loss(model, chunk, hidden, slot, beta):
        nll, loss = one_pass(model, chunk, hidden, slot, beta)
        recorder.notes["nll"].append(float(nll.detach()))
        recorder.notes["terms"].append(float(loss.detach()))
        recorder.notes["hidden"].append(hidden[slot].clone())
        return nll, loss

    def noted(function):
        def loss(*args):
            found = function(*args)
            recorder.notes["total"].append(float(found[0]))
            return found

        return loss

    monkeypatch.setattr(losses, "pass_loss", pass_loss)
    for name in ("released_loss", "paper_loss"):
        monkeypatch.setattr(search_recurrent, name, noted(getattr(search_recurrent, name)))
    search_recurrent.search(settings, loops.options(tmp_path, "search_ptb"))
    assert next(queue, None) is None  # every mask was used
    return recorder.notes


def compare(golden, notes, arrays, prefix, chunk, first, passes, tolerance) -> None:
    """What is stored of a chunk in both forms."""
    for key, values in (("losses_nll", notes["nll"][first : first + passes]),):
        near(golden, values, arrays[f"{prefix}/{key}"], tolerance)
    for key in ("total", "grad_norm", "norms_after", "bn_running_mean", "bn_running_var"):
        near(golden, notes[key][chunk], arrays[f"{prefix}/{key}"], tolerance)
    assert notes["bn_batches"][chunk] == arrays[f"{prefix}/bn_batches"]
    stored = [k.removeprefix(f"{prefix}/grad/") for k in arrays if k.startswith(f"{prefix}/grad/")]
    assert stored
    for name in stored:
        near(golden, notes["grads"][chunk][name], arrays[f"{prefix}/grad/{name}"], tolerance)


@pytest.mark.parametrize("table", ["softmax", "raw"])
def test_released_search(golden, monkeypatch, tmp_path, table, precision):
    """Gradients of the whole loop: no gradient crosses a pass, only the first and the last constraint pass have one."""
    a = golden.npz("rnn_search_loop.npz")
    counts = a["chunk_M"].tolist()
    prefixes = [f"chunk{c}_pass{p}" for c, m in enumerate(counts) for p in range(m + 1)]
    settings = SearchRecurrent(table=table)
    chunks = list(zip(a["chunk_starts"].tolist(), a["chunk_lengths"].tolist()))
    notes = search(golden, monkeypatch, tmp_path, settings, a, chunks, prefixes, precision)
    kind, tolerance = f"released_{table}_{precision}", 1e-9 if precision == "f64" else 1e-2
    near(golden, notes["lr"], a["chunk_lr"], 1e-12)
    model = notes["model"]
    assert [n for n, _ in model.named_parameters()] == a["parameter_names"].tolist()
    first = 0
    for chunk, members in enumerate(counts):
        prefix, passes = f"{kind}/chunk{chunk}", members + 1
        compare(golden, notes, a, prefix, chunk, first, passes, tolerance)
        hidden = torch.stack(notes["hidden"][first : first + passes])
        near(golden, hidden, a[f"{prefix}/hidden_after_each_pass"], tolerance)
        near(golden, notes["terms"][first], a[f"{prefix}/current"], tolerance)
        last = notes["terms"][first + members]
        near(golden, last, a[f"{prefix}/last_constraint"], tolerance)
        near(golden, 2 * last / members, a[f"{prefix}/archive_term"], tolerance)
        first += passes
    for key in (k for k in a if k.startswith(f"{kind}/end/")):
        near(golden, model.state_dict()[key.rpartition("/")[2]], a[key], tolerance)
    starts = np.cumsum([0, *(m + 1 for m in counts[:-1])])
    near(golden, sum(notes["nll"][i] for i in starts), a[f"{kind}/reported_nll_sum"], tolerance)
    rows = a["chunk_rows"]
    mean = sum(notes["nll"][i] * n for i, n in zip(starts, rows)) / rows.sum()
    assert float(history(tmp_path)[0]["train_loss"]) == pytest.approx(mean, rel=1e-6)


def test_paper_search(golden, monkeypatch, tmp_path, precision):
    """The table set in the cell, the mean over constraints, one hidden state a slot."""
    a = golden.npz("rnn_search_loop.npz")
    codes = [[tuple(map(tuple, code)) for code in chunk] for chunk in a["paper_codes"].tolist()]
    lengths = a["paper_lengths"].tolist()
    chunks = list(zip(np.cumsum([0, *lengths[:-1]]).tolist(), lengths))
    prefixes = [f"paper_chunk{c}_pass{p}" for c in range(len(codes)) for p in range(len(codes[c]))]

    class Given(search_recurrent.PaperArchive):
        def after(self, code, rng):
            self.members = next(given for given in codes if given[0] == code)[1:]
            return self.members

    monkeypatch.setattr(search_recurrent, "PaperArchive", Given)
    current = iter([codes[0][0], *(given[0] for given in codes)])  # one before the first chunk, never trained
    monkeypatch.setattr(search_recurrent, "sample", lambda *_: next(current))
    monkeypatch.setattr(search_recurrent, "random_cells", lambda *_: [codes[-1][0]])
    settings = SearchRecurrent(path="sampled", constraints=len(codes[0]) - 1, recalibrate_chunks=0)
    notes = search(golden, monkeypatch, tmp_path, settings, a, chunks, prefixes, precision)
    tolerance, first = 1e-9 if precision == "f64" else 1e-2, 0
    for chunk, given in enumerate(codes):
        prefix, passes = f"paper_{precision}/chunk{chunk}", len(given)
        compare(golden, notes, a, prefix, chunk, first, passes, tolerance)
        near(golden, notes["terms"][first : first + passes], a[f"{prefix}/terms"], tolerance)
        hidden = torch.stack(notes["hidden"][first : first + passes])
        near(golden, hidden, a[f"{prefix}/hidden_of_each_slot"], tolerance)
        first += passes


class Draws:
    """A generator that hands out the stored uniforms and standard normals."""

    def __init__(self, uniforms, normals) -> None:
        self.uniforms, self.normals = iter(uniforms.tolist()), iter(normals.tolist())

    def random_sample(self) -> float:
        return next(self.uniforms)

    def normal(self, centre: float, spread: float) -> float:
        return centre + spread * next(self.normals)


def test_training(golden, monkeypatch, tmp_path, precision):
    """An epoch of SGD, the switch, an epoch of ASGD: draws, losses, gradients, weights, averages, validation."""
    a = golden.npz("rnn_train_loop.npz")
    recorder, dtype = loops.Recorder(), loops.DTYPES[precision]
    words, width, batch, bptt = (int(n) for n in a["meta_V_H_B_bptt"])
    loops.corpus(monkeypatch, train_recurrent, a["train_stream"], a["valid_stream"], words)
    phases = ("sgd", "asgd")
    queue = iter([loops.masks(a, f"{phase}_chunk{c}", KEEP, dtype) for phase in phases for c in range(3)])
    recurrent = tuple((str(f), int(p)) for f, p in zip(a["genotype_ops"], a["genotype_prev"]))

    def build(types, cell, settings):
        model = LanguageModel(types, width, DerivedCell(width, recurrent, tuple(range(1, 9))), Dropouts())
        model = golden.load(model, a).to(dtype)
        model.masks = lambda *_: next(queue)
        recorder.clipping(monkeypatch, model)
        recorder.notes["model"] = model
        return model

    def watched(make):
        def made(model, *args):
            optimizer = make(model, *args)

            def averages() -> dict:
                state = next(iter(optimizer.state.values()), {})
                if "ax" not in state:
                    return {}
                means = [float(optimizer.state[p]["ax"].norm()) for p in model.parameters()]
                return {"eta": float(state["eta"]), "mu": float(state["mu"]), "average_norms": means}

            recorder.notes["optimizer"] = optimizer
            return recorder.steps(optimizer, model, averages)

        return made

    one_step, evaluate = train_recurrent.train_step, train_recurrent.text_loss

    def train_step(model, optimizer, *args):
        value, hidden = one_step(model, optimizer, *args)
        recorder.notes["nll"].append(value)
        recorder.notes["hidden"].append(hidden)
        if len(recorder.notes["nll"]) == 6:  # the loop itself evaluates the averaged weights only
            recorder.notes["own"].append(evaluate(model, torch.from_numpy(a["valid_stream"].astype(np.int64)), bptt))
        return value, hidden

    def evaluated(model, *args):
        loss = evaluate(model, *args)
        recorder.notes["valid"].append(loss)
        return loss

    def penalised(*args):
        found = penalty(*args)
        recorder.notes["penalty"].append(float(found.detach()))
        return found

    penalty = train_recurrent.activation_penalty
    draws = iter([Draws(a[f"{p}_uniform"], a[f"{p}_standard_normal"]) for p in phases])
    chunks = train_recurrent.epoch_chunks

    def drawn(rows, base, rng):
        recorder.notes["chunks"].append(chunks(rows, base, next(draws)))
        return recorder.notes["chunks"][-1]

    monkeypatch.setattr(train_recurrent, "epoch_chunks", drawn)
    for name, function in (
        ("build", build), ("train_step", train_step), ("text_loss", evaluated),
        ("activation_penalty", penalised), ("switches_to_averaging", lambda *_: True),
    ):  # fmt: skip
        monkeypatch.setattr(train_recurrent, name, function)
    monkeypatch.setattr(evaluate_recurrent, "unigram_perplexity", lambda *_: 1.0)
    for name in ("make_sgd", "make_asgd"):
        monkeypatch.setattr(averaging, name, watched(getattr(averaging, name)))
    settings = TrainRecurrent(width=width, batch_size=batch, bptt=bptt, epochs=2)
    train_recurrent.train(settings, loops.options(tmp_path, "train_ptb"))
    tolerance, notes = 1e-9 if precision == "f64" else 1e-4, recorder.notes
    model = notes["model"]
    assert [n for n, _ in model.named_parameters()] == a["parameter_names"].tolist()
    for number, phase in enumerate(phases):
        assert notes["chunks"][number] == list(zip(a[f"{phase}_start"].tolist(), a[f"{phase}_length"].tolist()))
        near(golden, notes["lr"][3 * number : 3 * number + 3], a[f"{phase}_lr"], 1e-12)
        for c in range(3):
            prefix, at = f"{precision}/{phase}_chunk{c}", 3 * number + c
            near(golden, notes["nll"][at], a[f"{prefix}/nll"], tolerance)
            near(golden, notes["nll"][at] + notes["penalty"][at], a[f"{prefix}/loss"], tolerance)
            for key in ("hidden", "grad_norm", "norms_after"):
                near(golden, notes[key][at], a[f"{prefix}/{key}"], tolerance)
            for key in (k for k in a if k.startswith(f"{prefix}/grad/")):
                near(golden, notes["grads"][at][key.removeprefix(f"{prefix}/grad/")], a[key], tolerance)
            if phase == "asgd":
                near(golden, notes["eta"][c], a[f"{prefix}/asgd_eta_after"], 1e-6)
                near(golden, notes["mu"][c], a[f"{prefix}/asgd_mu_after"], 1e-6)
                near(golden, notes["average_norms"][c], a[f"{prefix}/average_norms_after"], tolerance)
    near(golden, notes["valid"][0], a[f"{precision}/valid_after_sgd"], tolerance)
    near(golden, notes["valid"][1], a[f"{precision}/valid_averaged_after_asgd"], tolerance)
    averages = {n: notes["optimizer"].state[p]["ax"] for n, p in model.named_parameters()}
    for key in (k for k in a if k.startswith(f"{precision}/averaged/")):
        near(golden, averages[key.rpartition("/")[2]], a[key], tolerance)
    near(golden, notes["own"][0], a[f"{precision}/valid_own_weights_after_asgd"], tolerance)
