"""The documentation: links lead somewhere, generated pages are current, columns have meanings, the site is whole."""

from __future__ import annotations

import ast
import csv
import json
import re
from pathlib import Path

import pytest

from common.errors import UserError
from common.papers import PAPERS
from reproductions.claims import ROOT
from reproductions.docs import site, words
from tests.browser import look, needs_chromium, served

FOLDERS = ("docs", "papers", "reproductions", "common", "examples", "tests")
MARKDOWN = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("*.md"), *(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.md"))]
)


@pytest.mark.parametrize("page", MARKDOWN, ids=str)
def test_links(page):
    assert not site.broken(page)


def test_a_broken_link_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "ROOT", tmp_path)
    (tmp_path / "b.md").write_text("# A `b` of [c](x.md)\n\n## Twice\n\n## Twice\n")
    text = "[good](b.md#a-b-of-c) [second](b.md#twice-1) `[code](no.md)` [bad](c.md) [worse](b.md#twice-2) ![p](d.svg)"
    (tmp_path / "a.md").write_text(text + "\n```\n[block](no.md)\n```\n[own](#nowhere) [net](https://example.org)\n")
    assert site.broken(Path("a.md")) == [
        "a.md: c.md is not there", "a.md: b.md#twice-2 names no heading", "a.md: d.svg is not there",
        "a.md: #nowhere names no heading",
    ]  # fmt: skip


def test_every_page_of_docs_is_linked_from_its_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    listed = {(ROOT / "docs" / target.partition("#")[0]).resolve() for target in site.links(index)}
    pages = {page.resolve() for page in (ROOT / "docs").rglob("*.md")} - {(ROOT / "docs" / "README.md").resolve()}
    assert pages <= listed, sorted(str(p) for p in pages - listed)
    assert {(ROOT / "papers" / paper / "README.md").resolve() for paper in PAPERS} <= listed


@pytest.mark.parametrize("page", sorted(map(str, words.pages())))
def test_generated_pages_are_current(page):
    assert (ROOT / page).read_text(encoding="utf-8") == words.pages()[Path(page)], "run: python -m reproductions readme"


def logged() -> set[str]:
    """Names that ``run.log(name=…)`` writes anywhere in the papers and below."""
    found = set()
    for file in [*(ROOT / "papers").rglob("*.py"), *(ROOT / "common").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "run.log":
                found |= {keyword.arg for keyword in node.keywords if keyword.arg}
    return found


def recorded() -> set[str]:
    """Columns and metrics of the committed results and of the expected smoke results."""
    found = set()
    for file in (ROOT / "results").rglob("history.csv"):
        with file.open(newline="", encoding="utf-8") as lines:
            found |= set(next(csv.reader(lines), []))
    for file in (ROOT / "results").rglob("result.json"):
        found |= set(json.loads(file.read_text(encoding="utf-8")).get("metrics", {}))
    return found


def test_every_column_and_metric_has_a_meaning():
    names = logged() | recorded()
    assert len(names) > 60
    assert not {name for name in names if not words.meaning(name)}
    assert words.meaning("macs_kendall_tau_low").startswith("lower end of the 95 % interval: Kendall")
    assert not words.meaning("nobody_knows")


def test_lists_and_tables_for_python_markdown():
    text = "Words\n- one\n  - two\n1. first\n\n```\ncode\n- no list\n```\n| `a\\|b` | c |\n"
    assert site.for_python_markdown(text).splitlines() == [
        "Words", "", "- one", "    - two", "1. first", "", "```", "code", "- no list", "```", "| `a|b` | c |",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    pytest.importorskip("material", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    assert site.main(["--out", str(folder)]) == 0
    return folder


def test_the_site_is_whole_and_needs_no_network(built):
    for page in site.pages():
        name = "index.html" if page.name == "README.md" else f"{page.stem}.html"
        assert (built / page.parent / name).exists(), page
    for page in built.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|img|iframe)[^>]* src=\"?(?:https?:)?//", text), page
        assert not re.search(r"<link[^>]* href=\"?(?:https?:)?//[^>]*(?:stylesheet|preconnect|icon)", text), page
        assert "fonts.googleapis" not in text


def test_an_unfit_folder_is_one_line(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    for out, why in ((tmp_path, "holds other files"), (tmp_path / "mine.txt", "is a file")):
        with pytest.raises(UserError, match=why):
            site.main(["--out", str(out)])
    assert (tmp_path / "mine.txt").read_text() == "kept"


@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 400])
def test_in_chromium(built, tmp_path, width):
    for page in (built / "index.html", built / "papers" / "nsas" / "index.html"):
        with served(built) as address:
            url = f"{address}/{page.parent.relative_to(built)}".removesuffix("/.")
            found = look(page, width, tmp_path, url=url)
        assert not found["broken"] and found["wide"] <= 0, found
