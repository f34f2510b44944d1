"""Tiny runs of every stage: variants run, a run stopped inside an epoch and started again ends with the same bytes."""

from __future__ import annotations

import csv
import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common.cli.errors import UserError
from common.cli.verbs import RunOptions, main
from papers.nsas.__main__ import SEARCH, TRAIN, VERBS
from papers.nsas.nasbench201.settings import SearchNb201Gdas, SearchNb201Random
from papers.nsas.recurrent.settings import SearchRecurrent, TrainRecurrent
from papers.nsas.settings import (
    SearchGdas,
    SearchRandom,
    Train,
)
from papers.nsas.studies.settings import Experiment

IMAGES = {"dataset": "digits", "train_images": 24, "epochs": 2, "batch_size": 6}
HALVES = {**IMAGES, "train_images": 120, "batch_size": 30}  # random halves, each with all ten classes
RANDOM = SearchRandom(
    **IMAGES, channels=2, layers=3, table="raw", constraints=2, select_rounds=1, select_candidates=2, select_images=10
)
GDAS = SearchGdas(**IMAGES, channels=2, layers=3, table="raw", constraints=2)
NB201_RANDOM = SearchNb201Random(**HALVES, channels=2, cells=1, select_candidates=2, select_images=50)
NB201_GDAS = SearchNb201Gdas(**HALVES, channels=2, cells=1)
TEXT = {"text": "kjv", "max_tokens": 4000, "max_types": 200, "width": 8, "epochs": 2, "bptt": 10}
RECURRENT = SearchRecurrent(
    **{**TEXT, "max_tokens": 2500}, batch_size=64, path="sampled", constraints=2, select_candidates=2, select_rows=10,
    recalibrate_chunks=1,
)  # fmt: skip
TRAIN_CNN = Train(**IMAGES, channels=2, layers=3, auxiliary=False, eval_batch_size=500, eval_every=2)
TRAIN_TEXT = TrainRecurrent(**TEXT, batch_size=64, nonmono=5)
EXPERIMENT = Experiment(
    dataset="digits", train_images=120, loss="paper", constraints=2, channels=2, cells=1, epochs=2, batch_size=30,
    probe_every=1, probe_images=8, rank_cells=3, rank_images=50, recalibrate_batches=1,
)  # fmt: skip

# name: (run, settings, function that is called once a step)
STAGES = {
    "search_random": ("search_random:search", RANDOM, "check_finite"),
    "search_gdas": ("search_gdas:search", GDAS, "check_finite"),
    "search_gdas_head": ("search_gdas:search", replace(GDAS, semantics="head"), "check_finite"),
    "search_nb201_random": ("nasbench201.search_random:search", NB201_RANDOM, "check_finite"),
    "search_nb201": ("nasbench201.search_gdas:search", NB201_GDAS, "check_finite"),
    "search_ptb": ("recurrent.search:search", RECURRENT, "check_finite"),
    "search_ptb_fixed": ("recurrent.search:search", replace(RECURRENT, path="fixed"), "check_finite"),
    "train": ("train:train", TRAIN_CNN, "common.spaces.darts.train:train_step"),
    "train_ptb": ("recurrent.train:train", TRAIN_TEXT, "train_step"),
    "experiments": ("studies.forgetting:experiment", EXPERIMENT, "check_finite"),
}


class Stop(Exception):
    pass


def options(out: Path, section: str = "search", **more) -> RunOptions:
    more.setdefault("given", frozenset())  # as from a profile: nothing typed
    return RunOptions(out=out, device="cpu", paper="nsas", section=section, **more)


def module_of(target: str):
    name, _, function = target.partition(":")
    module = importlib.import_module(f"papers.nsas.{name}")
    return module, getattr(module, function)


def step_of(module, each: str):
    """(module, name) of the function that a run calls once a step; in the paper's module unless another is named."""
    where, _, name = each.rpartition(":")
    return (importlib.import_module(where) if where else module), name


def stop_at(monkeypatch, module, name: str, call: int) -> None:
    """The ``call``-th step raises."""
    original, calls = getattr(module, name), []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise Stop
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, counted)


def equal_folders(one: Path, other: Path) -> None:
    own = {"env.json", "timing.json", "cost.csv", "settings.json", ".lock"}  # durations, versions, the folder's name
    names = {p.name for p in one.iterdir() if p.is_file()} - own
    assert "result.json" in names and "history.csv" in names
    for name in sorted(names):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("stage", STAGES)
def test_resume_inside_an_epoch(stage, tmp_path, monkeypatch):
    target, settings, each = STAGES[stage]
    module, run = module_of(target)
    if stage == "train_ptb":  # the second epoch averages
        monkeypatch.setattr(module, "switches_to_averaging", lambda *_: True)
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "60")
    run(settings, options(tmp_path / "whole", stage))
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    place, name = step_of(module, each)
    original = getattr(place, name)
    calls = {"train_ptb": 7, "search_ptb": 5, "search_ptb_fixed": 5, "train": 6}.get(stage, 4)
    stop_at(monkeypatch, place, name, calls)
    with pytest.raises(Stop):
        run(settings, options(tmp_path / "broken", stage))
    monkeypatch.setattr(place, name, original)
    history = (tmp_path / "broken" / "history.csv").read_text().splitlines()
    assert len(history) == 2  # one epoch was done, the second had begun
    run(settings, options(tmp_path / "broken", stage))
    equal_folders(tmp_path / "whole", tmp_path / "broken")


def variants(key):
    return [{}, *SEARCH[key].variants.values()]


@pytest.mark.parametrize("constraint", ["nsas", "nsas-c"])
@pytest.mark.parametrize("variant", range(5))
def test_variants_of_random(variant, constraint, tmp_path):
    overrides = {**variants(("darts", "random"))[variant], "epochs": 1, "constraints": 2, "select_candidates": 2}
    table = overrides.get("table", "softmax")
    settings = replace(RANDOM, **{**overrides, "table": table, "constraint": constraint})
    result = module_of("search_random:search")[1](settings, options(tmp_path))
    assert len(result["architecture"]["normal"]) == 8 and 0 <= result["metrics"]["supernet_accuracy_percent"] <= 100
    pairs = result["architecture"]["normal"]
    assert constraint == "nsas" or [i for _, i in pairs] == [0, 1, 1, 2, 2, 3, 3, 4]


@pytest.mark.parametrize("variant", [0, 1, 3])  # "modern" is "paper" here
def test_variants_of_gdas(variant, tmp_path):
    overrides = {**variants(("darts", "gdas"))[variant], "epochs": 1, "constraints": 2, "train_images": 24}
    settings = replace(GDAS, **{**overrides, "table": overrides.get("table", "softmax")})
    result = module_of("search_gdas:search")[1](settings, options(tmp_path))
    assert all(op != "none" for op, _ in result["architecture"]["normal"])
    from papers.nsas.network.architectures import load_genotype

    assert len(load_genotype(str(tmp_path / "architecture.json")).reduce) == 8


@pytest.mark.parametrize("method", ["random", "gdas"])
@pytest.mark.parametrize("constraint", ["nsas", "r", "g", "compensation", "low", "none"])
def test_nb201_constraints(method, constraint, tmp_path):
    settings = NB201_RANDOM if method == "random" else NB201_GDAS
    overrides = SEARCH[("nb201", method)].variants["paper"] if constraint in ("nsas", "g") else {}
    settings = replace(settings, constraint=constraint, epochs=1, train_images=120, **overrides)
    if method == "random":
        settings = replace(settings, recalibrate_batches=min(settings.recalibrate_batches, 1))
    result = module_of(f"nasbench201.search_{method}:search")[1](settings, options(tmp_path))
    assert result["architecture"].count("|") == 9 or result["architecture"].count("~") == 6


def test_what_search_writes_training_takes(tmp_path):
    module_of("search_random:search")[1](replace(RANDOM, epochs=1), options(tmp_path / "s"))
    train = module_of("train:train")[1]
    settings = replace(TRAIN_CNN, arch=str(tmp_path / "s" / "architecture.json"), epochs=1)
    trained = train(settings, options(tmp_path / "t", "train"))
    from papers.nsas.evaluate import evaluate
    from papers.nsas.settings import Evaluate

    weights = str(tmp_path / "t" / "weights.safetensors")
    tested = evaluate(
        Evaluate(arch=settings.arch, checkpoint=weights, dataset="digits", channels=2, layers=3),
        options(tmp_path / "e", "evaluate"),
    )
    assert tested["metrics"]["top1_error_percent"] == pytest.approx(trained["metrics"]["top1_error_percent"])
    assert set(TRAIN) == {("darts",), ("ptb",)}


@pytest.mark.parametrize("target", sorted({t for t, _, _ in STAGES.values()} - {"train:train"}))
def test_one_process_verbs_say_so(target, tmp_path, monkeypatch):
    settings = next(s for t, s, _ in STAGES.values() if t == target)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="one process"):
        module_of(target)[1](settings, options(tmp_path))


@pytest.mark.parametrize("loss, constraints", [("paper", 2), ("authors", 2), ("paper", 0)])
def test_experiment(loss, constraints, tmp_path):
    settings = replace(EXPERIMENT, loss=loss, constraints=constraints)
    result = module_of("studies.forgetting:experiment")[1](settings, options(tmp_path, "experiments"))
    assert {"forgetting_points", "chosen_supernet_accuracy_percent"} <= set(result["metrics"])
    assert json.loads((tmp_path / "result.json").read_text())["metrics"] == result["metrics"]
    for name in ("figure.svg", "paragraph.txt", "forgetting.csv", "cells.csv", "cost.csv"):
        assert (tmp_path / name).stat().st_size > 0, name


def test_one_command_shows_the_difference_of_the_losses(tmp_path):
    """Both forms side by side equal the two single runs; another summary does not count the pair twice."""
    run = module_of("studies.forgetting:experiment")[1]
    pair = run(replace(EXPERIMENT, loss="both"), options(tmp_path / "pair", "experiments"))["metrics"]
    for loss in ("authors", "paper"):
        alone = run(replace(EXPERIMENT, loss=loss), options(tmp_path / loss, "experiments"))["metrics"]
        assert {key: pair[f"{key}_{loss}"] for key in alone} == alone
    assert pair["mean_supernet_accuracy_percent_difference"] == pytest.approx(
        pair["mean_supernet_accuracy_percent_paper"] - pair["mean_supernet_accuracy_percent_authors"]
    )
    text = [(tmp_path / "pair" / loss / "history.csv").read_text() for loss in ("authors", "paper")]
    assert text[0] != text[1]
    joined = run(Experiment(summarise=str(tmp_path / "pair")), options(tmp_path / "study", "experiments"))
    assert joined["metrics"]["runs"] == 2


def fake_experiments(folder, runs, **more):
    for loss, constraints, seed, forgetting in runs:
        path = folder / f"{loss}-{constraints}-{seed}"
        path.mkdir(parents=True)
        metrics = {"forgetting_points": forgetting, "chosen_supernet_accuracy_percent": 50.0,
                   "mean_supernet_accuracy_percent": 40.0}  # fmt: skip
        found = {"paper": "nsas", "stage": "experiments", "seed": seed, "metrics": metrics}
        found["settings"] = {"loss": loss, "constraints": constraints, "summarise": "", **more}
        (path / "result.json").write_text(json.dumps(found))


def test_summary_of_experiments(tmp_path):
    """Seeds 0 and 1 differ a lot, the paired differences (4.0 and 4.2) hardly: the interval is that of the pairs."""
    run = module_of("studies.forgetting:experiment")[1]
    runs = [("authors", 0, 0, 1.0), ("authors", 0, 1, 31.0), ("paper", 4, 0, 5.0), ("paper", 4, 1, 35.2)]
    runs += [("authors", constraints, seed, value) for constraints in (4, 8) for seed, value in ((0, 7.0), (1, 30.0))]
    fake_experiments(tmp_path / "runs", runs, epochs=3)
    settings = Experiment(summarise=str(tmp_path / "runs"))
    result = run(settings, options(tmp_path / "study", "experiments"))
    assert result["metrics"]["runs"] == 8
    assert len((tmp_path / "study" / "study.csv").read_text().splitlines()) == 9
    with (tmp_path / "study" / "contrasts.csv").open() as lines:
        rows = {row["contrast"]: row for row in csv.DictReader(lines) if row["measure"] == "forgetting_points"}
    gap = rows["paper, M = 4 minus RandomNAS"]
    half = 12.706204736 * 0.1  # Student's t at 0.975 with one degree of freedom, standard error 0.1
    assert [float(gap[k]) for k in ("mean", "low", "high")] == pytest.approx([4.1, 4.1 - half, 4.1 + half])
    assert "paper, M = 4 minus authors, M = 4" in rows
    text = (tmp_path / "study" / "paragraph.txt").read_text()
    assert "paper, M = 4 minus RandomNAS +4.100" in text and "epochs 3" in text and "seed by seed" in text
    for name in ("figure.svg", "figure.png", "costs.csv"):
        assert (tmp_path / "study" / name).exists(), name
    with pytest.raises(UserError, match="no finished experiments"):
        run(Experiment(summarise=str(tmp_path / "nothing")), options(tmp_path / "x", "experiments"))


def test_a_summary_refuses_two_scales(tmp_path):
    fake_experiments(tmp_path / "runs" / "a", [("paper", 2, 0, 1.0)], epochs=3)
    fake_experiments(tmp_path / "runs" / "b", [("paper", 4, 0, 1.0)], epochs=4)
    with pytest.raises(UserError, match="other settings"):
        module_of("studies.forgetting:experiment")[1](
            Experiment(summarise=str(tmp_path / "runs")), options(tmp_path / "x", "experiments")
        )


def test_forms_of_the_experiment_are_paired(tmp_path):
    """With equal seeds every form sees the same batches and architectures; so the authors' loss, whose constraints have
    no gradient, gives the same supernet for every M.
    """
    found = {}
    for constraints in (2, 3):
        settings = Experiment(
            dataset="digits", train_images=120, loss="authors", constraints=constraints, channels=2, cells=1, epochs=2,
            batch_size=30, probe_every=1, probe_images=8, rank_cells=3, rank_images=50, recalibrate_batches=1,
        )  # fmt: skip
        folder = tmp_path / str(constraints)
        module_of("studies.forgetting:experiment")[1](settings, options(folder, "experiments"))
        found[constraints] = [(folder / f"{name}.csv").read_text() for name in ("forgetting", "cells")]
    assert found[2] == found[3]


def test_tau_of_equal_scores_is_undefined_and_no_failure(tmp_path, monkeypatch):
    module, run = module_of("studies.forgetting:experiment")
    monkeypatch.setattr(module, "score", lambda *_: 10.0)
    monkeypatch.setattr(module, "table_accuracies", lambda *_: [90.0, 91.0, 92.0])
    result = run(EXPERIMENT, options(tmp_path, "experiments"))
    assert "tau" not in result["metrics"] and "tau is undefined" in result["paragraph"]
    assert result["metrics"]["chosen_test_accuracy_percent"] == 90.0


@pytest.mark.parametrize(("flags", "cells"), [([], ["normal", "reduction"]), (["--recurrent"], ["recurrent"])])
def test_draw(flags, cells, tmp_path):
    main("nsas", VERBS, ["draw", "Random_NSAS", *flags, "--format", "svg", "--out", str(tmp_path)])
    shown = sorted(p.name for p in tmp_path.glob("[!.]*"))  # beside them the record of what is ours
    assert shown == sorted(f"{c}.{k}" for c in cells for k in ("dot", "svg"))


def test_released_recurrent_archive_restarts_every_epoch(tmp_path, monkeypatch):
    """Its list of recent cells begins each epoch with the untrained cell and the first cell of every earlier epoch."""
    module, run = module_of("recurrent.search:search")
    starts: list[list] = []

    class Watched(module.ReleasedArchive):
        def update(self, cell, draw):
            starts.append((list(self.recent), cell))
            return super().update(cell, draw)

    monkeypatch.setattr(module, "ReleasedArchive", Watched)
    run(replace(RECURRENT, path="fixed", epochs=3), options(tmp_path, "search_ptb"))
    steps = len(starts) // 3
    assert steps > 1 and len(starts) == 3 * steps
    firsts = [starts[epoch * steps] for epoch in range(3)]
    untrained = firsts[0][0][0]
    assert [recent for recent, _ in firsts] == [
        [untrained],
        [untrained, firsts[0][1]],
        [untrained, firsts[0][1], firsts[1][1]],
    ]


@pytest.mark.parametrize("constraint", ["nsas", "nsas-c"])
def test_gdas_archive(constraint, tmp_path, monkeypatch):
    """2019: the archive takes the step's cell before the loss uses it; its own cells come from the free sampler."""
    module, run = module_of("search_gdas:search")
    used, sizes, drawn = [], [], []

    class Watched(module.ConstraintSet):
        def update(self, current, draw):
            found = super().update(current, draw)
            drawn.extend(archive.members[-1] for archive in self.archives)
            return found

    def loss_function(settings):
        def loss(model, x, y, current, constraints):
            sizes.append(len(constraints))
            used.append(x)
            return torch.zeros(()), torch.zeros(len(y), 10)

        return loss

    monkeypatch.setattr(module, "ConstraintSet", Watched)
    monkeypatch.setattr(module, "loss_function", loss_function)
    monkeypatch.setattr(
        module, "unrolled_gradient", lambda loss, model, tables, *_: [torch.zeros_like(t) for t in tables]
    )
    run(replace(GDAS, constraint=constraint, constraints=3, epochs=2), options(tmp_path, "search_gdas"))
    assert sizes == [1, 2, 3, 3]
    inputs = [tuple(i for _, i in cell) for cell in drawn]
    assert any(one != (0, 1, 0, 2, 0, 3, 0, 4) for one in inputs)  # not the decoder's depth-fixed inputs


def test_gdas_selection_batches_are_drawn_anew(tmp_path, monkeypatch):
    """The first batch of a freshly shuffled loader at every step; each search measures the whole half."""
    module, run = module_of("search_gdas:search")
    held = []
    gradient = module.unrolled_gradient

    def watched(loss, model, tables, batch, held_out, optimizer):
        held.append(held_out[1].tolist())
        return gradient(loss, model, tables, batch, held_out, optimizer)

    monkeypatch.setattr(module, "unrolled_gradient", watched)
    result = run(replace(GDAS, epochs=1), options(tmp_path, "search_gdas"))
    _, valid = module.open_batches(GDAS, options(tmp_path, "search_gdas"), torch.device("cpu"))
    assert held == [next(iter(valid.epoch(step)))[1].tolist() for step in range(len(held))] and held[0] != held[1]
    assert 0 <= result["metrics"]["supernet_accuracy_percent"] <= 100


def test_searches_on_digits_report_no_table_value(tmp_path):
    result = module_of("nasbench201.search_gdas:search")[1](
        replace(NB201_GDAS, epochs=1), options(tmp_path, "search_nb201")
    )
    assert set(result["metrics"]) == {"supernet_accuracy_percent"} and "no accuracies on digits" in result["note"]


@pytest.mark.parametrize("averaging", [False, True])
def test_a_roll_back_ends_its_epoch(averaging, tmp_path, monkeypatch):
    """The loss is not a number in the second epoch: the restored model is evaluated and, under SGD, the rule asked."""
    module, run = module_of("recurrent.train:train")
    step, evaluate, calls, valid, asked = module.train_step, module.evaluate, [], [], []

    def broken(*args):
        value, hidden = step(*args)
        calls.append(1)
        return (float("nan") if len(calls) == 9 else value), hidden

    def evaluated(*args):
        valid.append(evaluate(*args))
        return valid[-1]

    def switches(losses, loss, nonmono):
        asked.append(len(losses))
        return averaging and len(asked) == 1

    for name, function in (("train_step", broken), ("evaluate", evaluated), ("switches_to_averaging", switches)):
        monkeypatch.setattr(module, name, function)
    run(replace(TRAIN_TEXT, epochs=3), options(tmp_path, "train_ptb"))
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [row["rolled_back"] for row in rows] == ["False", "True", "False"]
    assert valid[1] == valid[0]  # the second epoch evaluates the model saved in the first
    assert asked == [0, 1, 2]  # the saved model is that of the SGD phase, whichever phase broke


def test_a_roll_back_without_a_model_ends_the_run(tmp_path, monkeypatch):
    module, run = module_of("recurrent.train:train")
    monkeypatch.setattr(module, "train_step", lambda *args: (float("nan"), args[3]))
    with pytest.raises(UserError, match="no model was saved yet"):
        run(TRAIN_TEXT, options(tmp_path, "train_ptb"))
