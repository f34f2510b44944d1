"""Two savings in recurrent networks give the values and gradients of the plain form."""

from __future__ import annotations

import torch

from papers.nsas.recurrent.products import deferred, linear_nll


def test_loss_without_stored_logits_equals_the_plain_one():
    """Value and all three gradients, in float64, also where a softmax of raw logits would overflow."""
    generator = torch.Generator().manual_seed(0)
    output, weight, bias = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((6, 5), (11, 5), (11,)))
    targets = torch.randint(0, 11, (6,), generator=generator)
    for scale in (1.0, 400.0):
        mine = [t.clone().mul_(scale).requires_grad_() for t in (output, weight, bias)]
        plain = [t.detach().clone().requires_grad_() for t in mine]
        value = linear_nll(*mine, targets)
        want = torch.nn.functional.cross_entropy(plain[0] @ plain[1].t() + plain[2], targets)
        torch.testing.assert_close(value, want)
        (3 * value).backward()
        (3 * want).backward()
        for a, b in zip(mine, plain):
            torch.testing.assert_close(a.grad, b.grad)


def test_deferred_weight_gradients_equal_autograd():
    """A recurrence that uses one matrix at every step, twice on one of them, with an unused second matrix."""
    generator = torch.Generator().manual_seed(0)
    weight, first = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((4, 4), (3, 4)))

    def run(weight, multiply):
        state = first.clone().requires_grad_()
        start, total = state, 0.0
        for _ in range(3):
            state = torch.tanh(multiply(state, start)) + multiply(state)
            total = total + state.square().sum()
        (total + weight.sum()).backward()  # a direct use of the matrix beside its products
        return start.grad

    mine, plain, unused = (weight.clone().requires_grad_() for _ in range(3))
    deferred(unused)
    a = run(mine, deferred(mine))
    b = run(plain, lambda state, base=0.0: state @ plain + base)
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(mine.grad, plain.grad)
    assert unused.grad is None
    with torch.no_grad():
        torch.testing.assert_close(deferred(mine)(first, first), first @ weight + first)
