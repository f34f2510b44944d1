"""Batch normalisation of channels-last images: PyTorch's results, with statistics that are sharper than its own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.spaces.darts.norm import BatchNorm2d, applies

SHAPES = [(16, 12, 16, 16), (2, 5, 32, 32), (40, 7, 4, 13), (64, 16, 32, 32)]


def pair(shape, affine, momentum=0.1, track=True):
    """(ours, PyTorch's in float64, images channels last)."""
    generator = torch.Generator().manual_seed(1)
    kwargs = {"affine": affine, "momentum": momentum, "track_running_stats": track}
    ours, exact = BatchNorm2d(shape[1], **kwargs), nn.BatchNorm2d(shape[1], **kwargs).double()
    if affine:
        for parameter, value in ((p, torch.randn(shape[1], generator=generator)) for p in ("weight", "bias")):
            getattr(ours, parameter).data.copy_(value)
            getattr(exact, parameter).data.copy_(value)
    x = (3 * torch.randn(shape, generator=generator) + 5).contiguous(memory_format=torch.channels_last)
    return ours.train(), exact.train(), x


def distance(found, want) -> float:
    return float((found.detach().double() - want.detach()).abs().max() / want.detach().abs().max())


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_backward_and_running_values(shape, affine):
    ours, exact, x = pair(shape, affine)
    assert applies(x)
    x.requires_grad_()
    sharp = x.detach().double().requires_grad_()
    out, want = ours(x), exact(sharp)
    assert distance(out, want) < 2e-6 and out.is_contiguous(memory_format=torch.channels_last)
    direction = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    (out * direction).sum().backward()
    (want * direction.double()).sum().backward()
    assert distance(x.grad, sharp.grad) < 2e-5
    for one, other in zip(ours.parameters(), exact.parameters(), strict=True):
        assert distance(one.grad, other.grad) < 2e-5
    for name, value in exact.named_buffers():
        assert distance(dict(ours.named_buffers())[name], value.double()) < 2e-6


def test_sharper_than_the_kernel_it_replaces():
    ours, exact, x = pair((64, 16, 32, 32), affine=False)
    native = nn.BatchNorm2d(16, affine=False).train()
    want = exact(x.double())
    native(x), ours(x)
    assert 10 * distance(ours.running_var, exact.running_var) < distance(native.running_var, exact.running_var)
    assert distance(ours(x), want) < distance(native(x), want)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_modes(momentum, track, training):
    """Cumulative averages, networks without running values, evaluation: as PyTorch, call after call."""
    ours, exact, x = pair((8, 6, 16, 16), True, momentum, track)
    for _ in range(3):
        ours(x), exact(x.double())
    ours.train(training), exact.train(training)
    assert distance(ours(x), exact(x.double())) < 1e-5
    for (name, one), other in zip(ours.state_dict().items(), exact.state_dict().values(), strict=True):
        assert distance(one, other.double()) < 1e-5, name


def test_elsewhere_it_is_the_native_kernel():
    """Other layouts and precisions, and fewer values, take PyTorch's own way, bit for bit."""
    ours, _, x = pair((8, 6, 16, 16), True)
    native = nn.BatchNorm2d(6).train()
    native.load_state_dict(ours.state_dict())
    for images in (x.contiguous(), x.double(), x[:7]):
        assert not applies(images)
        assert torch.equal(ours.to(images.dtype)(images), native.to(images.dtype)(images))


def test_statistics_can_be_held():
    """``track_running_stats = False`` on a module that has running values: they stay as they are."""
    ours, _, x = pair((8, 6, 16, 16), True)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    ours.track_running_stats = False
    ours(x)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_gradients_of_a_nonlinear_function():
    ours, exact, x = pair((8, 3, 16, 16), True)
    x.requires_grad_()
    sharp = x.detach().double().requires_grad_()
    first = torch.autograd.grad((ours(x) ** 3).sum(), [x, ours.weight, ours.bias])
    second = torch.autograd.grad((exact(sharp) ** 3).sum(), [sharp, exact.weight, exact.bias])
    for one, other in zip(first, second, strict=True):
        assert distance(one, other) < 2e-5
