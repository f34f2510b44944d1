"""The authors' checkpoint format, LMDB conversion, latency tables, generator files, equality of fast and plain
forms."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.cli.errors import UserError
from common.cli.verbs import RunOptions
from common.data.pictures.lmdb import LmdbStore
from papers.sgnas import claims
from papers.sgnas.data.convert import convert_lmdb
from papers.sgnas.describe import describe
from papers.sgnas.evaluate import load_weights
from papers.sgnas.generate import generate, load_generator, range_warning
from papers.sgnas.method.generator import Generator, normalise
from papers.sgnas.method.generator_training import target_pool, targets_of_step
from papers.sgnas.method.lookup import macs_table, one_hot
from papers.sgnas.method.prior import make_pool, pool_from, prior_keys, read_pool
from papers.sgnas.method.sampling import sample_paths
from papers.sgnas.network.architectures import MACROS, PUBLISHED, SKIP, check_kernels, ops_of
from papers.sgnas.network.derived import Network, to_published
from papers.sgnas.network.fixed_supernet import FrozenSupernet
from papers.sgnas.network.supernet import Supernet, supernet_to_published
from papers.sgnas.settings import ConvertSettings, CostSettings, GenerateSettings
from papers.sgnas.studies.latency import measure_table, read_table
from papers.sgnas.studies.speedup import cost

TINY = MACROS["tiny"]
KERNELS = [[7, 3, 5], [3], [5, 3, 3], [3, 7], [7, 5, 3, 3]]


def authors_file(path: Path, network: Network, broken: str = "") -> Path:
    """A file as the authors' trainer (timm 0.1.14) wrote it."""
    weights = {f"module.{name}": tensor for name, tensor in to_published(network.state_dict(), network).items()}
    averaged = dict(weights)
    if broken:
        averaged.pop(f"module.{broken}")
    content = {
        "epoch": 499,
        "arch": "sgnas",
        "state_dict": {name: torch.zeros_like(tensor) for name, tensor in weights.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "args": argparse.Namespace(lr=0.016, model="sgnas"),
        "version": 2,
        "state_dict_ema": averaged,
        "metric": 77.1,
    }
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def test_authors_checkpoint(tmp_path):
    source = Network(TINY, KERNELS, 10, True, "hswish", generator=torch.Generator().manual_seed(3)).eval()
    target = Network(TINY, KERNELS, 10, True, "hswish").eval()
    load_weights(target, authors_file(tmp_path / "a.pth.tar", source))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(source(x), target(x))
    with pytest.raises(UserError, match=r"stages\.1\.depthwise"):
        load_weights(target, authors_file(tmp_path / "b.pth.tar", source, "stages.1.depthwise.bn.weight"))
    with pytest.raises(UserError):  # the network of another architecture
        load_weights(Network(TINY, [[3]] * 5, 10, True, "hswish"), tmp_path / "a.pth.tar")


def test_lmdb(tmp_path):
    for split in ("train", "val"):
        for name in ("cat two", "dog"):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = np.full((20, 24, 3), 40 * number, np.uint8)
                Image.fromarray(pixels).save(folder / f"picture {number}.png")
    written = convert_lmdb(ConvertSettings(str(tmp_path / "pictures"), str(tmp_path / "packed")), RunOptions())
    assert written == {"written": {"train": 6, "val": 6}}
    store = LmdbStore(tmp_path / "packed" / "train.lmdb")
    assert list(store.labels) == [0, 0, 0, 1, 1, 1] and store.classes == ("cat two", "dog")
    with pytest.raises(UserError, match="exists already"):
        convert_lmdb(ConvertSettings(str(tmp_path / "pictures"), str(tmp_path / "packed")), RunOptions())
    shutil.copytree(tmp_path / "pictures" / "val" / "dog", tmp_path / "pictures" / "test" / "dog")
    written = convert_lmdb(ConvertSettings(str(tmp_path / "pictures"), str(tmp_path / "three")), RunOptions())
    assert written == {"written": {"train": 6, "val": 6, "test": 3}}
    with pytest.raises(UserError, match="is no folder"):
        convert_lmdb(ConvertSettings(str(tmp_path / "absent"), str(tmp_path / "x")), RunOptions())


def test_only_sampled_operations_run_yet_all_is_equal():
    """A single path equals the soft forward with its one-hot parameters; batched targets equal single ones."""
    supernet = Supernet(TINY, 10).eval()
    frozen, x = FrozenSupernet(supernet), torch.randn(2, 3, 32, 32)
    path = sample_paths(np.random.RandomState(0), 5, 1)[0]
    with torch.no_grad():
        torch.testing.assert_close(frozen.path(x, path), supernet(x, path), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(frozen.soft(x, one_hot(torch.tensor(path))), supernet(x, path), rtol=1e-4, atol=1e-5)
    generator, prior = Generator(), torch.randint(0, 2, (19, 24)).float()
    targets = torch.tensor([280.0, 333.0, 440.0])
    together = generator(normalise(targets, 270, 450), prior)
    for number, target in enumerate(targets):
        torch.testing.assert_close(
            together[number], generator(normalise(target, 270, 450), prior)[0], rtol=1e-4, atol=1e-5
        )


def test_frozen_gradient_equals_that_of_a_trainable_supernet():
    """d loss / d p with the supernet frozen equals the gradient through the supernet's own modules."""
    supernet, x = Supernet(TINY, 10).eval(), torch.randn(2, 3, 32, 32)
    p = torch.softmax(torch.randn(5, 6, 4), -1).requires_grad_()
    FrozenSupernet(supernet).soft(x, p).square().sum().backward()
    step, q = 1e-3, p.detach()
    layer, block = 2, 1
    for op in range(SKIP):
        shifted = [q.clone(), q.clone()]
        shifted[0][layer, block, op] += step
        shifted[1][layer, block, op] -= step
        with torch.no_grad():
            up, down = (FrozenSupernet(supernet).soft(x, s).double().square().sum() for s in shifted)
        assert float(p.grad[layer, block, op]) == pytest.approx(float(up - down) / (2 * step), rel=0.05, abs=1e-3)
    assert not p.grad[..., SKIP].any()


def test_initialisation():
    """Every convolution of the authors: normal, std = sqrt(2 / (k k outputs)), the groups not divided out."""
    macro = MACROS["cifar"]
    generator = torch.Generator().manual_seed(3)
    network = Network(macro, PUBLISHED["SGNAS-A"], 100, se=True, generator=generator)
    supernet = Supernet(macro, 100, generator=generator)
    tensors = {**to_published(network.state_dict(), network)}
    tensors |= {f"supernet.{k}": v for k, v in supernet_to_published(supernet.state_dict(), supernet).items()}
    counted = 0
    for name, weight in tensors.items():
        if weight.dim() == 4:
            k, expected = weight.shape[-1], (2 / (weight.shape[-1] ** 2 * weight.shape[0])) ** 0.5
            slack = 5 / (2 * weight.numel()) ** 0.5  # five standard errors of a standard deviation
            assert float(weight.std()) == pytest.approx(expected, rel=slack), (name, k)
            assert abs(float(weight.mean())) < 5 * expected / weight.numel() ** 0.5, name
            counted += 1
        elif name.endswith("classifier.1.weight") or name == "supernet.classifier.weight":
            assert float(weight.std()) == pytest.approx(0.01, rel=0.02)
        elif name.endswith(".bias"):
            assert not weight.any(), name
    assert counted > 450


def test_samplers():
    rng = np.random.RandomState(1)
    for active in ("random", "prefix"):
        paths = sample_paths(rng, 7, 4, active)
        for layer in range(7):
            expansions = [sum(op != SKIP for op in path[layer]) for path in paths]
            assert len(set(expansions)) == 4 and min(expansions) >= 2
            if active == "prefix":
                assert all(row[layer] == sorted(row[layer], key=lambda op: op == SKIP) for row in paths)
    assert all(row == sorted(row) and row[0] != SKIP for path in sample_paths(rng, 7, 4, "sorted") for row in path)


def test_target_pool_covers_all_before_it_repeats():
    pool = target_pool(80, 120, 5)
    rounds = [targets_of_step(80, 120, 5, 0.0, 1, 7, step)[0] for step in range(2 * len(pool))]
    assert sorted(rounds[: len(pool)]) == pool and sorted(rounds[len(pool) :]) == pool
    noisy = targets_of_step(80, 120, 5, 0.5, 3, 7, 0)
    assert len(noisy) == 3 and all(abs(n - r) <= 0.5 for n, r in zip(noisy, rounds))


def test_priors(tmp_path, monkeypatch):
    table = macs_table(TINY)
    pool = make_pool(table, 2.5, 5.0, 1, np.random.RandomState(42), 0.2)
    (tmp_path / "p.json").write_text(json.dumps(pool.to_json()))
    read_pool(tmp_path / "p.json").check(2.5, 5.0, table)
    with pytest.raises(UserError, match="another look-up table"):
        other = macs_table(replace(TINY, stem_stride=1))
        read_pool(tmp_path / "p.json").check(2.5, 5.0, other)
    with pytest.raises(UserError, match="layers"):
        read_pool(tmp_path / "p.json").check(2.5, 5.0, macs_table(MACROS["cifar"]))
    with pytest.raises(UserError, match="no prior pool"):
        pool_from({"a": [[1]]}, "x", 1, 2)
    assert prior_keys(80, 81, 3) == [80.25, 80.5, 80.75]  # too narrow for the rule's whole numbers
    with pytest.raises(UserError, match="at least one prior"):
        prior_keys(80, 120, 0)
    with pytest.raises(UserError, match="no random architecture"):
        monkeypatch.setattr("papers.sgnas.method.prior.MAX_DRAWS", 20)
        make_pool(table, 0.1, 3.5, 1, np.random.RandomState(0), 0.01)


def test_latency_table(tmp_path):
    table = measure_table(TINY, 1, torch.device("cpu"), 1)
    assert (
        table.unit == "ms"
        and table.depthwise.shape == (5, 3)
        and float(table.cost(one_hot(torch.zeros(5, 6).long()))) > 0
    )
    content = {"macro": "tiny", "input_size": 32, "unit": "ms", "base": table.base}
    for name in ("depthwise", "expand", "project"):
        content[name] = getattr(table, name).tolist()
    (tmp_path / "l.json").write_text(json.dumps(content))
    assert read_table(tmp_path / "l.json", TINY).fingerprint() == table.fingerprint()
    with pytest.raises(UserError, match="was measured for"):
        read_table(tmp_path / "l.json", MACROS["cifar"])


def test_cost_command(tmp_path):
    result = cost(CostSettings(macro="tiny", batch_size=2, repeats=1), RunOptions(out=tmp_path, device="cpu"))
    assert [row["constraints"] for row in result["rows"]] == [1, 3, 10] and (tmp_path / "cost.png").exists()
    seconds = [row["evolution_seconds"] for row in result["rows"]]
    assert seconds[2] == pytest.approx(10 * seconds[0])


def test_describe_and_bad_architectures(tmp_path):
    assert describe("SGNAS-A")["parameters"] == 6001862
    for name, kernels in PUBLISHED.items():
        assert check_kernels(kernels, MACROS["imagenet"], name) == kernels
        assert len(ops_of(kernels)) == 19
    with pytest.raises(UserError, match="no architecture"):
        describe("SGNAS-Z")
    for bad in ([[3]] * 4, [[3]] * 18 + [[]], [[4]] * 19, "x"):
        with pytest.raises(UserError):
            check_kernels(bad, MACROS["imagenet"])


@pytest.fixture
def published():
    root = Path(os.environ.get("NAS_DATA", "data"))
    if not (root / "sgnas" / "generator_imagenet.npz").exists():
        pytest.skip("the published generator is not under the data root (NAS_DATA)")
    return load_generator("published", data=root)


def test_published_generator_claims(published, tmp_path):
    assert claims.fit("kendall_tau") == pytest.approx(1.0)
    assert claims.fit("total_hardware_loss") == pytest.approx(0.2922075, abs=1e-4)
    assert claims.prior_is_first_draw() == 1.0
    for target, parameters in ((365, 6001862), (320, 5482272), (275, 4652252)):
        assert claims.generated(target, "same") == 1.0 and claims.generated(target, "parameters") == parameters
    assert "outside the trained range 270 to 450" in range_warning(published, 200.0) and not range_warning(
        published, 300.0
    )
    kernels, reached = published.hit(350.0)
    assert abs(reached - 350) < abs(published.kernels([350.0])[0][1] - 350) + 1e-6 and len(kernels) == 19
    result = generate(
        GenerateSettings(target_mflops=(365.0, 320.0)),
        RunOptions(out=tmp_path / "g", paper="sgnas", section="generate"),
    )
    assert result["architectures"][0]["macs_published"] == 373180736
    assert describe(str(tmp_path / "g" / "architecture-320.json"))["parameters"] == 5482272


def test_generator_of_another_space(tmp_path):
    (tmp_path / "generator.json").write_text(json.dumps({"space": "darts"}))
    with pytest.raises(UserError, match="is not a generator of space"):
        load_generator(str(tmp_path))
    with pytest.raises(UserError, match="no generator"):
        load_generator(str(tmp_path / "absent"))
