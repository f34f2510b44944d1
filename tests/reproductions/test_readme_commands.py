"""README commands: each form in blocks and tables parses; the blocks of a page work in order in one folder.

A run is replaced by an instant one that keeps a run's rules: its folder must be free or its own, the files it is given
must be there, and it leaves the files that a run leaves. So a folder that two commands of a page share, or a file that
no earlier command makes, is found in a second.
"""

from __future__ import annotations

import importlib
import itertools
import re
import shlex
from pathlib import Path

import pytest
import yaml

from common.cli import verbs as cli
from common.papers import PAPERS
from common.run.folder import open_run
from common.settings import to_dict
from reproductions.claims import ROOT, command_problem
from tests.reproductions.test_readme import GUIDES, PAGES, blocks

# What stands for a word of the user's own in a README.
STANDS_FOR = {
    "FILE": "file.json", "DIR": "folder", "DIR/NAME": "folder/name", "STUDY": "study", "RUN": "run", "SOURCE": "source",
    "TARGET": "target.lmdb", "N": "2", "S": "0", "NAME|FILE": "file.json",
}  # fmt: skip
NAMES = {"cream": "287", "evnas": "EvNASA", "nao_v2": "NAONet_V2", "nsas": "Random_NSAS", "sgnas": "SGNAS-A"}
FILES = ("architecture.json", "weights.safetensors", "supernet.safetensors", "generator.safetensors", "supernet.json")


def forms(command: str) -> list[str]:
    """Every command that a README line means: ``[optional parts]`` without and with, ``a\\|b`` one after another."""
    command = command.replace("\\|", "|").replace("results/…/", "")
    if "…" in command or "..." in command:  # the reader's own flags follow
        command = re.sub(r"\s*(…|\.\.\.)\s*", " ", command)
        command = re.sub(r"\s--[\w-]+$", "", command.rstrip())  # a flag whose value was the dots
    options = re.findall(r"\[([^\]]*)\]", command)
    texts = [re.sub(r"\s*\[[^\]]*\]", "", command)]
    texts += [f"{texts[0]} {option}" for option in options]
    found = []
    for text in texts:
        words = [[word] if word in STANDS_FOR else word.split("|") for word in text.split()]
        found += [" ".join(combination) for combination in itertools.product(*words)]
    return found


def inline(page: Path) -> list[str]:
    """Commands in tables and sentences."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    return [
        c
        for c in re.findall(r"`((?:torchrun|python -m papers)[^`]*)`", text)
        if len(c.split()) > 3 and "<paper>" not in c
    ]


def words_of(command: str, paper: str) -> list[str]:
    """The words after ``python -m papers.X``, the reader's own ones filled in."""
    words = shlex.split(command)
    words = words[words.index("-m") + 2 :]
    return [STANDS_FOR.get(word, NAMES[paper] if word == "NAME" else word) for word in words]


def parsed(command: str):
    """(stage, settings, options); unknown verbs, flags and values are refused."""
    paper = re.search(r"papers\.(\w+)", command)[1]
    verbs = importlib.import_module(f"papers.{paper}.__main__").VERBS
    return cli.parse(paper, verbs, words_of(command, paper))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_command_of_tables_and_sentences_parses(page):
    wrong = []
    for command in itertools.chain.from_iterable(map(forms, inline(page))):
        filled = " ".join(STANDS_FOR.get(word, word) for word in command.split())
        try:
            assert not (problem := command_problem(re.sub(r"<[^>]*>", "1", filled))), problem
            parsed(filled)
        except (Exception, SystemExit) as error:
            wrong.append(f"{command}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("paper", PAPERS)
def test_the_blocks_of_a_page_work_in_order_in_one_folder(paper, tmp_path, monkeypatch, capsys):
    verbs = importlib.import_module(f"papers.{paper}.__main__").VERBS
    writing = {s.run for verb in verbs.values() for s in verb.stages.values() if getattr(s, "writes", True)}
    endings = {s.ending for verb in verbs.values() for s in verb.stages.values() if getattr(s, "ending", "")}
    original = cli._target
    monkeypatch.chdir(tmp_path)
    for command in blocks(ROOT / "papers" / paper / "README.md"):
        if not command.startswith(f"python -m papers.{paper} ") or "--help" in command or "--plan" in command:
            continue  # torchrun: the command before it, for several processes; a plan rehearses the real work
        told = made if "results/" in command else None  # of a stand-in for a run's file there is nothing to tell
        stand_in = lambda name, told=told: (
            silent if name in endings else instant if name in writing else told or original(name)
        )
        monkeypatch.setattr(cli, "_target", stand_in)
        cli.main(paper, verbs, words_of(command, paper))
        assert "holds this run's result already" not in capsys.readouterr().err, f"{command} repeats an earlier command"


def silent(*words):
    """Nothing was measured, so an ending has nothing to say."""


def made(settings, options):
    """Files of runs that the settings name are there."""
    for name, value in to_dict(settings).items():
        if isinstance(value, str) and value.startswith("results/"):
            assert Path(value).exists(), f"--{name} {value}: no earlier command of the page makes it"


def instant(settings, options):
    """A run without its work."""
    made(settings, options)
    with open_run(options, settings) as run:
        if run.result is not None:
            return run.result
        for file in FILES:
            (run.folder / file).write_text("{}")
        return run.finish({"metrics": {}})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_lines_about_published_weights_name_the_profile(page):
    """Under the default profile they would be tested on digits, which is refused."""
    for command in [*blocks(page), *inline(page)]:
        if " evaluate " in command and "data/checkpoints/" in command:
            assert "--profile paper" in command, command


def test_forms_of_a_line():
    assert forms(r"python -m papers.nsas search --method a\|b [--variant paper]") == [
        "python -m papers.nsas search --method a", "python -m papers.nsas search --method b",
        "python -m papers.nsas search --method a --variant paper",
        "python -m papers.nsas search --method b --variant paper",
    ]  # fmt: skip


def test_dvc_commands_of_the_readme_name_what_exists():
    """Files, stages, items of matrices and parameters."""
    commands = [c for page in GUIDES for c in blocks(page) if c.startswith("dvc ")]
    assert commands
    for command in commands:
        for word in shlex.split(command)[2:]:
            file, _, stage = word.partition(":")
            if file.endswith("dvc.yaml"):
                stages = yaml.safe_load((ROOT / file).read_text())["stages"]
                name, _, item = stage.partition("@")
                assert not stage or name in stages, command
                if item:
                    matrix = [PAPERS if v == "${PAPERS}" else v for v in stages[name]["matrix"].values()]
                    assert item in {"-".join(map(str, row)) for row in itertools.product(*matrix)}, command
            elif "=" in word:
                file, _, setting = word.partition("=")[0].partition(":")
                value = yaml.safe_load((ROOT / file).read_text())
                for part in setting.split("."):
                    assert part in value, command
                    value = value[part]
