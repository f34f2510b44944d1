"""DARTS and NAS-Bench-201 networks against the authors' code: outputs, losses, gradients, steps, counts, keys."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.spaces import drawing
from common.spaces.counting import macs, parameters
from common.spaces.darts.genotype import INPUTS, drawn_pairs
from common.spaces.darts.network import derived
from common.spaces.drawing import FORMATS
from common.spaces.nasbench201.graph import canonical
from papers.nsas.describe import described
from papers.nsas.method import architect
from papers.nsas.method.loss import paper_loss, released_loss, similarity_weights
from papers.nsas.method.relaxation import straight_through
from papers.nsas.nasbench201 import constraints as constraints201
from papers.nsas.nasbench201.loss import Drawn, gdas_loss, gdas_weights, live_loss, term_weights
from papers.nsas.nasbench201.search_gdas import decode
from papers.nsas.nasbench201.settings import SearchNb201Gdas
from papers.nsas.nasbench201.supernet import (
    Touched,
    build_nb201,
    build_nb201_supernet,
    code_logits,
    make_sgd,
    weighted_logits,
)
from papers.nsas.networks import paths
from papers.nsas.networks.architectures import CNN
from papers.nsas.networks.supernet import build_supernet, mixed, table_logits

T = torch.from_numpy


def cells(arch) -> tuple:
    return tuple(tuple((int(o), int(i)) for o, i in cell) for cell in arch)


@pytest.mark.parametrize(
    ("name", "file"),
    [("Random_NSAS", "cifar_small_Random_NSAS.npz"), ("Random_NSAS_C", "cifar_small_Random_NSAS_C.npz")],
)
def test_small_derived(golden, name, file):
    a = golden.npz(file)
    channels, layers, classes = (int(v) for v in a["meta_C_L_K"])
    x, y = T(a["x"]), T(a["y"])

    def fresh():
        return golden.load(derived(CNN[name], False, classes, channels, layers, auxiliary=False), a)

    model = fresh().eval()
    golden.close(model(x)[0], a["eval_logits"], 1e-5)
    model = fresh().train()
    logits, _ = model(x)
    golden.close(logits, a["train_logits"], 2e-4)
    loss = F.cross_entropy(logits, y)
    golden.close(loss, a["train_loss"], 2e-4)
    loss.backward()
    for key in (k for k in a if k.startswith("grad/")):
        golden.close(dict(model.named_parameters())[key[5:]].grad, a[key], 1e-3)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    golden.close(norm, a["grad_norm_total"], 1e-3)
    for key in (k for k in a if k.startswith("after_train/")):
        golden.close(model.state_dict()[key[12:]], a[key], 2e-4)
    model = fresh().train()
    model.drop_path_prob = float(a["droppath_prob"])
    masks = [T(m.astype(np.float32)) for m in a["droppath_masks"]]
    logits, _ = model(x, masks)
    golden.close(logits, a["droppath_logits"], 2e-4)
    golden.close(F.cross_entropy(logits, y), a["droppath_loss"], 2e-4)


def supernet(golden, a) -> torch.nn.Module:
    channels, layers, classes = (int(v) for v in a["meta_C_L_K"])
    return golden.load(build_supernet(channels, classes, layers), a)


@pytest.mark.parametrize("kind", ["raw", "softmax"])
@pytest.mark.parametrize("index", [0, 1])
def test_supernet_forward(golden, kind, index):
    a = golden.npz("supernet.npz")
    model, arch, p = supernet(golden, a), cells(a["archs"][index]), f"arch{index}_{kind}_"
    x, y = T(a["x"]), T(a["y"])
    run = paths.logits_function(kind, statistics=True)
    golden.close(run(model.eval(), x, arch), a[p + "eval_logits"], 1e-5)
    logits = run(model.train(), x, arch)
    golden.close(logits, a[p + "train_logits"], 2e-4)
    loss = F.cross_entropy(logits, y)
    loss.backward()
    golden.close(loss, a[p + "train_loss"], 2e-4)
    grads = [q.grad if q.grad is not None else torch.zeros_like(q) for q in model.parameters()]
    golden.close(torch.stack([g.norm() for g in grads]).norm(), a[p + "grad_norm"], 1e-3)
    named = {n: g for (n, _), g in zip(model.named_parameters(), grads)}
    assert sum(not g.any() for g in grads) == int(a[p + "zero_grad_params"])
    for key in (k for k in a if k.startswith(p + "grad/")):
        golden.close(named[key.split("grad/")[1]], a[key], 1e-3)
    for key in (k for k in a if k.startswith(p + "after/")):
        golden.close(model.state_dict()[key.split("after/")[1]], a[key], 2e-4)


@pytest.mark.parametrize("kind", ["raw", "softmax"])
def test_free_tables(golden, kind):
    a = golden.npz("supernet.npz")
    model = supernet(golden, a).train()
    tables = [T(a[f"alphas_{c}"]).requires_grad_() for c in ("normal", "reduce")]
    loss = F.cross_entropy(model(T(a["x"]), mixed(tables, kind)), T(a["y"]))
    golden.close(loss, a[f"free_{kind}_loss"], 2e-4)
    for t, g in zip(("normal", "reduce"), torch.autograd.grad(loss, tables)):
        golden.close(g, a[f"free_{kind}_grad_alphas_{t}"], 1e-3)


def compare(golden, model, a, prefix):
    for key in (k for k in a if k.startswith((prefix + "param/", prefix + "stat/"))):
        golden.close(model.state_dict()[key[len(prefix) :].split("/", 1)[1]], a[key], 1e-3)


@pytest.mark.parametrize("kind", ["raw", "softmax"])
def test_steps(golden, kind):
    """Two released steps, then one of the paper's loss."""
    from common.train.optim import zero_fill_grads

    a = golden.npz("supernet.npz")
    x, y, archs = T(a["x"]), T(a["y"]), [cells(c) for c in a["archs"]]
    run = paths.logits_function(kind, statistics=True)

    def step(model, optimizer, loss_of):
        optimizer.zero_grad()
        loss, _ = loss_of(model, x, y, archs[0], archs[1:])  # and the logits of the current architecture
        zero_fill_grads(model.parameters())
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()
        return loss, norm

    def sgd(model):
        return torch.optim.SGD(model.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)

    model = supernet(golden, a).train()
    optimizer = sgd(model)
    for number in (0, 1):
        p = f"step{number}_{kind}_"
        each = paths.constraint_losses(model, x, y, archs[1:], table_logits if kind == "softmax" else None)
        golden.close(each, a[p + "loss_each"], 2e-4)
        loss, norm = step(model, optimizer, released_loss(0.5, run, kind))
        golden.close(loss, a[p + "loss"], 2e-4)
        golden.close(norm, a[p + "gradnorm_before_clip"], 1e-3)
        compare(golden, model, a, p)
    model = supernet(golden, a).train()
    loss, norm = step(model, sgd(model), paper_loss(0.5, run))
    golden.close(loss, a[f"paper_{kind}_loss"], 2e-4)
    golden.close(norm, a[f"paper_{kind}_gradnorm_before_clip"], 1e-3)
    compare(golden, model, a, f"paper_{kind}_")
    assert len(similarity_weights(archs[0], archs[1:])) == 3


def architecture_gradients(a, model, kind, form, batches):
    """(tables, gradients) of one form of the architecture step, in the precision of the model."""
    model, dtype = model.train(), next(model.parameters()).dtype
    tables = [T(a[f"alphas_{c}"].copy()).to(dtype).requires_grad_() for c in ("normal", "reduce")]
    loss = architect.table_loss(model, kind)
    if form == "first":
        return tables, architect.plain_gradient(loss, model, tables, [batches[1]])
    optimizer = torch.optim.SGD(model.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    if form.endswith("momentum"):
        weights = list(model.parameters())
        grads = torch.autograd.grad(loss(None, tables, batches[0]), weights, allow_unused=True)
        for w, g in zip(weights, grads):
            buffer = (torch.zeros_like(w) if g is None else g) + 3e-4 * w.detach()
            optimizer.state[w]["momentum_buffer"] = buffer
    return tables, architect.unrolled_gradient(loss, model, tables, *([batch] for batch in batches), optimizer)


@pytest.mark.parametrize("kind", ["raw", "softmax"])
def test_architecture_step(golden, kind):
    a = golden.npz("architect.npz")
    batches = [(T(a["x_train"]), T(a["y_train"])), (T(a["x_valid"]), T(a["y_valid"]))]
    for form in ("first", "second", "second_with_momentum"):
        tables, found = architecture_gradients(a, supernet(golden, a), kind, form, batches)
        adam = torch.optim.Adam(tables, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
        for t, g in zip(tables, found):
            t.grad = g
        for name, t in zip(("normal", "reduce"), tables):
            golden.close(t.grad, a[f"{kind}_{form}_grad_{name}"], 1e-3)
        adam.step()
        for name, t in zip(("normal", "reduce"), tables):
            golden.close(t, a[f"{kind}_{form}_after_{name}"], 1e-3)


@pytest.mark.parametrize("kind", ["raw", "softmax"])
def test_architecture_step_in_float64(golden, kind):
    """The same gradients without rounding noise."""
    a = golden.npz("architect.npz")
    batches = [(T(a[f"x_{part}"]).double(), T(a[f"y_{part}"])) for part in ("train", "valid")]
    for form in ("first", "second", "second_with_momentum"):
        found = architecture_gradients(a, supernet(golden, a).double(), kind, form, batches)[1]
        for name, gradient in zip(("normal", "reduce"), found):
            golden.close(gradient, a[f"{kind}_{form}_grad_{name}_f64"], 1e-6)


def nb201(golden, a) -> torch.nn.Module:
    channels, cells_, classes = (int(v) for v in a["meta_C_N_K"])
    return golden.load(build_nb201_supernet(channels, cells_, classes), a)


def digits(code) -> tuple[int, ...]:
    return tuple(int(c) for c in str(code))


def test_nb201_supernet(golden):
    a = golden.npz("nb201_supernet.npz")
    x, y = T(a["x"]), T(a["y"])
    for code in a["codes"]:
        model = nb201(golden, a)
        golden.close(code_logits(model.eval(), x, digits(code)), a[f"{code}_eval_logits"], 1e-5)
        logits = code_logits(model.train(), x, digits(code))
        loss = F.cross_entropy(logits, y)
        golden.close(logits, a[f"{code}_train_logits"], 2e-4)
        golden.close(loss, a[f"{code}_train_loss"], 2e-4)
        loss.backward()
        assert sum(p.grad is None for p in model.parameters()) == int(a[f"{code}_none_grad_params"])
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
        golden.close(norm, a[f"{code}_grad_norm"], 1e-3)


@pytest.mark.parametrize("name, number", [("step_two", 2), ("step_three", 3)])
def test_nb201_steps(golden, name, number):
    a = golden.npz("nb201_supernet.npz")
    model = nb201(golden, a).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.025, momentum=0.9, weight_decay=5e-4, nesterov=True)
    codes = [digits(c) for c in a["codes"][: number + 1]]
    loss, _ = live_loss(model, T(a["x"]), T(a["y"]), codes, term_weights("nsas", number))
    golden.close(loss, a[f"{name}_total"], 2e-4)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
    golden.close(norm, a[f"{name}_gradnorm"], 1e-3)
    optimizer.step()
    compare(golden, model, a, f"{name}_")


def test_nb201_gdas(golden):
    a = golden.npz("nb201_supernet.npz")
    for i in range(3):
        model = nb201(golden, a).train()
        alphas = T(a["gdas_alphas"].copy()).requires_grad_()
        weights, index, probabilities = straight_through(alphas, T(a[f"gdas{i}_gumbel"]), float(a[f"gdas{i}_tau"]))
        assert index.tolist() == a[f"gdas{i}_index"].tolist()
        golden.close(probabilities, a[f"gdas{i}_probs"], 1e-5)
        logits = weighted_logits(model, T(a["x"]), weights, index)
        golden.close(logits, a[f"gdas{i}_logits"], 2e-4)
        loss = F.cross_entropy(logits, T(a["y"]))
        golden.close(loss, a[f"gdas{i}_loss"], 2e-4)
        loss.backward()
        golden.close(alphas.grad, a[f"gdas{i}_grad_alphas"], 1e-3)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
        golden.close(norm, a[f"gdas{i}_grad_norm_w"], 1e-3)


def test_nb201_gdas_cell(golden):
    alphas = T(golden.npz("nb201_supernet.npz")["gdas_alphas"])
    assert list(decode(alphas)) == golden.json("nb201.json")["gdas_genotype_from_alphas"]


@pytest.mark.parametrize(
    ("constraint", "number", "gradient", "values", "scale"),
    [
        ("nsas", 2, False, [0.8, 0.1, 0.1], 1.0),
        ("nsas", 3, False, [0.8, 0.2 / 3, 0.2 / 3, 0.2 / 3], 1.0),
        ("r", 2, False, [0.8, 0.1, 0.1], 1.0),
        ("g", 2, False, [0.8, 0.1, 0.1], 1.0),
        ("compensation", 2, False, [0.2, 0.4, 0.4], 0.2),
        ("low", 2, False, [0.8, 0.2], 0.8),
        ("none", 2, False, [1.0], 1.0),
        ("nsas", 2, True, [0.8, 0.1, 0.1], 0.8),
    ],
)
def test_nb201_gdas_loss_and_gradient(golden, constraint, number, gradient, values, scale):
    """What each notebook reports and what it differentiates."""
    a = golden.npz("nb201_supernet.npz")
    weights, factor = gdas_weights(constraint, number, SearchNb201Gdas().penalty, gradient)
    assert weights == pytest.approx(values) and factor == scale
    x, y, alphas = T(a["x"]), T(a["y"]), T(a["gdas_alphas"].copy()).requires_grad_()
    mixture, index, _ = straight_through(alphas, T(a["gdas0_gumbel"]), float(a["gdas0_tau"]))
    current, codes = tuple(int(i) for i in index), [digits(c) for c in a["codes"][: len(weights) - 1]]
    model = nb201(golden, a).train()
    loss, _ = gdas_loss(model, x, y, lambda: Drawn(mixture, current), codes, weights, factor, gradient)
    plain = nb201(golden, a).train()
    terms = [F.cross_entropy(weighted_logits(plain, x, mixture.detach(), current), y)]
    terms += [F.cross_entropy(code_logits(plain, x, code), y) for code in codes]
    golden.close(loss, sum(w * float(t.detach()) for w, t in zip(values, terms)), 1e-5)
    differentiated = sum(w * t for w, t in zip(values, terms)) if gradient else scale * terms[0]
    differentiated.backward()
    wanted = dict(plain.named_parameters())
    for key, parameter in model.named_parameters():
        if wanted[key].grad is None:
            assert parameter.grad is None, key
        else:
            golden.close(parameter.grad, wanted[key].grad, 1e-4)


def test_nb201_gdas_reported_value(golden):
    for case in golden.json("nb201.json")["gdas_base_loss"]:
        weights, scale = gdas_weights("nsas", len(case["extra"]), case["lbd"], gradient=False)
        assert sum(w * v for w, v in zip(weights, [case["cur"], *case["extra"]])) == pytest.approx(case["value"])
        assert scale == case["grad_scale"]


def test_structure_bug_in_the_network(golden):
    a = golden.npz("nb201_supernet.npz")
    model = nb201(golden, a).eval()
    for case in golden.json("nb201.json")["generators"]:
        for name in ("compensate", "diver", "diver2"):
            logits = code_logits(model, T(a["x"]), constraints201.effective_as_released(case[name]["ops"]))
            golden.close(logits[0], case[name]["eval_logits_row0"], 1e-5)


def test_counts(golden):
    for row in golden.json("params_macs.json"):
        found = described(row["arch"], row["dataset"], row["init_channels"], row["layers"])
        assert (found["parameters"], found["parameters_with_auxiliary"]) == (row["params"], row["params_total"])
        assert found["macs"] == row["macs"]
    for row in golden.json("supernet_params.json"):
        with torch.device("meta"):
            model = build_supernet(row["init_channels"], 10, row["layers"])
        assert (sum(p.numel() for p in model.parameters()), len(model.state_dict())) == (row["params"], row["keys"])
        assert sum(b.numel() for b in model.buffers()) == row["buffers"]
    for row in golden.json("nb201.json")["derived_C16_N5_10classes"]:
        with torch.device("meta"):
            model = build_nb201(row["code"])
        assert parameters(model) == row["params"]
        assert macs(model, (3, 32, 32)) == row["macs_conv"] + row["macs_linear"]
        found, operations = described(row["code"]), [int(digit) for digit in row["code"]]
        assert (found["architecture"], found["connected"]) == (row["string"], row["valid"])
        assert canonical(operations, fold_none=False) == row["unique"]


def test_keys(golden):
    networks = {
        "cifar10_Random_NSAS": lambda: derived(CNN["Random_NSAS"], False, 10, 36, 20, True),
        "cifar100_Random_NSAS_C": lambda: derived(CNN["Random_NSAS_C"], False, 100, 36, 20, True),
        "imagenet_Random_NSAS_C": lambda: derived(CNN["Random_NSAS_C"], True, 1000, 50, 14, True),
        "supernet_C16_L8": lambda: build_supernet(16, 10, 8),
        "nb201_supernet_C16_N5": lambda: build_nb201_supernet(16, 5, 10),
    }
    for name, build in networks.items():
        with torch.device("meta"):
            found = {k: list(v.shape) for k, v in build().state_dict().items()}
        assert found == {row[0]: row[1] for row in golden.json(f"keys_{name}.json.gz")}


def test_fill_rule(golden):
    case = golden.json("fill_rule_check.json")
    for key, want in case["fill"].items():
        golden.close(golden.fill_value(key, np.shape(want)), want, 1e-6)
    golden.close(golden.wave((2, 2, 3)), case["wave_2_2_3_a0.7"], 1e-6)


def test_drawings(golden):
    from papers.nsas.describe import RECURRENT_INPUTS, recurrent_edges
    from papers.nsas.recurrent.architecture import RECURRENT

    for key, want in golden.json("drawings.json").items():
        kind, *rest = key.split("/")
        if kind not in ("cnn", "rnn"):
            continue
        if kind == "rnn":
            edges, inputs = recurrent_edges(RECURRENT[rest[0]]), RECURRENT_INPUTS
        else:
            edges = drawn_pairs(CNN[rest[0]].normal if rest[1] == "normal" else CNN[rest[0]].reduce)
            inputs = INPUTS
        assert [list(e) for e in edges] == want["edges"]
        assert drawing.node_colours(edges, inputs) == dict(want["nodes"])
    style = golden.json("drawings.json")["attributes"]
    found = {
        "graph": drawing.GRAPH_STYLE, "node": drawing.NODE_STYLE, "edge": drawing.EDGE_STYLE,
        "edge_each": drawing.EACH_EDGE_STYLE,
    }  # fmt: skip
    assert found == {key: style[key] for key in found} and style["format"] in FORMATS


@pytest.mark.parametrize("clearing", ["zero", "none"])
def test_clearing_of_gradients(golden, clearing):
    """Two steps with different cells: under zero-fill the first cell's operations still move by momentum and decay."""
    a = golden.npz("nb201_supernet.npz")
    model = nb201(golden, a).train()
    optimizer, touched = make_sgd(model, 0.025, 0.9, 5e-4), Touched(model)
    for code in a["codes"][:2]:
        optimizer.zero_grad()
        F.cross_entropy(code_logits(model, T(a["x"]), digits(code)), T(a["y"])).backward()
        touched.note(digits(code))
        if clearing == "zero":
            touched.fill()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()
    compare(golden, model, a, f"clear_to_{clearing}_")
