"""Derived networks and the space against archs.json, model_*.npz, model_full_size.json, scratch_train_steps.npz,
checkpoint_keys_sgnas_a.json."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from common.train.losses import label_smoothing_cross_entropy as smoothed_cross_entropy
from papers.sgnas.method.lookup import cost_of_ops, macs_table
from papers.sgnas.networks.architectures import MACROS, PUBLISHED, PUBLISHED_TARGETS, Macro, ops_of
from papers.sgnas.networks.derived import Network, fold
from papers.sgnas.networks.published_keys import from_published, to_published


def macro_of(layers, stem_stride, size=32):
    return Macro("golden", tuple(tuple(row) for row in layers), stem_stride, size, 4)


def test_published_architectures(golden):
    stored = golden.json("archs.json")
    assert [list(row) for row in MACROS["imagenet"].layers] == stored["macro_imagenet"]
    assert [list(row) for row in MACROS["cifar"].layers] == stored["macro_cifar"]
    for name, entry in stored["archs"].items():
        assert PUBLISHED[name] == entry["kernels"]
        assert PUBLISHED_TARGETS[name] == entry["target"]
        ops = ops_of(entry["kernels"])
        assert cost_of_ops(macs_table(MACROS["imagenet"]), ops) == pytest.approx(entry["lookup_mflops"], rel=1e-6)
        cifar = entry["cifar100_macro_plain_relu6"]
        assert cost_of_ops(macs_table(MACROS["cifar"]), ops) == pytest.approx(cifar["lookup_mflops"], rel=1e-6)
        for key, macro, se, classes in (
            ("imagenet_se_hswish", "imagenet", True, 1000),
            ("imagenet_plain_relu6", "imagenet", False, 1000),
            ("cifar100_macro_plain_relu6", "cifar", False, 100),
        ):
            network = Network(MACROS[macro], entry["kernels"], classes, se)
            assert sum(p.numel() for p in network.parameters()) == entry[key]["params"]
            buffers = [b for n, b in network.named_buffers() if "num_batches" not in n]
            assert sum(b.numel() for b in buffers) == entry[key]["buffers"]


def test_checkpoint_names(golden):
    network = Network(MACROS["imagenet"], PUBLISHED["SGNAS-A"], 1000, True, "hswish")
    published = to_published(network.state_dict(), network)
    expected = {name: tuple(shape) for name, shape, _ in golden.json("checkpoint_keys_sgnas_a.json")}
    assert {name: tuple(tensor.shape) for name, tensor in published.items()} == expected
    back = from_published(published, network)
    assert all(torch.equal(back[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", ["model_plain_relu6_cifar.npz", "model_se_hswish_imagenet.npz"])
def test_small_models(golden, name):
    stored = golden.npz(name)
    config = json.loads(str(stored["config"]))
    stem = 2 if config["dataset"] == "imagenet" else 1
    network = Network(
        macro_of(config["macro"], stem),
        config["kernels"],
        config["classes"],
        config["se"],
        config["activation"],
        config["bn_momentum"],
        dropout=0.0,
    )
    assert sum(p.numel() for p in network.parameters()) == config["params"]
    network.load_state_dict(from_published(golden.part(stored, "sd/"), network))
    x, y = torch.from_numpy(stored["x"]), torch.from_numpy(stored["y"])
    with torch.no_grad():
        golden.close(network.eval()(x), stored["eval_logits"], 1e-5, "eval")
        golden.close(fold(network)(x), stored["eval_logits"], 1e-5, "folded")
    logits = network.train()(x)
    loss = smoothed_cross_entropy(logits, y)
    loss.backward()
    golden.close(logits, stored["train_logits"], 1e-5, "train")
    assert float(loss) == pytest.approx(float(stored["train_loss"]), rel=1e-5)
    gradients = to_published({n: p.grad for n, p in network.named_parameters()}, network)
    for key, value in golden.part(stored, "train_grad/").items():
        golden.close(gradients[key], value, 5e-4, key)
    buffers = to_published(dict(network.named_buffers()), network)
    for key, value in golden.part(stored, "train_buf/").items():
        golden.close(buffers[key], value, 1e-5, key)


def test_scratch_steps(golden):
    stored = golden.npz("scratch_train_steps.npz")
    config = json.loads(str(stored["config"]))
    network = Network(macro_of(config["macro"], 1), config["kernels"], config["classes"], dropout=0.0)
    network.load_state_dict(from_published(golden.part(stored, "sd/"), network))
    optimizer = torch.optim.SGD(network.parameters(), 0.064, momentum=0.9, weight_decay=4e-4)
    for step in range(4):
        optimizer.param_groups[0]["lr"] = float(stored["lr"][step])
        optimizer.zero_grad()
        loss = smoothed_cross_entropy(network(torch.from_numpy(stored["x"][step])), torch.from_numpy(stored["y"][step]))
        loss.backward()
        optimizer.step()
        assert float(loss) == pytest.approx(stored["losses"][step], rel=1e-4)
    tensors = to_published(network.state_dict(), network)
    for key, value in golden.part(stored, "final/").items():
        golden.close(tensors[key], value, 1e-4, key)


def test_full_size(golden):
    for case in golden.json("model_full_size.json"):
        network = Network(macro_of(case["macro"], case["stem_stride"]), case["kernels"], case["classes"], case["se"],
                          case["activation"])  # fmt: skip
        shapes = {n: tuple(t.shape) for n, t in to_published(network.state_dict(), network).items()}
        network.load_state_dict(from_published(golden.fill(shapes), network))
        x = np.random.RandomState(case["input_seed"]).standard_normal(case["input_shape"]).astype(np.float32)
        with torch.no_grad():
            golden.summary(network.eval()(torch.from_numpy(x)), case["logits"])
