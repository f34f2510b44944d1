"""``python -m reproductions``: listing, comparison, one-line errors."""

from __future__ import annotations

import json

import pytest

from reproductions.__main__ import main


def write(folder, paper, stage, seed, error):
    out = folder / "smoke" / paper / f"{stage}-{seed}"
    out.mkdir(parents=True)
    content = {"paper": paper, "stage": stage, "profile": "smoke", "seed": seed}
    (out / "result.json").write_text(json.dumps({**content, "metrics": {"top1_error_percent": error}}))


def test_help_and_unknown_verb(capsys):
    assert main(["--help"]) == 0
    assert "claims" in capsys.readouterr().out
    assert main(["juggle"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown verb 'juggle'")


def test_claims_filters_and_json(capsys, tmp_path):
    base = ["claims", "--paper", "cream", "--needs", "training", "--results", str(tmp_path)]
    assert main([*base, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    assert {(r["paper"], r["decided_by"], r["kind"], r["verdict"]) for r in rows} == {
        ("cream", "training", "trained from scratch", "not run")
    }
    assert all(r["reason"] and r["margin_reason"] and r["source"] for r in rows)
    assert main([*base, "--verdict", "reproduced"]) == 0
    assert capsys.readouterr().out.startswith("0 published numbers: 0 reproduced")


def test_compare_seeds_and_pairs(capsys, tmp_path):
    for seed, (a, b) in enumerate(((5.0, 7.0), (6.0, 7.5), (5.5, 8.0))):
        write(tmp_path, "evnas", "search", seed, a)
        write(tmp_path, "evnas", "random", seed, b)
    assert main(["compare", "seeds", "--results", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {r["stage"]: r["n"] for r in rows} == {"smoke/evnas/random": 3, "smoke/evnas/search": 3}
    pair = ["--a", "evnas/search", "--b", "evnas/random", "--results", str(tmp_path), "--json"]
    assert main(["compare", "paired", *pair]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["difference"] == pytest.approx(-2.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "seeds"], "run the pipeline first: dvc repro dvc.yaml"),
        (["compare", "seeds", "--profile", "proxy"], "run the pipeline first: dvc repro reproductions/proxy/dvc.yaml"),
        (["compare", "rank"], "rank needs --file"),
        (["check", "--expected", "absent.json"], "absent.json is missing"),
    ],
)
def test_one_line_errors(capsys, tmp_path, words, said):
    assert main([*words, "--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_damaged_result_is_named(capsys, tmp_path):
    write(tmp_path, "evnas", "search", 0, 1.0)
    path = tmp_path / "smoke" / "evnas" / "search-0" / "result.json"
    for content, said in (
        ("{", "result.json: cannot be read as a result"),
        ('{"seed": "abc"}', "result.json: its seed or its settings are not what a run writes"),
    ):
        path.write_text(content)
        assert main(["report", "--results", str(tmp_path)]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]"])
def test_damaged_environment_is_named(content, capsys, tmp_path):
    write(tmp_path, "evnas", "search", 0, 1.0)
    (tmp_path / "smoke" / "evnas" / "search-0" / "env.json").write_text(content)
    assert main(["report", "--results", str(tmp_path), "--out", str(tmp_path / "r.html")]) == 2
    assert "env.json" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", '{"stages": {"evnas/search": {"metrics": {"epochs": 4}}}}'])
def test_damaged_expectations_are_named(content, capsys, tmp_path):
    path = tmp_path / "expected.json"
    path.write_text(content)
    for given in (path, tmp_path):
        assert main(["check", "--results", str(tmp_path), "--expected", str(given)]) == 2
        error = capsys.readouterr().err
        assert str(given) in error and error.count("\n") == 1


def test_rank(capsys, tmp_path):
    path = tmp_path / "rank.csv"
    path.write_text("x,y\n" + "".join(f"{i},{i}\n" for i in range(8)))
    words = ["compare", "rank", "--file", str(path), "--results", str(tmp_path)]
    assert main([*words, "--columns", "x", "y", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["tau"] == pytest.approx(1.0)
    assert main([*words, "--columns", "x", "z"]) == 2
    path.write_text("x,y\n1,1\n2\n3,3\n")
    assert main([*words, "--columns", "x", "y"]) == 2
    assert "a row is shorter than the header" in capsys.readouterr().err
