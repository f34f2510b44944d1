"""Operations, derived networks and supernet against golden values."""

from __future__ import annotations

import hashlib

import pytest
import torch
import torch.nn.functional as F

from common.train.losses import label_smoothing_cross_entropy
from papers.nao_v2.networks.architectures import Shape, loose_ends, parse
from papers.nao_v2.networks.derived import AuxiliaryHead, Network
from papers.nao_v2.networks.operations import DropPath, FactorizedReduce, ReluConvBn, build
from papers.nao_v2.networks.supernet import SharedCombine, Supernet, build_shared, identity_operations


class Stored(DropPath):
    """Masks from the golden file; checks keep' on the way. Edges in the order cell, node, operand."""

    def __init__(self, keeps, masks, nodes, **kwargs):
        super().__init__(**kwargs)
        self.keeps, self.masks, self.nodes, self.seen = keeps, masks, nodes, 0

    def mask(self, x, cell, node, operand, keep):
        row = (cell * self.nodes + node) * 2 + operand
        assert abs(keep - float(self.keeps[row])) < 1e-6
        self.seen += 1
        return self.masks[row].view(-1, 1, 1, 1)


def operation(case: str) -> torch.nn.Module:
    if case == "factorized_reduce_5to6":
        return FactorizedReduce(5, 6)
    if case == "relu_conv_bn_6to4":
        return ReluConvBn(6, 4)
    if case == "aux_cifar_6to3":
        head = AuxiliaryHead(6, 3, 3)
        plain = head.forward
        head.forward = lambda x: plain(F.relu(x))  # the network rectifies (in place, in the original)
        return head
    space, number, stride = case.split("_")
    return build(space, int(number), 4, int(stride[1]))


def test_operations(golden):
    arrays = golden.npz("ops.npz")
    for case in golden.json("meta.json")["ops"]:
        values = golden.part(arrays, case + "/")
        module = operation(case)
        golden.load(module, golden.part(values, "sd/"))
        module.eval()
        golden.close(module(values["x"]), values["y_eval"], what=f"{case} eval")
        module.train()
        x = values["x"].clone().requires_grad_()
        y = module(x)
        golden.close(y, values["y_train"], what=f"{case} train")
        (y * values["gy"]).sum().backward()
        golden.close(x.grad, values["gx"], 1e-3, f"{case} gx")
        parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
        for name, value in golden.part(values, "grad/").items():
            golden.close(parameters[name].grad, value, 1e-3, f"{case} {name}")
        for name, value in golden.part(values, "after_train/").items():
            golden.close(buffers[name], value, what=f"{case} {name}")


def test_shared_operations(golden):
    arrays = golden.npz("ws_ops.npz")
    for case, name in (("ws_sep3", "sep3"), ("ws_sep5", "sep5"), ("ws_dil5", "dil5"), ("ws_identity_s2", "identity")):
        values = golden.part(arrays, case + "/")
        for group in sorted({k.split("/")[0] for k in values if k.startswith("id")}):
            source, stride = int(group[2]), int(group[-1])
            x = values["x"]

            def fresh(train: bool, name=name, values=values):
                module = build_shared(name, 4, 4, True)
                golden.load(module, golden.part(values, "sd/"))
                return module.train(train)

            def run(module, batch_statistics, x=x, source=source, stride=stride):
                return module(x, F.relu(x), source, stride, batch_statistics)

            golden.close(run(fresh(False), False), values[f"{group}/eval"], what=f"{case} {group}")
            module = fresh(False)
            golden.close(run(module, True), values[f"{group}/eval_bn_train"], what=f"{case} {group} bn_train")
            for key, value in golden.part(values, f"{group}/after_eval_bn_train/").items():
                golden.close(module.state_dict()[key], value, what=f"{case} {group} {key}")
            golden.close(run(fresh(True), True), values[f"{group}/train"], what=f"{case} {group} train")
    values = golden.part(arrays, "ws_combine/")
    for group in sorted({k.split("/")[0] for k in values if k.endswith("/x")}):
        module = SharedCombine(7, 4)
        loose = [int(s) for s in group.split("_")]
        for key, batch_statistics in (("eval", False), ("eval_bn_train", True), ("train", True)):
            golden.load(module, golden.part(values, "sd/"))
            golden.close(module(values[f"{group}/x"], loose, batch_statistics), values[f"{group}/{key}"], what=group)


@pytest.mark.parametrize("file", ["cifar_published.npz", "cifar_chain.npz", "cifar_loose.npz", "cifar_random.npz"])
def test_cifar(golden, file):
    case = file.removeprefix("cifar_").removesuffix(".npz")
    meta = golden.json("meta.json")["derived"][case]
    arrays = golden.npz(file)
    architecture = parse(meta["arch"])
    assert loose_ends(architecture[0]) == meta["concat_normal"]
    assert loose_ends(architecture[1]) == meta["concat_reduction"]
    network = Network(architecture, Shape(channels=meta["init_channels"], layers=1, classes=10), auxiliary=True)
    weights = golden.part(arrays, "sd/")
    golden.load(network, weights)
    network.eval()
    golden.close(network(arrays["in/x"]), arrays["eval/logits"], what="eval")
    golden.close(network(arrays["in/x_odd"]), arrays["eval/logits_odd"], what="odd")
    network.train()
    logits, auxiliary = network(arrays["in/x"])
    golden.close(logits, arrays["train/logits"], what="train")
    golden.close(auxiliary, arrays["train/aux_logits"], what="auxiliary")
    y = arrays["in/y"].long()
    loss = F.cross_entropy(logits, y) + 0.4 * F.cross_entropy(auxiliary, y)
    golden.close(loss, arrays["train/loss"], what="loss")
    loss.backward()
    parameters = dict(network.named_parameters())
    for name, value in golden.part(arrays, "train/grad/").items():
        golden.close(parameters[name].grad, value, 1e-3, name)
    for name, value in golden.part(arrays, "train/after/").items():
        golden.close(network.state_dict()[name], value, what=name)
    golden.load(network, weights)
    network.drop_path = Stored(
        arrays["droppath/keep"], arrays["droppath/mask"], 5, keep=meta["drop_path_keep"], steps=100, cells=5
    )
    network.drop_path.step = meta["drop_path_step"]
    logits, auxiliary = network(arrays["in/x"])
    assert network.drop_path.seen == 50
    golden.close(logits, arrays["droppath/logits"], what="drop path")
    golden.close(auxiliary, arrays["droppath/aux_logits"], what="drop path, auxiliary")


def test_clean_auxiliary_head_leaves_later_cells_alone(golden):
    arrays = golden.npz("cifar_chain.npz")
    architecture = parse(golden.json("meta.json")["derived"]["chain"]["arch"])
    network = Network(architecture, Shape(channels=2, layers=1), auxiliary=True, relu_in_place=False)
    golden.load(network, golden.part(arrays, "sd/"))
    clean = network.train()(arrays["in/x"])[0]
    assert (clean - arrays["train/logits"]).abs().max() > 1e-3


def test_imagenet(golden):
    meta = golden.json("meta.json")["derived"]["imagenet_tiny"]
    arrays = golden.npz("imagenet_tiny.npz")
    network = Network(parse(meta["arch"]), Shape(kind="imagenet", channels=4, layers=1, classes=11), auxiliary=True)
    golden.load(network, golden.part(arrays, "sd/"))
    x = arrays["in/x_small"].repeat_interleave(16, 2).repeat_interleave(16, 3)
    network.eval()
    golden.close(network(x), arrays["eval/logits"], what="eval")
    network.train()
    logits, auxiliary = network(x)
    golden.close(logits, arrays["train/logits"], what="train")
    golden.close(auxiliary, arrays["train/aux_logits"], what="auxiliary")
    y = arrays["in/y"].long()
    loss = label_smoothing_cross_entropy(logits, y) + 0.4 * label_smoothing_cross_entropy(auxiliary, y)
    golden.close(loss, arrays["train/loss"], what="loss")
    # The stem's gradient sums 12,544 positions; in float32 and channels last its rounding is 2e-3, so: float64.
    golden.load(network, golden.part(arrays, "sd/"))
    logits, auxiliary = network.double()(x.double())
    (label_smoothing_cross_entropy(logits, y) + 0.4 * label_smoothing_cross_entropy(auxiliary, y)).backward()
    parameters = dict(network.named_parameters())
    for name, value in golden.part(arrays, "train/grad/").items():
        golden.close(parameters[name].grad, value, 1e-3, name)


CASES = ["published", "chain", "loose", "random"]


def supernet(golden, arrays):
    network = Supernet(channels=2, layers=1)
    golden.load(network, golden.part(arrays, "sd/"))
    return network


@pytest.mark.parametrize("case", CASES)
def test_supernet(golden, case):
    meta = golden.json("meta.json")["supernet"]
    arrays = golden.npz("supernet_tiny.npz")
    architecture = parse(meta["archs"][case])
    x, y = arrays["in/x"], arrays["in/y"].long()
    values = golden.part(arrays, case + "/")
    network = supernet(golden, arrays).eval()
    assert sum(p.numel() for p in network.parameters()) == meta["params"]
    golden.close(network(x, architecture), values["eval/logits"], what="eval")
    golden.close(network(arrays["in/x_odd"], architecture), values["eval/logits_odd"], what="odd")
    golden.close(network(x, architecture, True), values["eval_bn_train/logits"], what="bn_train")
    for name, value in golden.part(values, "eval_bn_train/after/").items():
        golden.close(network.state_dict()[name], value, what=name)
    second = network(0.7 * x.flip(0) + 0.1, architecture, True)
    golden.close(second, values["eval_bn_train/logits_second"], what="second")

    network = supernet(golden, arrays).train()
    logits = network(x, architecture)
    golden.close(logits, values["train/logits"], what="train")
    loss = F.cross_entropy(logits, y)
    golden.close(loss, values["train/loss"], what="loss")
    loss.backward()
    parameters = dict(network.named_parameters())
    for name, value in golden.part(values, "train/grad/").items():
        golden.close(parameters[name].grad, value, 1e-3, name)
    squares = sum(float((p.grad.double() ** 2).sum()) for p in parameters.values() if p.grad is not None)
    assert squares**0.5 == pytest.approx(float(values["train/grad_norm"]), rel=1e-3)
    without = sorted(name for name, p in parameters.items() if p.grad is None)
    expected = meta["without_gradient"][case]
    assert len(without) == expected["count"]
    assert hashlib.sha1("\n".join(without).encode()).hexdigest() == expected["sha1_of_sorted_names_newline_joined"]

    for rule, exempt in (("all_edges", frozenset()), ("identity_exempt", identity_operations("small"))):
        network = supernet(golden, arrays).train()
        keeps, masks = values[f"droppath_{rule}/keep"], values[f"droppath_{rule}/mask"]
        network.drop_path = Stored(keeps, masks, 5, keep=0.7, steps=1000, cells=5, exempt=exempt)
        network.drop_path.step = 799
        golden.close(network(x, architecture), values[f"droppath_{rule}/logits"], what=rule)


@pytest.mark.parametrize("rule", ["zeros", "none"])
def test_supernet_steps(golden, rule):
    from papers.nao_v2.method.supernet_training import build_optimizer, supernet_step

    meta = golden.json("meta.json")["supernet"]
    arrays = golden.npz("supernet_tiny.npz")
    network, settings = supernet(golden, arrays).train(), meta["sgd"]
    optimizer = build_optimizer(network, settings["momentum"], settings["weight_decay"])
    for group in optimizer.param_groups:
        group["lr"] = settings["lr"]
    losses = []
    for name in settings["order"]:
        batch = (arrays["in/x"], arrays["in/y"].long())
        losses.append(supernet_step(network, parse(meta["archs"][name]), batch, optimizer, settings["clip"], rule))
    group = golden.part(arrays, f"sgd_{rule}/")
    for key in ("losses", "loss"):
        if key in group:
            golden.close(torch.tensor(losses), group[key], what=key)
    state = network.state_dict()
    for name, value in golden.part(group, "final/").items():
        golden.close(state[name], value, what=f"{rule} {name}")
