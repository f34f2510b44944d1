"""The search against the released program: decoding, evolution with recorded and seeded draws, two whole searches."""

from __future__ import annotations

import csv
from collections import defaultdict

import numpy as np
import pytest
import torch

from common.cli.verbs import RunOptions
from common.data.augment import cutout_mask
from common.data.nasbench201 import OPERATIONS, to_operations
from common.data.sets import Images
from common.spaces.darts.genotype import PRIMITIVES
from common.spaces.nasbench201.graph import canonical, connected, incoming
from common.spaces.nasbench201.network import EDGE_NAMES
from common.train.losses import TopK
from common.train.schedules import cosine
from papers.evnas import search as module
from papers.evnas.data import SearchData
from papers.evnas.method.evolution import Draws, Rules, evolve, ranking, tournament
from papers.evnas.method.population import (
    DARTS,
    NB201,
    cell_string,
    decode_darts,
    decode_nb201,
    genotype,
    mixtures,
    softmax_rows,
)
from papers.evnas.search import supernet_of
from papers.evnas.settings import SearchDARTS, SearchNB201

SPACES = {"s1": DARTS, "s2": NB201}  # the golden files call them so


class Recorded:
    """The draws of a golden file, in the order evolution asks for them."""

    def __init__(self, arrays: dict[str, np.ndarray], suffix: str = "") -> None:
        self.drawn = iter(arrays["tournaments" + suffix].reshape(-1, arrays["tournaments" + suffix].shape[-1]))
        self.numbers = iter(np.concatenate([arrays[f"{n}{suffix}"].ravel() for n in ("coins", "mut_u")]))
        self.rows = iter(torch.from_numpy(arrays["rep_alpha" + suffix]))

    def positions(self, count: int, among: int) -> np.ndarray:
        found = next(self.drawn)
        assert len(found) == count and found.max() < among
        return found

    def uniform(self) -> float:
        return float(next(self.numbers))

    def individual(self) -> None:
        return None

    def row(self) -> torch.Tensor:
        return next(self.rows)

    def all_used(self) -> bool:
        return all(next(stream, None) is None for stream in (self.drawn, self.numbers, self.rows))


def test_decoding_s1(golden, close):
    arrays, content = golden("s1_decode.npz"), golden("s1_decode.json")
    for alphas, decoded, weights, cells in zip(
        arrays["alphas"], arrays["decoded"], arrays["weights"], content["genotypes"]
    ):
        found = decode_darts(torch.from_numpy(alphas))
        np.testing.assert_array_equal(found.numpy(), decoded.astype(np.float32))
        close(softmax_rows(found), weights, tolerance=1e-6)
        ours = genotype(torch.from_numpy(alphas)).as_dict()
        assert {k: ours[k] for k in cells} == cells
        edges = decoded.any(1)  # the rows with a chosen operation: 8 of 14 in each cell
        assert edges.reshape(2, 14).sum(1).tolist() == [8, 8]
        mixed = softmax_rows(found).numpy()
        np.testing.assert_allclose(mixed[decoded == 1], content["weight_selected"], atol=1e-7)
        other = mixed[edges][decoded[edges] == 0]
        np.testing.assert_allclose(other, content["weight_other_on_selected_edge"], atol=1e-6)
        np.testing.assert_allclose(mixed[~edges], content["weight_on_unselected_edge"], atol=1e-7)
    assert content["primitives"] == list(PRIMITIVES)
    for cells, again in zip(content["genotypes"], content["genotype_by_supernet_method"]):
        assert again == {**cells, "agrees": True}  # the original's two derivations find the same


def test_decoding_s2(golden, close):
    arrays, content = golden("s2_decode.npz"), golden("s2_decode.json")
    assert content["edge_order"] == list(EDGE_NAMES) and content["primitives"] == list(OPERATIONS)
    for alphas, decoded, weights, text in zip(
        arrays["alphas"], arrays["decoded"], arrays["weights"], content["arch_strings"]
    ):
        found = decode_nb201(torch.from_numpy(alphas))
        np.testing.assert_array_equal(found.numpy(), decoded.astype(np.float32))
        close(softmax_rows(found), weights, tolerance=1e-6)
        assert cell_string(torch.from_numpy(alphas)) == text
        mixed = softmax_rows(found).numpy()
        np.testing.assert_allclose(mixed[decoded == 1], content["weight_selected"], atol=1e-7)
        np.testing.assert_allclose(mixed[decoded == 0], content["weight_other"], atol=1e-7)


def test_cells_of_s2_as_graphs(golden):
    for row in golden("s2_decode.json")["structures"]:
        operations = to_operations(row["arch"])
        assert connected(operations) == row["valid"]
        assert (canonical(operations, fold_none=False), canonical(operations)) == (row["unique"], row["unique_zero"])
        lists = incoming(operations)
        assert (lists and [[list(pair) for pair in node] for node in lists]) == row["tolist_without_none"]


@pytest.mark.parametrize(("name", "file"), [("s1", "ga_s1.npz"), ("s2", "ga_s2.npz")])
def test_one_evolution_with_recorded_draws(name, file, golden):
    arrays = golden(file)
    size, drawn, elites, _ = (int(v) for v in arrays["params"])
    order = ranking(arrays["fitness"].tolist())
    assert order == arrays["order"].tolist()
    fitness = arrays["fitness"][order].astype(np.float64)
    rules = Rules(drawn, elites, float(arrays["mutation_rate"]))
    draws = Recorded(arrays)
    winners = [tournament(fitness, drawn, draws) for _ in range(2 * (size - elites))]
    assert winners == arrays["winners"].ravel().tolist()
    draws = Recorded(arrays)
    found = evolve(torch.from_numpy(arrays["init"])[order], fitness.tolist(), rules, draws)
    np.testing.assert_array_equal(found.numpy(), arrays["next"])
    assert draws.all_used()


@pytest.mark.parametrize("name", ["s1", "s2"])
def test_one_evolution_from_the_seed(name, golden):
    content, space = golden("ga_seeded.json")[name], SPACES[name]
    generator = torch.Generator().manual_seed(content["seed"])
    draws = Draws(space, np.random.RandomState(content["seed"]), generator)
    population = draws.population(content["P"])
    assert float(population.double().sum()) == pytest.approx(content["init_sum"], abs=1e-9)
    assert population[0, 0].tolist() == content["init_first_row"]
    assert population[-1, -1].tolist() == content["init_last_row"]
    order = ranking(content["fitness"])
    assert order == content["order"]
    fitness = [content["fitness"][k] for k in order]
    rules = Rules(content["T"], content["elites"], content["mutation_rate"])
    found = evolve(population[order], fitness, rules, draws)
    assert float(found.double().sum()) == pytest.approx(content["next_sum"], abs=1e-9)
    np.testing.assert_allclose(found.double().sum((1, 2)).numpy(), content["next_row_sums"], atol=1e-9)


def test_learning_rates_of_the_search(golden):
    found = golden("schedules.json")["search_lr_s1_s2"]
    ours = [cosine(found["lr"], found["eta_min"], g, found["epochs"]) for g in range(found["epochs"])]
    np.testing.assert_allclose(ours, found["values"], rtol=1e-12)


def test_meter_and_cutout(golden):
    content = golden("misc.json")
    meter, counter = content["meter"], TopK()
    totals = np.zeros(2)
    for value, count, expected in zip(meter["values"], meter["counts"], meter["running_avg"]):
        totals += value * count, count
        logits = torch.zeros(count, 2, dtype=torch.float64)
        counter.add(logits, torch.zeros(count, dtype=torch.long), torch.tensor(value, dtype=torch.float64))
        assert counter.read()[0] == pytest.approx(expected, rel=1e-12) == totals[0] / totals[1]
    for case in content["cutout"]:
        rng = np.random.RandomState(case["np_seed"])
        y, x = rng.randint(case["height"]), rng.randint(case["width"])
        assert (y, x) == (case["y"], case["x"])
        length = (
            case["length"] if isinstance(case["length"], int) else int(True)
        )  # NAS-Bench-201: the flag itself, cuts nothing
        mask = cutout_mask(torch.tensor([y]), torch.tensor([x]), case["height"], case["width"], length)
        expected = torch.ones(case["height"], case["width"])
        if case["zeroed_box_y0y1x0x1"] is not None:
            y0, y1, x0, x1 = case["zeroed_box_y0y1x0x1"]
            expected[y0:y1, x0:x1] = 0
        assert torch.equal(mask[0, 0], expected)


class Passes:
    """Fixed batches, each as a list of one share, by number of the pass."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, orders: dict[int, np.ndarray], size: int) -> None:
        self.x, self.y, self.orders, self.size = x, y, orders, size

    def __len__(self) -> int:
        return -(-len(self.orders[0]) // self.size)

    def in_shares(self) -> Passes:
        return self

    def epoch(self, number: int, start: int = 0):
        order = torch.from_numpy(self.orders[number].astype(np.int64))
        for i in range(start * self.size, len(order), self.size):
            yield [(self.x[order[i : i + self.size]], self.y[order[i : i + self.size]])]


class Streams:
    """``Draws.stream`` of a search: the stored population and the stored draws of each evolution."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays, self.given = arrays, []

    def stream(self, space, seed, name, *generation):
        if name == "population":
            return self
        self.given.append(Recorded(self.arrays, f"_gen{generation[0]}"))
        return self.given[-1]

    def population(self, size: int) -> torch.Tensor:
        assert size == len(self.arrays["alphas_gen0"])
        return torch.from_numpy(self.arrays["alphas_gen0"])


@pytest.mark.parametrize(
    ("name", "trace", "outcome"),
    [("s1", "mini_search_s1.npz", "mini_search_s1.json"), ("s2", "mini_search_s2.npz", "mini_search_s2.json")],
)
def test_a_whole_search(name, trace, outcome, golden, fill, monkeypatch, tmp_path):
    """search() itself: every rate, loss, fitness, order, winner and population of three generations, in float64."""
    arrays, content = golden(trace), golden(outcome)
    config, space, notes = content["config"], SPACES[name], defaultdict(list)
    x, y, n = torch.from_numpy(arrays["x"]).double(), torch.from_numpy(arrays["y"]).long(), int(arrays["n_train"])
    generations, size = config["gens"], config["P"]
    train = Passes(x[:n], y[:n], {g: arrays[f"train_order_gen{g}"] for g in range(generations)}, config["batch_train"])
    orders = {g * size + k: arrays[f"valid_order_gen{g}"][k] for g in range(generations) for k in range(size)}
    first = min(int(order.min()) for order in orders.values())
    held = slice(n, None) if first < n else slice(None)  # indices count from the fitness part or from the whole
    valid = Passes(x[held], y[held], orders, config["batch_valid"])
    images = Images(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), y[:1], tuple("0123456789"), "given", True)
    monkeypatch.setattr(module, "open_search_data", lambda *_: SearchData(images, images, "given", {}))
    monkeypatch.setattr(module, "batches", lambda *_: (train, valid))
    monkeypatch.setattr(module, "Draws", streams := Streams(arrays))

    def filled(settings, classes):
        notes["model"].append(fill(supernet_of(settings, classes), config["salt"]).double())
        return notes["model"][0]

    def noted(function, name, before=None):
        def call(*args):
            if before is not None:
                before()
            notes[name].append((args, function(*args)))
            return notes[name][-1][1]

        monkeypatch.setattr(module, name, call)

    def weights() -> None:  # once a generation, between training and fitness
        named = notes["model"][0].named_parameters()
        notes["weights"].append(sum(float(p.detach().abs().sum()) for key, p in named if "arch" not in key))

    def stem() -> None:  # once a generation, after fitness
        notes["stem"].append(notes["model"][0].stem[1].running_mean.clone())

    monkeypatch.setattr(module, "supernet_of", filled)
    noted(module.descend, "descend", lambda: notes["lr"].append(notes["optimizer"][0].param_groups[0]["lr"]))
    noted(module.for_fitness, "for_fitness", weights)
    noted(module.evolve, "evolve", stem)
    make = module.sgd
    monkeypatch.setattr(module, "sgd", lambda *args: notes["optimizer"].append(make(*args)) or notes["optimizer"][0])
    sizes = {"cells_per_stage": config["N"]} if name == "s2" else {"layers": config["L"]}
    settings = (SearchDARTS if name == "s1" else SearchNB201)(
        dataset="given", channels=config["C"], generations=generations, population=size, tournament=config["T"],
        elites=config["elites"], mutation_rate=config["mr"], **sizes,
    )  # fmt: skip
    options = RunOptions(out=tmp_path, device="cpu", data=tmp_path / "nowhere", paper="evnas", section="search")
    found = module.search(settings, options)

    table = {name: list(csv.DictReader((tmp_path / f"{name}.csv").open())) for name in ("history", "individuals")}
    steps = len(train)
    for g, expected in enumerate(content["trace"]):
        row, calls = table["history"][g], notes["descend"][g * steps : (g + 1) * steps]
        rates = [*notes["lr"][g * steps : (g + 1) * steps], float(row["lr"])]
        assert rates == pytest.approx([expected["lr"]] * (steps + 1), rel=1e-12)
        mixed = mixtures(space, torch.from_numpy(arrays[f"alphas_gen{g}"]), True, 1.0)
        for (args, _), k in zip(calls, expected["individual_of_step"], strict=True):
            assert np.array_equal(args[3], mixed[k]) and args[4] == 5.0
        assert [loss for _, loss in calls] == pytest.approx(expected["train_loss_per_step"], abs=1e-5)
        assert float(row["train_loss"]) == pytest.approx(np.mean(expected["train_loss_per_step"]), abs=1e-5)
        assert notes["weights"][g] == pytest.approx(expected["sum_abs_weights_and_biases"], rel=1e-6)
        own = [one for one in table["individuals"] if one["generation"] == str(g)]
        for column, key, bound in (("top1", "top1", 1e-6), ("top5", "top5", 1e-6), ("loss", "valid_loss", 1e-4)):
            np.testing.assert_allclose([float(one[column]) for one in own], expected[key], atol=bound)
        (ranked, fitness, *_), children = notes["evolve"][g]
        order = expected["order_after_sort"]
        np.testing.assert_array_equal(ranked.numpy(), arrays[f"alphas_gen{g}"][order])
        np.testing.assert_allclose(fitness, np.array(expected["top1"])[order], atol=1e-6)
        if name == "s1":
            best = genotype(ranked[0]).as_dict()
            assert {k: best[k] for k in ("normal", "reduce")} == expected["best"]
        assert row["cell"] == space.text(ranked[0]) and (name == "s1" or row["cell"] == expected["best"])
        np.testing.assert_allclose(notes["stem"][g].numpy(), expected["stem_bn_running_mean"], atol=1e-5)
        assert streams.given[g].all_used()
        np.testing.assert_array_equal(children.numpy(), arrays[f"alphas_gen{g + 1}"])
    answer = found["architecture"]
    assert answer == content["trace"][-1]["best"] or {k: answer[k] for k in ("normal", "reduce")} == expected["best"]
