"""Operations, supernets, derived networks, counts and key names against the originals' values."""

from __future__ import annotations

import hashlib

import pytest
import torch

from common.spaces.counting import macs_and_conv_macs, parameters
from common.spaces.darts import network as darts
from common.spaces.darts import operations
from common.spaces.darts import supernet as darts_supernet
from common.spaces.nasbench201 import network as nasbench201
from papers.evnas.networks.architectures import CLASSES, PUBLISHED, build, load_genotype

FILES = ("net_cifar_EvNASA.npz", "net_cifar_EvNASB.npz", "net_cifar_EvNASC.npz")


def tensors(found: dict, prefix: str) -> dict:
    return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}


def module_for(name: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    """The module and input shape of an entry of ops.npz, ``space|op|stride|affine``."""
    space, op, *rest = name.split("|")
    if op == "aux_cifar":
        return darts.AuxiliaryHead(12, 10, imagenet=False), (3, 12, 8, 8)
    if op == "aux_imagenet":
        return darts.AuxiliaryHead(12, 10, imagenet=True), (3, 12, 7, 7)
    if op == "resblock":
        return nasbench201.ResidualBlock(4, 8), (2, 4, 6, 8)
    stride = int(rest[0][-1])
    if space == "s2":
        return nasbench201.operation(nasbench201.OPERATIONS.index(op), 4, affine=False), (2, 4, 5, 7)
    return operations.OPS[op](4, stride, rest[1] == "affine"), (2, 4, 10, 6)


def test_every_operation(golden, fill, rule_input, close):
    found = golden("ops.npz")
    assert len(found) == 41
    for name, expected in found.items():
        module, shape = module_for(name)
        fill(module, f"evnas:{name}").eval()
        with torch.no_grad():
            close(module(rule_input(name, shape)), expected, name)


@pytest.mark.parametrize("name", FILES)
def test_small_cifar_networks(name, golden, fill, close):
    found, meta = golden(name), golden("meta.json")["nets"][name]
    network = build(load_genotype(meta["arch"]), False, meta["num_classes"], meta["C"], meta["layers"])
    assert list(network.state_dict()) == list(found["sd_keys"])
    fill(network, meta["salt"]).eval()
    with torch.no_grad():
        logits, auxiliary = network(torch.from_numpy(found["input"]))
    assert auxiliary is None
    close(logits, found["logits_eval"])


def test_small_imagenet_network(golden, fill, rule_input, close):
    found, meta = golden("net_imagenet.npz"), golden("meta.json")["nets"]["net_imagenet.npz"]
    network = build(load_genotype(meta["arch"]), True, meta["num_classes"], meta["C"], meta["layers"])
    fill(network, meta["salt"]).eval()
    with torch.no_grad():
        close(network(rule_input("inet:EvNASA", (1, 3, 224, 224)))[0], found["logits_eval"])


@pytest.mark.parametrize("arch", ["EvNASA", "EvNASB", "EvNASC"])
def test_full_size_networks(arch, golden, fill, rule_input, close):
    found = golden("full_nets.npz")
    for dataset in ("cifar10", "cifar100", "imagenet"):
        network = build(load_genotype(arch), dataset == "imagenet", CLASSES[dataset])
        fill(network, f"evnas:full:{arch}:{dataset}").eval()
        shape = (1, 3, 224, 224) if dataset == "imagenet" else (2, 3, 32, 32)
        with torch.no_grad():
            close(network(rule_input(f"full:{arch}:{dataset}", shape))[0], found[f"{arch}/{dataset}"], dataset)


def one_hot_softmax(decoded) -> torch.Tensor:
    return torch.from_numpy(decoded).float().softmax(-1)


def s1_weights(decoded) -> tuple[torch.Tensor, torch.Tensor]:
    weights = one_hot_softmax(decoded)
    return weights[:14], weights[14:]


def sgd_step(model, loss, found, close, nesterov: bool) -> None:
    """Backward, gradients, clip at 5, SGD: against grad/, grad_norm, stats/ and after/."""
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], 0.025, momentum=0.9, weight_decay=3e-4, nesterov=nesterov
    )
    loss.backward()
    named = dict(model.named_parameters())
    for key, value in tensors(found, "grad/").items():
        close(named[key].grad, value, key)
    norm = torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 5.0)
    close(norm, found["grad_norm"], "norm")
    state = model.state_dict()
    for key, value in tensors(found, "stats/").items():
        close(state[key], value, key)
    optimizer.step()
    state = model.state_dict()
    for key, value in tensors(found, "after/").items():
        close(state[key], value, key)


def test_s1_supernet(golden, fill, close):
    found, meta = golden("s1_supernet.npz"), golden("meta.json")["s1_supernet"]
    model = darts_supernet.Supernet(meta["C"], meta["num_classes"], meta["layers"])
    assert sorted(model.state_dict()) == sorted(found["sd_keys"])
    fill(model, meta["salt"]).eval()
    x, y = torch.from_numpy(found["input"]), torch.from_numpy(found["target"]).long()
    weights = s1_weights(found["decoded"])
    with torch.no_grad():
        close(model(x, weights), found["logits_eval"])
        close(model(x, s1_weights(found["alphas"])), found["logits_eval_raw_alphas"])
    model.train()
    logits = model(x, weights)
    close(logits, found["logits_train"])
    loss = torch.nn.functional.cross_entropy(logits, y)
    close(loss, found["loss_train"])
    sgd_step(model, loss, found, close, nesterov=False)
    with torch.no_grad():  # fitness as the search takes it: batch statistics
        after = model(x, weights)
    close(after, found["logits_fitness_next"])
    close(torch.nn.functional.cross_entropy(after, y), found["fitness_loss_next"])
    assert 100 * float((after.argmax(1) == y).float().mean()) == pytest.approx(float(found["fitness_top1_next"]))


def test_s2_supernet(golden, fill, close):
    found, meta = golden("s2_supernet.npz"), golden("meta.json")["s2"]["supernet"]
    model = nasbench201.Supernet(meta["C"], meta["N"], meta["num_classes"], with_architecture=True)
    assert sorted(model.state_dict()) == sorted(found["sd_keys"])
    fill(model, meta["salt"]).eval()
    x, y = torch.from_numpy(found["input"]), torch.from_numpy(found["target"]).long()
    weights = one_hot_softmax(found["decoded"])
    with torch.no_grad():
        close(model(x, weights), found["logits_eval"])
        close(nasbench201.fold(model)(x, weights), found["logits_eval"], "folded")
        close(model.features(x, weights), found["features_eval"])
        close(model(x, one_hot_softmax(found["alphas"])), found["logits_eval_raw_alphas"])
    model.train()
    logits = model(x, weights)
    close(logits, found["logits_train"])
    loss = torch.nn.functional.cross_entropy(logits, y)
    close(loss, found["loss_train"])
    sgd_step(model, loss, found, close, nesterov=True)
    model.eval()
    with torch.no_grad():
        close(model(x, weights), found["logits_eval_next"])


def test_s2_network(golden, fill, close):
    found, meta = golden("s2_net.npz"), golden("meta.json")["s2"]["net"]
    words = [w.split("~")[0] for node in meta["arch"].split("+") for w in node.strip("|").split("|")]
    model = nasbench201.Network(
        [nasbench201.OPERATIONS.index(w) for w in words], meta["C"], meta["N"], meta["num_classes"]
    )
    fill(model, meta["salt"]).eval()
    pooled = []
    model.classifier.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    with torch.no_grad():
        close(model(torch.from_numpy(found["input"])), found["logits_eval"])
    close(pooled[0], found["features_eval"])


def test_full_size_supernets(golden, fill, rule_input, close):
    found = golden("full_supernets.npz")
    model = fill(darts_supernet.Supernet(), "evnas:fullsuper:s1")
    x = rule_input("fullsuper:s1", (4, 3, 32, 32))
    from papers.evnas.method.population import decode_darts, decode_nb201

    weights = torch.as_tensor(decode_darts(torch.from_numpy(found["s1_alphas"]).float())).float().softmax(-1)
    with torch.no_grad():
        close(model.eval()(x, (weights[:14], weights[14:])), found["s1_logits_eval"])
        close(model.train()(x, (weights[:14], weights[14:])), found["s1_logits_train"])
        weights = torch.as_tensor(decode_nb201(torch.from_numpy(found["s2_alphas"]).float())).float().softmax(-1)
        for classes, size in ((10, 32), (120, 16)):
            s2 = fill(nasbench201.Supernet(16, 5, classes), f"evnas:fullsuper:s2:{classes}")
            x = rule_input(f"fullsuper:s2:{classes}", (3, 3, size, size))
            close(s2.eval()(x, weights), found[f"s2_{classes}_logits_eval"])
            close(s2.train()(x, weights), found[f"s2_{classes}_logits_train"])


def test_counts(golden):
    stats = golden("arch_stats.json")
    for arch in ("EvNASA", "EvNASB", "EvNASC"):
        for dataset in ("cifar10", "cifar100", "imagenet"):
            expected = stats[arch][dataset]
            with torch.device("meta"):
                network = build(load_genotype(arch), dataset == "imagenet", CLASSES[dataset], auxiliary=True)
                plain = build(load_genotype(arch), dataset == "imagenet", CLASSES[dataset])
            shape = (3, 224, 224) if dataset == "imagenet" else (3, 32, 32)
            assert parameters(network) == expected["params_no_aux"]
            assert parameters(network, exclude=()) == expected["params_with_aux"]
            both, convolutions = macs_and_conv_macs(network, shape)
            assert (convolutions, both) == (expected["macs_conv"], expected["macs_conv_linear"])
            assert both - convolutions == expected["macs_linear"]
            assert len(network.state_dict()) == expected["state_dict_keys_with_aux"]
            assert sum(buffer.numel() for buffer in network.buffers()) == expected["buffers_with_aux"]
            assert len(plain.state_dict()) == expected["state_dict_keys_no_aux"]
            assert parameters(network, exclude=()) - parameters(plain, exclude=()) == expected["aux_params"]
    with torch.device("meta"):
        assert parameters(darts_supernet.Supernet()) == stats["supernets"]["s1_supernet_C16_L8"]["params"]
    for classes in (10, 100, 120):
        expected = stats["supernets"][f"s2_supernet_C16_N5_{classes}classes"]["params_without_alphas"]
        assert parameters(nasbench201.Supernet(classes=classes)) == expected


def test_checkpoint_keys(golden):
    keys = golden("checkpoint_keys.json")
    assert len(keys["summary"]) == 11
    for name, summary in keys["summary"].items():
        if name == "s1_supernet_C16_L8":
            model: torch.nn.Module = darts_supernet.Supernet()
        elif name == "s2_supernet_C16_N5":
            model = nasbench201.Supernet(with_architecture=True)
        else:
            arch, dataset = name.split("/")
            model = build(load_genotype(arch), dataset == "imagenet", CLASSES[dataset], auxiliary=True)
        found = [[key, *value.shape] for key, value in model.state_dict().items()]
        if name in keys["full"]:
            assert found == keys["full"][name], name
        lines = [f"{key} {','.join(map(str, shape))}" for key, *shape in found]
        assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == summary["digest"], name
        assert len(found) == summary["keys"]
        assert sum(key.startswith("auxiliary_head.") for key, *_ in found) == summary.get("aux_keys", 0)


def test_published_genotypes(golden):
    expected = golden("genotypes.json")
    assert set(expected) == set(PUBLISHED)
    for name, cells in expected.items():
        assert {k: PUBLISHED[name].as_dict()[k] for k in ("normal", "reduce", "normal_concat", "reduce_concat")} == {
            k: cells[k] for k in ("normal", "reduce", "normal_concat", "reduce_concat")
        }


def test_the_fill_rule(golden, fill):
    class One(torch.nn.Module):
        def __init__(self, key: str, shape: list[int]) -> None:
            super().__init__()
            self.key, self.value = key, torch.zeros(shape)

        def state_dict(self, *args, **kwargs):
            return {self.key: self.value}

        def load_state_dict(self, state, *args, **kwargs):
            self.value = state[self.key]

    for key, check in golden("meta.json")["rule_checks"]["tensors"].items():
        value = fill(One(key, check["shape"]), check["salt"]).value.double()
        assert value.flatten()[:3].tolist() == pytest.approx(check["first3"], abs=1e-6)
        assert float(value.sum()) == pytest.approx(check["sum64"], abs=1e-4)
