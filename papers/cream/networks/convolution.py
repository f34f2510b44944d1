"""The networks' convolution, whose second derivative costs one convolution, for the meta update (Method 6).

torch's double backward of a grouped convolution loops over the groups and always forms the gradient of the weight. The
meta gradient only needs the path back to the meta layer, which runs through the incoming gradients (their derivative is
linear: conv(ggI, w) + conv(x, ggW)); ``meta_only`` says so, and then nothing else is formed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.train.compiling import plainly

_state = {"recording": False, "meta_only": False}


@contextmanager
def recording() -> Iterator[None]:
    """Convolutions inside build graphs with the cheap second derivative; nothing there is compiled."""
    _state["recording"] = True
    try:
        with plainly():
            yield
    finally:
        _state["recording"] = False


@contextmanager
def meta_only() -> Iterator[None]:
    """Backward passes inside follow the incoming gradients only, not activations or weights."""
    _state["meta_only"] = True
    try:
        yield
    finally:
        _state["meta_only"] = False


def _grads(gradient: Tensor, x: Tensor, w: Tensor, settings: tuple, need_x: bool, need_w: bool) -> tuple[Any, Any]:
    stride, padding, groups = settings
    dx, dw, _ = torch.ops.aten.convolution_backward(
        gradient, x, w, None, stride, padding, (1, 1), False, (0, 0), groups, (need_x, need_w, False)
    )
    return dx, dw


class _Backward(torch.autograd.Function):
    """(gO, x, w) -> (dx, dw) of a convolution without bias."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, w: Tensor, settings: tuple, need_x: bool) -> Any:
        ctx.save_for_backward(gradient, x, w)
        ctx.settings, ctx.need_x = settings, need_x
        ctx.set_materialize_grads(False)
        dx, dw = _grads(gradient, x, w, settings, need_x, True)
        return dx, dw

    @staticmethod
    def backward(ctx: Any, ggx: Tensor | None, ggw: Tensor | None) -> Any:
        gradient, x, w = ctx.saved_tensors
        stride, padding, groups = ctx.settings
        out = None
        if ggx is not None:
            out = functional.conv2d(ggx, w, None, stride, padding, 1, groups)
        if ggw is not None:
            part = functional.conv2d(x, ggw, None, stride, padding, 1, groups)
            out = part if out is None else out + part
        dx = dw = None
        if not _state["meta_only"]:
            dx = _grads(gradient, x, ggw, ctx.settings, True, False)[0] if ggw is not None else None
            dw = _grads(gradient, ggx, w, ctx.settings, False, True)[1] if ggx is not None else None
        return out, dx, dw, None, None


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, settings: tuple) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.settings = settings
        stride, padding, groups = settings
        return functional.conv2d(x, w, None, stride, padding, 1, groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        x, w = ctx.saved_tensors
        dx, dw = _Backward.apply(gradient, x, w, ctx.settings, ctx.needs_input_grad[0])
        return dx, dw, None


class Convolution(nn.Conv2d):
    """``nn.Conv2d``; inside ``recording()`` with the cheap second derivative.

    On a CPU with gradients, a 1x1 convolution of channels-last images is one matrix product over all pixels: torch
    would loop over the images, and its backward pass of *strided* ones damages memory, so these see every s-th pixel.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return super().forward(x)
        stride, groups = self.stride, self.groups
        if self.kernel_size == (1, 1) and x.device.type == "cpu":
            if stride != (1, 1):
                x = x[:, :, :: stride[0], :: stride[1]].contiguous(memory_format=torch.channels_last)
                stride = (1, 1)
            if groups == 1 and not _state["recording"] and x.is_contiguous(memory_format=torch.channels_last):
                return functional.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        if not _state["recording"]:
            return functional.conv2d(x, self.weight, self.bias, stride, self.padding, 1, groups)
        out = _Forward.apply(x, self.weight, (stride, self.padding, groups))
        return out if self.bias is None else out + self.bias.view(1, -1, 1, 1)


def plain(network: nn.Module) -> nn.Module:
    """The network itself with torch's own convolutions, for tools that look at a module's type; the same numbers.

    Strided 1x1 convolutions (of residual units only) stay, since torch's backward pass of these is wrong on a CPU.
    """
    for module in network.modules():
        if isinstance(module, Convolution) and (module.kernel_size != (1, 1) or module.stride == (1, 1)):
            module.__class__ = nn.Conv2d  # type: ignore[assignment]
    return network
