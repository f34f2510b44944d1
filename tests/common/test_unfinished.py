"""A killed training can be looked into: ``evaluate --checkpoint RUN_FOLDER`` in every paper, without touching it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from common.cli.verbs import main
from common.errors import UserError
from common.run.state import Store, last_state
from common.weights.read import read_checkpoint
from tests.killing import killed_at_save
from tests.plain import own_pictures

DATA = "--train-images 0 --batch-size 24 --epochs 3 --eval-every 1"  # of three classes of 20 pictures each
SMALL = "--channels 2 --layers 3 --no-auxiliary"
TRAIN = {
    "cream": f"--arch 14 {DATA}",
    "evnas": f"--arch EvNASA {DATA} {SMALL}",
    "nao_v2": f"--arch NAONet_V2 {DATA} --channels 4 --layers 1",
    "nsas": f"--arch Random_NSAS {DATA} {SMALL}",
    "nsas ptb": "--space ptb --text kjv --max-tokens 3000 --max-types 200 --width 8 --epochs 3 --bptt 20",
    "sgnas": f"--arch [[7,3,5],[3],[5,3,3],[3,7],[7,5,3,3]] --macro tiny {DATA.removesuffix(' --eval-every 1')}",
}  # fmt: skip


def command(paper: str, *words: str) -> None:
    verbs = importlib.import_module(f"papers.{paper}.__main__").VERBS
    main(paper, verbs, list(words))


def killed(monkeypatch, paper: str, words: list[str], state: int) -> None:
    """The training ends after its ``state``-th save."""
    with killed_at_save(monkeypatch, state):
        command(paper, *words)


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture
def pictures(tmp_path) -> str:
    return f"{own_pictures(tmp_path / 'pictures')}@32"


@pytest.mark.parametrize("name", TRAIN)
def test_a_killed_training_is_tested_as_it_stands(name, tmp_path, monkeypatch, pictures):
    paper, space = name.split()[0], name.split()[1:]
    space = ["--space", *space] if space else []
    run, out = tmp_path / "run", tmp_path / "out"
    train = ["train", *TRAIN[name].split(), *([] if space else ["--dataset", pictures]), "--out", str(run)]
    killed(monkeypatch, paper, train, 2)
    before = content(run)
    test = ["evaluate", *space, "--checkpoint", str(run), "--out", str(out)]
    command(paper, *test)
    assert content(run) == before
    first = json.loads((out / "result.json").read_text())
    assert (first["unfinished"], first["epoch"]) == (True, 1)
    key = next(k for k in ("top1_error_percent", "test_perplexity") if k in first["metrics"])
    history = (run / "history.csv").read_text().splitlines()
    rows = [dict(zip(history[0].split(","), line.split(","))) for line in history[1:]]
    if told := rows[1].get("test_" + key):
        assert first["metrics"][key] == pytest.approx(float(told))
    command(paper, *train)  # it goes on, and the same command then tests what it wrote
    command(paper, *test)
    last = json.loads((out / "result.json").read_text())
    assert "unfinished" not in last and "epoch" not in last


def test_inside_an_epoch_the_step_is_said(tmp_path, monkeypatch, capsys, pictures):
    run, train = tmp_path / "run", ["train", *TRAIN["evnas"].split(), "--dataset", pictures]
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    killed(monkeypatch, "evnas", [*train, "--out", str(run)], 4)  # two steps and the end of epoch 0, then a step
    command("evnas", "evaluate", "--checkpoint", str(run), "--out", str(tmp_path / "out"))
    assert "is unfinished: its last state is taken, in epoch 1, step 1 (epochs count from 0; the last is 2)" in (
        capsys.readouterr().err
    )
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["unfinished"], result["epoch"], result["step"]) == (True, 1, 1)
    found = read_checkpoint(run)
    assert found.metadata["class_names"] == ["blue", "green", "red"] and found.metadata["width"] == 2
    from papers.evnas import network

    assert network(weights=run)  # Python reads it too


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda f: None, "holds no run of a training; give the folder of a training, or a file of weights"),
        (lambda f: (f / "settings.json").write_text("{}"), "is not a run's; give a run's folder"),
        (lambda f: (f / "settings.json").write_text(json.dumps(IDENTITY)), "holds no state yet: its run (evnas train)"),
        (lambda f: (f / "finished.json").write_text("{}"), "holds a finished run without trained weights"),
    ],
)
def test_folders_without_weights(tmp_path, capsys, make, line):
    make(tmp_path)
    with pytest.raises(SystemExit):
        command("evnas", "evaluate", "--checkpoint", str(tmp_path), "--out", str(tmp_path / "out"))
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1


IDENTITY = {"paper": "evnas", "stage": "train", "seed": 0, "settings": {}}


def test_a_run_of_another_kind_is_named(tmp_path, monkeypatch, capsys):
    search = "--generations 2 --train-images 40 --fitness-images 40 --batch-size 20 --fitness-batch-size 20 "
    words = ["search", "--space", "nb201", *search.split(), "--channels", "2", "--population", "3", "--tournament", "2"]
    killed(monkeypatch, "evnas", [*words, "--out", str(tmp_path / "run")], 1)
    for paper in ("evnas", "nsas"):
        with pytest.raises(SystemExit):
            command(paper, "evaluate", "--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "out"))
        assert (
            "is an unfinished run of evnas search_nb201; its states hold no trained network" in capsys.readouterr().err
        )


def test_states_that_go_while_they_are_read(tmp_path, monkeypatch, pictures):
    """The newest state may be replaced between the look into the folder and the reading."""
    run, load, calls = tmp_path / "run", Store.load, []
    killed(monkeypatch, "evnas", ["train", *TRAIN["evnas"].split(), "--dataset", pictures, "--out", str(run)], 2)

    def flickering(store):
        calls.append(1)
        if len(calls) == 1:
            raise UserError("state-00000001.pt cannot be checked")
        return load(store)

    monkeypatch.setattr(Store, "load", flickering)
    assert last_state(run).stand == {"unfinished": True, "epoch": 1} and len(calls) == 2
