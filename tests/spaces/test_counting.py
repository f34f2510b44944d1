"""Multiply-adds are those that torch's own counter finds, in every kind of layer the networks use."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from common.errors import UserError
from common.spaces.counting import macs_and_conv_macs
from tests import fresh


class Mixed(nn.Module):
    """Grouped, strided, dilated and one-dimensional convolutions, linear layers with and without bias, products."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.second = nn.Conv2d(6, 6, 5, padding=4, dilation=2, groups=6, bias=False)
        self.line = nn.Conv1d(6, 3, 3)
        self.linear, self.plain = nn.Linear(12, 7), nn.Linear(7, 5, bias=False)
        self.weight = nn.Parameter(torch.ones(5, 2))

    def forward(self, x):
        x = functional.relu(self.second(self.first(x)))
        x = self.line(x.flatten(2)).flatten(1)[:, :12]
        x = self.plain(self.linear(x)) @ self.weight
        return torch.bmm(x[:, :, None], x[:, None, :]), torch.mm(x, self.weight.t()).matmul(self.weight)


def theirs(model, shape):
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *shape, device="meta"))
    counts = counter.get_flop_counts()["Global"]
    return sum(counts.values()) // 2, sum(n for op, n in counts.items() if "convolution" in str(op)) // 2


def networks():
    from papers.evnas import network as evnas
    from papers.nsas import network as nsas

    with torch.device("meta"):
        return [
            (Mixed(), (4, 17, 13)),
            (evnas("EvNASC", dataset="imagenet"), (3, 224, 224)),
            (nsas("Random_NSAS_C", classes=5, channels=8, layers=5), (3, 32, 32)),
            (nsas("330344", dataset="imagenet16-120"), (3, 16, 16)),
        ]


def test_counts_are_those_of_torch():
    for model, shape in networks():
        model.to("meta").eval()
        assert macs_and_conv_macs(model, shape) == theirs(model, shape)
        assert all(p.is_meta for p in model.parameters())
    own = Mixed().train()
    assert macs_and_conv_macs(own, (4, 17, 13)) == theirs(Mixed().to("meta"), (4, 17, 13))
    assert own.training and own.first.training and not own.weight.is_meta


@pytest.mark.parametrize("layer", [nn.LSTM(3, 4), nn.ConvTranspose2d(3, 4, 3), nn.MultiheadAttention(3, 1)])
def test_what_it_does_not_know_is_refused(layer):
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(*[x[0]] * (3 if isinstance(layer, nn.MultiheadAttention) else 1))

    shape = (5, 3) if isinstance(layer, nn.LSTM) else (3, 8, 8) if isinstance(layer, nn.ConvTranspose2d) else (2, 6, 3)
    with pytest.raises(UserError, match="cannot count"):
        macs_and_conv_macs(One(), shape)


QUICK = """
import importlib, sys
from common.cli.verbs import main
for paper, *words in json.loads(sys.argv[1]):
    sys.argv[1:] = ["describe", *words]
    main(paper, importlib.import_module(f"papers.{paper}.__main__").VERBS)
    heavy = [name for name in ("torch._dynamo", "torch._inductor", "sympy", "matplotlib") if name in sys.modules]
    print(paper, words, *heavy, file=sys.stderr)
"""


def test_describing_imports_no_compiler():
    """torch's compiler takes two seconds to import, longer than everything else that a description needs."""
    commands = [
        ["evnas", "EvNASA", "--dataset", "cifar10"], ["evnas", "301143"], ["nsas", "Random_NSAS"], ["nsas", "330344"],
        ["nao_v2", "NAONet_V2"], ["cream", "14"], ["sgnas", "SGNAS-A"],
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "import json" + QUICK, json.dumps(commands)],
        capture_output=True,
        text=True,
        cwd=fresh.ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [f"{paper} {words}" for paper, *words in commands]
