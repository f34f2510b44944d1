"""Golden: meta update in its four variants, and nine search iterations in both forms."""

import pytest
import torch

from papers.cream.method.board import Board, Entry
from papers.cream.method.meta import MetaRules, choose_teacher, meta_update
from papers.cream.method.path_sgd import PathSGD, parameter_groups
from papers.cream.method.schedules import search_lrs
from papers.cream.method.student import Student
from papers.cream.networks.layout import FlopsTable
from papers.cream.settings import Search
from tests.cream.tools import iterate

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


@pytest.mark.parametrize("form", ["faithful", "modern"])
def test_search_trace(golden, form):
    trace = golden.load("search_trace.json")
    settings, expected = trace["settings"], trace[form]
    net = golden.tiny_supernet(torch.float64).train()
    optimizer = PathSGD(
        parameter_groups(net, settings["wd"]), settings["momentum"], "zeros" if form == "faithful" else "none"
    )
    board, table = Board(settings["pool_size"], 5.0), FlopsTable([1, 2, 1, 1, 1], golden.tiny_layout())
    rules = VARIANTS["inplace_first" if form == "faithful" else "clean_all"]
    assert net.slice == settings["slice"]
    parameters = dict(net.named_parameters())
    for k, want in enumerate(expected["iterations"]):
        batch = (golden.normal(1001 + k, (8, 3, 32, 32)).double(), golden.integers(2001 + k, 6, 8))
        factor = 1 - k / settings["iters_for_lr"]
        lrs = [settings["lr"] * factor] * 2 + [settings["meta_lr"] * factor] * 2
        close(lrs, want["lr"], 1e-12)
        flops, due = table.flops(want["path"]), k > 0 and k % settings["update_iter"] == 0
        report = iterate(net, optimizer, board, want["path"], flops, [batch], lrs, rules, due, want["epoch"] > 20)
        outcome = report.outcome
        assert (report.meta is not None) == want["meta_updated"]
        for got, name in (
            (outcome.loss, "loss"),
            (outcome.hard_loss, "ce"),
            (outcome.score, "prec1"),
            (flops, "flops"),
        ):
            close(got, want[name])
        assert report.teacher == want["teacher"]
        for got, name in ((outcome.meta_value, "meta_value"), (outcome.soft_loss, "kd")):
            assert (got is None) == (want[name] is None)
            if got is not None:
                close(got, want[name])
        assert [entry.path for entry in board.entries] == [row[2] for row in want["board"]]
        close([[e.score, e.flops] for e in board.entries] or [0.0], [row[:2] for row in want["board"]] or [0.0])
        optimizer.catch_up([parameters["blocks.5.0.0.conv_pw.weight"]])
        close(net.conv_stem.weight.detach().norm(), want["conv_stem_l2"])
        close(net.meta_layer.weight.detach().norm(), want["meta_l2"])
        close(parameters["blocks.5.0.0.conv_pw.weight"].detach().norm(), want["unused_example_l2"])
    optimizer.flush()
    for name, norm in expected["final_l2"].items():
        close(parameters[name].detach().norm(), norm)
    for name, value in expected["final_running"].items():
        close(net.state_dict()[name].norm() if name else 0, value)
    assert int(net.bn1.num_batches_tracked) == expected["bn1_batches"]


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
