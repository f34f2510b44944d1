"""Claims files: strict reading, and every command and computation of the real ones resolves."""

from __future__ import annotations

import pytest

from common.errors import UserError
from reproductions.claims import PAPERS, load_all, load_file
from reproductions.results import resolve
from reproductions.verdicts import decide

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
    assert (claim.paper, claim.kind, claim.metric_key, claim.line) == ("evnas", "training", "top1_error_percent", 1)


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
    for command in {c.command for c in claims if f"papers.{paper} " in c.command and c.kind != "computed"}:
        resolve(command)


@pytest.mark.parametrize("paper", PAPERS)
def test_computed_claims_are_reproduced(paper):
    computed = [c for c in load_all(paper) if c.kind == "computed"]
    assert computed
    wrong = [
        f"{v.claim.id}: {v.verdict} {v.measured} {v.reason}"
        for c in computed
        if (v := decide(c, [])).verdict != "reproduced"
    ]
    assert not wrong, "\n".join(wrong)
