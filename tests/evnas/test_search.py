"""The searches end to end on a few digits: result, resume inside a generation, ablations, the user's mistakes."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
from pathlib import Path
from types import MethodType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from common.cli.errors import UserError
from common.cli.verbs import RunOptions
from common.data.nasbench201 import to_operations
from common.run.folder import Run
from common.spaces.architecture import load_architecture
from common.spaces.darts.genotype import Genotype
from papers.evnas.data import open_search_data
from papers.evnas.lookup import Lookup
from papers.evnas.method.evolution import Draws, Rules, evolve
from papers.evnas.method.population import DARTS, NB201, mixtures
from papers.evnas.plan import plan_search
from papers.evnas.search import search, supernet_of
from papers.evnas.settings import VARIANTS, SearchDARTS, SearchNB201

TINY = {
    "dataset": "digits", "generations": 2, "train_images": 36, "fitness_images": 36, "batch_size": 18,
    "fitness_batch_size": 18, "population": 3, "tournament": 2, "pad": 2, "flip": False, "cutout": 0,
}  # fmt: skip
TINY_DARTS = SearchDARTS(**TINY, channels=2, layers=3)
TINY_NB201 = SearchNB201(**TINY, channels=2, cells_per_stage=1)


def options(out: Path, **more) -> RunOptions:
    section = more.pop("section", "search_nb201")
    more.setdefault("given", frozenset())
    return RunOptions(out=out, device="cpu", data=out / "nowhere", paper="evnas", section=section, **more)


def change(settings, **values):
    return dataclasses.replace(settings, **values)


def test_darts_writes_a_genotype_and_both_answers(tmp_path):
    result = search(
        change(TINY_DARTS, generations=1, population=2, train_images=36, fitness_images=36),
        options(tmp_path, section="search"),
    )
    cells = Genotype.from_dict(load_architecture(tmp_path / "architecture.json", "darts"))
    assert len(cells.normal) == len(cells.reduce) == 8 and cells.normal_concat == (2, 3, 4, 5)
    assert {"fitness_last_percent", "fitness_best_percent"} <= set(result["metrics"])
    assert (tmp_path / "supernet.safetensors").exists()


def test_nb201_writes_a_cell_and_says_that_the_tables_are_absent(tmp_path):
    result = search(TINY_NB201, options(tmp_path))
    cell = load_architecture(tmp_path / "architecture.json", "nasbench201")
    assert len(to_operations(cell)) == 6 and result["last_generation_best"] == cell
    assert "absent" in result["lookup"] and len(result["trajectory"]) == 3
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["generation"] for row in rows] == ["0", "1"] and rows[-1]["cell"] == cell
    assert search(TINY_NB201, options(tmp_path)) == result  # recognised, not repeated


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_a_stopped_search_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, stop):
    """Stopped after any save: in training, in the fitness of an individual, in the second generation."""
    settings = change(TINY_NB201, fitness_bn="batch", fitness_augment=True)
    search(settings, options(tmp_path / "whole"))
    saves = 0
    original = Run.write_state

    def save(self, state):
        nonlocal saves
        original(self, state)
        saves += 1
        if saves == stop:
            raise KeyboardInterrupt

    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    monkeypatch.setattr(Run, "write_state", save)
    with pytest.raises(KeyboardInterrupt):
        search(settings, options(tmp_path / "parts"))
    monkeypatch.setattr(Run, "write_state", original)
    search(settings, options(tmp_path / "parts"))
    names = ("result.json", "history.csv", "individuals.csv", "supernet.safetensors", "architecture.json")
    for name in (*names, "populations.npz"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name


@pytest.mark.parametrize("name", sorted({*VARIANTS[SearchNB201]} - {"paper"}))
def test_every_variant_runs(name, tmp_path):
    result = search(change(TINY_NB201, **VARIANTS[SearchNB201][name]), options(tmp_path))
    assert 0 <= result["metrics"]["fitness_chosen_percent"] <= 100


def test_random_measures_fitness_only_at_the_end(tmp_path):
    search(change(TINY_NB201, strategy="random"), options(tmp_path))
    with open(tmp_path / "history.csv", newline="") as file:
        first, last = csv.DictReader(file)
    assert first["fitness_best"] == "" and last["fitness_best"] != ""


def test_random_search_answers_with_the_best_of_all(tmp_path):
    result = search(change(TINY_NB201, strategy="random-search"), options(tmp_path))
    assert result["metrics"]["fitness_chosen_percent"] == result["metrics"]["fitness_best_percent"]
    assert json.loads((tmp_path / "architecture.json").read_text())["architecture"] == result["best_so_far"]


def test_switches_of_evolution():
    draws = Draws.stream(NB201, 0, "test")
    population = draws.population(6)
    fitness = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    kept = {tuple(a.flatten().tolist()) for a in population}
    copies = evolve(population, fitness, Rules(3, 1, 0.1, crossover=False, mutation=False), draws)
    assert {tuple(a.flatten().tolist()) for a in copies} <= kept and torch.equal(copies[0], population[0])
    crossed = evolve(population, fitness, Rules(3, 1, 0.1, mutation=False), draws)
    rows = {tuple(row.tolist()) for a in population for row in a}
    assert {tuple(row.tolist()) for a in crossed for row in a} <= rows


def test_decoding_tilts_the_mixture_and_beta_sharpens_it():
    population = Draws.stream(DARTS, 0, "test").population(1)
    normal, _ = mixtures(DARTS, population, True, 1.0)[0]
    values = {round(v, 6) for row in normal for v in row}
    assert values == {0.279708, 0.102899, 0.125}
    sharp, _ = mixtures(DARTS, population, True, 50.0)[0]
    assert max(v for row in sharp for v in row) > 0.999
    raw, _ = mixtures(DARTS, population, False, 1.0)[0]
    assert np.allclose(raw, torch.softmax(population[0, :14].double(), -1))


def test_halves_of_the_training_set(tmp_path):
    whole = change(TINY_DARTS, train_images=0, fitness_images=0)
    data = open_search_data(whole, options(tmp_path))
    assert len(data.train) == len(data.fitness) == 2000 and data.origin == "index"
    assert open_search_data(change(TINY_NB201, train_images=0), options(tmp_path)).origin == "fallback"


def test_plan_runs_nothing(tmp_path):
    lines = plan_search(TINY_DARTS, options(tmp_path))
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
        ({"train_images": 4}, "--train-images"),
        ({"lr": 1e30, "clip": 0.0}, "loss"),
    ],
)
def test_mistakes_have_one_line(wrong, named, tmp_path):
    with pytest.raises(UserError) as error:
        search(change(TINY_NB201, **wrong), options(tmp_path))
    assert named in str(error.value) and "\n" not in str(error.value)


def test_too_few_layers(tmp_path):
    with pytest.raises(UserError, match="--layers"):
        search(change(TINY_DARTS, layers=2), options(tmp_path, section="search"))


def test_the_alphas_of_every_generation_are_kept(tmp_path):
    """populations.npz: individuals and fitness as in individuals.csv; the first ones are the drawn population."""
    result = search(TINY_NB201, options(tmp_path))
    with np.load(tmp_path / "populations.npz", allow_pickle=False) as file:
        alphas, fitness = torch.from_numpy(file["alphas"]), file["fitness"]
    assert alphas.shape == (2, 3, 6, 5) and alphas.dtype == torch.float32
    assert torch.equal(alphas[0], Draws.stream(NB201, 0, "population").population(3))
    with open(tmp_path / "individuals.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        g, k = int(row["generation"]), int(row["individual"])
        assert NB201.text(alphas[g, k]) == row["cell"] and fitness[g, k] == float(row["top1"])
    elite = alphas[0, int(fitness[0].argmax())]
    assert torch.equal(alphas[1, 0], elite)
    # entry 0 is the cell of the supernet's own random alphas, as in the released list; the file ends with the best's
    assert result["trajectory"][0] == NB201.text(Draws.stream(NB201, 0, "supernet").individual())
    assert result["trajectory"][-1] == result["last_generation_best"]
    last = load_file(tmp_path / "supernet.safetensors")["arch_parameters"]
    assert torch.equal(last, alphas[1, int(fitness[1].argmax())])


def test_what_a_cell_reaches_elsewhere_is_no_result_of_the_search():
    """Cells found on the digits are looked up on CIFAR-10, as a transfer, not among the metrics."""
    table = SimpleNamespace(lookup=lambda *_: 90.0, rank=lambda *_: 7, pins={})
    cell = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    for dataset, own in (("digits", False), ("cifar100", True)):
        lookup = Lookup("darts", dataset, options(Path("nowhere")))
        lookup.applies, lookup.table = True, table
        assert bool(lookup.metrics(cell)) == bool(lookup.columns(cell)) == own
        report = lookup.report(cell, [cell])
        assert ("transfer" in report) != own and ("trajectory_test_valid" in report) == own


@pytest.mark.parametrize("settings", [TINY_DARTS, TINY_NB201, change(TINY_DARTS, split="random")])
def test_both_parts_of_a_set_sorted_by_class_hold_every_class(settings, tmp_path):
    for name in "abcd":
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(10):
            pixels = np.random.RandomState(i).randint(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{i}.png")
    whole = change(settings, dataset=f"{tmp_path / 'set'}@8", train_images=0, fitness_images=0)
    for limits in ({}, {"train_images": 8, "fitness_images": 8}):
        for part in open_search_data(change(whole, **limits), options(tmp_path))[:2]:
            counts = torch.bincount(part.labels, minlength=4)
            assert counts.min() >= counts.max() - 1 and counts.min() > 0
    with pytest.raises(UserError, match="--fitness-images"):
        open_search_data(change(whole, fitness_images=3), options(tmp_path))


def test_fitness_in_darts_is_rounded_as_in_the_plain_layout():
    """Batch statistics of a large batch, against float64: no coarser than PyTorch's usual layout (on one CPU, fp32)."""
    torch.manual_seed(0)
    model = supernet_of(TINY_DARTS, 10)
    usual = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    usual._run = MethodType(run_in_the_usual_layout, usual)
    mixture = mixtures(DARTS, Draws.stream(DARTS, 0, "population").population(1), True, 1.0)[0]
    x = torch.randn(256, 3, 16, 16)
    with torch.no_grad():
        exact = copy.deepcopy(model).double().train()(x.double(), mixture)
        ours, theirs = (float((net.train()(x, mixture) - exact).abs().max()) for net in (model, usual))
    assert ours < 2 * theirs, (ours, theirs)


def run_in_the_usual_layout(self, x, step):
    before = last = self.stem(x)
    for cell in self.cells:
        before, last = last, step(cell, before, last)
    return self.classifier(self.global_pooling(last).flatten(1))
