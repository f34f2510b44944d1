"""The DARTS supernet: sharing changes nothing, and the hard path is the mixture with 0/1 weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from common.spaces.darts.genotype import CELL_EDGES, PRIMITIVES
from common.spaces.darts.supernet import Supernet
from common.train.optim import zero_fill_grads

# rounding only, in float64; the first convolutions sum over many thousands of products
TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}


@pytest.fixture
def model() -> Supernet:
    torch.manual_seed(0)
    supernet = Supernet(c=4, classes=10, layers=3).double()
    for name, value in supernet.state_dict().items():  # every norm starts with its own running values
        if name.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return supernet


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, 8, 12, generator=generator, dtype=torch.float64), torch.tensor([1, 0, 9, 3])


def tables() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    table = torch.rand(2, len(CELL_EDGES), len(PRIMITIVES), generator=generator, dtype=torch.float64).softmax(-1)
    return table[0], table[1]


def selection(seed: int) -> list[list[int]]:
    """Per edge none, one or several operations, some of them repeated."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 4, (len(CELL_EDGES),), generator=generator).tolist()
    return [torch.randint(0, len(PRIMITIVES), (n,), generator=generator).tolist() for n in counts]


def one_hot(chosen: list[list[int]]) -> torch.Tensor:
    table = torch.zeros(len(CELL_EDGES), len(PRIMITIVES), dtype=torch.float64)
    for edge, operations in enumerate(chosen):
        table[edge, operations] = 1
    return table


def step(model: Supernet, batch, forward) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """One SGD step with zero-filled gradients: logits, gradients, state dict afterwards."""
    x, target = batch
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    logits = forward(x)
    cross_entropy(logits, target).backward()
    zero_fill_grads(model.parameters())
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    optimizer.step()
    return logits.detach(), gradients, model.state_dict()


def assert_same(first, second) -> None:
    torch.testing.assert_close(first[0], second[0], **TOLERANCE)
    for ours, theirs in zip(first[1:], second[1:]):
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")


def test_shared_mixture_equals_plain_in_training(model: Supernet, batch) -> None:
    """Outputs, gradients, updated weights, and every edge's own running statistics and counters."""
    plain, weights = copy.deepcopy(model), tables()
    assert_same(
        step(model, batch, lambda x: model(x, weights)), step(plain, batch, lambda x: plain.forward_plain(x, weights))
    )


def test_shared_mixture_equals_plain_in_evaluation(model: Supernet, batch) -> None:
    """In eval mode the edges' norms differ from one another, and are applied one by one."""
    model.eval()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(
            model(batch[0], tables()), model.forward_plain(batch[0], tables()), **TOLERANCE
        )  # fmt: skip
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_pool_norms_of_one_state_get_equal_statistics(batch) -> None:
    """Edges 0 and 2 leave the same input: a fresh network keeps their pool norms equal, and counts the batches."""
    model = Supernet(c=4, layers=3).double().train()
    with torch.no_grad():
        model(batch[0], tables())
    state = model.state_dict()
    for pool in (1, 2):
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            keys = [f"cells.0._ops.{edge}._ops.{pool}.1.{name}" for edge in (0, 2, 5, 9)]
            assert all(torch.equal(state[keys[0]], state[key]) for key in keys)
        assert int(state[f"cells.0._ops.0._ops.{pool}.1.num_batches_tracked"]) == 1


def test_gradient_reaches_weights_that_need_one(model: Supernet, batch) -> None:
    shared = [t.clone().requires_grad_() for t in tables()]
    plain = [t.clone().requires_grad_() for t in tables()]
    cross_entropy(model(batch[0], tuple(shared)), batch[1]).backward()
    cross_entropy(model.forward_plain(batch[0], tuple(plain)), batch[1]).backward()
    for ours, theirs in zip(shared, plain):
        torch.testing.assert_close(ours.grad[:, 1:], theirs.grad[:, 1:], **TOLERANCE)  # ``none`` is not run


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_hard_path_equals_mixture_of_zeros_and_ones(model: Supernet, batch, seed: int) -> None:
    """With zero-filled gradients and the statistics pass, everything a dense step leaves behind is the same."""
    dense = copy.deepcopy(model)
    normal, reduce = selection(seed), selection(seed + 100)
    weights = (one_hot(normal), one_hot(reduce))
    assert_same(
        step(model, batch, lambda x: model.forward_path(x, normal, reduce, update_unselected=True)),
        step(dense, batch, lambda x: dense.forward_plain(x, weights)),
    )


def test_without_the_statistics_pass_only_unselected_norms_stand_still(model: Supernet, batch) -> None:
    dense = copy.deepcopy(model)
    before = copy.deepcopy(model.state_dict())
    normal = [[4] if e % 2 else [] for e in range(len(CELL_EDGES))]
    ours = step(model, batch, lambda x: model.forward_path(x, normal, normal))
    theirs = step(dense, batch, lambda x: dense(x, (one_hot(normal), one_hot(normal))))
    torch.testing.assert_close(ours[0], theirs[0], **TOLERANCE)
    for name in ours[2]:
        parts = name.split(".")
        is_statistic = parts[-1] in ("running_mean", "running_var", "num_batches_tracked")
        unselected = "_ops" in parts and not (int(parts[3]) % 2 and parts[5] == "4")
        if is_statistic and unselected:
            assert torch.equal(ours[2][name], before[name]), name
        else:
            torch.testing.assert_close(ours[2][name], theirs[2][name], **TOLERANCE, msg=name)


def test_an_architecture_without_edges_gives_zeros(model: Supernet, batch) -> None:
    empty: list[list[int]] = [[0] for _ in CELL_EDGES]
    with torch.no_grad():
        logits = model.eval().forward_path(batch[0], empty, empty)
    torch.testing.assert_close(logits, model.classifier.bias.expand_as(logits))


def test_size() -> None:
    model = Supernet()
    assert sum(p.numel() for p in model.parameters()) == 1_930_618
    assert len(model.state_dict()) == 4186
    assert model.stem[0].weight.is_contiguous(memory_format=torch.channels_last)
