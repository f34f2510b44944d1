"""Golden: meta update in its four variants, and nine iterations of the search itself in both forms."""

from types import SimpleNamespace

import pytest
import torch

from common.cli.verbs import RunOptions
from common.weights.read import load_tensors
from papers.cream import search as stage
from papers.cream.method.board import Board, Entry
from papers.cream.method.meta import MetaRules, choose_teacher, meta_update
from papers.cream.method.path_sgd import PathSGD, parameter_groups
from papers.cream.method.schedules import Pace, search_lrs
from papers.cream.method.space import Space
from papers.cream.method.student import Student
from papers.cream.method.window import Window
from papers.cream.networks.layout import FlopsTable
from papers.cream.settings import Search

# the values are of the later state of the code, whose simulated step is w - c g; the published numbers are of w + c g
VARIANTS = {
    "inplace_first": MetaRules(sign="minus"),
    "inplace_all": MetaRules(sign="minus", gradient="all"),
    "clean_first": MetaRules(sign="minus", weights="clean"),
    "clean_all": MetaRules(sign="minus", weights="clean", gradient="all"),
}


def close(actual, expected, tolerance=1e-8):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    scale = max(float(expected.abs().max()), 1e-30)
    assert float((torch.as_tensor(actual, dtype=torch.float64) - expected).abs().max()) <= tolerance * scale


@pytest.fixture
def meta(golden):
    info, arrays = golden.load("meta_update.json"), golden.load("meta_update.npz")
    net = golden.tiny_supernet(torch.float64).train()
    board = Board(info["pool_size"], info["acc_gap"])
    scores, flops = (30.0, 20.0, 25.0), (300.0, 250.0, 400.0)
    for path, score, cost in zip(info["board_paths"], scores, flops, strict=True):
        place = info["board_order"].index(path)
        images = torch.from_numpy(arrays[f"board/{place}/images"]).double()
        soft = torch.from_numpy(arrays[f"board/{place}/soft"])
        board.add(Entry(score, cost, path, [images], [soft]))
    assert [entry.path for entry in board.entries] == info["board_order"]
    batch = (golden.normal(1001, (8, 3, 32, 32)).double(), golden.integers(2001, 6, 8))
    return info, arrays, net, board, batch


def student_of(net, info, batch):
    return Student(net, PathSGD(parameter_groups(net, info["params"]["wd"])), info["student"], [batch])


def test_teacher_and_meta_value(meta):
    info, _, net, board, batch = meta
    choice = choose_teacher(student_of(net, info, batch), board, MetaRules())
    close(choice.scores, info["scores_in_board_order"])
    close(choice.values[0].detach(), info["meta_value"])
    assert choice.path == info["teacher"]


def test_meta_value_of_the_paper(meta):
    info, _, net, board, batch = meta
    choice = choose_teacher(student_of(net, info, batch), board, MetaRules(value="argmax_positive"))
    close(choice.values[0].detach(), info["meta_value_if_best_and_positive"])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_meta_update(meta, variant, memory):
    info, arrays, net, board, (x, y) = meta
    expected, names = info["variants"][variant], dict(net.named_parameters())
    before = {name: p.detach().clone() for name, p in names.items()}
    student = student_of(net, info, (x.to(memory_format=memory), y))
    student.optimizer.lrs = [info["params"]["lr"]] * 2 + [info["params"]["meta_lr"]] * 2
    assert net.slice == info["slice"]
    report = meta_update(student, board, VARIANTS[variant])
    student.optimizer.flush()
    close(report.soft_loss, expected["kd_loss"])
    close(report.validation_loss, expected["val_loss"])
    close(report.student_norm, expected["grad1_norm"])
    close(report.meta_norm, expected["meta_grad_norm"])
    close(net.meta_layer.weight.detach(), arrays[f"{variant}/meta_weight_after"])
    close(net.meta_layer.bias.detach(), arrays[f"{variant}/meta_bias_after"])
    moved = [before["meta_layer.weight"] - net.meta_layer.weight, before["meta_layer.bias"] - net.meta_layer.bias]
    rate = info["params"]["meta_lr"] * 1.9  # first Nesterov step: lr (1 + momentum) g
    close(moved[0].detach() / rate, arrays[f"{variant}/grad_meta_weight"], 1e-6)
    close(moved[1].detach() / rate, arrays[f"{variant}/grad_meta_bias"], 1e-6)
    changed = {name for name, p in names.items() if float((before[name] - p).detach().abs().max()) > 1e-13}
    assert changed <= set(expected["param_after_l2"])  # 94; one of them differs by rounding noise alone
    assert len(set(expected["param_after_l2"]) - changed) <= 1
    for name, norm in expected["param_after_l2"].items():
        close(names[name].detach().norm(), norm)
    if f"{variant}/conv_stem_after" in arrays:
        close(net.conv_stem.weight.detach(), arrays[f"{variant}/conv_stem_after"])


def test_both_gradients_of_a_meta_update_are_cut(meta):
    """The first Nesterov step moves by lr (1 + momentum) times what is left of a gradient: the norm asked for."""
    info, _, net, board, batch = meta
    student, names = student_of(net, info, batch), [name for name, _ in net.named_parameters()]
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    student.optimizer.lrs = [0.05, 0.05, 0.01, 0.01]
    for group in student.optimizer.groups:
        group["weight_decay"] = 0.0
    report = meta_update(student, board, VARIANTS["inplace_first"], clip=0.005)
    assert report.student_norm > 1 and report.meta_norm > 0.005
    moved = {name: (before[name] - p.detach()).flatten() for name, p in net.named_parameters()}
    theta = torch.cat([moved[name] for name in names if name.startswith("meta_layer.")])
    close(theta.norm(), 0.01 * 1.9 * 0.005, 1e-3)
    weights = torch.cat([moved[name] for name in names if not name.startswith("meta_layer.")])
    close(weights.norm(), 0.05 * 1.9 * 0.005, 1e-3)


def test_schedule_of_the_supernet(golden):
    for case in ("train_yaml", "lr_half", "one_gpu_32"):
        row = golden.load("schedules.json")[case]
        total = row["epochs"] * 1_280_000 / (row["gpus"] * row["batch"])
        assert total == row["total_iters"]
        for step, net, meta in zip(row["steps"], row["lr_net"], row["lr_meta"], strict=True):
            got = search_lrs(Search(lr=row["lr"], meta_lr=row["meta_lr"], lr_rule="released"), step, total)
            assert got[0] == pytest.approx(net, abs=1e-15) and got[3] == pytest.approx(meta, abs=1e-18)
            if row["lr"] == 1.0:
                assert search_lrs(Search(lr=1.0, meta_lr=row["meta_lr"]), step, total) == got


class Stored:
    """Batches of the golden recipes: epoch -> (x seed, y seed) of each."""

    def __init__(self, golden, epochs, size, classes):
        self.golden, self.epochs, self.size, self.classes = golden, epochs, size, classes

    def __len__(self):
        return len(self.epochs[0])

    def in_shares(self):
        return self

    def epoch(self, number, start=0):
        for x, y in self.epochs[min(number, len(self.epochs) - 1)][start:]:
            images = self.golden.normal(x, (self.size, 3, 32, 32)).double()
            labels = self.golden.integers(y, self.classes, self.size)
            yield [(images, labels)] if len(self.epochs) > 1 else (images, labels)


@pytest.mark.parametrize("form", ["faithful", "modern"])
def test_search_trace(golden, monkeypatch, tmp_path, form):
    """``search`` on the stored paths and batches: two iterations of an epoch without board, seven of one with it."""
    trace = golden.load("search_trace.json")
    told, wanted = trace["settings"], trace[form]["iterations"]
    net, seen, updates = golden.tiny_supernet(torch.float64), [], []
    layout = golden.tiny_layout()

    class Drawn(Space):
        def draw(self, seed, number):
            return wanted[max(number, 0)]["path"]

    space = Drawn(
        Window((1, 2, 1, 1, 1), 224), layout, FlopsTable([1, 2, 1, 1, 1], layout), 32, 0.0, 600.0, False, None
    )
    batches = Stored(golden, [[(1001 + k, 2001 + k) for k in part] for part in (range(2), range(2, 9))], 8, 6)
    checked = Stored(golden, [[(1, 2)]], 8, 6)
    images = SimpleNamespace(classes=list("abcdef"), pins={}, pinned=True)
    monkeypatch.setattr(stage, "space_of", lambda settings: space)
    monkeypatch.setattr(stage, "opened", lambda *a: (stage.sets.Parts(Sized(images), None, images), batches, checked))
    monkeypatch.setattr(stage, "pace_of", lambda *a: Pace(2, told["iters_for_lr"], told["update_iter"]))
    monkeypatch.setattr(stage, "Supernet", lambda *a: net)
    real, meta = stage.train_student, stage.meta_update

    def trained(student, teacher, *rest, **where):
        lrs, outcome = list(student.optimizer.lrs), real(student, teacher, *rest, **where)
        student.optimizer.catch_up([net.get_parameter("blocks.5.0.0.conv_pw.weight")])  # the others are the search's
        weights = (net.conv_stem.weight, net.meta_layer.weight, net.get_parameter("blocks.5.0.0.conv_pw.weight"))
        seen.append((lrs, outcome, teacher and teacher.path, [float(w.detach().norm()) for w in weights]))
        return outcome

    monkeypatch.setattr(stage, "train_student", trained)
    monkeypatch.setattr(stage, "meta_update", lambda *a: updates.append(len(seen)) or meta(*a))
    rules = {"step_sign": "minus"}
    if form == "modern":
        rules |= {"meta_gradient": "all", "meta_weights": "clean", "zero_grad": "none"}
    settings = Search(
        dataset="digits", resolution=32, epochs=2, start_epoch=0, batch_size=8, parts=1, lr=told["lr"],
        meta_lr=told["meta_lr"], momentum=told["momentum"], weight_decay=told["wd"], pool_size=told["pool_size"],
        slice=told["slice"], update_every=told["update_iter"], macs_max=600.0, **rules,
    )  # fmt: skip
    result = stage.search(settings, RunOptions(out=tmp_path, device="cpu", paper="cream", section="search"))
    assert updates == [k for k, want in enumerate(wanted) if want["meta_updated"]]
    for (lrs, outcome, teacher, norms), want in zip(seen, wanted, strict=True):
        close(lrs, want["lr"], 1e-12)
        close([outcome.loss, outcome.hard_loss, outcome.score], [want["loss"], want["ce"], want["prec1"]])
        assert teacher == want["teacher"] and (outcome.soft_loss is None) == (want["kd"] is None)
        if teacher:
            close([outcome.meta_value, outcome.soft_loss], [want["meta_value"], want["kd"]])
        for norm, name in zip(norms, ("conv_stem_l2", "meta_l2", "unused_example_l2"), strict=True):
            close(norm, want[name])
    assert [row["path"] for row in result["board"]] == [row[2] for row in wanted[-1]["board"]]
    close([[row["score"], row["mflops"]] for row in result["board"]], [row[:2] for row in wanted[-1]["board"]])
    assert result["architecture"]["path"] == wanted[-1]["board"][0][2]
    kept = load_tensors(tmp_path / "supernet.safetensors")
    for name, norm in trace[form]["final_l2"].items():
        close(kept[name].norm(), norm)
    for name, value in trace[form]["final_running"].items():
        close(kept[name].norm() if name else 0, value)
    assert int(net.bn1.num_batches_tracked) == trace[form]["bn1_batches"]


class Sized:
    """A set as far as a search asks for it: its classes and pins, and that it has images."""

    def __init__(self, images):
        self.classes, self.pins, self.pinned = images.classes, images.pins, images.pinned

    def __len__(self):
        return 16
