"""What is said while a run goes on and at its end: lines off a terminal, one voice, the next command."""

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

from common.cli.ending import Ending, command, paragraph
from common.cli.verbs import RunOptions, parse
from common.papers import PAPERS
from common.run import progress
from common.run.progress import Progress, shows, watched
from common.settings import settings_from

ROOT = Path(__file__).resolve().parents[2]


class Pairs:
    """Three batches of four images."""

    def __len__(self):
        return 3

    def epoch(self, number, start=0):
        return iter([("pixels", [number] * 4)] * 3)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves; the next line is due at once when it has moved 30 s."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "_next_line", [0.0])
    return now


def test_lines_say_where_all_loops_stand(clock, capsys):
    outer = Progress("epoch", 4)
    for number, _ in enumerate(shows(Pairs(), "step", 7)):
        clock[0] += 2.0
        if number == 2:
            assert capsys.readouterr().err == ""  # five seconds have not passed when the second is done
    assert capsys.readouterr().err == "epoch 0 of 4, step 3 of 3: 2 images/s, 0 s left\n"
    outer.done()
    clock[0] += 29.0
    list(watched([1], 1, "other"))
    assert capsys.readouterr().err == ""  # one line in thirty seconds
    for _ in watched([1, 2], 2, "fitness"):
        clock[0] += 10.0
    assert capsys.readouterr().err.startswith("epoch 1 of 4, fitness 1 of 2: 10 s left, ")
    outer.close()
    assert progress._loops == []


def test_a_loop_that_is_left_is_shown_no_longer(clock):
    for _ in watched([1, 2, 3], 3, "chunk"):
        break
    assert progress._loops == []


def test_only_process_0_speaks(clock, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    for _ in shows(Pairs(), "step"):
        clock[0] += 60.0
    progress.say("hello")
    assert capsys.readouterr() == ("", "")


def test_the_next_command_is_read_by_the_shell(tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "timing.json").write_text('{"seconds": 5400}')
    (folder / "weights.safetensors").write_text("")
    options = RunOptions(out=folder, paper="evnas", section="train", seed=3, profile="proxy")
    told = Ending("it has 5 % error", "2.5 %", "evaluate", ("--checkpoint", f"{folder}/weights.safetensors"))
    text = paragraph(told, options)
    plain = text.replace("\n", " ")
    assert plain.startswith("evnas train is done after 1.5 h: It has 5 % error. Published: 2.5 %; this")
    assert ": weights.safetensors. " in plain + " " and "timing.json" not in text and "no replication" in plain
    assert "1.5 h: results/a.json has 5 %" in paragraph(told._replace(found="results/a.json has 5 %"), options)
    words = shlex.split(text.splitlines()[-1].removeprefix("Next: "))
    assert words[4:6] == ["--checkpoint", f"{folder}/weights.safetensors"] and words[6:] == [
        "--profile", "proxy", "--seed", "3",
    ]  # fmt: skip
    assert command(told, RunOptions(out=folder, paper="evnas", section="train")) == shlex.join(words[:6])


STUDIES = {"nsas": {"experiments"}, "cream": {"rank_study"}, "nao_v2": {"random_search", "rank_study"}}


@pytest.mark.parametrize("paper", PAPERS)
def test_the_ends_of_committed_runs(paper):
    """Every search, training and test says a number of its own and a next command that the command line takes."""
    verbs = importlib.import_module(f"papers.{paper}.__main__").VERBS
    ending = importlib.import_module(f"papers.{paper}.ending").ending
    stages = {stage.section: stage for verb in verbs.values() for stage in verb.stages.values()}
    told = set()
    for file in sorted((ROOT / "results" / "proxy" / paper).rglob("result.json")):
        result = json.loads(file.read_text())
        section = result["stage"]
        if section not in stages:
            continue
        cls, asked = stages[section].settings, result["settings"]
        named = {"dataset", "text", "arch"} & set(asked) & set(cls.__dataclass_fields__)
        settings = settings_from(cls, {name: asked[name] for name in named})
        options = RunOptions(out=file.parent, paper=paper, section=section, profile="proxy")
        if (found := ending(result, settings, options)) is None:
            continue
        told.add(section)
        assert re.search(r"\d|trained|chosen", found.found)
        if found.verb:
            words = shlex.split(command(found, options))
            assert words[:3] == ["python", "-m", f"papers.{paper}"]
            parse(paper, verbs, words[3:])
    assert {"search", "train", "evaluate", *STUDIES.get(paper, {})} <= told


@pytest.mark.parametrize(("paper", "section", "result", "said"), [
    ("nsas", "experiments", {"metrics": {
        "forgetting_points_authors": 1.0, "forgetting_points_paper": -0.5,
        "mean_supernet_accuracy_percent_authors": 9.75,
        "mean_supernet_accuracy_percent_paper": 12.0}}, "lost 1.00 points .* and -0.50 .* 9.75 and 12.00 %"),
    ("nsas", "experiments", {"metrics": {"runs": 3}, "paragraph": "Every M is alike.\nMore."}, "^Every M is alike$"),
    ("cream", "rank_study", {"metrics": {"paths": 4, "shared_kendall_tau": None}}, "of 4 paths .* is undefined$"),
    ("nao_v2", "rank_study", {"metrics": {"architectures": 6, "kendall_tau_params": -0.28, "kendall_tau_uniform": 0.3}},
     "of 6 .* is -0.28 with sampling by size and 0.30 with uniform"),
    ("sgnas", "evolve", {"metrics": {"scored": 1200, "mean_error": 61.234}, "architectures": [{}, {}]},
     "^2 architectures .* 1,200; .* 61.23 %"),
    ("sgnas", "sweep", {"metrics": {"kendall_tau": 1.0}, "rows": [{}] * 5}, "of 5 targets.* 1.000"),
])  # fmt: skip
def test_the_ends_of_studies(paper, section, result, said, tmp_path):
    ending = importlib.import_module(f"papers.{paper}.ending").ending
    found = ending(result, None, RunOptions(out=tmp_path, paper=paper, section=section)).found
    assert re.search(said, found) and len(found.splitlines()) == 1
