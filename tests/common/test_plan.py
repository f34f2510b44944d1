"""``--plan``: the run rehearsed. Its counts are those of the run, it writes nothing and refuses what the run would."""

import dataclasses
import importlib
import json
import os
import time
from types import SimpleNamespace

import pytest

from common.cli.planning import plan_of, settings_rows, show_plan
from common.cli.verbs import RunOptions, parse
from common.data import absent
from common.errors import UserError
from common.run import distributed, files, progress
from common.run.device import Memory
from common.run.folder import open_run
from common.run.keep import Values
from common.run.rehearsal import Cost, Loop, Timing, few, part_of, rehearse
from common.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class Toy(Settings):
    """A toy's settings."""

    epochs: int = setting(12, "epochs")
    workers: int = setting(4, "processes", result=False)


class Pairs:
    """Batches of 40 numbers."""

    def __init__(self, count=7):
        self.count, self.given = count, 0

    def __len__(self):
        return self.count

    def epoch(self, number, start=0):
        for _ in range(self.count):
            self.given += 1
            yield list(range(40)), [number] * 40


@pytest.fixture
def clock(monkeypatch):
    """The rehearsal's clock, which the toy moves."""
    now = [1000.0]
    monkeypatch.setattr("common.run.rehearsal.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
def options(tmp_path, clock):
    return RunOptions(out=tmp_path / "run", paper="toy", section="search", device="cpu", plan=True)


def toy(settings, options, now_s, pairs=None, step=0.002, after=None):
    """A search of several loops, whose candidates' scores must be complete behind their loop."""
    pairs = pairs or Pairs()
    with open_run(options, settings) as run:
        now, scores = Values(found=[]), []
        run.keeps(now=now, scores=scores)
        for epoch in run.epochs(settings.epochs):
            for _, (images, labels) in run.steps(pairs, epoch):
                assert len(images) == len(labels)
                now_s[0] += step * len(images) / 40
            for _, item in run.each(list("abcdef"), "score"):
                for _ in progress.shows(pairs, "test"):
                    pass
                now.found.append(item)
            assert len(now.found) == 6
            now.found = []
            run.log(epoch=epoch)
            files.write_text(run.folder / "file.txt", "text")
        for number, _ in run.each(500, "candidate"):
            scores.append(number)
            now_s[0] += 0.05
        for number, _ in run.each(30, "latent"):
            if number == 4:
                break
        assert len(scores) == 500
        if after is not None:
            raise after
        return run.finish({"metrics": {"x": float("nan")}})


def test_counts_are_whole_and_nothing_is_written(options, tmp_path, clock, capsys):
    pairs = Pairs()
    stage = rehearse(lambda s, o: toy(s, o, clock, pairs), Toy(), options)
    said = capsys.readouterr().err.splitlines()  # one line of its own, and nothing that the run would say
    assert len(said) == 1 and said[0].startswith("rehearsing a few steps of every loop; this takes a minute")
    cost = stage.loops[0].done[0]
    assert {"/".join(path): round(turns) for path, turns in cost.turns.items()} == {
        "epoch": 12, "epoch/step": 84, "epoch/score": 72, "epoch/score/test": 504, "candidate": 500, "latent": 5,
    }  # fmt: skip
    assert round(cost.images["epoch", "step"]) == 84 * 40 and not stage.notes
    assert cost.seconds == pytest.approx(500 * 0.05 + 84 * 0.002) and list(tmp_path.iterdir()) == []


def test_time_is_scaled_to_whole_batches(options, monkeypatch, clock):
    monkeypatch.setattr("common.run.device.Memory.room", lambda self: 1.0)  # there is memory for no more
    stage = rehearse(lambda s, o: toy(s, o, clock, step=0.4), Toy(epochs=2), options)
    assert stage.scaled["epoch", "step"] == (16, 40)
    assert stage.loops[0].done[0].seconds == pytest.approx(14 * 0.4 + 500 * 0.05)


def test_processes_with_uneven_shares_ask_equally_often(options, clock, monkeypatch):
    """A batch of 33 images is 17 and 16 of two processes; each question is a message of both."""
    asked = {}
    for images in (17, 16):
        asked[images] = []
        monkeypatch.setattr("common.run.distributed.agree", lambda going, of=asked[images]: of.append(going) or going)
        timing = Timing(Memory())
        for _ in few(timing, iter([([0] * images, [0] * images)] * 3), 3, "step"):
            clock[0] += 0.1
    assert len(asked[17]) == len(asked[16]) > 1


def test_scores_of_turns_that_processes_share_are_filled_up(options, clock):
    """Seven candidates in turns of two: each turn gives two scores, the last one."""

    def scored(settings, options):
        with open_run(options, settings) as run:
            scores = []
            run.keeps(scores=scores)
            for _, turn in run.each([[0, 1], [2, 3], [4, 5], [6]], "score"):
                clock[0] += 8.0
                scores += turn
            assert len(scores) == 7
            return run.finish({"metrics": {}})

    stage = rehearse(scored, Toy(), options)
    assert not stage.notes and stage.loops[0].done[0].turns["score",] == 4


def test_work_of_one_process_asks_no_other(monkeypatch):
    """In the last turn some processes have none, and would not answer; here there is no other process at all."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "gather", lambda mine: [mine, mine])
    assert distributed.share_out([(0, "a"), (1, "b")], lambda *_: distributed.agree(True)) == [True, True]
    with pytest.raises((RuntimeError, ValueError)):
        distributed.agree(True)


def test_mistakes_are_the_runs_and_shortened_loops_are_no_mistakes(options, clock, capsys):
    def wrong(settings, options):
        with open_run(options, settings):
            raise UserError("no")

    with pytest.raises(UserError, match="no"):
        rehearse(wrong, Toy(), options)
    with pytest.raises(ZeroDivisionError):
        rehearse(lambda settings, options: 1 / 0, Toy(), options)
    assert capsys.readouterr().err == ""  # a refused command leaves the refusal alone
    stage = rehearse(lambda s, o: toy(s, o, clock, after=UserError("a path that is not there")), Toy(), options)
    assert stage.notes == ["what follows the last loop was not rehearsed (a path that is not there)"]
    assert ("candidate",) in stage.loops[0].done[0].turns
    with open_run(dataclasses.replace(options, plan=False), Toy(epochs=1)):  # nothing is left behind
        files.write_text(options.folder / "file.txt", "text")
    assert (options.folder / "file.txt").exists()
    with pytest.raises(UserError, match="belongs to a run with epochs = 1, now it is 12"):
        rehearse(lambda s, o: toy(s, o, clock), Toy(), options)


def test_a_loop_costs_what_its_turns_do():
    loop = Loop(("epoch",), 11, 0.0, spread=True)
    loop.done = {0: Cost(1.0), 5: Cost(6.0), 10: Cost(11.0)}
    assert loop.cost().seconds == pytest.approx(sum(range(1, 12)))  # it grows
    loop = Loop(("step",), 10, 0.0)
    loop.done = {0: Cost(50.0), 1: Cost(1.0), 2: Cost(1.0)}
    assert loop.cost().seconds == pytest.approx(10)  # the first warmed up
    assert part_of(([1] * 9, [2] * 9), 9, 4) == ([1] * 4, [2] * 4)
    assert part_of([([1] * 20, [2] * 20)] * 2, 40, 4) == [([1] * 8, [2] * 8)] * 2


def test_settings_say_where_they_are_from(tmp_path):
    verbs = importlib.import_module("papers.evnas.__main__").VERBS
    (tmp_path / "mine.yaml").write_text("lr: 0.5\nmomentum: 0.5\n")
    words = ["search", "--variant", "Mut", "--settings", str(tmp_path / "mine.yaml"), "--lr", "0.25", "--no-flip"]
    rows = {row["name"]: row for row in settings_rows(*parse("evnas", verbs, words)[1:])}
    assert rows["lr"] == {"name": "lr", "value": 0.25, "from": "flag", "published": 0.025}
    assert rows["momentum"]["from"] == "file" and rows["crossover"]["from"] == "variant"
    assert rows["generations"]["from"] == "profile" and rows["clip"] == {
        "name": "clip", "value": 5.0, "from": "published",
    }  # fmt: skip
    assert "workers" not in rows and rows["flip"]["from"] == "flag"
    rows = {row["name"]: row for row in settings_rows(*parse("evnas", verbs, ["lookup", "000000"])[1:])}
    assert rows["cells"] == {"name": "cells", "value": ["000000"], "from": "flag", "published": []}  # it needs no flag


def test_a_set_that_is_not_here_is_counted(tmp_path, monkeypatch):
    """The numbers of the published run, without its data; but a run still asks for them."""
    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    absent.ABSENT.clear()
    from common.data.pictures.sets import open_pictures
    from common.data.sets import open_images
    from common.data.text import Corpus

    plan = RunOptions(plan=True)
    assert len(open_images("cifar10", "train", plan)) == 50_000 and len(open_images("cifar100", "test", plan)) == 10_000
    pictures = open_pictures("imagenet", "train", plan)
    assert len(pictures) == 1_281_167 and len(pictures.classes) == 1000 and pictures.picture(7).size == (500, 375)
    corpus = Corpus.open("ptb", plan)
    assert (len(corpus.train), len(corpus.valid), len(corpus.test), corpus.types) == (929_589, 73_760, 82_430, 10_000)
    assert set(absent.ABSENT) == {"cifar10", "cifar100", "imagenet", "ptb"}
    for name in ("cifar10", "imagenet"):
        with pytest.raises(UserError, match="missing"):
            (open_images if name == "cifar10" else open_pictures)(name, "train", RunOptions())
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(UserError):
        open_images("cifar10", "train", plan)  # there, but not whole


TINY = {
    "nsas": ["search", "--epochs", "1", "--train-images", "60", "--channels", "2", "--batch-size", "10",
             "--select-images", "20", "--select-batch-size", "10", "--select-candidates", "2"],
    "evnas": ["search", "--space", "nb201", "--generations", "2", "--population", "3", "--tournament", "2",
              "--train-images", "60", "--fitness-images", "40", "--channels", "2", "--cells-per-stage", "1"],
    "cream": ["train", "--arch", "14", "--epochs", "1", "--train-images", "100"],
    "sgnas": ["search", "--supernet-epochs", "1", "--generator-epochs", "1", "--train-images", "64",
              "--search-images", "64"],
    "nao_v2": ["train", "--arch", "NAONet_V2", "--epochs", "1", "--train-images", "64", "--channels", "4",
               "--layers", "3"],
}  # fmt: skip


def counted(monkeypatch, function, settings, options):
    """How often every loop of the real run goes round, by the names of the loops it stands in."""
    turns = {}
    done = progress.Progress.done

    def counting(self, batch=None):
        path = "/".join(loop.what for loop in progress._loops[: progress._loops.index(self) + 1])
        turns[path] = turns.get(path, 0) + 1
        done(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(progress.Progress, "done", counting)
        function(settings, options)
    return turns


@pytest.mark.parametrize("paper", TINY)
def test_the_plan_counts_what_the_run_does(paper, tmp_path, monkeypatch):
    verbs = importlib.import_module(f"papers.{paper}.__main__").VERBS
    words = [*TINY[paper], "--device", "cpu", "--out", str(tmp_path / "run")]
    stage, settings, options = parse(paper, verbs, [*words, "--plan"])
    function = getattr(importlib.import_module(stage.run.partition(":")[0]), stage.run.partition(":")[2])
    found = plan_of(stage, function, settings, options)
    assert not (tmp_path / "run").exists() and found["seconds"] > 0 and not found["missing"]
    planned = {"/".join(loop["loop"]): loop["turns"] for loop in found["loops"]}
    real = counted(monkeypatch, function, settings, dataclasses.replace(options, plan=False))
    assert planned == real


TIMED = {  # of the smoke profile, 10 to 25 seconds each
    "nsas": ["search"], "evnas": ["search", "--space", "nb201"], "cream": ["search", "--epochs", "2"],
    "sgnas": ["search", "--supernet-epochs", "1", "--generator-epochs", "1"], "nao_v2": ["random-search"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif("NAS_TIME_PLANS" not in os.environ, reason="compares times, for minutes: set NAS_TIME_PLANS")
@pytest.mark.parametrize("paper", TIMED)
def test_the_time_of_a_smoke_run_is_within_a_factor_of_two(paper, tmp_path, monkeypatch):
    """Both in seconds of this process on the CPU, so that other programs of the machine do not count."""
    monkeypatch.setattr("common.run.rehearsal.time", SimpleNamespace(monotonic=time.process_time))
    verbs = importlib.import_module(f"papers.{paper}.__main__").VERBS
    words = [*TIMED[paper], "--device", "cpu", "--out", str(tmp_path / "run"), "--plan"]
    stage, settings, options = parse(paper, verbs, words)
    function = getattr(importlib.import_module(stage.run.partition(":")[0]), stage.run.partition(":")[2])
    found = plan_of(stage, function, settings, options)
    began = time.process_time()
    function(settings, dataclasses.replace(options, plan=False))
    took = time.process_time() - began
    print(f"{paper} {' '.join(TIMED[paper])}: planned {found['seconds']:.1f} s, took {took:.1f} s")
    assert 0.5 < found["seconds"] / took < 2


def test_a_plan_is_printed(capsys):
    found = {
        "paper": "p", "stage": "search_x", "profile": "smoke", "variant": "authors", "seed": 0, "folder": "results/x",
        "settings": [
            {"name": "lr", "value": 0.1, "from": "profile", "published": 0.2},
            {"name": "cells", "value": ["x"], "from": "flag", "published": []},
        ],
        "loops": [{"loop": ["epoch", "step"], "turns": 1200, "images": 48000}], "device": "CPU with 2 threads",
        "processes": 2, "seconds": 300.0, "seconds_range": [180, 510], "memory_bytes": 2**30,
        "missing": {"cifar10": "get it"}, "notes": ["so"],
    }  # fmt: skip
    show_plan(found, as_json=False)
    shown = capsys.readouterr().out
    for line in (
        "p search x (smoke, authors, seed 0) would write results/x", "* lr     0.1    profile    published: 0.2",
        "* cells  ['x']  flag       published: -",
        "  epoch / step: 1,200, up to 48,000 images a process", "missing: cifar10; get it with: get it", "note: so",
        "time: about 5 min (3 min to 8 min) on this CPU with 2 threads, 2 processes, from steps timed just now",
    ):  # fmt: skip
        assert line in shown.splitlines(), shown
    show_plan(found, as_json=True)
    assert json.loads(capsys.readouterr().out) == found
