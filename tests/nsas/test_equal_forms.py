"""Shared and separate constraint forwards agree bit for bit; sampled operations equal dense execution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from papers.nsas.method.sampling import sample_depth_published, sample_free
from papers.nsas.networks import paths
from papers.nsas.networks.supernet import build_supernet, table_logits


@pytest.mark.parametrize("draw", [sample_free, sample_depth_published])
def test_shared_constraint_forwards(draw):
    torch.manual_seed(0)
    rng = np.random.RandomState(3)
    model = build_supernet(4, 10, 3).train()
    x, y = torch.randn(4, 3, 16, 16), torch.randint(0, 10, (4,))
    architectures = [(draw(rng), draw(rng)) for _ in range(6)]
    architectures.append(architectures[0])  # twice the same: all of the first cells shared
    before = {k: v.clone() for k, v in model.state_dict().items()}
    together = paths.constraint_losses(model, x, y, architectures)
    for k, v in model.state_dict().items():
        assert torch.equal(v, before[k]), k
    with torch.no_grad():
        separate = [nn.functional.cross_entropy(paths.forward(model, x, a), y).item() for a in architectures]
    assert together == separate


@pytest.mark.parametrize("draw", [sample_free, sample_depth_published])
def test_sampled_operations_equal_dense_execution(draw):
    """Raw 0/1 tables: logits, gradients and statistics of the path are those of all operations run."""
    from papers.nsas.method.sampling import encode

    rng = np.random.RandomState(1)
    architecture = (draw(rng), draw(rng))
    x, y = torch.randn(4, 3, 16, 16), torch.randint(0, 10, (4,))
    found = []
    for dense in (True, False):
        torch.manual_seed(0)
        model = build_supernet(4, 10, 3).train()
        tables = tuple(torch.from_numpy(encode(c)) for c in architecture)
        logits = model.forward_plain(x, tables) if dense else paths.forward(model, x, architecture, statistics=True)
        nn.functional.cross_entropy(logits, y).backward()
        gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()}
        found.append((logits.detach(), gradients, dict(model.named_buffers())))
    (logits, gradients, buffers), (logits_2, gradients_2, buffers_2) = found
    torch.testing.assert_close(logits, logits_2, rtol=1e-4, atol=1e-5)
    for name, want in buffers.items():
        torch.testing.assert_close(buffers_2[name], want, rtol=1e-3, atol=1e-4, msg=name)
    scale = max(float(g.abs().max()) for g in gradients.values())
    for name, want in gradients.items():
        assert float((gradients_2[name] - want).abs().max()) <= 1e-3 * scale, name


def test_softmax_table_runs_every_operation():
    rng = np.random.RandomState(2)
    model = build_supernet(2, 10, 3).train()
    table_logits(model, torch.randn(2, 3, 16, 16), (sample_free(rng), sample_free(rng))).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
