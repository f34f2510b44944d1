"""SGNAS workloads W1 to W5, each beside the plain way of doing it (one module per sub-block and kernel, no merging, no
folding, memory in NCHW), timed in the same process. Run with --benchmark-enable.
"ours" is the workload of ``sgnas.py``.

W1 supernet step (4 paths)   W2 generator step, all operations on   W3 scratch step, SGNAS-C   W4 evaluation, SGNAS-A
W5 build SGNAS-A from a target

What bounds the supernet step, on this machine's GPU where it has one:
    pytest tests/benchmarks/test_sgnas.py -k bounds -s --benchmark-enable
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from common.train.losses import label_smoothing_cross_entropy
from papers.sgnas.method.generator import Generator, arg_max_ops, normalise
from papers.sgnas.method.generator_training import build_optimizer
from papers.sgnas.method.lookup import hardware_loss, macs_table
from papers.sgnas.method.sampling import sample_paths
from papers.sgnas.method.supernet_training import PathSGD, supernet_gradients
from papers.sgnas.networks.architectures import MACROS, PUBLISHED, SKIP
from papers.sgnas.networks.supernet import Supernet
from tests.benchmarks.workloads import sgnas
from tests.benchmarks.workloads.place import Place

BATCH = 16


def original_hswish(x: torch.Tensor) -> torch.Tensor:
    return x * functional.relu6(x + 3) / 6


class PlainConvBN(nn.Sequential):
    def __init__(self, c: int, out: int, k: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> None:
        parts = [nn.Conv2d(c, out, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(out)]
        super().__init__(*parts, *([nn.ReLU6()] if act else []))


class PlainBlock(nn.Module):
    """A supernet layer as six separate sub-blocks of three separate operations and a dense convolution behind skip."""

    def __init__(self, c: int, out: int, stride: int) -> None:
        super().__init__()
        self.expand = PlainConvBN(c, 6 * c)
        self.ops = nn.ModuleList(
            nn.ModuleList(
                [*(PlainConvBN(c, c, k, stride, c) for k in (3, 5, 7)), nn.Conv2d(c, c, 1, stride, bias=False)]
            )
            for _ in range(6)
        )
        self.project = nn.Conv2d(6 * c, out, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(out) for _ in range(6))
        self.residual = stride == 1 and c == out

    def path(self, x: torch.Tensor, ops: list[int]) -> torch.Tensor:
        parts = self.expand(x).chunk(6, 1)
        outs = [m[op](part) * (0.0 if op == SKIP else 1.0) for m, op, part in zip(self.ops, ops, parts)]
        y = self.norms[sum(op == SKIP for op in ops)](self.project(torch.cat(outs, 1)))
        return x + y if self.residual else y

    def soft(self, x: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        outs = []
        for module, row, part in zip(self.ops, p, self.expand(x).chunk(6, 1)):
            total = module[SKIP](part) * 0.0
            for k in range(3):
                if row[k] > 0.01:
                    total = total + row[k] * module[k](part)
            outs.append(total)
        y = self.norms[round(float(p[:, SKIP].sum()))](self.project(torch.cat(outs, 1)))
        return x + y if self.residual else y


class PlainSupernet(nn.Module):
    def __init__(self, macro, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            PlainConvBN(3, 32, 3, macro.stem_stride), PlainConvBN(32, 32, 3, 1, 32), PlainConvBN(32, 16, act=False)
        )
        self.stages = nn.ModuleList(PlainBlock(c, out, s) for c, (out, s) in zip(macro.in_channels, macro.layers))
        self.head, self.classifier = PlainConvBN(macro.layers[-1][0], 1280), nn.Linear(1280, classes)

    def forward(self, x, rows, soft: bool = False):
        x = self.stem(x)
        for stage, row in zip(self.stages, rows):
            x = stage.soft(x, row) if soft else stage.path(x, row)
        return self.classifier(self.head(x).mean((2, 3)))


class PlainNetwork(nn.Module):
    """A derived network with one convolution per sub-block, in NCHW."""

    def __init__(self, macro, kernels, classes: int, se: bool, act) -> None:
        super().__init__()
        self.act, self.se = act, se
        conv = lambda c, o, k=1, s=1, g=1: PlainConvBN(c, o, k, s, g, act=False)
        self.stem, self.first, self.first_out = conv(3, 32, 3, macro.stem_stride), conv(32, 32, 3, 1, 32), conv(32, 16)
        self.rows = kernels
        self.blocks = nn.ModuleList()
        for c, (out, s), row in zip(macro.in_channels, macro.layers, kernels):
            hidden = c * len(row)
            parts = nn.ModuleDict({"project": conv(hidden, out), "bn": nn.BatchNorm2d(hidden)})
            parts["dw"] = nn.ModuleList(nn.Conv2d(c, c, k, s, k // 2, groups=c, bias=False) for k in row)
            if len(row) > 1:
                parts["expand"] = conv(c, hidden)
            if se:
                parts["squeeze"], parts["excite"] = nn.Conv2d(hidden, hidden // 4, 1), nn.Conv2d(hidden // 4, hidden, 1)
            self.blocks.append(parts)
        self.last, self.classifier = conv(macro.layers[-1][0], 1280), nn.Linear(1280, classes)

    def forward(self, x):
        x = self.first_out(self.act(self.first(self.act(self.stem(x)))))
        for parts in self.blocks:
            y = self.act(parts["expand"](x)) if "expand" in parts else x
            y = torch.cat([m(part) for m, part in zip(parts["dw"], y.chunk(len(parts["dw"]), 1))], 1)
            y = self.act(parts["bn"](y))
            if self.se:
                pooled = functional.relu(parts["squeeze"](y.mean((2, 3), keepdim=True)))
                y = y * (functional.relu6(parts["excite"](pooled) + 3) / 6)
            y = parts["project"](y)
            x = x + y if x.shape == y.shape else y
        return self.classifier(functional.dropout(self.act(self.last(x)).mean((2, 3)), 0.2, self.training))


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Every test here."""


def place(benchmark) -> Place:
    """The real space when timing; a small one when the workloads are only checked to run."""
    return Place(full=benchmark.enabled)


def data(side: int = 32, batch: int = BATCH):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, side, side, generator=generator), torch.arange(batch) % 10


def plain_w1(at: Place):
    macro, (x, y) = sgnas.cifar(at), data()
    paths = sample_paths(np.random.RandomState(0), len(macro.layers), 4)
    net = PlainSupernet(macro, 100)
    sgd = torch.optim.SGD(net.parameters(), 0.064, momentum=0.9, weight_decay=4e-4, foreach=False)

    def step():
        sgd.zero_grad(set_to_none=False)
        for path in paths:
            label_smoothing_cross_entropy(net(x, path), y).backward()
        sgd.step()

    return step


def plain_w2(at: Place):
    macro, (x, y) = sgnas.cifar(at), data()
    layers, generator, table = len(macro.layers), Generator(), macs_table(macro)
    adam, net, prior = build_optimizer(generator), PlainSupernet(macro, 100).eval(), sgnas.flat_prior(at, layers)

    def step():
        p = sgnas.uniform_p(layers, generator(normalise(100.0, 80, 120), prior)[0])
        loss = label_smoothing_cross_entropy(net(x, p, soft=True), y) + hardware_loss(table.cost(p), 100.0)
        adam.zero_grad()
        loss.backward()
        adam.step()

    return step


def plain_w3(at: Place):
    macro, (x, y) = sgnas.cifar(at), data(batch=32)
    net = PlainNetwork(macro, PUBLISHED["SGNAS-C"][: len(macro.layers)], 100, False, functional.relu6)
    sgd = torch.optim.SGD(net.parameters(), 0.064, momentum=0.9, weight_decay=4e-4, foreach=False)

    def step():
        sgd.zero_grad(set_to_none=False)
        label_smoothing_cross_entropy(net(x), y).backward()
        sgd.step()

    return step


def plain_w4(at: Place):
    x, _ = data(*at.size((224, 4), (64, 2)))
    net = PlainNetwork(MACROS["imagenet"], PUBLISHED["SGNAS-A"], 1000, True, original_hswish).eval()
    return torch.no_grad()(lambda: net(x))


def plain_w5(at: Place):
    """As the original, a supernet is built first and the network is probed with one forward pass."""
    macro, prior = MACROS["imagenet"], sgnas.flat_prior(Place(), 19)

    @torch.no_grad()
    def build():
        arg_max_ops(Generator()(normalise(365.0, 270, 450), prior))
        macs_table(macro)
        if at.full:
            PlainSupernet(macro, 1000)
        net = PlainNetwork(macro, PUBLISHED["SGNAS-A"], 1000, True, original_hswish)
        return net(torch.randn(2, 3, *at.size((224, 224), (32, 32))))

    return build


PLAIN = {
    "w1_supernet_step": plain_w1, "w2_generator_step": plain_w2, "w3_scratch_step": plain_w3,
    "w4_evaluation": plain_w4, "w5_build": plain_w5,
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("way", ["plain", "ours"])
def test_beside_the_plain_form(benchmark, name, way):
    make = PLAIN[name] if way == "plain" else sgnas.WORKLOADS[name].make
    benchmark.group = name
    benchmark.pedantic(make(place(benchmark)), rounds=3, warmup_rounds=1)


def counted(step, device: torch.device) -> tuple[int, float, float]:
    """(kernels, seconds they take, seconds of the whole step) of one call, after one to warm up.

    On a GPU the kernels are the launched ones. On a CPU they are the operators that call no other one, allocations and
    views aside: each would be at least one launch.
    """
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    views = {"view", "as_strided", "slice", "select", "expand", "permute", "t", "transpose", "detach", "unbind"}
    views |= {
        "empty",
        "empty_like",
        "empty_strided",
        "resize_",
        "_local_scalar_dense",
        "lift_fresh",
        "unfold",
        "reshape",
    }
    cuda = device.type == "cuda"
    step()
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    with profile(activities=activities, acc_events=True) as record:
        begin = time.perf_counter()
        step()
        if cuda:
            torch.cuda.synchronize(device)
        whole = time.perf_counter() - begin
    if cuda:
        kernels = [e for e in record.events() if e.device_type == DeviceType.CUDA]
        return len(kernels), sum(e.device_time_total for e in kernels) / 1e6, whole

    def works(event) -> bool:
        return event.name.startswith("aten::") and event.name.removeprefix("aten::") not in views

    working = [e for e in record.events() if works(e)]
    leaves = sum(not any(map(works, e.cpu_children)) for e in working)
    return leaves, sum(e.self_cpu_time_total for e in working) / 1e6, whole


@pytest.mark.parametrize("way", ["plain", "ours"])
def test_what_bounds_the_supernet_step(benchmark, way):
    """Prints kernels per step and the share of the step in which they run: a low share means launches bound it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    macro, (x, y) = sgnas.cifar(place(benchmark)), data()
    x, y = x.to(device), y.to(device)
    paths = sample_paths(np.random.RandomState(0), len(macro.layers), 4)
    net = (PlainSupernet(macro, 100) if way == "plain" else Supernet(macro, 100)).to(device)
    sgd = torch.optim.SGD(net.parameters(), 0.064, momentum=0.9, weight_decay=4e-4, foreach=False)
    mine = PathSGD(net, 0.9, 4e-4) if way == "ours" else None

    def step():
        if mine is not None:
            supernet_gradients(net, x, y, paths)
            mine.step(0.064, paths)
            return
        sgd.zero_grad(set_to_none=False)
        for path in paths:
            label_smoothing_cross_entropy(net(x, path), y).backward()
        sgd.step()

    number, inside, whole = counted(step, device)
    bound = "launches and Python" if inside < 0.7 * whole else "the kernels themselves"
    print(f"\n{way} on {device.type}: {number} kernels, {inside:.3f} of {whole:.3f} s in them; bound by {bound}")
    benchmark.extra_info.update(kernels=number, seconds_in_kernels=inside, seconds=whole)
    assert number > 100
    benchmark.pedantic(lambda: None, rounds=1)
