"""A derived network as a plain module: what people hook, cut, convert, trace and pickle.

The trainings' form shares ReLUs, keeps channels last, and calls some convolutions by hand, for speed. Here every layer
is called as a module of torch's own class; keys of the state dict and values are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.spaces.darts import norm
from common.spaces.darts.network import Cell, NetworkCIFAR, NetworkImageNet
from common.spaces.darts.operations import DilatedConv2d, DilConv, FactorizedReduce, Identity, drop_path

Output = Tensor | tuple[Tensor, Tensor]


class PlainReduce(FactorizedReduce):
    """``FactorizedReduce`` that calls its convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_in, H, W] -> [B, c_out, H / 2, W / 2]; H and W even."""
        x = functional.relu(x).contiguous()  # planes first: see FactorizedReduce
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:].contiguous())], dim=1))

    def _apply(self, fn: Any, recurse: bool = True) -> PlainReduce:
        """Whatever moves or converts the weights leaves them in planes."""
        super()._apply(fn, recurse)
        for layer in (self.conv_1, self.conv_2):
            weight = getattr(layer, "weight", None)
            if isinstance(weight, Tensor):
                weight.data = weight.data.reshape(-1).view(weight.shape)
        return self


class PlainDilConv(DilConv):
    """``DilConv`` whose dilated convolution is torch's own class; the guard of ``DilatedConv2d`` stands here."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H / stride, W / stride]."""
        relu, dilated, *rest = self.op
        x = relu(x)
        if torch.is_autocast_enabled("cpu") and x.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                x = dilated(x.float())
        else:
            x = dilated(x)
        for layer in rest:
            x = layer(x)
        return x


class PlainCell(Cell):
    """A derived cell that calls every operation on its own."""

    def forward(self, before: Tensor, last: Tensor, drop: float = 0.0, masks: Any = None) -> Tensor:
        """``drop`` > 0 drops op outputs per sample (identities excepted)."""
        states = [self.preprocess0(before), self.preprocess1(last)]
        outputs: list[Tensor] = []
        for op, source in zip(self._ops, self.states, strict=True):
            out = op(states[source])
            if drop > 0 and not isinstance(op, Identity):
                out = drop_path(out, drop)
            outputs.append(out)
            if len(outputs) % 2 == 0:
                states.append(outputs[-2] + outputs[-1])
        return torch.cat([states[i] for i in self.concat], dim=1)


class _Plain(nn.Module):
    """Logits; in train mode with an auxiliary head (logits, auxiliary logits)."""

    def _output(self, logits: Tensor, auxiliary: Tensor | None) -> Output:
        return logits if auxiliary is None else (logits, auxiliary)


class PlainCIFAR(_Plain, NetworkCIFAR):
    """``NetworkCIFAR`` as a plain module."""

    def forward(self, x: Tensor) -> Output:  # type: ignore[override]
        """x [B, 3, H, W], H and W multiples of 4 -> logits [B, classes]."""
        stem = self.stem(x)
        return self._output(*self._run(stem, stem, None))


class PlainImageNet(_Plain, NetworkImageNet):
    """``NetworkImageNet`` as a plain module."""

    def forward(self, x: Tensor) -> Output:  # type: ignore[override]
        """x [B, 3, H, W], H and W multiples of 32 (the paper: 224) -> logits [B, classes]."""
        stem0 = self.stem0(x)
        return self._output(*self._run(stem0, self.stem1(stem0), None))


PLAIN: dict[type, type] = {
    NetworkCIFAR: PlainCIFAR, NetworkImageNet: PlainImageNet, Cell: PlainCell, FactorizedReduce: PlainReduce,
    DilConv: PlainDilConv, DilatedConv2d: nn.Conv2d, norm.BatchNorm2d: nn.BatchNorm2d,
}  # fmt: skip


def plain(network: NetworkCIFAR | NetworkImageNet) -> PlainCIFAR | PlainImageNet:
    """The same network, turned in place into a plain module. Without an auxiliary head strict loading passes over the
    head's keys, since files of trainings have them and the logits do not need them.
    """
    for module in network.modules():
        module.__class__ = PLAIN.get(type(module), type(module))
        if isinstance(module, Cell):
            vars(module).pop("ops", None)
    if network.auxiliary_head is None:
        vars(network).pop("auxiliary_head", None)
        network.register_module("auxiliary_head", None)
    network.global_pooling = nn.AdaptiveAvgPool2d(1)  # the same on 224 pixels, and other sizes pass
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network  # type: ignore[return-value]
