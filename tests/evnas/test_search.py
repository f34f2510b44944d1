"""The searches end to end on a few digits: result, resume inside a generation, ablations, the user's mistakes."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from common.architecture import load_architecture
from common.cli import RunOptions
from common.data.nasbench201 import to_operations
from common.errors import UserError
from common.runs import Run
from common.spaces.darts import Genotype
from papers.evnas import settings as s
from papers.evnas.evolution import Draws, Rules, evolve, successor
from papers.evnas.halves import open_parts
from papers.evnas.population import S1, S2, mixtures
from papers.evnas.search import plan, search

TINY = {
    "dataset": "digits", "generations": 2, "train_images": 24, "fitness_size": 16, "batch_size": 12,
    "fitness_batch_size": 8, "population": 3, "tournament": 2, "pad": 2, "flip": False, "cutout": 0,
}  # fmt: skip
TINY_S1 = s.SearchS1(**TINY, channels=2, layers=3)
TINY_S2 = s.SearchS2(**TINY, channels=2, cells_per_stage=1)


def options(out: Path, **more) -> RunOptions:
    section = more.pop("section", "search_s2")
    return RunOptions(out=out, device="cpu", data=out / "nowhere", paper="evnas", section=section, **more)


def change(settings, **values):
    return dataclasses.replace(settings, **values)


def test_s1_writes_a_genotype_and_both_answers(tmp_path):
    result = search(
        change(TINY_S1, generations=1, population=2, train_images=12, fitness_size=8),
        options(tmp_path, section="search"),
    )
    cells = Genotype.from_dict(load_architecture(tmp_path / "architecture.json", "darts"))
    assert len(cells.normal) == len(cells.reduce) == 8 and cells.normal_concat == (2, 3, 4, 5)
    assert {"fitness_last_percent", "fitness_best_percent"} <= set(result["metrics"])
    assert (tmp_path / "supernet.safetensors").exists()


def test_s2_writes_a_cell_and_says_that_the_tables_are_absent(tmp_path):
    result = search(TINY_S2, options(tmp_path))
    cell = load_architecture(tmp_path / "architecture.json", "nasbench201")
    assert len(to_operations(cell)) == 6 and result["last_generation_best"] == cell
    assert "absent" in result["lookup"] and len(result["trajectory"]) == 3
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["generation"] for row in rows] == ["0", "1"] and rows[-1]["cell"] == cell
    assert search(TINY_S2, options(tmp_path)) == result  # recognised, not repeated


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_a_stopped_search_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, stop):
    """Stopped after any save: in training, in the fitness of an individual, in the second generation."""
    settings = change(TINY_S2, fitness_bn="batch", fitness_images="augmented")
    search(settings, options(tmp_path / "whole"))
    saves = 0
    original = Run.save

    def save(self, state):
        nonlocal saves
        original(self, state)
        saves += 1
        if saves == stop:
            raise KeyboardInterrupt

    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    monkeypatch.setattr(Run, "save", save)
    with pytest.raises(KeyboardInterrupt):
        search(settings, options(tmp_path / "parts"))
    monkeypatch.setattr(Run, "save", original)
    search(settings, options(tmp_path / "parts"))
    for name in ("result.json", "history.csv", "individuals.csv", "supernet.safetensors", "architecture.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name


@pytest.mark.parametrize("name", sorted({*s.S2_VARIANTS} - {"paper"}))
def test_every_variant_runs(name, tmp_path):
    result = search(change(TINY_S2, **s.S2_VARIANTS[name]), options(tmp_path))
    assert 0 <= result["metrics"]["fitness_chosen_percent"] <= 100


def test_random_measures_fitness_only_at_the_end(tmp_path):
    search(change(TINY_S2, strategy="random"), options(tmp_path))
    with open(tmp_path / "history.csv", newline="") as file:
        first, last = csv.DictReader(file)
    assert first["fitness_best"] == "" and last["fitness_best"] != ""


def test_random_search_answers_with_the_best_of_all(tmp_path):
    result = search(change(TINY_S2, strategy="random-search"), options(tmp_path))
    assert result["metrics"]["fitness_chosen_percent"] == result["metrics"]["fitness_best_percent"]
    assert json.loads((tmp_path / "architecture.json").read_text())["architecture"] == result["best_so_far"]


def test_switches_of_evolution():
    draws = Draws.stream(S2, 0, "test")
    population = draws.population(6)
    fitness = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    kept = {tuple(a.flatten().tolist()) for a in population}
    copies = evolve(population, fitness, Rules(3, 1, 0.1, crossover=False, mutation=False), draws)
    assert {tuple(a.flatten().tolist()) for a in copies} <= kept and torch.equal(copies[0], population[0])
    crossed = evolve(population, fitness, Rules(3, 1, 0.1, mutation=False), draws)
    rows = {tuple(row.tolist()) for a in population for row in a}
    assert {tuple(row.tolist()) for a in crossed for row in a} <= rows
    fresh = successor("random", Rules(3))(population, fitness, draws)
    assert fresh.shape == population.shape and not torch.equal(fresh[0], population[0])


def test_decoding_tilts_the_mixture_and_beta_sharpens_it():
    population = Draws.stream(S1, 0, "test").population(1)
    normal, _ = mixtures(S1, population, True, 1.0)[0]
    values = {round(v, 6) for row in normal for v in row}
    assert values == {0.279708, 0.102899, 0.125}
    sharp, _ = mixtures(S1, population, True, 50.0)[0]
    assert max(v for row in sharp for v in row) > 0.999
    raw, _ = mixtures(S1, population, False, 1.0)[0]
    assert np.allclose(raw, torch.softmax(population[0, :14].double(), -1))


def test_halves_of_the_training_set(tmp_path):
    whole = change(TINY_S1, train_images=0, fitness_size=0)
    first, second, _, origin = open_parts(whole, options(tmp_path))
    assert len(first) == len(second) == 2000 and origin == "index"
    assert open_parts(change(TINY_S2, train_images=0), options(tmp_path))[3] == "fallback"


def test_plan_runs_nothing(tmp_path):
    lines = plan(TINY_S1, options(tmp_path))
    assert any("individuals" in line for line in lines) and not (tmp_path / "settings.json").exists()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"tournament": 4}, "--tournament"),
        ({"population": 0}, "--population"),
        ({"elites": 9}, "--elites"),
        ({"mutation_rate": 1.5}, "--mutation-rate"),
        ({"generations": 0}, "--generations"),
        ({"beta": 0.0}, "--beta"),
        ({"dataset": "nothing"}, "nothing"),
        ({"train_images": 4}, "batch"),
        ({"learning_rate": 1e30, "clip": 0.0}, "loss"),
    ],
)
def test_mistakes_have_one_line(wrong, named, tmp_path):
    with pytest.raises(UserError) as error:
        search(change(TINY_S2, **wrong), options(tmp_path))
    assert named in str(error.value) and "\n" not in str(error.value)


def test_too_few_layers(tmp_path):
    with pytest.raises(UserError, match="--layers"):
        search(change(TINY_S1, layers=2), options(tmp_path, section="search"))
