"""Statistics made anew for a path, put back, folded into the convolution before them."""

import pytest
import torch
from torch import nn

from common.train import batchnorm


def net():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1, bias=False),
                         nn.BatchNorm2d(2))  # fmt: skip
    for norm in (made[1], made[4]):
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
        norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    return made


def norms_of(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


BATCHES = list(torch.randn(3, 5, 3, 6, 6, generator=torch.Generator().manual_seed(1)))


def test_renewed_statistics_are_the_plain_average_of_the_batches():
    model, wanted = net().train(), net().train()
    for norm in norms_of(wanted):
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for images in BATCHES:
            wanted(images)
    batchnorm.renew(norms_of(model), BATCHES, model)
    for name, buffer in wanted.named_buffers():
        assert torch.equal(buffer, model.state_dict()[name]), name
    assert [norm.momentum for norm in norms_of(model)] == [0.1, 0.1]


def test_a_layer_that_does_not_count_gets_the_same_average():
    model, counting = net().train(), net().train()
    for norm in norms_of(model):
        norm.num_batches_tracked = None
    batchnorm.renew(norms_of(model), BATCHES, model)
    batchnorm.renew(norms_of(counting), BATCHES, counting)
    assert torch.equal(model[4].running_var, counting[4].running_var)


def test_what_the_path_does_not_reach_starts_anew_and_all_of_it_can_be_put_back():
    model = net().train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with batchnorm.kept(norms_of(model)):
        batchnorm.renew(norms_of(model), BATCHES, lambda images: model[:2](images))
        assert torch.equal(model[4].running_mean, torch.zeros(2)) and torch.equal(model[4].running_var, torch.ones(2))
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("affine", [True, False])
def test_a_folded_convolution_gives_the_same_output(affine):
    conv, norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=affine).eval()
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    weight, bias = batchnorm.fold(conv.weight, norm)
    with torch.no_grad():
        torch.testing.assert_close(nn.functional.conv2d(BATCHES[0], weight, bias), norm(conv(BATCHES[0])))
