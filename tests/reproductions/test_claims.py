"""Claims files: strict reading, and every command and computation of the real ones resolves."""

from __future__ import annotations

import importlib
import json
import math
import re
import shlex

import pytest

from common.cli import verbs as cli
from common.errors import UserError
from common.papers import PAPERS
from reproductions import computed
from reproductions.__main__ import main as house
from reproductions.claims import load_all, load_file
from reproductions.results import resolve
from reproductions.verdicts import as_expected, decide

GOOD = """- id: evnas.cifar10.a.trained
  quantity: top1_error_percent
  unit: percent
  value: 2.47
  source: table 1
  paper_or_code: paper
  needs: [training, data:cifar10]
  command: python -m papers.evnas train --arch EvNASA
  margin: 0.1
  margin_reason: spread
"""


def read(tmp_path, text):
    path = tmp_path / "evnas.yaml"
    path.write_text(text)
    return load_file(path)


def test_good_claim(tmp_path):
    (claim,) = read(tmp_path, GOOD)
    assert (claim.paper, claim.hardest, claim.metric_key, claim.line) == ("evnas", "training", "top1_error_percent", 1)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  margin: 0.1\n", "  margin: 0.1\n  colour: red\n", "10: unknown key 'colour'"),
        ("unit: percent", "unit: parsec", "3: claim 'evnas.cifar10.a.trained': unknown unit 'parsec'"),
        ("value: 2.47", "value: two", "4: claim 'evnas.cifar10.a.trained': value 'two' does not fit"),
        ("papers.evnas train", "papers.evnos train", "8: claim 'evnas.cifar10.a.trained': unknown module"),
        ("papers.evnas train", "papers.evnas juggle", "unknown verb 'juggle'"),
        ("python -m papers.evnas", "sh run.sh", "unknown command"),
        ("needs: [training", "needs: [luck", "7: claim 'evnas.cifar10.a.trained': unknown need 'luck'"),
        ("data:cifar10", "data:cifar1", "7: claim 'evnas.cifar10.a.trained': unknown data 'cifar1'; did you mean"),
        ("data:cifar10", "checkpoint:evnas-cifar", "unknown checkpoint 'evnas-cifar'"),
        ("margin: 0.1", "margin: -1", "margin must be a finite number of at least 0"),
        ("margin: 0.1", "margin: .inf", "margin must be a finite number"),
        ("value: 2.47", "value: .nan", "does not fit unit"),
        ("  source: table 1\n", "", "1: claim 'evnas.cifar10.a.trained' lacks 'source'"),
        ("needs: [training, data:cifar10]", "needs: []", "must say how it is computed"),
        ("id: evnas.", "id: nsas.", "id must look like evnas."),
        ("  unit: percent\n", "  unit: percent\n  unit: percent\n", "key 'unit' twice"),
        ("value: 2.47", "value: [2.47", "not YAML"),
        ("python -m papers.evnas train --arch EvNASA", "python -m reproductions claims evnas.b", "shows another claim"),
        ("  margin: 0.1\n", "  margin: 0.1\n  published: seldom\n", "published must be true or false"),
        ("  margin: 0.1\n", "  margin: 0.1\n  holds: false\n", "what the suite finds false must be computed"),
    ],
)
def test_faults_name_file_and_line(tmp_path, old, new, said):
    with pytest.raises(UserError, match=r"evnas\.yaml:\d+: ") as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert said in str(caught.value)


def test_duplicate_id_names_both_places(tmp_path):
    (tmp_path / "evnas.yaml").write_text(GOOD + GOOD)
    with pytest.raises(UserError, match=r"evnas\.yaml:11: duplicate id .* first used at .*evnas\.yaml:1"):
        load_all(folder=tmp_path)


def test_unknown_paper():
    with pytest.raises(UserError, match="unknown paper"):
        load_all("darts")


@pytest.mark.parametrize("paper", PAPERS)
def test_every_command_of_the_real_claims_parses(paper):
    claims = load_all(paper)
    assert claims
    for command in {c.command for c in claims if f"papers.{paper} " in c.command and c.hardest != "computed"}:
        resolve(command)


@pytest.mark.parametrize("paper", PAPERS)
def test_computed_claims_are_what_their_entries_say(paper):
    computed = [c for c in load_all(paper) if c.hardest == "computed"]
    assert computed
    wrong = [
        f"{v.claim.id}: {v.verdict} {v.measured} {v.reason}" for c in computed if not as_expected(v := decide(c, []))
    ]
    assert not wrong, "\n".join(wrong)


def shown(value, unit, text, margin) -> bool:
    """Whether a command's output shows a claim's value: the text, or a number in its margin or that rounds to it."""
    if isinstance(value, list):
        return json.dumps(value, separators=(",", ":")) in text.replace(" ", "")
    if unit == "exact" and not re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", value):
        return value in text
    digits = len(str(value).partition(".")[2]) if "e" not in str(value) else 99
    for word in re.findall(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?", text):
        number = float(word.replace(",", "").rstrip("."))
        scales = (number, number / 1e6) if unit == "millions" else (number,)
        if any(
            math.isclose(s, float(value), rel_tol=1e-6, abs_tol=margin) or round(s, digits) == float(value)
            for s in scales
        ):
            return True
    return False


@pytest.fixture
def descriptions_once(monkeypatch):
    """``describe`` as the other tests of this file have it, from one computation a network."""
    for paper in PAPERS:
        stage = importlib.import_module(f"papers.{paper}.__main__").VERBS["describe"].stages[()]
        module, _, function = stage.run.partition(":")
        original = getattr(importlib.import_module(module), function)

        def remembered(settings, options, paper=paper, original=original):
            if settings != type(settings)(arch=settings.arch, dataset=settings.dataset):
                return original(settings, options)
            return computed.described(paper, settings.arch, settings.dataset, original)

        monkeypatch.setattr(importlib.import_module(module), function, remembered)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_command_that_needs_only_the_code_prints_its_number(paper, descriptions_once, capsys):
    """Claims that are computed, with what the suite finds false printed as measured."""
    claims = [c for c in load_all(paper) if c.hardest == "computed"]
    by_id = {f"python -m reproductions claims {c.id}": c.id for c in claims}
    asked = [by_id[c.command] for c in claims if c.command in by_id]
    assert house(["claims", *asked]) == 0  # one call for all: reading the claims is what takes time
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if " measured " in line]
    printed = {f"python -m reproductions claims {i}": line for i in asked for line in lines if i in line}
    printed = {command: " ".join(line).partition(" measured ")[2] for command, line in printed.items()}
    missing = []
    for claim in claims:
        words = shlex.split(claim.command)
        if claim.command not in printed:
            assert words[:2] == ["python", "-m"] and words[2] == f"papers.{paper}", claim.command
            cli.main(paper, importlib.import_module(f"{words[2]}.__main__").VERBS, words[3:])
            printed[claim.command] = capsys.readouterr().out
        if shown(claim.value, claim.unit, printed[claim.command], claim.margin) is not claim.holds:
            missing.append(f"{claim.id} = {claim.value}: {claim.command}")
    assert not missing, "\n".join(missing)


def test_what_is_measured_and_false_is_not_reproduced():
    """Published parameter counts of EvNAS on CIFAR-100 repeat those of CIFAR-10."""
    claims = {c.id: c for c in load_all("evnas")}
    for letter, published, counted in (("a", 3.6, 3.7), ("b", 3.8, 3.9), ("c", 3.4, 3.5)):
        verdict = decide(claims[f"evnas.cifar100.{letter}.parameters_millions"], [])
        assert (verdict.verdict, verdict.claim.value) == ("not reproduced", published)
        assert round(verdict.measured, 1) == counted
    optimum = claims["evnas.nb201.optimum.imagenet16_120.valid"]
    assert optimum.hardest == "data" and not optimum.holds  # 46.73 in the tables of release 1.1


def test_what_only_the_authors_code_gave_is_not_called_published():
    """Counted or run by the makers of this suite: no source that anybody published."""
    for claim in load_all():
        if re.search(r"counted|measured on|, run\b|\brun over\b", claim.source):
            assert not claim.published, f"{claim.id}: {claim.source}"


@pytest.mark.parametrize("words", [["evnas.steps.darts"], ["evnas.steps"], ["evnas.steps.darts", "--json"]])
def test_one_claim_by_its_name(words, capsys):
    assert house(["claims", *words]) == 0
    said = capsys.readouterr().out
    assert "391" in said and ("evnas.steps.cifar" in said) is (words == ["evnas.steps"])


def test_an_unknown_claim_is_named(capsys):
    assert house(["claims", "evnas.stepz.s1"]) == 2
    assert "did you mean 'evnas.steps.darts'" in capsys.readouterr().err
