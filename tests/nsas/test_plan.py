"""``--plan`` of every long verb: the counts are those of the run, times grow with the work, nothing is written."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from common.cli.verbs import main
from papers.nsas import plan
from papers.nsas.__main__ import VERBS
from papers.nsas.recurrent import chunks as recurrent_training
from papers.nsas.studies.settings import Experiment
from tests.nsas.small import EXPERIMENT, STAGES, fake_experiments, module_of, options, step_of

TINY = ["--dataset", "digits", "--channels", "4", "--epochs", "2", "--batch-size", "50"]
TEXT = ["--text", "kjv", "--max-tokens", "8000", "--max-types", "300", "--width", "16", "--epochs", "2"]
COMMANDS = {
    "search": [*TINY, "--layers", "3"],
    "search --method gdas": [*TINY, "--layers", "3"],
    "search --space nb201": [*TINY, "--cells", "1"],
    "search --space nb201 --method gdas": [*TINY, "--cells", "1"],
    "search --space ptb": [*TEXT, "--batch-size", "16"],
    "search --space ptb --variant paper": [*TEXT, "--batch-size", "16"],
    "train": [*TINY, "--layers", "3"],
    "train --space ptb": [*TEXT, "--batch-size", "16"],
    "evaluate": ["--dataset", "digits", "--channels", "4", "--layers", "3"],
    "evaluate --space ptb": [*TEXT[:6], "--width", "16"],
    "experiments": [*TINY, "--cells", "1"],
}


def plan_of(target: str):
    """The plan of the stage that runs ``target``."""
    stages = [stage for verb in VERBS.values() for stage in verb.stages.values()]
    name = next(stage.plan for stage in stages if stage.run == f"papers.nsas.{target}")
    return getattr(plan, name.partition(":")[2])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_long_verb_has_a_plan(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main("nsas", VERBS, [*command.split(), *COMMANDS[command], "--plan"])
    text = capsys.readouterr().out
    assert "no estimate" not in text and re.search(r"about \S+|1-2 min", text) and "GB of memory" in text
    assert list(tmp_path.iterdir()) == []


def counted(monkeypatch, stage: str, settings, folder) -> int:
    """Steps that a run makes."""
    target, _, each = STAGES[stage]
    module, run = module_of(target)
    place, name = step_of(module, each)
    original, calls = getattr(place, name), []

    def once(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(place, name, once)
    run(settings, options(folder, stage))
    return len(calls)


@pytest.mark.parametrize("stage", STAGES)
def test_steps_are_those_of_the_run(stage, tmp_path, monkeypatch):
    target, settings, _ = STAGES[stage]
    if hasattr(settings, "train_images"):
        halves = "nb201" in stage or stage == "experiments"
        settings = replace(settings, train_images=122 if halves else 26)  # a last batch that is not full
    lines = plan_of(target)(settings, options(tmp_path / "run", stage))
    assert not (tmp_path / "run").exists()
    planned = re.search(r"(?:= |, )([\d,]+) (?:steps|chunks)", "\n".join(lines))
    assert int(planned[1].replace(",", "")) == counted(monkeypatch, stage, settings, tmp_path / "run")


def seconds(stage: str, folder, **changes) -> float:
    target, settings, _ = STAGES[stage]
    last = plan_of(target)(replace(settings, **changes), options(folder, stage))[-1]
    number, unit = re.match(r"about (\S+) (h|min)", last).groups()
    return float(number.replace(",", "")) * (3600 if unit == "h" else 60)


@pytest.mark.parametrize("stage", STAGES)
def test_time_grows_with_the_epochs(stage, tmp_path):
    one, ten = (seconds(stage, tmp_path, epochs=n) for n in (20_000, 200_000))
    assert ten == pytest.approx(10 * one, rel=0.1)  # two digits are printed


def test_constraints_cost_time_and_their_gradient_more(tmp_path):
    for stage in ("search_random", "search_nb201_random", "search_gdas", "search_nb201"):
        less, more = (seconds(stage, tmp_path, epochs=200_000, constraint_gradient=g) for g in (False, True))
        assert more > less, stage
    for stage in ("search_random", "search_ptb", "experiments"):
        none, four = (seconds(stage, tmp_path, epochs=200_000, constraints=m) for m in (0, 4))
        assert four > 1.2 * none, stage


def test_long_recurrent_runs_are_scaled_from_the_first_epoch(tmp_path):
    target, settings, _ = STAGES["train_ptb"]
    lines = plan_of(target)(replace(settings, epochs=1000), options(tmp_path))
    first = len(recurrent_training.epoch_chunks(*_rows_and_draws(settings)))
    assert f"about {1000 * first:,} chunks" in "\n".join(lines)


def _rows_and_draws(settings):
    from common.data.text import Corpus, batchify
    from common.run import seeds

    corpus = Corpus.open(settings.text, None, settings.max_tokens, settings.max_types)
    return len(batchify(corpus.train, settings.batch_size)), settings.bptt, seeds.numpy_rng(0, "chunks", 0)


def test_a_plan_finds_mistakes_and_counts_finished_runs(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main("nsas", VERBS, ["search", *TINY, "--inputs", "published", "--plan"])
    assert "has no inputs 'published'" in capsys.readouterr().err
    fake_experiments(tmp_path, [("paper", 2, 0, 1.0), ("paper", 2, 1, 1.0)], **{"epochs": EXPERIMENT.epochs})
    lines = plan_of("studies.forgetting:experiment")(Experiment(summarise=str(tmp_path)), options(tmp_path / "x"))
    assert "joins 2 finished runs" in lines[0]
