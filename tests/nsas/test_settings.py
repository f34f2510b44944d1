"""Every setting of every stage acts, or is refused by name: tiny runs with one setting changed at a time."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from common.run.folder import Run
from papers.nsas import search_gdas
from papers.nsas import settings as s
from papers.nsas.method.architect import plain_gradient
from papers.nsas.nasbench201.settings import SearchNb201Gdas, SearchNb201Random
from papers.nsas.recurrent.settings import EvaluateRecurrent, SearchRecurrent, TrainRecurrent
from papers.nsas.studies.settings import Experiment
from tests.nsas.small import module_of, options
from tests.settings_walk import walk

SKIP_SIZE = "how many images are computed at once: the same numbers up to rounding"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two sets of two classes, eight pixels a side."""
    draw, root = np.random.RandomState(0), tmp_path_factory.mktemp("sets")
    for name in ("one", "two"):
        for split, count in (("train", 24), ("test", 4)):
            for label in "ab":
                (root / name / split / label).mkdir(parents=True)
                for number in range(count):
                    pixels = (255 * draw.rand(8, 8, 3)).astype(np.uint8)
                    Image.fromarray(pixels).save(root / name / split / label / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Two short texts."""
    draw, root = np.random.RandomState(1), tmp_path_factory.mktemp("texts")
    for name in ("one", "two"):
        (root / name).mkdir()
        for part, lines in (("train", 60), ("valid", 24), ("test", 12)):
            words = [" ".join(f"w{n}" for n in draw.zipf(1.6, 8) % 30) for _ in range(lines)]
            (root / name / f"{part}.txt").write_text("\n".join(words) + "\n")
    return root


def plain(value, content) -> None:
    """Feeds everything that a state holds into a hash."""
    if isinstance(value, torch.Tensor):
        content.update(value.detach().cpu().numpy().tobytes())
    elif isinstance(value, dict):
        for key in (k for k in value if k != "clock"):  # seconds
            content.update(repr(key).encode())
            plain(value[key], content)
    elif isinstance(value, list | tuple):
        for one in value:
            plain(one, content)
    else:
        content.update(repr(value).encode())


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """settings -> hash of the states after every epoch, the history, the metrics and the architecture of a run."""
    numbers = iter(range(10_000))
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "100000")  # after epochs only, however slow the machine is

    def of(target: str, section: str):
        run = module_of(target)[1]

        def one(settings) -> str:
            content = hashlib.sha256()
            monkeypatch.setattr(Run, "write_state", lambda self, state: plain(state, content))
            folder = tmp_path / str(next(numbers))
            result = run(settings, options(folder, section, allow_unpinned=True, given=None))
            history = folder / "history.csv"  # evaluations have none
            shown = history.read_text() if history.exists() else ""
            ranks = folder / "ranks.csv"  # experiments on the way
            shown += ranks.read_text() if ranks.exists() else ""
            plain({"metrics": result["metrics"], "architecture": result.get("architecture"), "shown": shown}, content)
            return content.hexdigest()

        return one

    return of


def images(pictures) -> dict:
    return {"dataset": f"{pictures / 'one'}@8", "train_images": 24, "batch_size": 4, "epochs": 2}


def sets(pictures) -> dict:
    return {"dataset": f"{pictures / 'two'}@8"}


DARTS = {"channels": 1, "layers": 3}


@pytest.mark.slow
def test_search(pictures, digest):
    base = s.SearchRandom(
        **images(pictures), **DARTS, table="raw", constraints=3, neighbours=1, recent=3, constraint_gradient=True,
        select_rounds=1, select_candidates=2, select_images=8, select_batch_size=4, recalibrate_batches=1, monitor=True,
        clip=0.2,
    )  # fmt: skip
    wide = {"shifted_lr": True}
    given = {**sets(pictures), **wide, "recent": 2, "inputs": "distinct"}
    skip = {"neighbours": "the archive of so few steps: the novelty rule has stored cases"}
    walk(digest("search_random:search", "search"), base, given, skip)
    softmax = replace(base, table="softmax", constraint_gradient=False)
    names = {f for f in s.SearchRandom.__dataclass_fields__ if f not in ("unsampled_statistics", "table")}
    walk(digest("search_random:search", "search"), softmax, skip=dict.fromkeys(names, "walked above"))


@pytest.mark.slow
@pytest.mark.parametrize("form", [{}, {"constraint_gradient": True}, {"semantics": "head", "constraints": 8}])
def test_search_gdas(form, pictures, digest, monkeypatch):
    """A plain table step stands in for the unrolled one, two thirds of a run: what acts in it acts elsewhere too."""
    monkeypatch.setattr(
        search_gdas,
        "unrolled_gradient",
        lambda loss, model, tables, train, valid, optimizer: plain_gradient(loss, model, tables, valid),
    )
    base = replace(
        s.SearchGdas(**images(pictures), **DARTS, table="raw", constraints=3, clip=0.2), batch_size=6, **form
    )
    few = ("constraints", "recent", "neighbours", "mix", "constraint_gradient", "weighted", "semantics", "table")
    skip = {} if not form else {f: "walked in the default form" for f in s.SearchGdas.__dataclass_fields__
                                if f not in few}  # fmt: skip
    if form.get("semantics") == "head":
        skip |= dict.fromkeys(("semantics", "table"), "walked in the default form")
    else:
        base = replace(base, neighbours=1, recent=2)
    skip["neighbours"] = skip["recent"] = "the archive of so few steps: stored cases"
    walk(digest("search_gdas:search", "search_gdas"), base, sets(pictures), skip)


def halves(pictures) -> dict:
    return {**images(pictures), "channels": 2, "cells": 1, "clip": 0.2}


def test_search_nb201(pictures, digest):
    base = SearchNb201Random(
        **halves(pictures), constraints=3, select_candidates=2, epoch_candidates=1, select_images=8,
        select_batch_size=4, recalibrate_batches=1,
    )  # fmt: skip
    given = {**sets(pictures), "select_candidates": [6, 12]}  # the first cells may win against one more
    walk(digest("nasbench201.search_random:search", "search_nb201_random"), base, given)
    base = SearchNb201Gdas(**{**halves(pictures), "epochs": 2}, constraints=3)
    walk(digest("nasbench201.search_gdas:search", "search_nb201"), base, sets(pictures))


@pytest.mark.parametrize("constraint", ["r", "low", "none"])
@pytest.mark.parametrize("method", ["Random", "Gdas"])
def test_forms_of_nb201(method, constraint, pictures, digest):
    """What acts with some constraints only is refused with the others."""
    kind = {"Random": SearchNb201Random, "Gdas": SearchNb201Gdas}[method]
    base = kind(**halves(pictures), constraint=constraint)
    forms = {"constraints", "structure_bug", "argument_bug", "shared_cells", "penalty", "constraint_gradient"}
    skip = dict.fromkeys(set(kind.__dataclass_fields__) - forms, "walked with nsas")
    if method == "Random":
        base = replace(base, select_candidates=1, epoch_candidates=0)
    module = f"nasbench201.search_{method.lower()}:search"
    walk(digest(module, "search_nb201"), base, skip=skip)


def text(texts) -> dict:
    return {"text": str(texts / "one"), "max_tokens": 400, "max_types": 20, "width": 6, "epochs": 1, "bptt": 6}


@pytest.mark.parametrize("path", ["fixed", "sampled"])
def test_search_ptb(path, texts, digest):
    base = SearchRecurrent(
        **text(texts), path=path, batch_size=8, eval_batch_size=2, constraints=3, drop_embedding=0.1, clip=0.02,
    )  # fmt: skip
    if path == "sampled":
        base = replace(base, select_candidates=2, select_rows=10, recalibrate_chunks=1, neighbours=1, recent=2)
    skip = {"neighbours": "the archive of so few steps; the novelty rule has stored cases"} if path == "sampled" else {}
    given = {"text": str(texts / "two"), "select_rows": 8}
    walk(digest("recurrent.search:search", "search_ptb"), base, given, skip)


def test_train(pictures, digest):
    base = s.Train(
        **{**images(pictures), "epochs": 4}, **DARTS, auxiliary=False, label_smoothing=0.1, lr_min=0.001,
        clip=0.2, cutout=2, drop_path=0.5, parts=2, eval_every=2,
    )  # fmt: skip
    skip = {"eval_batch_size": SKIP_SIZE}
    given = {**sets(pictures), "arch": "Random_NSAS_C", "auxiliary": [], "network": [], "schedule": "step", "parts": 1,
             "checkpoint": "absent"}  # fmt: skip
    skip |= {"auxiliary": "pictures of 32 pixels only", "network": "another size of picture: its own test"}
    walk(digest("train:train", "train"), base, {k: v for k, v in given.items() if v != []}, skip)


def test_train_ptb(texts, digest):
    base = TrainRecurrent(
        **{**text(texts), "epochs": 5}, batch_size=8, eval_batch_size=2, alpha=0.1, nonmono=1, clip=0.02,
        lr=100.0,
    )  # fmt: skip
    given = {"text": str(texts / "two"), "checkpoint": "absent"}
    skip = {
        "arch": "one published cell; a file in the other tests", "rollbacks": "acts when a loss is not a number",
        "nonmono": "acts when the validation loss rises: the rule has stored cases",
    }  # fmt: skip
    walk(digest("recurrent.train:train", "train_ptb"), base, given, skip)


def test_evaluate(pictures, texts, digest, tmp_path):
    """The file says what it is of: another set, architecture or size is refused."""
    small = s.Train(**images(pictures), **DARTS, auxiliary=False)
    module_of("train:train")[1](small, options(tmp_path / "t", "train", allow_unpinned=True))
    weights = str(tmp_path / "t" / "weights.safetensors")
    base = s.Evaluate(checkpoint=weights, dataset=small.dataset)
    given = {**sets(pictures), "arch": "Random_NSAS_C", "checkpoint": ["", str(tmp_path / "no")], "weights": "ema"}
    skip = {"batch_size": SKIP_SIZE, "checkpoint": "refused as a missing file", "channels": "does not fit",
            "layers": "does not fit"}  # fmt: skip
    given.pop("checkpoint")
    walk(digest("evaluate:evaluate", "evaluate"), base, given, skip)
    words = TrainRecurrent(**text(texts), batch_size=8, eval_batch_size=2)
    module_of("recurrent.train:train")[1](words, options(tmp_path / "w", "train_ptb", allow_unpinned=True))
    base = EvaluateRecurrent(
        checkpoint=str(tmp_path / "w" / "weights.safetensors"), text=words.text, max_tokens=400, max_types=20,
        batch_size=2,
    )  # fmt: skip
    skip = {"arch": "one published cell", "checkpoint": "as above", "width": "does not fit"}
    walk(
        digest("recurrent.evaluate:evaluate", "evaluate_ptb"),
        base,
        {"text": str(texts / "two"), "weights": "ema"},
        skip,
    )


def test_experiments(pictures, digest, monkeypatch):
    from papers.nsas.studies import forgetting as experiments

    monkeypatch.setattr(experiments.study, "figure_of_run", lambda *_: None)
    base = Experiment(
        **halves(pictures), loss="paper", constraints=3, neighbours=1, recent=2, probe_every=1, probe_images=8,
        rank_cells=2, rank_images=10, recalibrate_batches=1,
    )  # fmt: skip
    one = digest("studies.forgetting:experiment", "experiments")
    skip = {"summarise": "another act: joins finished runs", "neighbours": "the archive of so few steps: stored cases"}
    walk(one, base, {**sets(pictures), "loss": "authors", "probe_every": 2, "probe_images": 6}, skip)
