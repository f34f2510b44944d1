"""The comparison on NAS-Bench-201: one protocol, every form of record read, chance exact, words that follow numbers."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import itertools
import json
import math

import numpy as np
import pytest
import yaml

from common.cli.parsing import parse
from common.data.nasbench201 import CELLS, OPERATIONS, Table, to_string
from common.errors import UserError
from reproductions.compare.seeds import commands as of_pipeline
from reproductions.compare.statistics import kendall
from reproductions.compare_nb201 import commands, judgement, runs
from reproductions.compare_nb201.words import paragraph
from reproductions.compare_nb201.words import table as markdown

PIPELINE = commands.HOME / "dvc.yaml"


@pytest.fixture(scope="module")
def truth():
    """Tables of made accuracies; some cells learn nothing, as in the real ones."""
    rng = np.random.default_rng(3)
    arrays = {"ops": np.array(list(itertools.product(range(5), repeat=6)))}
    for name in ("cifar10", "cifar100", "imagenet16_120"):
        accuracy = 95 - rng.exponential(5, CELLS).clip(max=60)
        arrays[f"{name}_test_200"] = np.where(rng.random(CELLS) < 0.03, 10.0, accuracy)
    return Table(arrays)


def cell_of_rank(truth, rank):
    column = truth.column("cifar10")
    return to_string(truth.operations[np.argsort(-column, kind="stable")[rank - 1]])


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


STAGES = {"evnas": "search_nb201", "gdas": "search_nb201", "randomnas": "search_nb201_random"}


def search(folder, method, seed, cell, seconds=60.0, **more):
    """A finished search as the papers' verbs leave it."""
    path = folder / "search" / f"{method}-{seed}"
    path.mkdir(parents=True)
    stage = ("evnas" if method.startswith("evnas") else "nsas", STAGES[method.split("-")[0]])
    settings = yaml.safe_load((commands.HOME / "protocol.yaml").read_text(encoding="utf-8"))[stage[0]][stage[1]] | more
    found = {"paper": stage[0], "stage": stage[1], "seed": seed, "architecture": cell, "settings": settings}
    (path / "result.json").write_text(json.dumps(found))
    (path / "timing.json").write_text(json.dumps({"seconds": 2 * seconds, "cpu_seconds": seconds}))
    return path


def test_what_beats_chance_and_what_does_not(truth, tmp_path):
    """Three cells of the best hundred beat chance, three of the middle do not; differences are paired by seed."""
    for seed, (good, middle) in enumerate([(10, 7000), (50, 8000), (90, 9000)]):
        search(tmp_path, "evnas-authors", seed, cell_of_rank(truth, good))
        search(tmp_path, "evnas-random-search", seed, cell_of_rank(truth, middle))
    search(tmp_path, "gdas-paper", 0, cell_of_rank(truth, 5))
    said = commands.compare(tmp_path, truth)
    rows = {row.key: row for row in said.rows}
    assert rows["evnas-authors"].beats_chance and not rows["evnas-random-search"].beats_chance
    assert rows["evnas-authors"].ranks == (10, 50, 90) and rows["evnas-authors"].n == 3
    gaps = [truth.lookup(cell_of_rank(truth, a), "cifar10") - truth.lookup(cell_of_rank(truth, b), "cifar10")
            for a, b in [(10, 7000), (50, 8000), (90, 9000)]]  # fmt: skip
    assert rows["evnas-authors"].difference == pytest.approx(np.mean(gaps))
    low, high = rows["evnas-authors"].difference_interval
    assert low < np.mean(gaps) < high and (low + high) / 2 == pytest.approx(np.mean(gaps))
    assert rows["gdas-paper"].paired_n == 1 and math.isnan(rows["gdas-paper"].difference_interval[0])
    assert rows["randomnas-none"].n == 0 and rows["evnas-authors"].cpu_seconds == 60.0
    text, lines = paragraph(said.rows, said.luck, said.ranks, said.scale), markdown(said.rows, said.luck).splitlines()
    assert "Beyond chance" in text and "; worse none" in text
    better, _, rest = text.partition("Not shown to be better than chance: ")
    assert "EvNAS (" in better and "EvNAS's random search (" in rest and "EvNAS (" not in rest.split("Against")[0]
    assert (
        "Not run: RandomNAS, " in text
        and "Preliminary, with fewer than 3 seeds: GDAS-NSAS as written 1." in text
        and "nan" not in text
    )
    assert len(lines) == 2 + len(runs.METHODS) + 1 and len({line.count("|") for line in lines}) == 1
    assert sum("not run" in line for line in lines) == len(runs.METHODS) - 3


def test_no_run_yet(truth, tmp_path):
    said = commands.compare(tmp_path, truth)
    text = commands.words(said)
    assert "No search has been run yet" in text and text.count("ot run") >= 2
    commands.write(tmp_path, said)
    assert (tmp_path / "figure.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "outcomes.csv").read_text() == "" and "evnas-authors,0," in (
        tmp_path / "methods.csv"
    ).read_text()


def test_chance_is_exact(truth):
    """Means over all cells; the best of n is what drawing says; the p value is that of ranks, which are uniform."""
    luck = judgement.chance(truth, 20)
    column = truth.column("cifar10")
    drawn = column[np.random.default_rng(1).integers(0, CELLS, (20_000, 20))].max(1)
    assert luck.test["cifar10"] == pytest.approx(column.mean())
    assert luck.best_test == pytest.approx(drawn.mean(), abs=4 * drawn.std() / math.sqrt(20_000))
    assert luck.middle_of_mean[0] < column.mean() < luck.middle_of_mean[1] < luck.middle[1] < column.max()
    assert luck.middle[0] < luck.middle_of_mean[0]
    assert luck.regret == pytest.approx(column.max() - column.mean())
    assert math.isnan(luck.tau_12)  # these tables lack the short trainings
    one = judgement.chance_of([CELLS // 10], truth)
    three = judgement.chance_of([CELLS // 10] * 3, truth)
    assert one == pytest.approx(0.1, abs=0.01)
    assert three == pytest.approx(0.3**3 / 6, abs=0.002)  # three uniform numbers whose sum is at most 0.3


def test_holm_by_hand():
    assert judgement.holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


def test_scores_of_every_kind_of_search(truth, tmp_path):
    """Candidates once with their mean; EvNAS's last generations only; the log-probabilities of GDAS's alphas."""
    path = tmp_path / "r"
    write_csv(path / "candidates.csv", [
        {"cell": "c000001", "loss": 1, "supernet_accuracy_percent": 30},
        {"cell": "c000002", "loss": 1, "supernet_accuracy_percent": 20},
        {"cell": "c000001", "loss": 1, "supernet_accuracy_percent": 40},
    ])  # fmt: skip
    assert runs.scored(path, truth) == ([1, 2], [35.0, 20.0])
    path = tmp_path / "e"
    write_csv(path / "individuals.csv", [
        {"generation": g, "individual": k, "top1": 10 * g + k, "cell": to_string((0, 0, 0, 0, g, k))}
        for g in range(5) for k in range(2)
    ])  # fmt: skip
    assert runs.scored(path, truth) == ([20, 21], [40.0, 41.0])  # of five generations the last
    path, alphas = tmp_path / "g", np.random.default_rng(0).normal(size=(6, 5))
    write_csv(path / "alphas.csv", [dict(zip(OPERATIONS, row, strict=True)) | {"edge": "x"} for row in alphas])
    cells, scores = runs.scored(path, truth)
    p = np.exp(alphas) / np.exp(alphas).sum(1, keepdims=True)
    expected = [np.log(p[range(6), truth.operations[c]]).sum() for c in cells]
    assert len(cells) == len(set(cells)) > 190 and scores == pytest.approx(expected)
    assert runs.scored(tmp_path, truth) == ([], [])
    every = runs.log_probability(alphas, truth.operations)
    assert np.exp(every).sum() == pytest.approx(1.0)


def test_tau_has_its_interval_and_equal_scores_have_none(truth):
    cells = list(range(0, CELLS, 400))
    scores = list(truth.column("cifar10")[cells])
    tau, (low, high) = judgement.tau_of(cells, scores, truth)
    assert tau == pytest.approx(1.0) and low <= tau <= high
    assert all(math.isnan(v) for v in (judgement.tau_of(cells, [1.0] * len(cells), truth)[0],))
    noisy = [s + n for s, n in zip(scores, np.random.default_rng(0).normal(0, 5, len(cells)))]
    assert judgement.tau_of(cells, noisy, truth)[:2] == kendall(noisy, scores)[:2]


def test_curve_files_costs_and_readme(truth, tmp_path):
    """Curves by scale, epoch and batch norm; --write is repeatable to the byte; costs outlive timing.json."""
    rows = [
        {"epoch": epoch, "cell": f"c00{k:02d}33", "as_trained_percent": (k * 7) % 11, "renewed_percent": k,
         "test_percent": 0}
        for epoch in (4, 9) for k in (0, 1, 2, 3, 4, 10, 11, 12)
    ]  # fmt: skip
    write_csv(tmp_path / "curve" / "c8" / "ranks.csv", rows)
    path = search(tmp_path, "evnas-authors", 0, cell_of_rank(truth, 3), seconds=120.0)
    said = commands.compare(tmp_path, truth)
    assert [(r.scale, r.epoch, r.renewed, r.cells) for r in said.ranks] == [
        ("c8", 5, True, 8), ("c8", 5, False, 8), ("c8", 10, True, 8), ("c8", 10, False, 8)
    ]  # fmt: skip
    commands.write(tmp_path, said)
    before = {p.name: p.read_bytes() for p in tmp_path.glob("*.*")}
    assert set(before) == {"outcomes.csv", "methods.csv", "curve.csv", "costs.csv", "paragraph.txt", "figure.svg"}
    (path / "timing.json").unlink()  # not in git
    again = commands.compare(tmp_path, truth)
    commands.write(tmp_path, again)
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.*")} == before
    page = commands.page(f"a\n{commands.START}\nold\n{commands.END}\nb\n", said)
    assert page.startswith("a\n") and page.endswith("b\n") and "old" not in page and "| EvNAS |" in page
    assert commands.page(page, again) == page
    with pytest.raises(UserError, match="lacks the marks"):
        commands.page("nothing", said)


def test_a_result_of_another_space_is_refused_by_name(truth, tmp_path):
    search(tmp_path, "evnas-authors", 0, {"normal": []})
    with pytest.raises(UserError, match="no cell of NAS-Bench-201"):
        commands.compare(tmp_path, truth)


def test_a_run_of_another_scale_is_refused_by_name(truth, tmp_path):
    """Nothing is compared that had another budget; with its own protocol it is."""
    search(tmp_path, "randomnas-none", 0, cell_of_rank(truth, 3), select_candidates=7)
    with pytest.raises(UserError, match=r"randomnas-none-0 was run with select_candidates = 7, not "):
        commands.compare(tmp_path, truth)
    content = yaml.safe_load((commands.HOME / "protocol.yaml").read_text(encoding="utf-8"))
    content["nsas"]["search_nb201_random"]["select_candidates"] = 7
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    assert len(commands.compare(tmp_path, truth, tmp_path / "own.yaml").found) == 1


def test_every_block_of_the_protocol_says_the_same():
    """Equal supernets, images, epochs, optimisers and numbers of scored cells, in every paper's own words."""
    content = yaml.safe_load((commands.HOME / "protocol.yaml").read_text(encoding="utf-8"))
    evnas, nsas = content["evnas"]["search_nb201"], content["nsas"]
    for block in nsas.values():
        for name in (
            "dataset",
            "train_images",
            "channels",
            "batch_size",
            "lr",
            "lr_min",
            "momentum",
            "weight_decay",
            "clip",
        ):
            assert block[name] == evnas[name], name
        assert (block["cells"], block["epochs"]) == (evnas["cells_per_stage"], evnas["generations"])
    random = nsas["search_nb201_random"]
    assert random["select_candidates"] == evnas["generations"] * evnas["population"]
    assert random["select_images"] == evnas["fitness_images"] == nsas["experiments"]["rank_images"]
    assert nsas["experiments"]["rank_cells"] == runs.FIXED and evnas["split"] == "official"
    assert not evnas["train_images"]  # otherwise "images" would mean the whole set in nsas and one half in evnas


def commands_of_the_pipeline():
    stages = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))["stages"]
    curve = stages["curve"]
    for key, item in curve["foreach"].items():
        yield " ".join(curve["do"]["cmd"].split()).replace("${key}", key).replace("${item}", item)
    for seed in (0, 1):
        yield from of_pipeline(PIPELINE, seed)


def test_every_command_of_the_pipeline_is_one_of_the_papers(monkeypatch):
    """Settings, variants and idle flags are right; runs of one method differ in their seed and folder only."""
    monkeypatch.chdir(commands.ROOT)
    methods = set()
    for line in commands_of_the_pipeline():
        words = line.split()
        verbs = importlib.import_module(f"{words[2]}.__main__").VERBS
        _, settings, options = parse(words[2].removeprefix("papers."), verbs, words[3:])
        kind, name = str(options.out).removeprefix("results/compare_nb201/").split("/")
        assert options.profile == "proxy" and kind in (runs.SEARCHES, runs.STUDY, runs.CURVE)
        if kind == runs.SEARCHES:
            methods.add(name.rsplit("-", 1)[0])
            assert name.endswith(f"-{options.seed}") and settings.weight_decay == 0.0005
            assert name.startswith("evnas-random") or getattr(settings, "tournament", 10) == 10, "as published"
    assert methods == {method.key for method in runs.METHODS}


def test_verb_names_what_is_missing(tmp_path, capsys, monkeypatch, truth):
    from reproductions.__main__ import main

    assert main(["compare", "nb201", "--data", str(tmp_path)]) == 2
    assert "nasbench201" in capsys.readouterr().err
    assert main(["compare", "nb201", "--results", str(tmp_path / "absent")]) == 2
    assert "no folder" in capsys.readouterr().err
    monkeypatch.setattr(Table, "open", lambda *_: truth)
    (tmp_path / "own.yaml").write_text("evnas: {search_nb201: {channels: 8}}")
    assert main(["compare", "nb201", "--protocol", str(tmp_path / "own.yaml")]) == 2
    assert "does not say evnas.search_nb201 whole" in capsys.readouterr().err


HEADER = "cell,supernet_accuracy_percent\n"


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", f"{HEADER}c00001,1\n", f"{HEADER}c000001,x\n", f"{HEADER}c000001\n"]
)
def test_a_damaged_file_is_named(text, truth, tmp_path):
    (tmp_path / "candidates.csv").write_text(text)
    with pytest.raises(UserError, match=r"candidates\.csv.*run that stage again"):
        runs.scored(tmp_path, truth)


def test_the_readme_says_what_the_runs_say():
    """What stands in the README is generated from the results beside it."""
    try:
        real = Table.open()
    except UserError as error:
        pytest.skip(str(error))
    readme = (commands.HOME / "README.md").read_text(encoding="utf-8")
    assert commands.page(readme, commands.compare(commands.FOLDER, real)) == readme, "run: compare nb201 --write"


def test_what_the_papers_write_is_read(truth, tmp_path):
    """Every kind of search, tiny and real: its cell, what it chose by, what it cost; a curve, the study."""
    evnas, nsas = importlib.import_module("tests.evnas.small"), importlib.import_module("tests.nsas.small")
    evolution = importlib.import_module("papers.evnas.search").search
    folder = tmp_path / "search"
    evolution(evnas.NB201_SEARCH, evnas.options(folder / "evnas-authors-0"))
    for method, key in (("random", "randomnas-none"), ("gdas", "gdas-paper")):
        settings = getattr(nsas, f"NB201_{method.upper()}")
        run = importlib.import_module(f"papers.nsas.nasbench201.search_{method}").search
        run(dataclasses.replace(settings, epochs=1), nsas.options(folder / f"{key}-0", STAGES[key.split("-")[0]]))
    study = importlib.import_module("papers.nsas.studies.forgetting").experiment
    study(nsas.EXPERIMENT, nsas.options(tmp_path / "study" / "paper-2-0", "experiments"))
    every = dataclasses.replace(nsas.EXPERIMENT, rank_every=1, constraints=0)
    study(every, nsas.options(tmp_path / "curve" / "tiny", "experiments"))
    protocol = tmp_path / "own.yaml"
    content = yaml.safe_load((commands.HOME / "protocol.yaml").read_text(encoding="utf-8"))
    own = {"evnas": {"search_nb201": {name: evnas.SEARCH.get(name, 1) for name in content["evnas"]["search_nb201"]}}}
    own["evnas"]["search_nb201"] |= {"channels": 2, "lr": 0.025, "lr_min": 0.001, "momentum": 0.9, "clip": 5.0}
    own["evnas"]["search_nb201"] |= {"weight_decay": 3e-4, "split": "official"}
    protocol.write_text(yaml.safe_dump(own))
    said = commands.compare(tmp_path, truth, protocol)
    scored = {o.method: len(o.scored[0]) for o in said.found}
    assert 1 <= scored["evnas-authors"] <= 3 and scored["randomnas-none"] == 2 and scored["gdas-paper"] > 190
    assert all(o.cpu_seconds and o.cpu_seconds > 0 for o in said.found)
    assert [(r.scale, r.epoch, r.renewed) for r in said.ranks[:2]] == [("tiny", 1, True), ("tiny", 1, False)]
    assert "paper, M = 2" in said.study
