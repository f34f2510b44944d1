"""Scoring with a trained supernet: re-calibration; images that it has not seen, under codes that it was trained on."""

from __future__ import annotations

from dataclasses import replace

import torch

from papers.sgnas.data import sets as datasets
from papers.sgnas.data.split import provenance_of
from papers.sgnas.method import scoring
from papers.sgnas.method.sampling import trained_code
from papers.sgnas.method.scoring import recalibrated
from papers.sgnas.networks.architectures import SKIP
from papers.sgnas.networks.supernet import load_supernet
from papers.sgnas.studies.evolve import evolve
from papers.sgnas.studies.settings import Evolve
from tests.sgnas.small import options
from tests.sgnas.test_supernet import images as some_images
from tests.sgnas.test_supernet import supernet_of

FIVE = [[0, 1, 2, 0, 1, SKIP]] * 5


def test_recalibration_changes_only_the_copy(whole):
    from papers.sgnas.method.scoring import recalibrated

    class Fixed:
        def epoch(self, number):
            generator = torch.Generator().manual_seed(1)
            return iter([(torch.randn(8, 3, 32, 32, generator=generator), None) for _ in range(2)])

    supernet = load_supernet(whole[0])
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    path = [[0, 1, 3, 3, 3, 3]] * 5
    fresh = recalibrated(supernet, path, Fixed(), 2)
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())
    with torch.no_grad():
        stems = [supernet.first.conv(x) for x, _ in Fixed().epoch(0)]
    mean = torch.stack([stem.mean((0, 2, 3)) for stem in stems]).mean(0)
    torch.testing.assert_close(fresh.first.bn.running_mean, mean, rtol=1e-4, atol=1e-5)


def test_recalibration():
    class Batches:
        def epoch(self, number):
            return iter([(some_images(), None), (some_images() + 1, None)])

    supernet = supernet_of(False)
    bn = recalibrated(supernet, FIVE, Batches(), 2).stages[0].switchable_bn
    seen = []
    supernet.stages[0].switchable_bn.register_forward_pre_hook(lambda _, given: seen.append(given[0].mean((0, 2, 3))))
    with torch.no_grad():
        for x, _ in Batches().epoch(0):
            supernet.train()(x, FIVE)
    torch.testing.assert_close(bn.running_mean[0], torch.stack(seen).mean(0), rtol=1e-4, atol=1e-5)


def test_evolution_scores_unseen_images_under_trained_codes(trained, tmp_path, monkeypatch):
    record = provenance_of(trained)
    assert (record.active, record.split.train_images) == ("prefix", 64)
    images = datasets.open_set("digits", "train", options(None))
    seen, _ = record.split.parts(images)
    pools, scored = {}, []
    make, score = datasets.Loaders.__call__, scoring.score

    def made(self, images, batch_size, use, stream, **more):
        pools[stream] = images
        return make(self, images, batch_size, use, stream, **more)

    def seen_by(fixed, paths, batches, epoch=0):
        scored.append(next(iter(paths)))
        return score(fixed, paths, batches, epoch)

    monkeypatch.setattr(datasets.Loaders, "__call__", made)
    monkeypatch.setattr(scoring, "score", seen_by)
    small = Evolve(supernet=str(trained), search_images=32, targets=(3.5,), population=4, generations=1)
    evolve(replace(small, tolerance=0.3, parents=2), options(tmp_path / "e", "evolve", seed=11))
    pool = pools["evolve"]
    keys = {tuple(row) for row in seen.pixels.flatten(1).tolist()}
    assert len(pool) == 32 and not keys & {tuple(row) for row in pool.pixels.flatten(1).tolist()}
    assert scored and all(trained_code(ops, "prefix") == ops for ops in scored)
