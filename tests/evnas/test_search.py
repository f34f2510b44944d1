"""The searches end to end on a few digits: what they write, variants, precision."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from common.cli.verbs import RunOptions
from common.data.nasbench201 import to_operations
from common.spaces.architecture import load_architecture
from common.spaces.darts.genotype import Genotype
from papers.evnas.method.evolution import Draws
from papers.evnas.method.population import NB201
from papers.evnas.search import search
from papers.evnas.settings import VARIANTS, SearchDARTS, SearchNB201
from tests.evnas.small import DARTS_SEARCH, NB201_SEARCH, change, options


def test_darts_writes_a_genotype_and_both_answers(tmp_path):
    result = search(
        change(DARTS_SEARCH, generations=1, population=2, train_images=36, fitness_images=36),
        options(tmp_path, section="search"),
    )
    cells = Genotype.from_dict(load_architecture(tmp_path / "architecture.json", "darts"))
    assert len(cells.normal) == len(cells.reduce) == 8 and cells.normal_concat == (2, 3, 4, 5)
    assert {"fitness_last_percent", "fitness_best_percent"} <= set(result["metrics"])
    assert (tmp_path / "supernet.safetensors").exists()


def test_nb201_writes_a_cell_and_says_that_the_tables_are_absent(tmp_path):
    result = search(NB201_SEARCH, options(tmp_path))
    cell = load_architecture(tmp_path / "architecture.json", "nasbench201")
    assert len(to_operations(cell)) == 6 and result["last_generation_best"] == cell
    assert "absent" in result["lookup"] and len(result["trajectory"]) == 3
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["generation"] for row in rows] == ["0", "1"] and rows[-1]["cell"] == cell
    assert search(NB201_SEARCH, options(tmp_path)) == result  # recognised, not repeated


@pytest.mark.parametrize("name", sorted({*VARIANTS[SearchNB201]} - {"paper"}))
def test_every_variant_runs(name, tmp_path):
    result = search(change(NB201_SEARCH, **VARIANTS[SearchNB201][name]), options(tmp_path))
    assert 0 <= result["metrics"]["fitness_chosen_percent"] <= 100


def test_random_measures_fitness_only_at_the_end(tmp_path):
    search(change(NB201_SEARCH, strategy="random"), options(tmp_path))
    with open(tmp_path / "history.csv", newline="") as file:
        first, last = csv.DictReader(file)
    assert first["fitness_best"] == "" and last["fitness_best"] != ""


def test_random_search_answers_with_the_best_of_all(tmp_path):
    result = search(change(NB201_SEARCH, strategy="random-search"), options(tmp_path))
    assert result["metrics"]["fitness_chosen_percent"] == result["metrics"]["fitness_best_percent"]
    assert json.loads((tmp_path / "architecture.json").read_text())["architecture"] == result["best_so_far"]


def test_the_alphas_of_every_generation_are_kept(tmp_path):
    """populations.npz: individuals and fitness as in individuals.csv; the first ones are the drawn population."""
    result = search(NB201_SEARCH, options(tmp_path))
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


@pytest.mark.parametrize("cls", [SearchDARTS, SearchNB201])
def test_ablations_change_what_they_name(cls, tmp_path):
    """NDF leaves training alone and changes the fitness; NDT changes the weights."""
    size = {"layers": 3} if cls is SearchDARTS else {"cells_per_stage": 1}
    base = cls(
        dataset="digits", split="index", train_images=48, fitness_images=64, channels=4, generations=1, batch_size=16,
        fitness_batch_size=64, population=2, tournament=1, fitness_bn="running", fitness_augment=False, **size,
    )  # fmt: skip
    weights, losses = {}, {}
    for name in ("authors", "NDF", "NDT"):
        options = RunOptions(paper="evnas", section="search", out=tmp_path / name, device="cpu")
        search(replace(base, **VARIANTS[cls].get(name, {})), options)
        weights[name] = load_file(tmp_path / name / "supernet.safetensors")
        with (tmp_path / name / "individuals.csv").open() as lines:
            losses[name] = [float(row["loss"]) for row in csv.DictReader(lines)]

    def equal(a, b):
        # alphas are buffers of the model: what was loaded last, not what was trained
        return all(torch.equal(v, weights[b][k]) for k, v in weights[a].items() if "alpha" not in k and "arch" not in k)

    assert equal("authors", "NDF") and losses["authors"] != losses["NDF"]
    assert not equal("authors", "NDT")


def test_bf16_is_near_fp32_and_says_so(tmp_path):
    few = {"generations": 1, "train_images": 49, "batch_size": 24, "population": 2, "split": "index"}
    settings = change(NB201_SEARCH, **few, fitness_bn="batch", lr=0.005)  # few and small steps stay comparable
    weights = {}
    for precision in ("fp32", "bf16"):
        out = tmp_path / precision
        assert search(settings, options(out, precision=precision))["precision"] == precision
        weights[precision] = load_file(out / "supernet.safetensors")
    distance = [
        float((weights["bf16"][k] - w).norm() / (w.norm() + 1e-6)) for k, w in weights["fp32"].items() if w.dim() == 4
    ]
    assert 0 < max(distance) < 0.2
