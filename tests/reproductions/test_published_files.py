"""Every pinned checkpoint of all five papers: a synthetic file in its container through ``checkpoints evaluate``."""

from __future__ import annotations

import dataclasses
import importlib
import json
from types import SimpleNamespace

import pytest

from common.cli import verbs as cli
from common.cli.parsing import select
from common.errors import UserError
from common.papers import PAPERS
from common.weights import published
from reproductions.checkpoints import commands as checkpoints
from reproductions.checkpoints.pins import load_checkpoints
from tests.reproductions.published_files import lay_out, write

KNOWN = {name: c for name, c in load_checkpoints().items() if c.evaluate is not None}
# One of every container and paper; the others differ in architecture and size only.
QUICK = {
    "nsas-cifar10",
    "nsas-c-imagenet-last",
    "evnas-cifar100-a",
    "nao-v2-cifar10",
    "cream-14",
    "cream-14-nni",
    "sgnas-a",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    made = tmp_path_factory.mktemp("data")
    lay_out(made)
    return made


def in_process(command):
    """``python -m papers.X evaluate …`` in this process."""
    module, words = command[2], command[3:]
    try:
        cli.main(module.removeprefix("papers."), importlib.import_module(f"{module}.__main__").VERBS, words)
    except SystemExit as stop:
        return stop.code or 0
    return 0


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in sorted(KNOWN)])
def test_goes_to_a_verdict(name, root, tmp_path, monkeypatch, capsys):
    checkpoint = dataclasses.replace(KNOWN[name], digests={}, bytes=None)
    monkeypatch.setattr(checkpoints, "load_checkpoints", lambda: {name: checkpoint})
    monkeypatch.setattr(checkpoints, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(checkpoints, "run_verb", in_process)
    path = checkpoints.location(checkpoint, root)
    path.parent.mkdir(exist_ok=True)
    write(checkpoint, path)
    assert checkpoints.main(["fetch", name, "--data", str(root)]) == 0  # records the file in place
    small = ["--text", "ptb"] if checkpoint.dataset == "ptb" else ["--batch-size", "2", "--workers", "0"]
    try:
        words = ["evaluate", name, "--data", str(root), "--", "--allow-unpinned", "--device", "cpu", *small]
        assert checkpoints.main(words) == 0, capsys.readouterr().err
    finally:
        path.unlink()
    said = capsys.readouterr().out
    for metric, expected in checkpoint.expected.items():  # weights are random: none is met, and all are measured
        assert f"{name}: {metric} " in said and f"published {expected}: not " in said
    assert "not measured" not in said
    result = json.loads(
        (tmp_path / "results" / "paper" / checkpoint.paper / f"evaluate-{name}" / "result.json").read_text()
    )
    tested = result["settings"].get("dataset") or result["settings"].get("text")
    assert tested == checkpoint.dataset and result["unpinned_data"] is True


# --- the set a checkpoint is of ---------------------------------------------------------------------------------------


@pytest.fixture
def of_cifar10(tmp_path):
    """One published file of each paper with ten classes, or the paper's own set, without content: nothing opens it."""

    def make(paper):
        name = next(n for n, c in sorted(KNOWN.items()) if c.paper == paper)
        path = tmp_path / "checkpoints" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        published.record(path, KNOWN[name].facts)
        return path, KNOWN[name]

    return make


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("words", [[], ["--dataset", "digits"], ["--profile", "paper", "--dataset", "imagenet16-120"]])
def test_another_set_than_the_checkpoints_is_refused(paper, words, of_cifar10, capsys):
    """Under the default profile a released file was tested on digits: 90 % error and status 0."""
    path, checkpoint = of_cifar10(paper)
    verbs = importlib.import_module(f"papers.{paper}.__main__").VERBS
    asked = ["evaluate", "--checkpoint", str(path), "--arch", checkpoint.architecture, *words]
    if not words and select(verbs, asked)[0].settings().dataset == "":
        asked += ["--dataset", "digits"]
    with pytest.raises(SystemExit) as stopped:
        cli.main(paper, verbs, asked)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1
    assert checkpoint.dataset in error and f"checkpoints evaluate {checkpoint.id}" in error


@pytest.mark.parametrize("name", ["cream-14", "evnas-cifar100-a", "nao-v2-imagenet", "nsas-cifar100", "sgnas-a"])
def test_other_classes_are_refused_where_nothing_says_the_set(name, tmp_path, monkeypatch, capsys):
    """A file under a name of the user's own: 100 or 1,000 classes are not tested on ten."""
    monkeypatch.chdir(tmp_path)
    checkpoint = KNOWN[name]
    write(checkpoint, tmp_path / "mine.pth")
    words = ["--checkpoint", "mine.pth", "--arch", checkpoint.architecture, "--dataset", "digits", *checkpoint.evaluate]
    verbs = importlib.import_module(f"papers.{checkpoint.paper}.__main__").VERBS
    with pytest.raises(SystemExit) as stopped:
        cli.main(checkpoint.paper, verbs, ["evaluate", *words])
    error = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and error[-1].startswith("error: ")
    assert not list(tmp_path.rglob("result.json"))


def test_a_folder_may_be_the_set(of_cifar10, tmp_path):
    path, checkpoint = of_cifar10("nsas")
    settings = SimpleNamespace(checkpoint=str(path), dataset=str(tmp_path))
    published.check_set(settings, "smoke")
    with pytest.raises(UserError, match=f"of {checkpoint.dataset}"):
        published.check_set(SimpleNamespace(checkpoint=str(path), dataset="ImageNet16-120"), "smoke")


def test_damaged_facts_say_nothing(tmp_path):
    for content in ("{", "[]", '{"dataset": 3}'):
        published.beside(tmp_path / "w").write_text(content)
        assert published.known(tmp_path / "w") == {}
