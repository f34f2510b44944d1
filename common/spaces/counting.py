"""Counting parameters and multiply-adds (MACs). Conventions that only one paper uses stand in that paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from common.errors import UserError

CONVOLUTIONS: frozenset[Callable[..., Any]] = frozenset({torch.conv1d, torch.conv2d, torch.conv3d})
PRODUCTS: frozenset[Callable[..., Any]] = frozenset(
    {torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.mm, torch.Tensor.mm, torch.bmm, torch.Tensor.bmm}
)
UNKNOWN: frozenset[Callable[..., Any]] = frozenset(
    {torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d, torch.addmm, torch.Tensor.addmm,
     torch.baddbmm, torch.Tensor.baddbmm, torch.einsum, torch.Tensor.__rmatmul__, functional.bilinear,
     functional.scaled_dot_product_attention, functional.multi_head_attention_forward, torch.lstm, torch.gru,
     torch.rnn_tanh, torch.rnn_relu}
)  # fmt: skip


class Multiplications(TorchFunctionMode):
    """Counts the multiply-adds of what runs inside ``with``. Convolutions and linear layers are not computed: zeros of
    their shape stand for what they would put out.

    torch's own counter of operations finds the same numbers (a test compares them), but imports torch's compiler, as do
    tensors on ``meta``, and that takes longer than all the rest of a ``describe``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        more = kwargs or {}
        if func in UNKNOWN:
            raise UserError(f"cannot count the multiply-adds of {func.__name__}: only those of convolutions, linear "
                            "layers and matrix products are counted")  # fmt: skip
        if func in CONVOLUTIONS:
            images, weight = args[:2]
            one = func(images[:0], *args[1:], **more).shape[1:]
            out = images.new_zeros((len(images), *one))
            self.found["convolution"] += out.numel() * prod(weight.shape[1:])  # inputs of a group in the window
        elif func is functional.linear:
            out = args[0].new_zeros((*args[0].shape[:-1], len(args[1])))
            self.found["linear"] += out.numel() * args[0].shape[-1]
        else:
            out = func(*args, **more)
            if func in PRODUCTS:
                self.found["product"] += out.numel() * args[0].shape[-1]
        return out


def parameters(model: nn.Module, exclude: Sequence[str] = ("auxiliary",)) -> int:
    """Number of parameters whose names contain none of ``exclude`` (the papers leave out the auxiliary head)."""
    return sum(p.numel() for name, p in model.named_parameters() if not any(word in name for word in exclude))


def _counts(model: nn.Module, shape: Sequence[int], arguments: Sequence[Any]) -> Counter[str]:
    """Multiply-adds by kind for one image in eval mode. A model on ``meta`` is lent tensors for it, never filled."""
    named = [*model.named_parameters(), *model.named_buffers()]
    lent = {name: torch.empty(t.shape, dtype=t.dtype, device="cpu") for name, t in named if t.is_meta}
    image = torch.zeros(1, *shape, device=next((t.device for _, t in named if not t.is_meta), "cpu"))
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), Multiplications() as counter:
            functional_call(model, lent, (image, *arguments)) if lent else model(image, *arguments)
    finally:
        for module, training in modes.items():
            module.training = training
    return counter.found


def macs(model: nn.Module, shape: Sequence[int], *arguments: Any) -> int:
    """Multiply-adds of convolutions, linear layers and matrix products for one input of ``shape`` (C, H, W), eval mode.

    ``arguments`` follow the input. Raises UserError for a layer of other operations, such as torch's recurrent layers.
    """
    return macs_and_conv_macs(model, shape, *arguments)[0]


def macs_and_conv_macs(model: nn.Module, shape: Sequence[int], *arguments: Any) -> tuple[int, int]:
    """The same, and the multiply-adds of convolutions alone, from one forward."""
    found = _counts(model, shape, arguments)
    return sum(found.values()), found["convolution"]
