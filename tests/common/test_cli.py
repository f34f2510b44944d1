"""The command line: precedence, selectors, one-line errors, instant help."""

import hashlib
import json
import subprocess
import sys
import types
from dataclasses import dataclass
from typing import Literal

import pytest
import tyro

from common import settings as settings_module
from common.cli import naming as folders
from common.cli import verbs as cli
from common.cli.verbs import RunOptions, Stage, Verb, main
from common.errors import UserError
from common.words import hint, near, suggestion


@dataclass(frozen=True)
class Search:
    """A search."""

    learning_rate: float = 0.1  # of the weights
    epochs: int = 3
    kind: Literal["a", "b"] = "a"
    clip: bool = True
    limit: int | None = None
    shape: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Describe:
    arch: tyro.conf.Positional[str] = "X"
    dataset: str = ""


CALLS = []


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """run(*argv) -> (status, stdout, stderr); what the stage was called with is in CALLS."""
    stage = types.ModuleType("fake_stage")
    stage.search = lambda settings, options: CALLS.append((settings, options)) or {"metrics": {"x": 1.5}, "n": 1}
    stage.describe = lambda settings, options: {"arch": settings.arch, "cells": [1, 2]}

    def failing(error):
        def fail(settings, options):
            raise error

        return fail

    stage.interrupted, stage.wrong = failing(KeyboardInterrupt()), failing(UserError("a cause;\n a remedy"))
    monkeypatch.setitem(sys.modules, "fake_stage", stage)
    params = tmp_path / "params.yaml"
    params.write_text("p:\n  search: {epochs: 7, learning_rate: 0.7}\n  bad: {epoch: 1}\n")
    monkeypatch.setitem(settings_module.PROFILES, "smoke", params)
    CALLS.clear()
    variants = {"paper": {"epochs": 5, "kind": "b", "clip": False}}
    verbs = {
        "search": Verb(
            {("s1",): Stage(Search, "fake_stage:search", "search", "Search in S1.", variants),
             ("s2",): Stage(Search, "fake_stage:search", "search_s2", "Search in S2.")},
            "search an architecture", {"space": {"s1": "one", "s2": "another", "s3": "none"}}),
        "soon": Verb({(): Stage(Search, "fake_stage:search", "soon", "x", cheap=True)}, "x"),
        "describe": Verb(
            {(): Stage(Describe, "fake_stage:describe", "describe", "x", writes=False, ignores=cli.COMPUTES)}, "count"
        ),
        "bad": Verb({(): Stage(Search, "fake_stage:search", "bad", "Bad section.")}, "bad"),
        "interrupted": Verb({(): Stage(Search, "fake_stage:interrupted", "i", "x")}, "x"),
        "wrong": Verb({(): Stage(Search, "fake_stage:wrong", "w", "x")}, "x"),
    }  # fmt: skip

    def go(*argv):
        status = 0
        try:
            main("p", verbs, [str(a) for a in argv])
        except SystemExit as leaving:
            status = leaving.code or 0
        caught = capsys.readouterr()
        return status, caught.out, caught.err

    return go


def test_precedence(run, tmp_path):
    run("search", "--profile", "paper")
    run("search", "--variant", "paper", "--profile=paper")
    run("search", "--variant", "paper")
    (tmp_path / "mine.yaml").write_text("learning_rate: 0.01\n")
    run("search", "--variant", "paper", "--settings", tmp_path / "mine.yaml")
    run("search", "--settings", tmp_path / "mine.yaml", "--learning-rate", "2e-3", "--learning_rate=3e-3", "--no-clip",
        "--limit", "4", "--shape", "5", "6", "7")  # fmt: skip
    settings = [s for s, _ in CALLS]
    assert settings[0] == Search()
    assert settings[1] == Search(epochs=5, kind="b", clip=False)
    assert settings[2] == Search(learning_rate=0.7, epochs=7, kind="b", clip=False)
    assert settings[3] == Search(learning_rate=0.01, epochs=7, kind="b", clip=False)
    assert settings[4] == Search(learning_rate=3e-3, epochs=7, clip=False, limit=4, shape=(5, 6, 7))
    given = [options.given for _, options in CALLS]  # by flags and files, not by profile and variant
    assert given[:4] == [frozenset()] * 3 + [{"learning_rate"}]
    assert given[4] == {"learning_rate", "clip", "limit", "shape"}


def test_a_profile_that_departs_from_the_variant_says_so(run, tmp_path, monkeypatch):
    params = tmp_path / "params.yaml"
    params.write_text("p:\n  search: {epochs: 7, kind: a}\n")
    monkeypatch.setitem(settings_module.PROFILES, "smoke", params)
    assert "note: profile smoke departs from --variant paper: --kind a (variant: b)" in run(
        "search", "--variant", "paper"
    )[2]  # fmt: skip
    assert "note" not in run("search", "--variant", "paper", "--kind", "b")[2]
    assert "note" not in run("search", "--variant", "authors")[2] + run("search")[2]


def test_options_and_selectors(run, tmp_path):
    status, out, _ = run("search", "--space=s2", "--seed", 3, "--out", tmp_path, "--no-resume", "--device", "cpu")
    settings, options = CALLS[0]
    assert status == 0 and "x: 1.5" in out and f"result: {tmp_path}/result.json" in out
    assert settings == Search()
    assert options == RunOptions(out=tmp_path, seed=3, device="cpu", resume=False, paper="p", section="search_s2")
    assert str(RunOptions(paper="p", section="train", seed=2).folder) == "results/smoke/p/train-seed2"


def test_default_folders_tell_runs_apart(run):
    """What a documented command chooses stands in the name; quantities do not."""
    commands = {
        (): "search-seed0",
        ("--seed", 3, "--epochs", 9, "--learning-rate", 0.5): "search-seed3",
        ("--variant", "paper"): "search-paper-seed0",
        ("--variant", "paper", "--kind", "a"): "search-paper-a-seed0",
        ("--kind", "b"): "search-b-seed0",
        ("--no-clip",): "search-no-clip-seed0",
        ("--space", "s2"): "search_s2-seed0",
    }
    for argv, name in commands.items():
        run("search", *argv)
        assert str(CALLS[-1][1].folder) == f"results/smoke/p/{name}"
    for argv, name in {
        (): "soon-seed0", ("--epochs", 4, "--learning-rate", 5e-4): "soon-learning-rate-0.0005-epochs-4-seed0",
        ("--shape", 3, 4): "soon-shape-3-4-seed0", ("--limit", 3): "soon-limit-3-seed0",
    }.items():  # fmt: skip
        run("soon", *argv)
        assert CALLS[-1][1].folder.name == name and CALLS[-1][1].cheap
    architectures = {
        "EvNASA": "EvNASA", "results/smoke/p/search-seed1/architecture.json": "search-seed1",
        "my/found_one.json": "found_one", "architecture.json": "architecture", "EvNAS/../x y": "x-y-" + digest("x y"),
        "0 1 2 3": "0-1-2-3-" + digest("0 1 2 3"), "1" * 60: "1" * 21 + "-" + digest("1" * 60), "..": digest(".."),
        "runs/a/weights_raw.safetensors": "a", "up/net.pth.tar": "net", "./six@32": "six@32", "ä": digest("ä"),
    }  # fmt: skip
    for given, shown in architectures.items():
        assert folders.word(given) == shown
    usual, long = Describe(), Describe("x" * 28, "y" * 28)
    words = folders.distinctions("describe", {"space": ("a", "b" * 28)}, usual, long)
    assert words == ("b" * 28, "x" * 28, "y" * 28)
    names = {folders.default_folder("paper", "p", "describe" * n, "modern", words, 2**32 - 1).name for n in (1, 2, 3)}
    assert len(names) == 3 and all(len(name) <= 100 and name.endswith("-seed4294967295") for name in names)


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def test_a_flag_that_says_what_happens_anyway_is_no_mistake(run):
    assert run("describe", "--device", "cpu", "--seed", 0, "--resume", "--json")[0] == 0
    assert "p describe (smoke, authors, seed 0) writes no folder" in run("describe", "--plan")[1]


def test_what_a_command_without_files_says_can_be_kept(run, tmp_path):
    for arch in ("one", "two"):  # again with other arguments
        assert run("describe", arch, "--out", tmp_path)[1] == f"arch: {arch}\ncells: [1, 2]\n"
        assert json.loads((tmp_path / "describe.json").read_text()) == {"arch": arch, "cells": [1, 2]}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "describe.json").write_text("mine")
    status, _, err = run("describe", "--out", tmp_path / "mine")
    assert (
        status == 2 and "no file of this suite" in err and (tmp_path / "mine" / "describe.json").read_text() == "mine"
    )


SETTINGS_FILES = {
    "p: {serach: {epochs: 1}}": "p has no stage 'serach'; did you mean 'search'?",
    "p: {search: {epochs: 1}, search_s3: {epochs: 2}}": "p has no stage 'search_s3'; did you mean 'search_s2'?",
    "p: {search: {epochs: 1}}\nevnass: {search: {epochs: 1}}": "'evnass' is no paper; did you mean 'evnas'?",
    "p: {search: {epochs: 1}}\nepochs: 3": "'epochs' is no paper",
    "p: {search: 3}": "'search' must hold a mapping",
    "epochs: 1\nepochs: 2": "repeats 'epochs' (line 2); keep one of the two",
    "p:\n  search:\n    clip: true\n    epochs: 1\n    clip: false": "repeats 'clip' (line 5)",
    "p: {search: {epochs: 1}}\np: {search: {epochs: 2}}": "repeats 'p' (line 2)",
    "learning_rate: 1\nlearning-rate: 2": "'learning-rate' is given twice",
    "epoch: 1": "unknown setting 'epoch'",
}


@pytest.mark.parametrize("profile", [False, True])
@pytest.mark.parametrize("text", SETTINGS_FILES)
def test_mistakes_in_settings_files_are_refused(text, profile, run, tmp_path, monkeypatch):
    file = tmp_path / "mine.yaml"
    file.write_text(text + "\n")
    if profile:
        monkeypatch.setitem(settings_module.PROFILES, "smoke", file)
    status, _, err = run("search", *([] if profile else ["--settings", file]))
    if profile and text.startswith(("epoch", "learning")) and "repeats" not in SETTINGS_FILES[text]:
        assert status == 2 and "is no paper" in err and not CALLS  # a profile always names paper and stage
        return
    assert status == 2 and not CALLS and SETTINGS_FILES[text] in err and len(err.splitlines()) == 1, err


def test_a_settings_file_for_several_papers_and_stages(run, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("p:\n  search: &one {epochs: 2}\n  search_s2:\n    <<: *one\n    limit: 5\n  bad:\nevnas: {}\n")
    run("search", "--settings", file)
    run("search", "--space", "s2", "--settings", file)
    assert [(s.epochs, s.limit) for s, _ in CALLS] == [(2, None), (2, 5)]
    assert "sets nothing of p describe" in run("describe", "--settings", file)[2]  # valid, but it does nothing here


def test_shown_numbers_are_rounded_and_json_is_whole(run, monkeypatch):
    result = {
        "metrics": {"error": 4.400000000000004, "macs": 538123456.0, "n": 1234567, "list": [0.1 + 0.2, None, "a"],
                    "nested": {"x": 1 / 3}, "small": 1.23456789e-7, "none": None, "yes": True}
    }  # fmt: skip
    monkeypatch.setattr(sys.modules["fake_stage"], "search", lambda settings, options: result)
    shown = run("search")[1].splitlines()
    assert shown[:-1] == [
        "error: 4.4", "macs: 538123456.0", "n: 1234567", 'list: [0.3, null, "a"]', 'nested: {"x": 0.333333}',
        "small: 1.23457e-07", "none: null", "yes: True",
    ]  # fmt: skip
    assert json.loads(run("search", "--json")[1]) == result


def test_positional_and_json(run):
    assert json.loads(run("describe", "EvNASA", "--json")[1]) == {"arch": "EvNASA", "cells": [1, 2]}
    assert run("describe")[1] == "arch: X\ncells: [1, 2]\n"


def test_plan_runs_nothing(run):
    status, out, _ = run("search", "--plan", "--epochs", 2)
    assert (
        status == 0
        and "* epochs         2       flag       published: 3" in out
        and "results/smoke/p/search-seed0" in out
    )
    document = json.loads(run("search", "--plan", "--epochs", 2, "--json")[1])
    assert document["loops"] == [] and document["seconds"] < 5 and document["processes"] == 1
    assert document["folder"] == "results/smoke/p/search-seed0" and document["variant"] == "authors"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["serch"], "unknown verb 'serch'; did you mean 'search'?"),
        (["--seed", "1"], "unknown flag before the verb '--seed'"),
        (["search", "s1", "3"], "'s1, 3' follows no flag; give every value as --FLAG VALUE"),
        (["search", "--learning-rat", "1"], "unknown flag --learning-rat of search; did you mean '--learning-rate'?"),
        (["search", "--epochs", "2.5"], "--epochs must be int, not '2.5'"),
        (["search", "--learning-rate", "fast"], "--learning-rate must be float, not 'fast'"),
        (["search", "--kind", "c"], "--kind cannot be 'c' (one of a, b)"),
        (
            ["search", "--device", "gpu"],
            "--device cannot be 'gpu'; did you mean 'cuda'? (one of auto, cpu, cuda, cuda:N, mps)",
        ),
        (["search", "--seed"], "--seed"),
        (["search", "--seed", "99999999999"], "--seed must be 0 to 4294967295, not 99999999999"),
        (["search", "--seed", "-1"], "--seed must be 0 to 4294967295, not -1"),
        (["search", "stray"], "stray"),
        (["search", "--profile", "smokey"], "unknown profile 'smokey'; did you mean 'smoke'?"),
        (["search", "--variant", "papers"], "unknown variant 'papers'; did you mean 'paper'?"),
        (["search", "--space", "s4"], "--space cannot be 's4'"),
        (["search", "--space", "s3"], "no combination --space s3; there are: --space s1; --space s2"),
        (["search", "--settings", "absent.yaml"], "no settings file absent.yaml"),
        (["bad"], "unknown setting 'epoch'"),
        (["wrong"], "a cause; a remedy"),
        (["describe", "--no-resume"], "--no-resume does nothing here: this command keeps no state"),
        (["describe", "--device", "cuda"], "--device does nothing here: this command computes on the CPU"),
        (["describe", "--seed=3"], "--seed does nothing here: this command draws nothing by a seed of its own"),
        (["describe", "--data", "d"], "--data does nothing here: this command reads no data"),
        (["describe", "--allow-unpinned"], "--allow-unpinned does nothing here: this command reads no data"),
        (["describe", "--precision", "bf16"], "computes in fp32 only"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(run, argv, words):
    status, _out, err = run(*argv)
    assert status == 2 and not CALLS
    assert err.startswith("error: ") and len(err.splitlines()) == 1 and words in err, err


def test_interruption(run):
    status, _, err = run("interrupted")
    assert status == 130 and len(err.splitlines()) == 1 and "saved state" in err


def test_help_is_short_first_and_says_what_is_selected(run):
    status, out, _ = run("--help")
    assert status == 0 and "search an architecture" in out and "--space s1|s2|s3" in out
    status, out, _ = run("search", "--help", "--epochs", "4")
    assert status == 0 and "--epochs INT" in out and "now 7" in out and "--seed INT" in out
    assert "* s1  one" in out and "  s2  another" in out  # the selector's choices, and which is meant
    assert "* authors  what made the published numbers" in out and "paper    --epochs 5 --kind b --no-clip" in out
    assert "* smoke  embedded digits" in out and "--limit" not in out and "--help-all" in out
    assert "* s2  another" in run("search", "--space", "s2", "-h")[1]
    assert "  ARCH " in run("describe", "--help")[1] and "--profile" not in run("describe", "--help")[1]


def test_all_flags(run):
    status, out, _ = run("search", "--help-all")
    assert status == 0
    for words in ("--learning-rate FLOAT", "--seed INT", "--variant", "--space", "default: 0.7"):
        assert words in out


WORDS = {
    "flops-maximum": "macs-max", "learning-rate": "lr", "num-epochs": "epochs", "gpu": "device", "wd": "weight-decay",
    "output_dir": "out", "image-size": "resolution", "pop-size": "population", "ImageNet16": "imagenet16-120",
    "cifar-10": "cifar10", "evnasa": "EvNASA", "mnist": "digits", "batchsize": "batch-size", "grad-clip": "clip",
}  # fmt: skip


def test_near_words():
    known = [*WORDS.values(), "flip", "macs-min", "epoch-length", "eval-batch-size", "imagenet", "momentum", "workers"]
    assert {word: near(word, known) for word in WORDS} == WORDS
    assert near("zzz", known) is None and near("x", []) is None
    assert near("NSAS", ["PDARTS", "Random_NSAS", "Random_NSAS_C", "XNAS"]) == "Random_NSAS"
    assert (
        near("dtype", ["data", "type-of", "precision"]) == "precision" and near("PennTreebank", ["kjv", "ptb"]) == "ptb"
    )
    assert suggestion("zzz", ["b", "a"]) == "; known: a, b" and hint("zzz", known) == ""
    assert hint("flops_max", known) == "; did you mean 'macs-max'?"


def test_flags_of_every_verb_cannot_be_settings():
    @dataclass(frozen=True)
    class Clash:
        seed: int = 0

    with pytest.raises(TypeError, match="seed"):
        main("p", {"x": Verb({(): Stage(Clash, "m:f", "x", "x")}, "x")}, ["x"])


def test_the_command_line_imports_no_torch():
    code = (
        "import sys, common.cli.verbs, common.settings, common.run.files, common.run.device, common.run.folder, "
        "common.run.seeds, common.run.distributed, common.spaces.architecture, "
        "common.train.schedules; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_module_missing_is_said(run):
    verb = Verb({(): Stage(Search, "common.no_such_module:f", "x", "x")}, "x")
    with pytest.raises(SystemExit):
        cli.main("p", {"x": verb}, ["x"])
