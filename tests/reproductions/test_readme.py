"""README files: generated tables, and every command block runs in a smoke form or is listed with the reason why not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from common.errors import UserError
from common.papers import PAPERS
from reproductions.claims import command_problem, load_all
from reproductions.docs import pages, readme
from reproductions.results import resolve
from reproductions.verdicts import NOT_RUN, Verdict, judged

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "papers" / p / "README.md" for p in PAPERS)]
GUIDES = [ROOT / "docs" / name for name in ("dvc.md", "clusters.md", "environment.md", "verdicts.md")]
# Why a command is not executed here; the first pattern that matches counts.
NOT_EXECUTED = [
    (r"^(make|source|git) ", "the whole pipeline or test-suite: CI runs both; the shell's own"),
    (r"^dvc (repro|metrics|exp|push|pull|remote|plots|dag)", "runs the pipeline: tests/pipeline and CI"),
    (r"^torchrun ", "several processes: tests/reliability; its settings are parsed here"),
    (r"^python -m reproductions (data|checkpoints) (fetch|evaluate|prepare|verify)", "needs data or the network"),
    (
        r"^python -m reproductions (report|readme|check|compare|seeds|plots|picture)",
        "needs results: tests/reproductions",
    ),
    (r"^python -m papers\.\w+ (describe|draw) results/", "of what a line before it wrote: test_readme_commands"),
    (r"^python -m papers\.\w+ (?!describe|--help)", "a run: its settings are parsed here, the smoke pipeline runs it"),
]


def blocks(page: Path) -> list[str]:
    """Commands of the bash blocks, continuation lines joined, comments and prompts taken off."""
    found = []
    for block in re.findall(r"```(?:bash|sh|console)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            command = re.split(r"\s+#|\s+(?:->|→|=>)\s", line.strip().removeprefix("$ "), maxsplit=1)[0].strip()
            if command and not command.startswith("#"):
                found.append(command)
    return found


def commands() -> list[tuple[str, str]]:
    return [(str(p.relative_to(ROOT)), c) for p in (*PAGES, *GUIDES) for c in blocks(p)]


def test_pages_exist_and_have_markers():
    for page in PAGES:
        assert page.exists(), f"{page} is missing"
        text = page.read_text(encoding="utf-8")
        assert readme.START in text, page
        assert readme.END in text, page


@pytest.mark.parametrize(("page", "command"), commands())
def test_command(page, command, capsys):
    reason = next((why for pattern, why in NOT_EXECUTED if re.search(pattern, command)), None)
    plain = re.sub(r"^([A-Z_]+=\S+ )+", "", command)
    if "papers." in plain and "--help" not in plain and "<" not in plain and "…" not in plain:
        assert not command_problem(plain), command_problem(plain)
        if re.search(r"^python -m papers\.\w+ (search|train|evaluate|describe|draw)", plain):
            resolve(plain)  # unknown flags and values are refused here
    if reason is None:
        words = shlex.split(plain)
        assert words[:2] == ["python", "-m"], f"{page}: {command!r} is neither executed nor listed as not executed"
        run(words[2], words[3:])
        assert capsys.readouterr().out


def run(module: str, arguments: list[str]) -> None:
    """``python -m module arguments`` in this process; anything but success fails."""
    if module == "reproductions":
        from reproductions.__main__ import main

        assert main(arguments) == 0
        return
    import importlib

    from common.cli import verbs as cli

    try:
        cli.main(module.removeprefix("papers."), importlib.import_module(f"{module}.__main__").VERBS, arguments)
    except SystemExit as stop:
        assert stop.code in (0, None)


def test_filled_replaces_only_between_the_markers():
    text = f"before\n{readme.START}\nold\n{readme.END}\nafter\n"
    assert readme.filled(text, "new") == f"before\n{readme.START}\nnew\n{readme.END}\nafter\n"


@pytest.fixture
def small_house(tmp_path, monkeypatch):
    """A house of one paper with one claim whose data file is here or not: returns a function that says which."""
    claim = next(c for c in load_all("evnas") if c.id == "evnas.nb201.optimum.cifar10.test")
    for page in (tmp_path / "README.md", tmp_path / "papers" / "evnas" / "README.md"):
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"{readme.START}\n{readme.END}\n")
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "RECORD", tmp_path / "data_claims.json")
    monkeypatch.setattr(readme, "PAPERS", ("evnas",))

    def measured(value):
        verdict = Verdict(claim, NOT_RUN) if value is None else judged(claim, value)
        monkeypatch.setattr(readme, "decided", lambda paper: [verdict])

    return measured


def test_tables_stay_current_where_a_data_file_is_absent(small_house, capsys):
    small_house(94.37333)
    assert readme.main([]) == 0
    assert "1 reproduced" in (readme.ROOT / "papers" / "evnas" / "CLAIMS.md").read_text()
    for page in (readme.ROOT / "README.md", readme.ROOT / "papers" / "evnas" / "README.md"):
        assert re.search(r"tables looked up \| 1 \| 1 \| – \| – \| – \|", page.read_text())
    small_house(None)
    assert readme.main(["--check"]) == 0
    assert "1 values need data that are not here (nasbench201)" in capsys.readouterr().out


def test_a_record_that_differs_from_the_data_is_stale(small_house):
    small_house(94.37333)
    readme.main([])
    small_house(94.37334)
    with pytest.raises(UserError, match=r"stale tables or pages: data_claims\.json"):
        readme.main(["--check"])


def test_a_recorded_value_is_judged_like_any_other(small_house):
    small_house(90.0)
    readme.main([])
    small_house(None)
    readme.main(["--check"])
    assert "1 not reproduced" in (readme.ROOT / "papers" / "evnas" / "CLAIMS.md").read_text()
    page = (readme.ROOT / "README.md").read_text()
    assert re.search(r"tables looked up \| 1 \| – \| 1 \| – \| – \|", page)
    assert re.search(r"CIFAR-10 test accuracy\]\(.*\) \| 94.37 % \| 90 % \| .* \| not reproduced \| – \|", page)


def test_a_damaged_record_is_named(small_house):
    small_house(None)
    readme.RECORD.write_text("{")
    with pytest.raises(UserError, match=r"data_claims\.json: .*git checkout"):
        readme.main(["--check"])


@pytest.mark.parametrize("paper", PAPERS)
def test_the_steps_to_a_verdict_are_commands_of_this_suite(paper):
    """From the data and the weights to the verdict; each claim's last step shows it."""
    for claim in load_all(paper):
        if claim.kind == "context" or not claim.command:
            continue
        lines = [line.partition("  #")[0] for line in pages.steps(claim) if not line.startswith("#")]
        for line in lines:
            assert not (problem := command_problem(line)), problem
        assert lines[-1] == f"python -m reproductions claims {claim.id}"
        assert sum("checkpoints fetch" in line for line in lines) == sum(
            n.startswith("checkpoint:") for n in claim.needs
        )


def test_a_search_stands_before_the_training_of_what_it_found():
    claims = {c.id: c for c in load_all()}
    found = pages.steps(claims["nao_v2.search.best"])
    assert [line.split()[3] for line in found if line.startswith("python -m papers.")] == ["search", "train"]
    found = pages.steps(claims["evnas.ablation.rand"])
    assert [line.split()[3] for line in found if line.startswith("python -m papers.")] == ["search", "train"]


def test_claims_pages_hold_every_claim_once_and_context_apart():
    for paper in PAPERS:
        page = (ROOT / "papers" / paper / "CLAIMS.md").read_text(encoding="utf-8")
        for claim in load_all(paper):
            if claim.headline:
                assert page.count(f'<a id="{pages.anchor(claim)}"></a>') == 1, claim.id
        if any(c.kind == "context" for c in load_all(paper)):
            context = page.partition("\n## Context\n")[2]
            assert context and not any(mark in context for mark in "✔✘")
