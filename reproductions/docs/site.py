"""``python -m reproductions docs``: the documentation as a static site, from the files that GitHub shows.

Every page (.md of the repository's root, docs/, papers/ and reproductions/claims) and every file that one links to is
copied into a folder as it lies in the repository, so that links hold; mkdocs with the material theme makes the site.
Fonts and scripts are the site's own: a reader needs no network. ``docs/mkdocs.yml`` holds the settings.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from common.errors import UserError
from common.papers import PAPERS
from reproductions.arguments import OneLineParser
from reproductions.claims import ROOT

CONFIG = ROOT / "docs" / "mkdocs.yml"
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.S | re.M)
LISTED = re.compile(r"^( *)([-*+]|\d+[.)]) ")


def main(argv: list[str]) -> int:
    parser = OneLineParser(prog="python -m reproductions docs", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="folder of the site (default: site)")
    args = parser.parse_args(argv)
    if find_spec("material") is None or find_spec("mkdocs") is None:
        raise UserError("the documentation needs mkdocs-material; install the extra: pip install '.[docs]'")
    if not CONFIG.exists():
        raise UserError("the documentation is built in a checkout of the repository; docs/mkdocs.yml is not here")
    out = args.out.resolve()
    if out.is_file():
        raise UserError(f"{args.out} is a file; name a folder")
    if out.exists() and not (out / "sitemap.xml").exists() and any(out.iterdir()):
        raise UserError(f"{args.out} holds other files; name an empty folder")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        stage(source)
        config = Path(folder) / "mkdocs.yml"
        settings = CONFIG.read_text(encoding="utf-8")
        config.write_text(f"{settings}\ndocs_dir: {source}\nsite_dir: {out}\n{navigation()}", encoding="utf-8")
        command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--clean", "-f", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if line.startswith(("WARNING", "ERROR", "Aborted", "Error"))]
    if done.returncode:
        raise UserError(f"mkdocs: {' '.join(said) or done.stderr[-500:]}")
    print(f"{args.out}/index.html: {len(pages())} pages; python -m http.server -d {args.out} serves them with search")
    return 0


def pages() -> list[Path]:
    """The pages, below the repository."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found += [page for paper in PAPERS for page in sorted((ROOT / "papers" / paper).glob("*.md"))]
    found += sorted((ROOT / "reproductions").rglob("*.md")) + sorted((ROOT / "examples").rglob("*.md"))
    return [page.relative_to(ROOT) for page in found]


def navigation() -> str:
    """The ``nav`` of mkdocs: start, the papers with their claims, the pages of docs/ in the order of docs/README.md."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    found = set(pages())
    using = [file for target in links(index) if (file := _local(Path("docs/README.md"), target)) in found]
    using = [Path("docs/README.md"), *(page for page in dict.fromkeys(using) if page and page.parts[0] != "papers")]
    lines = ["nav:", "  - Start: README.md", "  - The papers:"]
    for paper in PAPERS:
        mine = [page for page in sorted(found) if page.parts[:2] == ("papers", paper)]
        mine.sort(key=lambda page: page.name != "README.md")
        for page in mine:
            name = heading(page) + ("" if page.name == "README.md" else f": {page.stem.lower().replace('_', ' ')}")
            lines.append(f"    - {json.dumps(name)}: {page.as_posix()}")
    lines.append("  - Documentation:")
    lines += [f"    - {json.dumps(heading(page))}: {page.as_posix()}" for page in using if page != Path("README.md")]
    return "\n".join(lines) + "\n"


def heading(page: Path) -> str:
    """The first heading of a page as far as a colon; its name without one."""
    found = re.search(r"^# (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.M)
    return found[1].partition(":")[0] if found else page.stem


def links(text: str) -> list[str]:
    """Targets of the links and pictures of a page, code left out."""
    return LINK.findall(re.sub(r"`[^`\n]*`", "``", FENCE.sub("", text)))


def anchors(text: str) -> set[str]:
    """Places of a page that a link can name: its headings as GitHub writes them, and explicit ids."""
    found: dict[str, int] = {}
    names = set(re.findall(r"<[^>]* (?:id|name)=[\"']?([\w-]+)", text))
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCE.sub("", text), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
        names.add(f"{slug}-{found[slug]}" if found[slug] else slug)
    return names


def broken(page: Path) -> list[str]:
    """Links of a page (below the repository) that lead nowhere, with the reason."""
    text, found = (ROOT / page).read_text(encoding="utf-8"), []
    for target in links(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, place = target.partition("#")
        file = (ROOT / page).parent / name if name else ROOT / page
        if not file.exists():
            found.append(f"{page}: {target} is not there")
        elif not file.resolve().is_relative_to(ROOT.resolve()):
            found.append(f"{page}: {target} leaves the repository")
        elif place and file.suffix == ".md" and place not in anchors(file.read_text(encoding="utf-8")):
            found.append(f"{page}: {target} names no heading")
    return found


def stage(folder: Path) -> None:
    """Pages, and the files that they link to, as they lie in the repository."""
    known = set(pages())
    for page in known:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in links(text):
            file = _local(page, target)
            if file is not None and file not in known and (ROOT / file).is_file():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / file, folder / file)
        (folder / page).parent.mkdir(parents=True, exist_ok=True)
        (folder / page).write_text(for_python_markdown(text), encoding="utf-8")
    style = folder / "docs" / "site.css"
    shutil.copyfile(ROOT / "docs" / "site.css", style)


def _local(page: Path, target: str) -> Path | None:
    """The file of a relative link, below the repository; None for an address and for a place of the page itself."""
    if re.match(r"[a-z]+:", target) or target.startswith("#"):
        return None
    file = (ROOT / page).parent / target.partition("#")[0]
    try:
        return file.resolve().relative_to(ROOT.resolve())
    except ValueError:
        return None


def for_python_markdown(text: str) -> str:
    """The same page for Python-Markdown, which wants an empty line before a list, four blanks for what is inside, and
    bars in code within a table as they are.
    """
    lines: list[str] = []
    fenced, indents = False, [0]
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        item = None if fenced else LISTED.match(line)
        before = lines[-1] if lines else ""
        if item and before.strip() and not LISTED.match(before) and not before.startswith((" ", "|", ">")):
            lines.append("")
        if item:
            inside = len(item[1])
            while len(indents) > 1 and inside < indents[-1]:
                indents.pop()
            if inside >= indents[-1] + 2:
                indents.append(inside)
            line = "    " * (len(indents) - 1) + line.lstrip()
        elif not line.strip():
            pass
        elif not line.startswith(" ") and not fenced:
            indents = [0]
        if line.startswith("|") and not fenced:
            line = re.sub(r"`[^`]*`", lambda code: code[0].replace("\\|", "|"), line)
        lines.append(line)
    return "\n".join(lines) + "\n"
