"""Kept verdicts: taken where nothing changed, made anew after any change of code, claims, results or tables."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from reproductions import computed, kept
from reproductions.claims import load_all
from reproductions.results import Result
from reproductions.verdicts import REPRODUCED, Smaller, Verdict

CLAIMS = load_all("nao_v2")


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A house of one paper whose claims are decided by a stand-in; returns it with the list of what was decided."""
    files = {
        "common/x.py": "a = 1", "common/profiles/smoke.yaml": "nao_v2: {}", "papers/nao_v2/y.py": "b = 1",
        "papers/nao_v2/README.md": "words", "papers/evnas/z.py": "c = 1", "reproductions/computed.py": "",
        "reproductions/claims/nao_v2.yaml": "[]", "reproductions/verdicts.py": "d = 1",
        "reproductions/compare/groups.py": "", "reproductions/checkpoints/pins.py": "",
        "data/nasbench201/table.csv": "1,2",
    }  # fmt: skip
    for name, text in files.items():
        write(tmp_path, name, text)
    monkeypatch.setattr(computed, "ROOT", tmp_path)
    monkeypatch.setattr(kept, "ROOT", tmp_path)
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "reproductions" / "claims")
    monkeypatch.setattr(kept, "KEPT", tmp_path / "kept")
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "data"))
    asked: list[int] = []

    def decide_all(claims, results):
        asked.append(len(claims))
        smaller = (Smaller("proxy", 1, 3.5, math.nan, "x"),)
        return [Verdict(c, REPRODUCED, 2.5, 3, 0.1, (2.4, 2.6), "why", ("a",), smaller) for c in claims]

    monkeypatch.setattr(kept, "decide_all", decide_all)
    return tmp_path, asked


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def ask(results=(), claims=CLAIMS):
    computed.code_key.cache_clear()  # a new process
    return kept.verdicts(list(claims), list(results))


def test_equal_inputs_are_decided_once_and_come_back_the_same(house):
    first, second = ask(), ask()
    assert house[1] == [len(CLAIMS)]
    strip = lambda v: replace(v, smaller=tuple(replace(s, sd=0.0) for s in v.smaller))
    assert list(map(strip, first)) == list(map(strip, second))
    assert all(math.isnan(v.smaller[0].sd) for v in second)


@pytest.mark.parametrize(
    "changed",
    [
        "common/x.py", "common/profiles/smoke.yaml", "papers/nao_v2/y.py", "reproductions/claims/nao_v2.yaml",
        "reproductions/verdicts.py", "reproductions/computed.py", "data/nasbench201/table.csv", "common/new.py",
    ],
)  # fmt: skip
def test_a_change_of_anything_they_rest_on_decides_anew(house, changed):
    root, asked = house
    ask()
    write(root, changed, "e = 2")
    ask()
    assert len(asked) == 2


@pytest.mark.parametrize("changed", ["papers/nao_v2/README.md", "papers/evnas/z.py"])
def test_pages_and_other_papers_do_not(house, changed):
    root, asked = house
    ask()
    write(root, changed, "words")
    ask()
    assert len(asked) == 1


def test_a_new_or_changed_result_decides_anew(house):
    result = Result(Path("results/paper/nao_v2/train-0/result.json"), "nao_v2", "train", "paper", 0, raw={"metrics": 1})
    ask()
    ask([result])
    ask([result])
    ask([replace(result, raw={"metrics": 2})])
    ask([replace(result, paper="evnas")])  # of another paper
    assert len(house[1]) == 3


def test_the_data_root_and_what_lies_there_count(house, monkeypatch):
    root, asked = house
    ask()
    (root / "data" / "nasbench201" / "table.csv").unlink()
    ask()
    monkeypatch.setenv("NAS_DATA", str(root / "elsewhere"))
    ask()
    assert len(asked) == 3


def test_some_claims_alone_are_decided_alone_and_not_kept(house):
    ask(claims=CLAIMS[:2])
    ask()
    ask(claims=CLAIMS[:2])
    assert house[1] == [2, len(CLAIMS)]


def test_a_damaged_kept_file_is_no_answer(house):
    root, asked = house
    ask()
    (file,) = (root / "kept").glob("verdicts-*.json")
    file.write_text("{")
    ask()
    assert len(asked) == 2


def test_what_other_code_left_is_deleted_but_for_a_few(house):
    root, _ = house
    for number in range(8):
        write(root, "common/x.py", f"a = {number}")
        ask()
    assert len(list((root / "kept").glob("verdicts-*.json"))) <= 5
