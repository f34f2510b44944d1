"""The searches on NAS-Bench-201 as the notebooks ran them: draws, cells, losses, gradients, weights, step by step."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from common.data.batches import InShares
from common.spaces.nasbench201.network import SOURCES
from papers.nsas.nasbench201 import loss as step_losses
from papers.nsas.nasbench201 import search_gdas as search_nb201_gdas
from papers.nsas.nasbench201 import search_random as search_nb201_random
from papers.nsas.nasbench201 import supernet as opening
from papers.nsas.nasbench201.constraints import ABSENT
from papers.nsas.nasbench201.settings import SearchNb201Gdas, SearchNb201Random
from papers.nsas.nasbench201.supernet import build_nb201_supernet
from tests.golden.nsas import loops

BOUNDS = {"f64": 1e-9, "f32": 1e-4}
NODES = ((0,), (1, 2), (3, 4, 5))


class Given:
    """Batches: one a step, and as many of the other half for architecture steps."""

    def __init__(self, x, y) -> None:
        self.x, self.y, self.batch_size = x, y, x.shape[1]
        self.images = Set(x.shape[0] * x.shape[1])

    def __len__(self) -> int:
        return len(self.x)

    def epoch(self, number: int, start: int = 0):
        return iter(list(zip(self.x, self.y))[start:])

    def shares(self, number: int, start: int = 0):
        return ([batch] for batch in self.epoch(number, start))

    def in_shares(self):
        return InShares(self)

    def size(self, step: int) -> int:
        return self.batch_size

    def drawn_shares(self, number: int, count: int):
        return [(self.x[number], self.y[number])]


class Set:
    """Ten classes and a number of images."""

    def __init__(self, count: int) -> None:
        self.count, self.classes, self.name, self.pins = count, tuple("0123456789"), "given", {}
        self.pinned = True

    def __len__(self) -> int:
        return self.count


def pairs(code) -> list[list[list[int]]]:
    """[operation, input] of nodes 1, 2, 3 as a forward reads them."""
    return [[[int(code[e]), SOURCES[e]] for e in edges if code[e] != ABSENT] for edges in NODES]


def prepare(golden, monkeypatch, module, arrays, precision, stream):
    """The module reads the stored weights, batches and draws; returns the recorder."""
    recorder, dtype = loops.Recorder(), loops.DTYPES[precision]
    channels, cells, classes = (int(n) for n in arrays["meta_C_N_K"])
    held = "x_arch" in arrays
    first = Given(torch.from_numpy(arrays["x"]).to(dtype), torch.from_numpy(arrays["y"]))
    second = (
        first if not held else Given(torch.from_numpy(arrays["x_arch"]).to(dtype), torch.from_numpy(arrays["y_arch"]))
    )
    monkeypatch.setattr(module, "open_batches", lambda *_: (first, second, ""))

    def build(*sizes):
        assert sizes == (channels, cells, classes)
        model = golden.fill(build_nb201_supernet(*sizes), int(arrays["fill_seed"])).to(dtype)
        recorder.clipping(monkeypatch, model)
        recorder.notes["model"] = model
        return model

    norms = sorted({k.split("/")[2].rpartition(".")[0] for k in arrays if "/bn/" in k})

    def statistics() -> dict:
        state = recorder.notes["model"].state_dict()
        return {"bn": {k: v.clone() for k, v in state.items() if k.rpartition(".")[0] in norms}}

    make = opening.make_sgd
    monkeypatch.setattr(opening, "build_nb201_supernet", build)

    def made(model, lr, momentum, weight_decay):
        assert (lr, momentum, weight_decay) == (0.025, 0.9, 5e-4)
        return recorder.steps(make(model, lr, momentum, weight_decay), model, statistics)

    monkeypatch.setattr(opening, "make_sgd", made)
    monkeypatch.setattr(module, "uniform", lambda rng: lambda: next(stream))
    monkeypatch.setattr(module, "finish", lambda run, code, *_: {"metrics": {}, "architecture": list(code)})

    def forwards(function):
        def noted(model, x, code, *rest):
            recorder.notes["cells"].append(tuple(int(k) for k in (rest[0] if rest else code)))
            logits = function(model, x, code, *rest)
            batch = next(y for source in (first, second) for xs, y in zip(source.x, source.y) if torch.equal(xs, x))
            recorder.notes["losses"].append(float(torch.nn.functional.cross_entropy(logits.detach(), batch)))
            return logits

        return noted

    for owner, name in ((step_losses, "code_logits"), (step_losses, "weighted_logits"), (module, "weighted_logits")):
        if hasattr(owner, name):
            monkeypatch.setattr(owner, name, forwards(getattr(owner, name)))
    return recorder


def compare(golden, notes, arrays, prefix, step, names, bound) -> None:
    """Norms of gradients and weights after the step; nan: no gradient, 0: a gradient of zeros."""
    golden.close(notes["grad_norm"][step], arrays[f"{prefix}/grad_norm"][step], bound)
    for key, values in ((k, v) for k, v in arrays.items() if k.startswith(f"{prefix}/bn/")):
        golden.close(notes["bn"][step][key.removeprefix(f"{prefix}/bn/")], values[step], bound)
    if f"{prefix}/grad_norms" not in arrays:
        return
    gradients = notes["grads"][step]
    assert list(gradients) == names
    found = np.array([np.nan if g is None else float(g.norm()) for g in gradients.values()])
    wanted = arrays[f"{prefix}/grad_norms"][step]
    assert (np.isnan(found) == np.isnan(wanted)).all() and ((found == 0) == (wanted == 0)).all()
    golden.close(np.nan_to_num(found), np.nan_to_num(wanted), bound)
    golden.close(notes["norms_after"][step], arrays[f"{prefix}/norms_after"][step], bound)


def history(folder) -> dict[str, str]:
    with (folder / "history.csv").open() as lines:
        return next(csv.DictReader(lines))


RANDOM = ["nsas_2", "nsas_3", "nsas_4", "nsas_5", "r", "g", "low", "compensation"]


@pytest.mark.parametrize("notebook", RANDOM)
def test_random(golden, monkeypatch, tmp_path, notebook, precision):
    a, run = golden.npz("nb201_random_loop.npz"), golden.json("nb201_random_loop.json")["runs"][notebook]
    steps = run["steps"]
    calls = [run["epoch_start"], *(call for step in steps for call in step["calls"])]
    stream = iter([draw for call in calls for draw in call["draws"]])
    recorder = prepare(golden, monkeypatch, search_nb201_random, a, precision, stream)
    kind, _, number = notebook.partition("_")
    settings = SearchNb201Random(
        constraint=kind, constraints=int(number or 2), channels=4, cells=1, epochs=1, epoch_candidates=0
    )
    monkeypatch.setattr(search_nb201_random, "score_random_cell", lambda *_: ((0,) * 6, 0.0, 0.0))
    search_nb201_random.search(settings, loops.options(tmp_path, "search_nb201_random"))
    assert next(stream, None) is None  # the same draws, the rejected ones included
    notes, prefix, bound = recorder.notes, f"{notebook}_{precision}", BOUNDS[precision]
    assert [pairs(c) for c in notes["cells"]] == [c for step in steps for c in step["forward_cells"]]
    golden.close(np.reshape(notes["losses"], a[f"{prefix}/losses"].shape), a[f"{prefix}/losses"], bound)
    for step in range(len(steps)):
        compare(golden, notes, a, prefix, step, a["parameter_names"].tolist(), bound)
    weights = np.array(step_losses.term_weights(kind, settings.constraints))
    totals = np.reshape(notes["losses"], (len(steps), -1)) @ weights
    golden.close(totals, a[f"{prefix}/total"], bound)
    reported = float(a[f"{prefix}/reported_loss_average"])
    assert float(history(tmp_path)["loss"]) == pytest.approx(reported, rel=1e-6) == pytest.approx(totals.mean())


GDAS = ["nsas_2", "nsas_3", "r", "g", "compensation", "low"]


@pytest.mark.parametrize("notebook", GDAS)
def test_gdas(golden, monkeypatch, tmp_path, notebook, precision):
    a, run = golden.npz("nb201_gdas_loop.npz"), golden.json("nb201_gdas_loop.json")["runs"][notebook]
    steps, dtype = run["steps"], loops.DTYPES[precision]
    stream = iter([d for step in steps for call in step["calls"] for d in call.get("draws", [])])
    recorder = prepare(golden, monkeypatch, search_nb201_gdas, a, precision, stream)
    noise = iter(torch.from_numpy(a[f"{notebook}/gumbel"]).to(dtype))
    monkeypatch.setattr(search_nb201_gdas, "gumbel", lambda *_: next(noise))
    initial = torch.from_numpy(golden.fill_value("arch_parameters", (6, 5), int(a["fill_seed"]))).to(dtype)
    monkeypatch.setattr(search_nb201_gdas, "initial_alphas", lambda: initial)
    drawn, adam = recorder.notes, torch.optim.Adam

    def arch_optimizer(parameters, *args, **kwargs):
        alphas, made = parameters[0], adam(parameters, *args, **kwargs)
        drawn["alphas"] = alphas
        made.register_step_pre_hook(lambda *_: drawn["alpha_grad_arch"].append(alphas.grad.clone()))
        made.register_step_post_hook(lambda *_: drawn["alphas_after"].append(alphas.detach().clone()))
        made.register_step_post_hook(lambda *_: drawn["bn_after_arch"].append(
            {k: v.clone() for k, v in drawn["model"].state_dict().items() if "running" in k}
        ))  # fmt: skip
        return made

    monkeypatch.setattr(search_nb201_gdas.torch.optim, "Adam", arch_optimizer)
    clip = torch.nn.utils.clip_grad_norm_

    def stale(parameters, *args):
        drawn["alpha_grad_at_clip"].append(drawn["alphas"].grad.clone())
        return torch.nn.utils._noted(parameters, *args)

    kind, _, number = notebook.partition("_")
    settings = SearchNb201Gdas(
        constraint=kind, constraints=int(number or 2), channels=4, cells=1, epochs=1, tau_max=float(a["tau"])
    )
    build = opening.build_nb201_supernet

    def built(*sizes):
        model = build(*sizes)  # this puts the recording clip in place
        monkeypatch.setattr(torch.nn.utils, "_noted", torch.nn.utils.clip_grad_norm_, raising=False)
        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", stale)
        return model

    monkeypatch.setattr(opening, "build_nb201_supernet", built)
    found = search_nb201_gdas.search(settings, loops.options(tmp_path, "search_nb201"))
    assert clip is not torch.nn.utils.clip_grad_norm_ and next(stream, None) is None and next(noise, None) is None
    notes, prefix, bound = recorder.notes, f"{notebook}_{precision}", BOUNDS[precision]
    wanted = [tuple(int(c) for c in one["cell"]) for step in steps for one in step["forward_cells"]]
    assert notes["cells"] == wanted
    losses = np.reshape(notes["losses"], (len(steps), -1))
    golden.close(losses, a[f"{prefix}/losses"], bound)
    given = (settings.constraint, settings.constraints, settings.penalty, settings.constraint_gradient)
    weights = np.array(step_losses.gdas_weights(*given)[0])
    assert settings.clip == 5.0
    totals = losses[:, :-2] @ weights[1:] + losses[:, -2] * weights[0]
    golden.close(totals, a[f"{prefix}/total"], bound)
    for step in range(len(steps)):
        compare(golden, notes, a, prefix, step, a["parameter_names"].tolist(), bound)
        for key in ("alpha_grad_at_clip", "alpha_grad_arch", "alphas_after"):
            if f"{prefix}/{key}" in a:
                golden.close(notes[key][step], a[f"{prefix}/{key}"][step], bound)
        for key in (k for k in a if k.startswith(f"{prefix}/bn_after_arch/")):
            golden.close(notes["bn_after_arch"][step][key.rpartition("/")[2]], a[key][step], bound)
    row = history(tmp_path)
    assert float(row["loss"]) == pytest.approx(float(a[f"{prefix}/reported_loss_average"]), rel=1e-6)
    assert float(row["valid_loss"]) == pytest.approx(float(a[f"{prefix}/reported_arch_loss_average"]), rel=1e-6)
    assert found["architecture"] == notes["alphas_after"][-1].argmax(-1).tolist()


def test_every_array_is_compared(golden):
    """A stored form without a test would be a hole."""
    for file, notebooks in (("nb201_random_loop", RANDOM), ("nb201_gdas_loop", GDAS)):
        arrays = golden.npz(f"{file}.npz")
        heads = {k.split("/")[0].rsplit("_f", 1)[0] for k in arrays if "/" in k}
        assert heads == set(notebooks) == set(golden.json(f"{file}.json")["runs"])
        known = {
            "losses", "total", "grad_norm", "grad_norms", "norms_after", "bn", "bn_after_arch", "gumbel",
            "reported_loss_average", "reported_arch_loss_average", "alpha_grad_at_clip", "alpha_grad_arch",
            "alphas_after",
        }  # fmt: skip
        assert {k.split("/")[1] for k in arrays if "/" in k} <= known
