"""Golden: outputs, gradients, keys and counts of derived networks and supernet."""

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.train.losses import label_smoothing_cross_entropy
from papers.cream.method.window import supernet_window
from papers.cream.networks.architectures import PUBLISHED, RESOLUTIONS
from papers.cream.networks.layout import FlopsTable, Layout, network_spec
from papers.cream.networks.networks import DerivedNetwork, Supernet, derive


def tiny_child(golden, dtype=torch.float32):
    layout = Layout(stem=8, first=8, widths=(16, 24, 24, 32, 40), last=24, features=48)
    # choices of the tiny network; its one-block stages are built as listed, not by the default rule
    spec = network_spec([[0], [3, 0], [4], [1, 2], [3], [2], [0]], 7, layout, single_block_default=False)
    net = DerivedNetwork(spec).to(dtype)
    net.load_state_dict(golden.weights(golden.load("child_tiny.npz"), dtype))
    return net


def described(spec):
    rows = []
    for stage, blocks in enumerate(spec.stages):
        for index, b in enumerate(blocks):
            row = {"stage": stage, "index": index, "type": b.kind, "kernel": b.kernel, "stride": b.stride}
            row |= {"cin": b.cin, "cout": b.cout, "params": sum(layer.parameters for layer in b.layers(8))}
            if b.kind != "conv_bn_act":
                se = [layer for layer in b.layers(8) if layer.kind == "conv" and layer.bias]
                row |= {"se_mid": se[0].cout, "skip": b.skip}
            if b.kind == "mbconv":
                row |= {"mid": b.middle, "expand": float(b.expand)}
            rows.append(row)
    return rows


def test_counts_of_every_listed_network(golden):
    for name, row in golden.load("models.json").items():
        spec, size = network_spec(row["arch"], row["num_classes"]), row["input_size"]
        assert spec.count("parameters") == row["params"], name
        assert row["params"] - (1280 + 1) * row["num_classes"] == row["params_without_classifier"]
        assert spec.count("macs", size) == row["macs"] == row["macs_conv"] + row["macs_linear"]
        assert spec.count("thop2020", size) == row["thop_2020"]
        assert spec.count("ptflops", size) == row["ptflops"]
        assert [{k: r[k] for k in want} for r, want in zip(described(spec), row["blocks"], strict=True)] == row[
            "blocks"
        ]
        if name in PUBLISHED:
            assert row["arch"] == PUBLISHED[name] and size == RESOLUTIONS[name]


def test_built_networks_have_the_counted_parameters(golden):
    models = golden.load("models.json")
    for name in ("14", "481", "v1_470"):
        with torch.device("meta"):
            net = derive(models[name]["arch"])
        assert sum(p.numel() for p in net.parameters()) == models[name]["params"]
        assert sum(b.numel() for b in net.buffers()) == models[name]["buffers"]
        assert len(net.state_dict()) == models[name]["state_dict_entries"]


@pytest.mark.parametrize("name", ["14", "481"])
def test_checkpoint_keys(golden, name):
    with torch.device("meta"):
        state = derive(PUBLISHED[name]).state_dict()
    expected = golden.load(f"keys_child_{name}.json")
    assert [[k, list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in state.items()] == expected


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_networks_full_size(golden, name):
    arrays, size = golden.load("child_fullsize_logits.npz"), RESOLUTIONS[name]
    net = golden.fill(derive(PUBLISHED[name])).eval()
    x = golden.normal(8, (2, 3, size, size))
    with torch.no_grad():
        features = net.head_features(net.trunk(x))
        logits = net.classifier(features)
        fast = net(x.contiguous(memory_format=torch.channels_last))
        double = net.double()(x.double())
    assert torch.allclose(logits, torch.from_numpy(arrays[f"{name}/logits"]), rtol=0, atol=1e-5)
    assert torch.allclose(fast, torch.from_numpy(arrays[f"{name}/logits"]), rtol=0, atol=1e-5)
    assert torch.allclose(features[:, ::16], torch.from_numpy(arrays[f"{name}/features_mean"]), rtol=0, atol=1e-5)
    assert torch.allclose(double, torch.from_numpy(arrays[f"{name}/logits64"]), rtol=0, atol=1e-8)


def test_tiny_child(golden):
    info, arrays = golden.load("child_tiny.json"), golden.load("child_tiny.npz")
    net = tiny_child(golden)
    rows = zip(described(net.spec), info["blocks"], strict=True)
    assert [{k: row[k] for k in want} for row, want in rows] == info["blocks"]
    assert [name for name, _ in net.named_parameters()] == info["param_order"]
    assert [[k, list(v.shape)] for k, v in net.state_dict().items()] == [row[:2] for row in info["keys"]]
    x, target = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["target"])
    with torch.no_grad():
        net.eval()
        assert torch.allclose(net(x.float()), torch.from_numpy(arrays["eval/logits"]), rtol=0, atol=1e-5)
        assert torch.allclose(net.stem(x.float()[:1]), torch.from_numpy(arrays["eval/stem"]), rtol=0, atol=1e-5)
    net = tiny_child(golden, torch.float64).train()
    logits = net(x.double())
    loss = label_smoothing_cross_entropy(logits, target)
    loss.backward()
    assert np.allclose(logits.detach(), arrays["train/logits"], rtol=0, atol=1e-8)
    assert np.allclose(loss.detach(), arrays["train/loss"], rtol=0, atol=1e-10)
    grads = {name: p.grad for name, p in net.named_parameters()}
    norms = torch.stack([g.norm() for g in grads.values()])
    assert np.allclose(norms, arrays["train/grad_norms"], rtol=0, atol=1e-8 * float(norms.max()))
    for key, value in arrays.items():
        if key.startswith("train/grad/"):
            assert np.allclose(grads[key.removeprefix("train/grad/")], value, rtol=0, atol=1e-8 * np.abs(value).max())
        if key.startswith("train/after/"):
            assert np.allclose(net.state_dict()[key.removeprefix("train/after/")], value, rtol=0, atol=1e-8)


def test_tiny_supernet(golden):
    info, arrays = golden.load("supernet_tiny.json"), golden.load("supernet_tiny.npz")
    net = golden.tiny_supernet().eval()
    x = torch.from_numpy(arrays["x"])
    with torch.no_grad():
        for number, path in enumerate(info["paths"]):
            assert torch.allclose(net(x.float(), path), torch.from_numpy(arrays[f"eval/{number}"]), rtol=0, atol=1e-5)
        score = net.meta_score(torch.from_numpy(arrays["meta/in"]))
    assert torch.allclose(score, torch.from_numpy(arrays["meta/out"]).squeeze(), rtol=0, atol=1e-5)
    assert sum(p.numel() for p in net.parameters()) == info["params"]
    assert [[k, list(v.shape)] for k, v in net.state_dict().items()] == [row[:2] for row in info["keys"]]
    names = {id(p): name for name, p in net.named_parameters()}
    assert [names[id(p)] for p in net.path_parameters(info["paths"][0])] == info["rand_parameters_path0"]
    assert [names[id(p)] for p in net.meta_parameters()] == info["rand_parameters_meta"]
    layout = golden.tiny_layout()
    for row in info["blocks"]:
        if row["choices"] == "fixed":
            continue
        for choice, want in enumerate(row["choices"]):
            block = layout.choice(row["stage"], row["position"] == 0, choice)
            assert (block.kernel, block.middle, block.stride, block.cin, block.cout, block.skip) == tuple(
                want[k] for k in ("kernel", "mid", "stride", "cin", "cout", "skip")
            )
    table = FlopsTable([1, 2, 1, 1, 1], layout)
    check_table(table.mflops, info["flops_table"])
    check_table(table.params, info["params_table"])
    assert table.fixed == pytest.approx(info["flops_fixed"]) and table.params_fixed == pytest.approx(
        info["params_fixed"]
    )
    for path, flops, params in zip(info["paths"], info["path_flops"], info["path_params"], strict=True):
        assert table.flops(path) == pytest.approx(flops) and table.parameters(path) == pytest.approx(params)

    net = golden.tiny_supernet(torch.float64).train()
    logits = net(x.double(), info["paths"][0])
    (logits**2).mean().backward()
    assert np.allclose(logits.detach(), arrays["train/0"], rtol=0, atol=1e-8)
    scale = np.abs(arrays["train/grad_conv_stem"]).max()
    assert np.allclose(net.conv_stem.weight.grad, arrays["train/grad_conv_stem"], rtol=0, atol=1e-8 * scale)


def check_table(table, expected):
    for stage, positions in expected.items():
        assert len(positions) == len(table[int(stage)])
        for position, choices in positions.items():
            assert list(choices.values()) == pytest.approx(table[int(stage)][int(position)], abs=1e-9)


def test_space(golden):
    space = golden.load("space.json")
    for row in space["rows"]:
        if row["blocks_per_stage"] is None:
            with pytest.raises(UserError, match="no supernet fits"):
                supernet_window(row["flops_min"], row["flops_max"])
            continue
        window = supernet_window(row["flops_min"], row["flops_max"])
        assert list(window.sampled) == row["blocks_per_stage"] and window.resolution == row["resolution"]
    window, expected = supernet_window(0, 600), space["supernet_0_600"]
    assert list(window.sampled) == expected["sampled_blocks"] and [1, *window.built, 1] == expected["built_blocks"]
    table = FlopsTable(window.built)
    check_table(table.mflops, expected["flops_M"])
    check_table(table.params, expected["params_M"])
    assert table.fixed == pytest.approx(expected["flops_fixed_M"])
    assert table.params_fixed == pytest.approx(expected["params_fixed_M"])
    for stage, choices in space["builtin_table"].items():
        for choice, (first, later) in choices.items():
            row = table.mflops[int(stage) + 1]
            assert row[0][int(choice)] == pytest.approx(first) and row[1][int(choice)] == pytest.approx(later)
    for example in space["path_examples"]:
        assert table.flops(example["path"]) == pytest.approx(example["flops_M"])
        assert table.parameters(example["path"]) == pytest.approx(example["params_M"])
    with torch.device("meta"):
        net = Supernet(window.built, 1000)
    assert sum(p.numel() for p in net.parameters()) == expected["params"]
    assert sum(p.numel() for p in net.meta_parameters()) == expected["meta_params"]
    assert len(net.state_dict()) == expected["state_dict_entries"]


@pytest.mark.parametrize("name", ["resunit", "dil_conv", "both"])
def test_larger_spaces(golden, name):
    expected = golden.load("space.json")["variants"][name]
    layout = Layout(resunit=name != "dil_conv", dil_conv=name != "resunit")
    window = supernet_window(0, 600)
    with torch.device("meta"):
        net = Supernet(window.built, 1000, layout=layout)
    assert sum(p.numel() for p in net.parameters()) == expected["params"]
    types = {"InvertedResidual": "InvertedResidual", "Bottleneck": "ResidualUnit"}
    built = [type(block).__name__ for block in net.blocks[1][0]]
    assert built == [types[t] for t in expected["types"]] and len(built) == expected["choices"]
    costs = list(expected["flops_stage1_block0_M"].values())
    assert FlopsTable(window.built, layout).mflops[1][0] == pytest.approx(costs)
    for number, want in enumerate(expected.get("extra_mbconv", [])):
        block = layout.choice(1, True, 6 + number)
        assert (block.kernel, block.middle) == (want["kernel"], want["mid"]) and want["dilation"] == 1


def test_full_size_supernet(golden):
    arrays, space = golden.load("supernet_fullsize_logits.npz"), golden.load("space.json")
    net = golden.fill(Supernet(supernet_window(0, 600).built, 1000)).eval()
    x = golden.normal(9, (2, 3, 64, 64))
    with torch.no_grad():
        for number, example in enumerate(space["path_examples"][6:9]):
            logits = net(x, example["path"])
            assert torch.allclose(logits, torch.from_numpy(arrays[f"logits/{number}"]), rtol=0, atol=1e-5)
