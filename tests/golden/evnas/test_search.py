"""The search against the released program: decoding, evolution with recorded and seeded draws, two whole searches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.data.augment import cutout_mask
from common.data.nasbench201 import OPERATIONS, to_operations
from common.spaces.darts.genotype import PRIMITIVES
from common.spaces.darts.supernet import Supernet as SupernetDARTS
from common.spaces.nasbench201.graph import canonical, connected, incoming
from common.spaces.nasbench201.network import EDGE_NAMES
from common.spaces.nasbench201.network import Supernet as SupernetNB201
from common.train.losses import TopK
from common.train.schedules import cosine
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
from papers.evnas.search import descend, for_fitness, measure, score
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


def cut(x: torch.Tensor, y: torch.Tensor, orders: dict[int, np.ndarray], size: int):
    """Fixed batches, each as a list of one share, by number of the pass."""

    def epoch(number: int, start: int = 0):
        order = torch.from_numpy(orders[number].astype(np.int64))
        for i in range(start * size, len(order), size):
            yield [(x[order[i : i + size]], y[order[i : i + size]])]

    return epoch


@pytest.mark.parametrize(
    ("name", "trace", "outcome"),
    [("s1", "mini_search_s1.npz", "mini_search_s1.json"), ("s2", "mini_search_s2.npz", "mini_search_s2.json")],
)
def test_a_whole_search(name, trace, outcome, golden, fill):
    """Every learning rate, loss, fitness, order, winner and population of three generations, in float64."""
    arrays, content = golden(trace), golden(outcome)
    config, space = content["config"], SPACES[name]
    if name == "s1":
        settings, model = SearchDARTS(), SupernetDARTS(config["C"], config["num_classes"], config["L"])
    else:
        settings = SearchNB201()
        model = SupernetNB201(config["C"], config["N"], config["num_classes"], with_architecture=True)
    fill(model, config["salt"]).double()
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], 0.025, 0.9, weight_decay=3e-4, nesterov=name == "s2"
    )
    x, y, n = torch.from_numpy(arrays["x"]).double(), torch.from_numpy(arrays["y"]).long(), int(arrays["n_train"])
    generations, size = config["gens"], config["P"]
    train = cut(x[:n], y[:n], {g: arrays[f"train_order_gen{g}"] for g in range(generations)}, config["batch_train"])
    orders = {g * size + k: arrays[f"valid_order_gen{g}"][k] for g in range(generations) for k in range(size)}
    first = min(int(order.min()) for order in orders.values())
    held = slice(n, None) if first < n else slice(None)  # indices count from the fitness part or from the whole
    valid = cut(x[held], y[held], orders, config["batch_valid"])
    population, counter = torch.from_numpy(arrays["alphas_gen0"]), TopK()
    rules = Rules(config["T"], config["elites"], config["mr"])
    for g, expected in enumerate(content["trace"]):
        lr = cosine(0.025, 0.001, g, generations)
        assert lr == pytest.approx(expected["lr"], rel=1e-12)
        individuals = mixtures(space, population, True, 1.0)
        model.train()
        optimizer.param_groups[0]["lr"] = lr
        assert [t % size for t in range(len(list(train(g))))] == expected["individual_of_step"]
        losses = [
            descend(model, optimizer, shares, individuals[t % size], 5.0, "fp32", {"step": t})
            for t, shares in enumerate(train(g))
        ]
        weights = sum(float(p.detach().abs().sum()) for key, p in model.named_parameters() if "arch" not in key)
        assert weights == pytest.approx(expected["sum_abs_weights_and_biases"], rel=1e-6)
        assert losses == pytest.approx(expected["train_loss_per_step"], abs=1e-5)
        forward, scores = for_fitness(model, settings, "fp32"), []
        for k, individual in enumerate(individuals):
            for shares in valid(g * size + k):
                measure(forward, shares, individual, counter, "fp32")
            scores.append(score(counter))
        np.testing.assert_allclose([s[0] for s in scores], expected["top1"], atol=1e-6)
        np.testing.assert_allclose([s[1] for s in scores], expected["top5"], atol=1e-6)
        np.testing.assert_allclose([s[2] for s in scores], expected["valid_loss"], atol=1e-4)
        order = ranking([s[0] for s in scores])
        assert order == expected["order_after_sort"]
        ranked, fitness = population[order], [scores[k][0] for k in order]
        if name == "s1":
            best = genotype(ranked[0]).as_dict()
            assert {k: best[k] for k in ("normal", "reduce")} == expected["best"]
        else:
            assert cell_string(ranked[0]) == expected["best"]
        np.testing.assert_allclose(model.stem[1].running_mean.numpy(), expected["stem_bn_running_mean"], atol=1e-5)
        draws = Recorded(arrays, f"_gen{g}")
        population = evolve(ranked, fitness, rules, draws)
        assert draws.all_used()
        np.testing.assert_array_equal(population.numpy(), arrays[f"alphas_gen{g + 1}"])
