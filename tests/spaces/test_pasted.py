"""Pasted text is read as data: what is understood, what is refused and where, and that nothing is ever run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import UserError
from common.spaces.pasted import Call, Given, given, plain

GENOTYPE = "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=range(2, 6))"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 2 3", (1, 2, 3)),
        ("1, 2,3", (1, 2, 3)),
        ("1;2;3", (1, 2, 3)),
        ("[1 2 3]", [1, 2, 3]),
        ("[[1 2]\n [3 4]]", [[1, 2], [3, 4]]),
        ("(0, -1, 2.5)", (0, -1, 2.5)),
        ("arch = [3, 0, 1]", [3, 0, 1]),
        ("range(2, 6)", [2, 3, 4, 5]),
        ("[np.int64(3), numpy.int64(1)]", [3, 1]),
        ("{'normal': [['a', 0]]}", {"normal": [["a", 0]]}),
        ("5", 5),
    ],
)
def test_values(text: str, expected: object) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        GENOTYPE,
        f"EvNAS = {GENOTYPE}",
        f"11/28 11:02 AM genotype = {GENOTYPE}",
        f"genotypes.{GENOTYPE}",
        f"{GENOTYPE} ok",
    ],
)
def test_genotype_calls(text: str) -> None:
    call = plain(text)
    assert isinstance(call, Call) and call.name == "Genotype"
    assert call.named("normal", "normal_concat") == {
        "normal": [("sep_conv_3x3", 0), ("skip_connect", 1)], "normal_concat": [2, 3, 4, 5],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("[1, 2", r"line 1, column 1: '\[' was never closed"),
        ("[1, a]", "line 1, column 5: a is no plain value; put words in quotes"),
        ("[1,\n 2 + 3]", r"line 2, column 2: 2 \+ 3 is no plain value"),
        ("range(0, 10**9)", "no plain value"),
        ("range(0, 1000000000)", "too long"),
        ("import os", "a program"),
        ("'a'\n'b'", "2 values"),
        ("f(*[1])", "no plain value"),
        ("(" * 5000 + ")" * 5000, "."),
        ("x\0y", "."),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plain(text)


def test_nothing_runs(tmp_path: Path) -> None:
    target = tmp_path / "made"
    for text in (f"open({str(target)!r}, 'w')", f"Genotype(normal=open({str(target)!r}, 'w'))"):
        plain(text)  # a call is a name and values
    with pytest.raises(UserError):
        plain(f"__import__('os').mkdir({str(target)!r})[0]")
    assert not target.exists()


def test_words_of_a_call() -> None:
    with pytest.raises(UserError, match=r"no 'norml'.*normal"):
        Call("Genotype", (), {"norml": 1}).named("normal")
    with pytest.raises(UserError, match="twice"):
        Call("Genotype", (1,), {"normal": 1}).named("normal")


def test_given(tmp_path: Path) -> None:
    assert given("A", ["A"]) == given("a", ["A"]) == Given(name="A")
    assert given(GENOTYPE, []).text == GENOTYPE
    (tmp_path / "a.txt").write_text(GENOTYPE)
    assert given(tmp_path / "a.txt", []).text == GENOTYPE
    (tmp_path / "b.json").write_text(json.dumps(GENOTYPE))
    assert given(str(tmp_path / "b.json"), []).text == GENOTYPE
    document = {"schema": 1, "space": "darts", "architecture": [1], "origin": {}}
    (tmp_path / "architecture.json").write_text(json.dumps(document))
    for source in (tmp_path, str(tmp_path), tmp_path / "architecture.json"):
        found = given(source, [])
        assert (found.space, found.value) == ("darts", [1]) and found.where.endswith("architecture.json")
    for wrong, message in (("Ab", "unknown architecture 'Ab'"), ("x.json", "no file"), ("w.pt", "no file")):
        with pytest.raises(UserError, match=message):
            given(wrong, ["A"])
