"""The authors' checkpoints: the pins file, fetching, verifying, evaluating."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
import yaml

from common.errors import UserError
from common.papers import PAPERS
from reproductions.__main__ import main as house
from reproductions.checkpoints import commands as checkpoints
from reproductions.checkpoints import pins as checkpoint_pins
from reproductions.checkpoints.pins import Checkpoint, addresses, browser_hint, load_checkpoints

CONTENT = b"weights" * 5000
BLOB = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def pins(tmp_path, monkeypatch, site):
    """A pins file with four checkpoints on the loopback server; returns (path, entries, data root)."""
    site.files["/w"] = CONTENT
    common = {"paper": "evnas", "architecture": "EvNASA", "dataset": "cifar10", "format": "state_dict"}
    entries = {
        "evnas-pinned": {
            **common, "git_blob": BLOB, "sources": [{"url": site.url + "/w"}], "expected": {"top1_error_percent": 2.4},
            "margin": 0.05, "evaluate": [],
        },
        "evnas-first": {**common, "sources": [{"url": site.url + "/w"}]},
        "evnas-prefix": {**common, "sha256_prefix": SHA[:8], "sources": [{"url": site.url + "/w"}]},
        "evnas-drive": {**common, "sources": [{"gdrive": "1abc", "name": "w.pt"}, {"url": site.url + "/w"}]},
    }  # fmt: skip
    path = tmp_path / "checkpoints.yaml"
    path.write_text(yaml.safe_dump(entries, sort_keys=False))
    monkeypatch.setattr(checkpoint_pins.load_checkpoints, "__defaults__", (path,))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return path, entries, tmp_path / "root"


def run(*words):
    return house(["checkpoints", *map(str, words)])


# --- the real pins -------------------------------------------------------------------------------------------------


def test_every_paper_is_pinned():
    known = load_checkpoints()
    counts = {paper: sum(c.paper == paper for c in known.values()) for paper in PAPERS}
    assert counts == {"cream": 12, "evnas": 9, "nao_v2": 6, "nsas": 34, "sgnas": 5}
    for checkpoint in known.values():
        assert checkpoint.sources and all(addresses(source) for source in checkpoint.sources)
        if checkpoint.expected:
            assert checkpoint.margin > 0 or checkpoint.evaluate is None
        if "github" in checkpoint.sources[0]:
            assert checkpoint.digests  # a file in git is known by its blob id


def test_published_values_of_the_seeds():
    known = load_checkpoints()
    for name, metric, value in (
        ("evnas-cifar10-a", "top1_error_percent", 2.40),
        ("nsas-cifar100-50", "top1_error_percent", 16.85),
        ("nsas-ptb", "test_perplexity", 56.84),
        ("nao-v2-cifar10", "top1_error_percent", 2.57),
        ("cream-604", "top1_error_percent", 20.0),
        ("sgnas-a", "top1_error_percent", 22.9),
    ):
        assert known[name].expected[metric] == value


def test_golden_list_of_the_nsas_repository():
    """Every listed blob is pinned under its path (equal blobs at two paths are sources of one entry)."""
    golden = Path(__file__).parent / "data" / "nsas_checkpoints.json"
    listed = {entry["path"]: entry["git_blob_sha1"] for entry in json.loads(golden.read_text())["files"]}
    pinned = {
        source["path"]: checkpoint.digests["git_blob"]
        for checkpoint in load_checkpoints().values()
        if checkpoint.paper == "nsas"
        for source in checkpoint.sources
    }
    assert pinned == listed


def test_claims_name_what_exists():
    """Every checkpoint and data set that a claim needs can be fetched under that name."""
    import re

    from reproductions.data.commands import known_sets

    text = "\n".join(path.read_text() for path in (checkpoint_pins.PINS.parent / "claims").glob("*.yaml"))
    assert set(re.findall(r"\bcheckpoint:([\w.+-]+)", text)) <= set(load_checkpoints())
    assert set(re.findall(r"\bdata:([\w.+-]+)", text)) <= set(known_sets())


def test_addresses_and_hint():
    known = load_checkpoints()
    first = addresses(known["nsas-c-imagenet-linear"].sources[0])[0]
    assert first.startswith("https://raw.githubusercontent.com/MiaoZhang0525/NSAS_FOR_CVPR/5e6b6a5a")
    assert "Random-NSAS-C%20with%20PDARTS%20setting/model_best.pth.tar" in first
    assert "id=1NFLOLLBwdq79QB2O4S7lXV4NL6Oho0ba" in addresses(known["evnas-cifar10-a"].sources[0])[0]
    hint = browser_hint(known["evnas-cifar10-a"])
    assert "drive.google.com/file/d/1NFLOLLBwdq79QB2O4S7lXV4NL6Oho0ba" in hint and "--from FILE" in hint


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"papers": "x"}, "unknown key 'papers'"),
        ({"paper": "darts"}, "unknown paper 'darts'"),
        ({"sources": "x"}, "sources has the wrong type"),
        ({"sources": [{"ftp": "x"}]}, "a source is github"),
        ({"git_blob": "12"}, "git_blob must be 40 hexadecimal digits"),
        ({"expected": {"top1_error_percent": "low"}}, "must be a number"),
        ({"dataset": None}, "dataset is missing"),
        ({"dataset": "cifar1"}, "unknown dataset 'cifar1'"),
        ({"evaluate": ["--dataset", "cifar10"]}, "evaluate takes the set from dataset"),
    ],
)
def test_faults_name_file_and_line(pins, change, reason):
    path, entries, _ = pins
    entries["evnas-first"] = {k: v for k, v in {**entries["evnas-first"], **change}.items() if v is not None}
    path.write_text(yaml.safe_dump(entries, sort_keys=False))
    with pytest.raises(UserError) as caught:
        load_checkpoints(path)
    message = str(caught.value)
    assert reason in message and message.startswith(f"{path}:") and int(message.split(":")[1]) > 1


def test_duplicates_and_unreadable_files(pins, tmp_path):
    path, _, _ = pins
    path.write_text(path.read_text() + path.read_text())
    with pytest.raises(UserError, match="duplicate id evnas-pinned"):
        load_checkpoints(path)
    path.write_text("a: {paper: evnas, paper: evnas}")
    with pytest.raises(UserError, match="given twice"):
        load_checkpoints(path)
    path.write_text("a: [")
    with pytest.raises(UserError, match="not valid YAML"):
        load_checkpoints(path)
    path.write_text("- a")
    with pytest.raises(UserError, match="a mapping from id"):
        load_checkpoints(path)
    path.write_text("a: 3")
    with pytest.raises(UserError, match="a mapping is expected"):
        load_checkpoints(path)
    with pytest.raises(UserError, match="cannot read"):
        load_checkpoints(tmp_path / "absent.yaml")


# --- fetching and verifying ----------------------------------------------------------------------------------------


def test_fetch_and_verify(pins, tmp_path, capsys):
    _, _, root = pins
    manifest = tmp_path / "m" / "evnas.json"
    assert run("verify", "evnas-pinned", "--data", root, "--manifest", manifest) == 2
    error = capsys.readouterr().err
    assert "checkpoints fetch evnas-pinned" in error and error.count("\n") == 1 and not manifest.exists()
    assert run("fetch", "evnas-pinned", "--data", root) == 0
    assert (root / "checkpoints" / "evnas-pinned").read_bytes() == CONTENT
    assert run("verify", "evnas-pinned", "--data", root, "--manifest", manifest) == 0
    facts = json.loads(manifest.read_text())["checkpoints"]
    assert facts == [{"checkpoint": "evnas-pinned", "bytes": len(CONTENT), "sha256": SHA, "pinned": True}]
    (root / "checkpoints" / "evnas-pinned").write_bytes(CONTENT[:-1] + b"x")
    assert run("verify", "evnas-pinned", "--data", root) == 2
    assert "git_blob is" in capsys.readouterr().err
    assert run("fetch", "evnas-pinned", "--data", root) == 2  # a wrong file is named, not overwritten


def test_first_download_is_recorded_and_enforced(pins, site, capsys):
    _, _, root = pins
    path = root / "checkpoints" / "evnas-first"
    assert run("fetch", "evnas-first", "--data", root) == 0
    assert json.loads((root / "checkpoints" / "recorded.json").read_text()) == {"evnas-first": SHA}
    assert run("verify", "evnas-first", "--data", root) == 0
    assert "as recorded at the first download" in capsys.readouterr().out
    path.unlink()
    site.files["/w"] = b"another" * 5000
    assert run("fetch", "evnas-first", "--data", root) == 2
    assert "another file: sha256" in capsys.readouterr().err and not path.exists()
    (root / "checkpoints" / "recorded.json").write_text("{")
    assert run("fetch", "evnas-first", "--data", root) == 2
    assert "recorded.json is damaged" in capsys.readouterr().err


def test_file_put_there_by_hand_is_recorded_by_fetch(pins, capsys):
    _, _, root = pins
    path = root / "checkpoints" / "evnas-first"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert run("verify", "evnas-first", "--data", root) == 2
    assert "no recorded hash yet" in capsys.readouterr().err
    assert run("fetch", "evnas-first", "--data", root) == 0
    assert run("verify", "evnas-first", "--data", root) == 0


def test_from_a_browser_download(pins, tmp_path, capsys):
    _, _, root = pins
    given = tmp_path / "download.pt"
    given.write_bytes(b"<!DOCTYPE html><html>")
    assert run("fetch", "evnas-pinned", "--data", root, "--from", given) == 2
    assert "HTML page" in capsys.readouterr().err
    given.write_bytes(b"other")
    assert run("fetch", "evnas-prefix", "--data", root, "--from", given) == 2
    assert "is not evnas-prefix" in capsys.readouterr().err
    given.write_bytes(CONTENT)
    assert run("fetch", "evnas-prefix", "--data", root, "--from", given) == 0
    assert run("fetch", "evnas-pinned", "evnas-first", "--data", root, "--from", given) == 2
    assert run("fetch", "evnas-pinned", "--data", root, "--from", tmp_path / "absent") == 2
    names = ["evnas-prefix", "evnas-prefix.json", "recorded.json"]
    assert sorted(path.name for path in (root / "checkpoints").iterdir()) == names


@pytest.mark.parametrize("cut", [10, 400])
def test_a_truncated_browser_download_is_not_recorded(pins, tmp_path, capsys, cut):
    path, entries, root = pins
    entries["evnas-first"]["evaluate"] = []
    path.write_text(yaml.safe_dump(entries, sort_keys=False))
    given = tmp_path / "download.pt"
    torch.save({"weight": torch.arange(200.0)}, given)
    whole = given.read_bytes()
    given.write_bytes(whole[:-cut])
    assert run("fetch", "evnas-first", "--data", root, "--from", given) == 2
    assert "download.pt" in capsys.readouterr().err
    assert not list(root.glob("checkpoints/*"))
    given.write_bytes(whole)
    assert run("fetch", "evnas-first", "--data", root, "--from", given) == 0


def test_next_source_and_final_hint(pins, site, monkeypatch, capsys):
    _, _, root = pins
    monkeypatch.setattr(checkpoints, "addresses", lambda source: [source.get("url", site.url + "/quota")])
    site.files["/quota"] = b"x"
    site.script["/quota"] = ["html"]
    assert run("fetch", "evnas-drive", "--data", root) == 0
    (root / "checkpoints" / "evnas-drive").unlink()
    site.script["/w"] = ["missing"]
    assert run("fetch", "evnas-drive", "--data", root) == 2
    error = capsys.readouterr().err
    assert "HTML page" in error and "404" in error and "drive.google.com/file/d/1abc" in error
    assert error.count("\n") == 1 and not (root / "checkpoints" / "evnas-drive").exists()


def test_several_at_once_go_on_after_a_failure(pins, site, capsys):
    _, _, root = pins
    (root / "checkpoints").mkdir(parents=True)
    (root / "checkpoints" / "evnas-pinned").write_bytes(b"wrong")
    assert run("fetch", "evnas-pinned", "evnas-prefix", "--data", root) == 1
    assert (root / "checkpoints" / "evnas-prefix").exists()
    assert "evnas-pinned is not the published file" in capsys.readouterr().err


def test_list(pins, capsys):
    _, _, root = pins
    run("fetch", "evnas-pinned", "--data", root)
    capsys.readouterr()
    assert run("list", "--data", root, "--json") == 0
    states = {row["id"]: row["state"] for row in json.loads(capsys.readouterr().out)}
    assert states["evnas-pinned"] == "here" and states["evnas-drive"] == "missing"
    assert run("list", "--data", root, "--paper", "evnas") == 0
    assert "top1_error_percent 2.4" in capsys.readouterr().out


def test_mistakes(pins, capsys):
    for words, reason in (
        (["fetch", "nope"], "unknown checkpoint 'nope'"),
        (["fetch"], "name the checkpoints to fetch"),
        (["bogus"], "invalid choice"),
        (["list", "--bad"], "unrecognized arguments"),
    ):
        assert run(*words) == 2
        error = capsys.readouterr().err
        assert reason in error and error.count("\n") == 1


# --- evaluating ----------------------------------------------------------------------------------------------------


def test_evaluate_runs_the_papers_verb_and_records_the_verdict(pins, tmp_path, monkeypatch):
    _, _, root = pins
    run("fetch", "evnas-pinned", "--data", root)
    checkpoint = load_checkpoints()["evnas-pinned"]
    seen = []

    class Done:
        returncode = 0

    def instead(command, **options):
        seen.append(command)
        out = Path(command[command.index("--out") + 1])
        out.mkdir(parents=True)
        (out / "result.json").write_text('{"metrics": {"top1_error_percent": 2.44}}')
        return Done

    monkeypatch.setattr(checkpoints.subprocess, "run", instead)
    rows = checkpoints.evaluate(checkpoint, root, ["--device", "cpu"], tmp_path / "results")
    assert rows == [{"metric": "top1_error_percent", "expected": 2.4, "measured": 2.44, "within": True}]
    words = seen[0][1:]
    assert words[:3] == ["-m", "papers.evnas", "evaluate"] and words[-2:] == ["--device", "cpu"]
    assert words[words.index("--checkpoint") + 1] == str((root / "checkpoints" / "evnas-pinned").resolve())
    out = tmp_path / "results" / "paper" / "evnas" / "evaluate-evnas-pinned"
    assert json.loads((out / "checkpoint.json").read_text())["comparison"] == rows
    Done.returncode = 2
    monkeypatch.setattr(checkpoints.subprocess, "run", lambda command, **options: Done)
    with pytest.raises(UserError, match="failed with status 2"):
        checkpoints.evaluate(checkpoint, root, [], tmp_path / "results")
    run("fetch", "evnas-first", "--data", root)
    with pytest.raises(UserError, match="cannot be evaluated"):
        checkpoints.evaluate(load_checkpoints()["evnas-first"], root, [], tmp_path / "results")


def test_one_evaluation_that_fails_does_not_keep_the_others(pins, monkeypatch, capsys):
    _, _, root = pins
    row = {"metric": "top1_error_percent", "expected": 2.4, "measured": 2.4, "within": True}

    def instead(checkpoint, *_):
        if checkpoint.id != "evnas-pinned":
            raise UserError(f"{checkpoint.id} is missing")
        return [row]

    monkeypatch.setattr(checkpoints, "evaluate", instead)
    assert run("evaluate", "evnas-first", "evnas-pinned", "--data", root) == 1
    said = capsys.readouterr()
    assert "evnas-pinned: top1_error_percent 2.4, published 2.4: reproduced" in said.out
    assert said.err == "error: evnas-first is missing\n"
    assert run("evaluate", "evnas-first", "--data", root) == 2


def test_comparison():
    checkpoint = Checkpoint("x", "evnas", "A", "cifar10", "f", [], {"a": 2.4, "b": 1.0, "c": 5.0}, 0.05)
    rows = checkpoints.compare(checkpoint, {"a": 2.45, "b": 1.06})
    assert [row["within"] for row in rows] == [True, False, None]


@pytest.mark.parametrize("paper", PAPERS)
def test_flags_are_those_of_the_papers_verb(paper):
    """The evaluate command of every pinned checkpoint is one that its paper understands."""
    from common.cli.parsing import parse

    verbs = pytest.importorskip(f"papers.{paper}.__main__").VERBS
    for checkpoint in load_checkpoints().values():
        if checkpoint.paper != paper or checkpoint.evaluate is None:
            continue
        words = checkpoints.evaluate_command(checkpoint, Path("weights"), Path("out"), [])[4:]
        _, settings, options = parse(paper, verbs, ["evaluate", *words])
        assert settings.arch == checkpoint.architecture and settings.checkpoint == "weights"
        assert options.profile == "paper" and str(options.out) == "out"
