"""Fast and plain forms of one thing are equal."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from papers.sgnas.describe import counts
from papers.sgnas.method.generator import Generator, normalise
from papers.sgnas.method.lookup import cost_of_ops, macs_table, one_hot
from papers.sgnas.method.prior import random_candidate
from papers.sgnas.method.sampling import sample_paths
from papers.sgnas.networks.architectures import MACROS, SKIP, kernels_of, macro_for
from papers.sgnas.networks.fixed_supernet import FixedSupernet
from papers.sgnas.networks.supernet import Supernet

TINY = MACROS["tiny"]


def test_only_sampled_operations_run_yet_all_is_equal():
    """A single path equals the soft forward with its one-hot parameters; batched targets equal single ones."""
    supernet = Supernet(TINY, 10).eval()
    frozen, x = FixedSupernet(supernet), torch.randn(2, 3, 32, 32)
    path = sample_paths(np.random.RandomState(0), 5, 1)[0]
    with torch.no_grad():
        torch.testing.assert_close(frozen.path(x, path), supernet(x, path), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(frozen.soft(x, one_hot(torch.tensor(path))), supernet(x, path), rtol=1e-4, atol=1e-5)
    generator, prior = Generator(), torch.randint(0, 2, (19, 24)).float()
    targets = torch.tensor([280.0, 333.0, 440.0])
    together = generator(normalise(targets, 270, 450), prior)
    for number, target in enumerate(targets):
        torch.testing.assert_close(
            together[number], generator(normalise(target, 270, 450), prior)[0], rtol=1e-4, atol=1e-5
        )


def test_frozen_gradient_equals_that_of_a_trainable_supernet():
    """d loss / d p with the supernet frozen equals the gradient through the supernet's own modules."""
    supernet, x = Supernet(TINY, 10).eval(), torch.randn(2, 3, 32, 32)
    p = torch.softmax(torch.randn(5, 6, 4), -1).requires_grad_()
    FixedSupernet(supernet).soft(x, p).square().sum().backward()
    step, q = 1e-3, p.detach()
    layer, block = 2, 1
    for op in range(SKIP):
        shifted = [q.clone(), q.clone()]
        shifted[0][layer, block, op] += step
        shifted[1][layer, block, op] -= step
        with torch.no_grad():
            up, down = (FixedSupernet(supernet).soft(x, s).double().square().sum() for s in shifted)
        assert float(p.grad[layer, block, op]) == pytest.approx(float(up - down) / (2 * step), rel=0.05, abs=1e-3)
    assert not p.grad[..., SKIP].any()


@pytest.mark.parametrize("size", [*range(16, 65), 96, 127, 128, 160, 224])
@pytest.mark.parametrize("name", sorted(MACROS))
def test_lookup_is_the_network_at_every_size(name, size):
    macro, rng = macro_for(name, size), np.random.RandomState(size)
    for _ in range(3):
        ops = random_candidate(rng, len(macro.layers))
        macs = counts(kernels_of(ops), macro, 10, False)["macs_published"]
        assert cost_of_ops(macs_table(macro), ops) == pytest.approx(macs / 1e6, rel=1e-6)
