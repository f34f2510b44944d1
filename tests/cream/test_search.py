"""The search as a whole: phases, resume, distribution, selection, bad input (tiny runs on the embedded digits)."""

import csv
import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from common.cli.errors import UserError
from common.cli.verbs import RunOptions
from papers.cream.data.sets import search_parts
from papers.cream.method.space import space_of
from papers.cream.network.architectures import SKIP
from papers.cream.search import search
from papers.cream.select import select
from papers.cream.settings import Search, Select

TINY = Search(
    dataset="digits", train_images=80, holdout=16, resolution=32, workers=0, macs_max=122, epochs=2, batch_size=16,
    parts=2, lr=0.02, meta_lr=0.01, start_epoch=0, update_every=2, pool_size=2, slice=3, crop="padded", pad=2,
    flip=False, jitter=0.0, erasing=0.2,
)  # fmt: skip
SCORED = {"recalibrate_batches": 1, "select_images": 16}


def options(folder, **changes):
    return RunOptions(**{"out": folder, "device": "cpu", "paper": "cream", "section": "search", "seed": 3, **changes})


def weights(folder):
    from common.weights.read import load_tensors

    return load_tensors(folder / "supernet.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_test_set):
    folder = tmp_path_factory.mktemp("search")
    return folder, search(TINY, options(folder))


def test_all_phases_are_reached(finished):
    folder, result = finished
    metrics = result["metrics"]
    assert metrics["iterations"] == 8 and metrics["distilled"] == 3 and metrics["meta_updates"] == 1
    assert metrics["board_size"] == 2 and result["board"][0]["path"] == result["architecture"]["path"]
    written = json.loads((folder / "architecture.json").read_text())
    assert written["space"] == "cream" and written["architecture"]["path"] == result["architecture"]["path"]
    assert len((folder / "history.csv").read_text().splitlines()) == 3


def test_a_finished_run_is_recognised(finished):
    folder, _ = finished
    before = (folder / "result.json").read_bytes()
    search(TINY, options(folder))
    assert (folder / "result.json").read_bytes() == before


def test_resuming_inside_an_epoch_changes_nothing(finished, tmp_path, monkeypatch):
    import papers.cream.search as module

    folder, _ = finished
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    real, calls = module.train_student, []

    def stops(*args, **kwargs):
        calls.append(1)
        if len(calls) == 7:  # third batch of the second epoch: board, momentum and owed idle steps are all in play
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(module, "train_student", stops)
    with pytest.raises(KeyboardInterrupt):
        search(TINY, options(tmp_path))
    search(TINY, options(tmp_path))
    for name in ("result.json", "architecture.json", "history.csv", "supernet.safetensors"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_another_setting_is_refused(finished):
    folder, _ = finished
    with pytest.raises(UserError, match="acc_gap"):
        search(replace(TINY, acc_gap=1.0), options(folder))


def test_select_rescores_the_board(finished, tmp_path):
    folder, result = finished
    chosen = select(
        Select(search=str(folder), recalibrate_batches=1, select_images=16), options(tmp_path, section="select")
    )
    assert sorted(map(str, (r["path"] for r in chosen["scored"]))) == sorted(str(e["path"]) for e in result["board"])
    assert chosen["held_out"] and (tmp_path / "architecture.json").exists()
    errors = [row["top1_error_percent"] for row in chosen["scored"]]
    assert errors == sorted(errors)
    with pytest.raises(UserError, match="no scored path lies within 1 to 2"):
        select(
            Select(search=str(folder), macs_min=1, macs_max=2, recalibrate_batches=1, select_images=16),
            options(tmp_path / "none", section="select"),
        )


def test_random_baseline(tmp_path):
    result = search(replace(TINY, method="random", candidates=3, **SCORED), options(tmp_path))
    assert result["metrics"]["distilled"] == 0 and result["metrics"]["board_size"] == 0
    assert 1 <= len(result["scored"]) <= 3 and result["scored"][0]["path"] == result["architecture"]["path"]


def test_modern_preset(tmp_path):
    from papers.cream.settings import MODERN_SEARCH

    changes = {**MODERN_SEARCH, **SCORED, "holdout": 16, "macs_min": 80.0, "macs_max": 110.0}
    result = search(replace(TINY, **changes), options(tmp_path))
    assert all(80 <= row["mflops"] <= 110 for row in result["board"]) and result["scored"]


def test_two_processes_equal_one_with_two_parts_and_resume(finished, tmp_path, in_two_processes):
    folder, result = finished
    tmp_path = tmp_path / "run"
    shared = replace(TINY, parts=0, choose="rescore", **SCORED)  # shares as many as there are processes
    in_two_processes("search", shared, tmp_path, 3, stop=7)
    for name in ("result.json", "history.csv", "supernet.safetensors"):  # stopped and resumed in two processes
        assert (tmp_path / name).read_bytes() == (tmp_path.with_name("run-resumed") / name).read_bytes(), name
    other = json.loads((tmp_path / "result.json").read_text())
    assert other["processes"] == 2 and other["metrics"]["meta_updates"] == 1
    assert [row["path"] for row in other["board"]] == [row["path"] for row in result["board"]]
    assert [row["score"] for row in other["board"]] == pytest.approx([row["score"] for row in result["board"]])
    counts = ("iterations", "distilled", "meta_updates", "admitted", "board_size")
    assert [other["metrics"][name] for name in counts] == [result["metrics"][name] for name in counts]
    for searched in (folder, tmp_path):  # statistics of paths come from batches of a share's size, in both
        again = select(
            Select(search=str(searched), **SCORED), options(tmp_path / f"{searched.name}-s", section="select")
        )
        for row, scored in zip(again["scored"], other["scored"], strict=True):
            assert row["path"] == scored["path"] and row["loss"] == pytest.approx(scored["loss"], rel=1e-3)
    for mine, its in zip(*(list(csv.DictReader((f / "history.csv").open())) for f in (folder, tmp_path)), strict=True):
        # the loss holds m and the teacher's probabilities; the tested error the running statistics
        for column in ("loss", "train_top1_percent", "board_best", "random_path_top1_error_percent"):
            assert float(its[column] or 0) == pytest.approx(float(mine[column] or 0), rel=1e-4)
    ours, theirs = weights(folder), weights(tmp_path)
    for name, value in ours.items():
        assert np.allclose(value, theirs[name], atol=2e-5, rtol=1e-4), name  # running statistics among them


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"macs_min": 600.0, "macs_max": 1000.0}, "no supernet fits the window"),
        ({"macs_min": 5.0, "macs_max": 1.0}, "impossible window"),
        ({"macs_max": 1.0}, "no supernet fits the window"),
        ({"resolution": 64}, "images of 32 pixels are smaller than --resolution 64"),
        ({"resolution": 16}, "resolution 16 is too small"),
        ({"start_epoch": 5}, "the board would stay empty"),
        ({"batch_size": 8}, "must be at least 2 x --slice"),
        ({"batch_size": 500}, "too few for a batch of 500; lower --batch-size"),
        ({"sampling": "weighted", "probabilities": (0.5, 0.5)}, "--probabilities needs 6 values"),
        ({"enforce_window": True, "macs_max": 90.0, "macs_min": 89.99999}, "MFLOPs in 10000 draws"),
        ({"holdout": 80}, "leaves none"),
        ({"pick": "top1"}, "--update-every 2 does nothing here: it acts with --pick meta"),
        ({"update_every": 4}, "no meta update would be made: they come every 4 iterations"),
        ({"parts": 16}, "less than two images"),
        ({"scale_min": 0.5}, "--scale-min 0.5 does nothing here: it acts with --crop resized only"),
        ({"crop": "resized"}, "--pad 2 does nothing here: it acts with --crop padded only"),
        ({"dataset": "nowhere"}, "nowhere is missing"),
        ({"lr": 1e30}, "lower --lr"),
    ],
)
def test_mistakes_get_one_line(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        search(replace(TINY, epochs=1 if "start_epoch" in changes else 2, **changes), options(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_board_of_nans_is_named(finished):
    from papers.cream.method.board import Board, Entry
    from papers.cream.method.meta import MetaRules, choose_teacher
    from papers.cream.method.path_sgd import PathSGD, parameter_groups
    from papers.cream.method.student import Student
    from papers.cream.network.networks import Supernet

    net = Supernet([1] * 5, 10, 3).train()
    optimizer = PathSGD(parameter_groups(net, 0.0))
    torch.nn.init.constant_(net.classifier.weight, float("nan"))
    path = [[0], [1], [1], [1], [1], [1], [0]]
    board = Board(2)
    board.add(Entry(10.0, 60.0, path, [torch.randn(3, 3, 32, 32)], [torch.full((3, 10), 0.1)]))
    with pytest.raises(UserError, match="no teacher"):
        choose_teacher(Student(net, optimizer, path, [(None, torch.zeros(8))]), board, MetaRules())
    with pytest.raises(UserError, match="diverged"):
        board.add(Entry(float("nan"), 60.0, path))


def test_resume_after_the_last_step_of_an_epoch(finished, tmp_path, monkeypatch, small_test_set):
    """A kill during the validation finds all steps of the epoch done."""
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    with monkeypatch.context() as patch:
        patch.setattr("papers.cream.search.path_error", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            search(TINY, options(tmp_path))
    assert search(TINY, options(tmp_path)) == finished[1]
    assert (tmp_path / "history.csv").read_text() == (finished[0] / "history.csv").read_text()


def test_table_sums_are_the_same_in_every_python():
    """Builtin ``sum`` of floats rounds differently before and since Python 3.12; the table's sums are exact ones."""
    space = space_of(TINY)
    table = space.table
    for number in range(20):
        path = space.draw(0, number)
        places = [(s, p, c) for s, entries in enumerate(path) for p, c in enumerate(entries) if c != SKIP]
        for found, rows, fixed in (
            (table.flops(path), table.mflops, table.fixed),
            (table.parameters(path), table.params, table.params_fixed),
        ):
            assert found == fixed + float(sum(Fraction(rows[s][p][c]) for s, p, c in places))


def test_window_of_a_small_resolution():
    """Below 80 MFLOPs the window shrinks the resolution; paths are then counted there, or at 224 as released."""
    small = replace(TINY, macs_max=60.0, enforce_window=True)
    assert space_of(small).window.resolution == 192
    with pytest.raises(UserError, match=r"no path with 0 to 60 MFLOPs in 10000 draws \(counted at 224"):
        space_of(small).draw(0, 0)
    applied = space_of(replace(small, apply_resolution=True, resolution=64))
    path = applied.draw(0, 0)
    assert applied.mflops(path) <= 60 < space_of(small).mflops(path)


def test_nothing_inside_the_window_is_said(tmp_path, small_test_set, capsys):
    """The release never looks at the window: the search goes on with a path outside it, but says so; select refuses."""
    done = search(replace(TINY, macs_max=80.0, choose="rescore", **SCORED), options(tmp_path / "a"))
    assert "no scored path lies within 0 to 80 MFLOPs" in "".join(capsys.readouterr())
    assert not done["scored"][0]["inside"]
    with pytest.raises(UserError, match="no scored path lies within 0 to 80 MFLOPs; widen"):
        select(Select(search=str(tmp_path / "a"), recalibrate_batches=1, select_images=16),
               options(tmp_path / "b", section="select"))  # fmt: skip


def test_parts_of_a_folder_hold_every_class(class_folders):
    """A folder lists one class after the other; the subset of the rank study is by rule."""
    settings = replace(TINY, dataset=str(class_folders), train_images=8, holdout=4)
    searched, held_out, test = search_parts(settings, 32, options(None))
    for part in (searched, held_out):
        assert np.bincount(part.labels).tolist() == [2, 2]
    with pytest.raises(UserError, match="--holdout gives a part of 1 images without class"):
        search_parts(replace(settings, holdout=1), 32, options(None))
    searched, held_out, test = search_parts(
        replace(settings, train_images=0, holdout=0, subset_classes=1, subset_images=3), 32, options(None)
    )
    assert (len(searched), len(test), held_out) == (3, 4, None) and searched.classes == test.classes == ("a",)
