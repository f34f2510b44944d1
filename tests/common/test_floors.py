"""The floors (tests, reproductions, papers, common): import-linter watches imports, this the files that are named."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ABOVE = {"common": ("papers", "reproductions", "tests"), "papers": ("reproductions", "tests")}


def named(source: str, floors: tuple[str, ...]) -> set[str]:
    """Texts of a module that are a path into one of ``floors``, or a folder of that name; docstrings do not count."""
    tree = ast.parse(source)
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    path = re.compile(rf"(?<![\w./-])({'|'.join(floors)})(/|$)")
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
             and id(node) not in docs}  # fmt: skip
    return {text for text in texts if (found := path.search(text)) and (found[2] == "/" or text == found[1])}


@pytest.mark.parametrize("floor", ABOVE)
def test_no_floor_names_a_file_of_a_floor_above(floor):
    found = {}
    for file in sorted((ROOT / floor).rglob("*.py")):
        if texts := named(file.read_text(encoding="utf-8"), ABOVE[floor]):
            found[str(file.relative_to(ROOT))] = sorted(texts)
    assert not found


def test_what_counts_as_a_file_of_a_floor_above():
    above = ABOVE["papers"]
    assert named('x = ROOT / "reproductions" / "claims"', above) == {"reproductions"}
    assert named('open("reproductions/claims/a.yaml")', above) == {"reproductions/claims/a.yaml"}
    assert not named('"""See tests/golden."""\nerror("get it: python -m reproductions data fetch")', above)
