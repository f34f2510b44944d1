"""What a supernet was trained on and how, followed by everything that uses it; the look-up table at every size."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from common.cli.errors import UserError
from common.cli.verbs import RunOptions
from papers.sgnas.data import sets as datasets
from papers.sgnas.data.search_data import prepare
from papers.sgnas.data.split import provenance_of
from papers.sgnas.describe import counts
from papers.sgnas.method.lookup import cost_of_ops, macs_table, one_hot
from papers.sgnas.method.prior import draw_candidate
from papers.sgnas.method.sampling import sample_paths, trained_code, trained_parameters
from papers.sgnas.network.architectures import MACROS, kernels_of, macro_for
from papers.sgnas.network.supernet import load_supernet
from papers.sgnas.search import search, search_generator, search_supernet
from papers.sgnas.settings import EvolveSettings
from papers.sgnas.studies import evolve as evolve_module
from papers.sgnas.studies.evolve import evolve
from tests.sgnas.test_search import SMALL


def options(out, section: str = "search", **more) -> RunOptions:
    return RunOptions(out=out, device="cpu", paper="sgnas", section=section, **more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A supernet of 64 images under the sampling ``prefix``; the set has 3,200 more for the first part."""
    folder = tmp_path_factory.mktemp("provenance") / "supernet"
    search_supernet(replace(SMALL, train_images=64, active="prefix"), options(folder, "search_supernet", seed=3))
    return folder


@pytest.mark.parametrize("size", [*range(16, 65), 96, 127, 128, 160, 224])
@pytest.mark.parametrize("name", sorted(MACROS))
def test_lookup_is_the_network_at_every_size(name, size):
    macro, rng = macro_for(name, size), np.random.RandomState(size)
    for _ in range(3):
        ops = draw_candidate(rng, len(macro.layers))
        macs = counts(kernels_of(ops), macro, 10, False)["macs_published"]
        assert cost_of_ops(macs_table(macro), ops) == pytest.approx(macs / 1e6, rel=1e-6)


def test_codes_that_were_trained():
    ops = [[2, 3, 0, 3, 1, 3], [0, 3, 3, 3, 3, 2]]
    assert trained_code(ops, "random") == ops
    assert trained_code(ops, "prefix") == [[2, 0, 1, 3, 3, 3], [0, 2, 3, 3, 3, 3]]
    assert trained_code(ops, "sorted") == [[0, 1, 2, 3, 3, 3], [0, 2, 3, 3, 3, 3]]
    for active in ("random", "prefix", "sorted"):
        p = one_hot(torch.tensor(ops))
        assert torch.equal(trained_parameters(p, active), one_hot(torch.tensor(trained_code(ops, active))))
        for path in sample_paths(np.random.RandomState(0), 5, 8, active):
            assert trained_code(path, active) == [list(row) for row in path]
    soft = torch.softmax(torch.randn(5, 6, 4, generator=torch.Generator().manual_seed(0)), -1).requires_grad_()
    moved = trained_parameters(soft, "prefix")
    assert trained_code(moved.argmax(-1).tolist(), "prefix") == moved.argmax(-1).tolist()
    moved[..., 0].sum().backward()
    assert soft.grad[..., 0].eq(1).all() and soft.grad[..., 1:].eq(0).all()


def test_evolution_scores_unseen_images_under_trained_codes(trained, tmp_path, monkeypatch):
    record = provenance_of(trained)
    assert (record.active, record.split.train_images) == ("prefix", 64)
    images = datasets.open_set("digits", "train", options(None))
    seen, _ = record.split.parts(images)
    loaders, scored = [], []
    original, scoring = datasets.loader, evolve_module.path_error
    monkeypatch.setattr(datasets, "loader", lambda *a, **k: loaders.append(a) or original(*a, **k))
    monkeypatch.setattr(evolve_module, "path_error", lambda f, ops, b: scored.append(ops) or scoring(f, ops, b))
    small = EvolveSettings(supernet=str(trained), search_images=32, targets=(3.5,), population=4, generations=1)
    evolve(replace(small, tolerance=0.3, parents=2), options(tmp_path / "e", "evolve", seed=11))
    pool = next(a[1] for a in loaders if a[-1] == "evolve")
    keys = {tuple(row) for row in seen.pixels.flatten(1).tolist()}
    assert len(pool) == 32 and not keys & {tuple(row) for row in pool.pixels.flatten(1).tolist()}
    assert scored and all(trained_code(ops, "prefix") == ops for ops in scored)


def test_another_set_or_another_recipe_is_refused(trained, tmp_path):
    record = provenance_of(trained)
    images = datasets.open_set("digits", "test", options(None))
    with pytest.raises(UserError, match="is not that set"):
        record.check_set("digits", images)
    base = replace(SMALL, train_images=64, active="prefix", supernet=str(trained))
    for change in ({"train_images": 32}, {"train_portion": 0.7}, {"active": "random"}):
        name = next(iter(change)).replace("_", "-")
        with pytest.raises(UserError, match=f"the supernet was trained with --{name}"):
            search_generator(replace(base, **change), options(tmp_path / name, "search_generator"))
    (tmp_path / "old").mkdir()
    about = json.loads((trained / "supernet.json").read_text())
    (tmp_path / "old" / "supernet.json").write_text(json.dumps({**about, "provenance": None}))
    with pytest.raises(UserError, match="does not say which images"):
        evolve(EvolveSettings(supernet=str(tmp_path / "old")), options(tmp_path / "e", "evolve"))


def test_a_damaged_record_is_refused(trained, tmp_path):
    """Whatever stands in a field in place of what belongs there: one line, no traceback."""
    whole = json.loads((trained / "supernet.json").read_text())
    (tmp_path / "supernet.safetensors").write_bytes((trained / "supernet.safetensors").read_bytes())
    fields = [(n,) for n in ("macro", "input_size", "classes", "space", "provenance")]
    fields += [("provenance", n) for n in whole["provenance"]]
    fields += [("provenance", "split", n) for n in whole["provenance"]["split"]]
    run = options(tmp_path / "e", "evolve")
    wanted = EvolveSettings(supernet=str(tmp_path), targets=(3.5,), population=1, generations=0, search_images=8)
    for place in fields:
        for value in (None, "x", [1], -1.5, ...):
            about = json.loads(json.dumps(whole))
            inside = about
            for name in place[:-1]:
                inside = inside[name]
            if value is ...:
                del inside[place[-1]]
            else:
                inside[place[-1]] = value
            (tmp_path / "supernet.json").write_text(json.dumps(about))
            with pytest.raises(UserError):
                evolve(wanted, run)


def test_warm_start(trained, tmp_path):
    """``search --supernet`` starts from the given weights; with no supernet epoch it uses them as they are."""
    base = replace(SMALL, train_images=64, active="prefix", supernet=str(trained), generator_epochs=1)
    search(replace(base, supernet_epochs=0), options(tmp_path / "none"))
    search(base, options(tmp_path / "more"))
    cold = replace(base, supernet="")
    search_supernet(cold, options(tmp_path / "cold", "search_supernet"))
    given, none, more, fresh = (
        load_supernet(folder).state_dict() for folder in (trained, *(tmp_path / n for n in ("none", "more", "cold")))
    )
    assert all(torch.equal(given[name], none[name]) for name in given)
    assert not torch.equal(given["first.conv.weight"], more["first.conv.weight"])
    near, far = (float((given["first.conv.weight"] - w["first.conv.weight"]).norm()) for w in (more, fresh))
    assert near < far / 2  # one epoch away from the given weights, not from others


def test_validation_draws_its_own_crops():
    s = prepare(SMALL, options(None))
    training, first, second = (
        next(iter(b.epoch(e)))[0] for b, e in ((s.search, 0), (s.validation, 0), (s.validation, 1))
    )
    assert not torch.equal(training, first) and not torch.equal(first, second)
    assert torch.equal(first, next(iter(s.validation.epoch(0)))[0])


@pytest.mark.parametrize(
    ("portion", "wanted", "sizes"),
    [(0.8, 0, (80, 20)), (0.5, 0, (50, 50)), (0.8, 10, (80, 10)), (1.0, 30, (70, 30)), (0.5, 30, (50, 30))],
)
def test_train_portion_acts_on_folders(portion, wanted, sizes):
    """Sets listed class by class: both parts hold every class."""
    from common.data.pictures.batches import Pictures

    labels = np.repeat(np.arange(5), 20)
    pictures = Pictures(None, labels, np.arange(100), tuple("abcde"), "folder")
    first, second = datasets.Split(portion, 0, wanted).parts(pictures)
    assert (len(first), len(second)) == sizes
    assert not set(first.positions) & set(second.positions)
    assert (
        np.bincount(first.labels).min() >= sizes[0] // 5 - 1 and np.bincount(second.labels).min() >= sizes[1] // 5 - 1
    )
    with pytest.raises(UserError, match="--train-portion or --search-images"):
        datasets.Split(0.8, 0, 30).parts(pictures)
    with pytest.raises(UserError, match="--train-portion or --search-images"):
        datasets.Split(1.0, 0, 0).parts(pictures)
