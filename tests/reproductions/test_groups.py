"""Runs are told apart by what they are: their kind, never their folder."""

from __future__ import annotations

import json

import pytest

from reproductions.__main__ import main
from reproductions.claims import ROOT, load_all
from reproductions.compare import commands as compare
from reproductions.report import page as report
from reproductions.results import load, matching, same_path

ARCHITECTURE = "results/smoke/evnas/search-0/architecture.json"
SETTINGS = {"epochs": 4, "batch_size": 96, "dataset": "digits", "arch": ARCHITECTURE}


def write(folder, name, seed, error, variant="authors", files=None, processes=1, **settings):
    out = folder / "smoke" / "evnas" / name
    out.mkdir(parents=True)
    merged = {**SETTINGS, "arch": ARCHITECTURE.replace("-0/", f"-{seed}/"), **settings}
    content = {"paper": "evnas", "stage": "train", "profile": "smoke", "seed": seed, "variant": variant}
    content |= {"processes": processes}
    content |= {"settings": merged, "metrics": {"top1_error_percent": error}, "files": files or {"arch": str(seed)}}
    (out / "result.json").write_text(json.dumps(content))


def tops(folder):
    rows = compare.seeds(load(folder, "smoke"), "top1_error_percent")
    return {row["stage"].removeprefix("smoke/evnas/"): row["seeds"] for row in rows}


def test_an_ad_hoc_run_is_never_averaged_with_the_pipeline(tmp_path):
    write(tmp_path, "train-0", 0, 3.6)
    write(tmp_path, "train-seed0", 0, 65.2, epochs=1)
    assert tops(tmp_path) == {"train": {"0": 3.6}, "train [epochs 1]": {"0": 65.2}}


def test_seeds_of_one_kind_are_together_though_each_trains_its_own_architecture(tmp_path):
    for seed, error in enumerate((3.6, 3.8, 4.0)):
        write(tmp_path, f"train-{seed}", seed, error)
    assert tops(tmp_path) == {"train": {"0": 3.6, "1": 3.8, "2": 4.0}}


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({}, {"train": {"0": 4.0}}),  # everything equal: one value
        ({"arch": f"./{ARCHITECTURE}"}, {"train": {"0": 4.0}}),
        ({"arch": f"{ROOT}/{ARCHITECTURE}"}, {"train": {"0": 4.0}}),
        ({"workers": 7}, {"train": {"0": 4.0}}),  # bears on no result
        ({"processes": 4}, {"train": {"0": 3.0}, "train [processes 4]": {"0": 5.0}}),
        ({"variant": "paper"}, {"train": {"0": 3.0}, "train [variant paper]": {"0": 5.0}}),
        ({"arch": "EvNASA"}, {"train": {"0": 3.0}, "train [arch EvNASA]": {"0": 5.0}}),
        ({"files": {"arch": "another"}}, {"train": {"0": 3.0}, "train [train-seed0]": {"0": 5.0}}),
    ],
)
def test_one_seed_twice(tmp_path, more, found):
    write(tmp_path, "train-0", 0, 3.0)
    write(tmp_path, "train-seed0", 0, 5.0, **more)
    assert tops(tmp_path) == found


def test_one_file_has_one_spelling():
    assert same_path("./x/y") == same_path("x/y") == same_path(f"{ROOT}/x/z/../y") == "x/y"
    assert same_path("./my set/x@32") == same_path(f"{ROOT}/my set/x@32") == same_path("my set/x@32") == "my set/x@32"
    for text in ("EvNASA", "|nor_conv_3x3~0|+|none~0|", "https://a/b", "0 1 0 4"):
        assert same_path(text) == text


def test_paired_takes_a_label_or_a_folder_and_refuses_what_is_ambiguous(tmp_path, capsys):
    for seed in (0, 1, 2):
        write(tmp_path, f"train-{seed}", seed, 3.0 + seed)
        write(tmp_path, f"other-{seed}", seed, 5.0 + seed, epochs=2)
    base = ["compare", "paired", "--results", str(tmp_path), "--json"]
    for name in ("evnas/other", "evnas/train [epochs 2]"):
        assert main([*base, "--a", "evnas/train", "--b", name]) == 0
        assert json.loads(capsys.readouterr().out)[0]["difference"] == pytest.approx(-2.0)
    write(tmp_path, "other-3", 3, 5.0, epochs=3)
    assert main([*base, "--a", "evnas/train", "--b", "evnas/other"]) == 2
    assert "several kinds of 'evnas/other'" in capsys.readouterr().err


def test_report_names_the_ad_hoc_run_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "load_all", list)  # the claims are not what is looked at
    write(tmp_path, "train-0", 0, 3.6)
    write(tmp_path, "train-seed0", 0, 65.2, epochs=1)
    assert main(["report", "--results", str(tmp_path)]) == 0
    text = (tmp_path / "report.html").read_text()
    assert "train [epochs 1]" in text and "34.4" not in text


@pytest.mark.parametrize(("more", "count"), [({}, 1), ({"variant": "paper"}, 0), ({"dataset": "cifar100"}, 0)])
def test_claims_are_compared_with_equal_variants_only(tmp_path, more, count):
    """A smaller run answers a claim where stage, set, architecture and every choice between methods agree."""
    from common.settings import plain
    from reproductions.results import resolve

    claim = next(c for c in load_all("evnas") if c.id == "evnas.nb201.evnas.cifar10.test")
    settings, options = resolve(claim.command)
    content = {"paper": "evnas", "stage": options.section, "profile": "proxy", "seed": 0, "variant": options.variant}
    changed = {k: v for k, v in more.items() if k in plain(settings)}
    content |= {"settings": {**plain(settings), "generations": 3, **changed}, "metrics": {claim.metric_key: 90.0}}
    content |= {k: v for k, v in more.items() if k == "variant"}
    out = tmp_path / "proxy" / "evnas" / "search_s2-0"
    out.mkdir(parents=True)
    (out / "result.json").write_text(json.dumps(content))
    assert len(matching(claim, load(tmp_path))) == count
