"""The NAS-Bench-201 supernet: shared form, hard path and folded form equal the plain mixture."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from common.data.nasbench201 import OPERATIONS
from common.spaces.nasbench201.graph import canonical, connected, incoming
from common.spaces.nasbench201.network import EDGE_NAMES, Network, Supernet, fold
from common.train.optim import zero_fill_grads

TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}
CELLS = [(3, 1, 2, 4, 3, 1), (0, 2, 3, 0, 1, 3), (0, 0, 0, 0, 0, 0)]


@pytest.fixture
def model() -> Supernet:
    torch.manual_seed(0)
    supernet = Supernet(4, 1, 10).double()
    for name, value in supernet.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return supernet


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, 8, 12, generator=generator, dtype=torch.float64), torch.tensor([1, 0, 9, 3])


def table() -> torch.Tensor:
    return torch.rand(6, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64).softmax(-1)


def step(model: Supernet, batch, forward):
    """One Nesterov step with zero-filled gradients: logits, gradients, state dict afterwards."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.025, momentum=0.9, nesterov=True, weight_decay=3e-4)
    logits = forward(batch[0])
    cross_entropy(logits, batch[1]).backward()
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


def test_shared_mixture_equals_plain(model: Supernet, batch) -> None:
    plain = copy.deepcopy(model)
    assert_same(step(model, batch, lambda x: model(x, table())), step(plain, batch, lambda x: plain.plain(x, table())))


def test_folded_form_equals_plain_in_evaluation(model: Supernet, batch) -> None:
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(fold(model)(batch[0], table()), model.plain(batch[0], table()), **TOLERANCE)
    with pytest.raises(ValueError, match="running statistics"):
        fold(Supernet(4, 1, track_running_stats=False))


@pytest.mark.parametrize("cell", CELLS)
def test_hard_path_equals_mixture_of_zeros_and_ones(model: Supernet, batch, cell: tuple[int, ...]) -> None:
    dense = copy.deepcopy(model)
    weights = one_hot(torch.tensor(cell), len(OPERATIONS)).double()
    assert_same(
        step(model, batch, lambda x: model.path(x, cell, update_unselected=True)),
        step(dense, batch, lambda x: dense.plain(x, weights)),
    )


def test_without_the_statistics_pass_unselected_norms_stand_still(model: Supernet, batch) -> None:
    before, cell = copy.deepcopy(model.state_dict()), CELLS[0]
    _, _, after = step(model, batch, lambda x: model.path(x, cell))
    for e, edge in enumerate(EDGE_NAMES):
        for k in (2, 3):
            name = f"cells.0.edges.{edge}.{k}.op.2.running_mean"
            assert torch.equal(before[name], after[name]) == (cell[e] != k), name


def test_straight_through_weights_have_a_gradient_for_every_operation(model: Supernet, batch) -> None:
    """Value of the one-hot cell; an unselected weight w gets the gradient of ``+ w`` on its edge (GDAS)."""
    cell = CELLS[0]
    probabilities = table().requires_grad_()
    hard = one_hot(torch.tensor(cell), 5).double()
    weights = hard - probabilities.detach() + probabilities
    model.eval()
    logits = model.path(batch[0], cell, weights)
    torch.testing.assert_close(logits, model.path(batch[0], cell), **TOLERANCE)
    cross_entropy(logits, batch[1]).backward()
    rows = probabilities.grad
    for e, k in enumerate(cell):
        rest = torch.cat([rows[e, :k], rows[e, k + 1 :]])
        assert (rest == rest[0]).all() and float(rest[0]) != 0


@pytest.mark.parametrize("classes, parameters", [(10, 1_686_106), (100, 1_691_956), (120, 1_693_256)])
def test_size(classes: int, parameters: int) -> None:
    model = Supernet(16, 5, classes)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert "arch_parameters" in Supernet(4, 1, with_architecture=True).state_dict()


def test_edges_are_called_as_in_released_checkpoints() -> None:
    assert EDGE_NAMES == ("1<-0", "2<-0", "2<-1", "3<-0", "3<-1", "3<-2")


def test_network_of_one_cell_runs_what_its_code_says(batch) -> None:
    """A supernet path with the network's weights gives the network's logits (both in train mode, norms not affine)."""
    cell, torch_seed = CELLS[0], 5
    torch.manual_seed(torch_seed)
    network, supernet = Network(cell, 4, 1).double(), Supernet(4, 1).double()
    weights = network.state_dict()
    renamed = {}
    for name, value in weights.items():
        parts = name.split(".")
        if "layers" in parts:
            e = int(parts[3])
            name = ".".join([*parts[:2], "edges", EDGE_NAMES[e], str(cell[e]), *parts[4:]])
        renamed[name] = value
    supernet.load_state_dict({k: renamed.get(k, v) for k, v in supernet.state_dict().items()})
    with torch.no_grad():
        torch.testing.assert_close(network.train()(batch[0]), supernet.train().path(batch[0], cell), **TOLERANCE)


def test_the_space_holds_6466_distinct_cells():
    cells = list(itertools.product(range(5), repeat=6))
    assert len({canonical(cell) for cell in cells}) == 6_466  # Dong & Yang 2020, section 2.1


def test_cells_of_one_canonical_text_are_one_network(batch):
    """A convolution after a skip, and the convolution itself: one text and, with the same weights, equal logits."""
    after_skip, alone, unconnected = (1, 0, 3, 0, 0, 1), (0, 3, 0, 0, 0, 1), (3, 3, 3, 0, 0, 0)
    assert canonical(after_skip) == canonical(alone) == "#+#+#+(0)@nor_conv_3x3"
    assert canonical(after_skip, fold_none=False) != canonical(alone, fold_none=False)
    assert (connected(alone), connected(unconnected)) == (True, False)
    assert incoming(alone) is None and incoming(after_skip) == [
        [("skip_connect", 0)],
        [("nor_conv_3x3", 1)],
        [("skip_connect", 2)],
    ]
    first, second, blind = (Network(cell, 4, 1, 10).double().eval() for cell in (after_skip, alone, unconnected))
    second.load_state_dict(dict(zip(second.state_dict(), first.state_dict().values(), strict=True)))
    x = batch[0]
    with torch.no_grad():
        assert torch.equal(first(x), second(x))
        assert torch.equal(blind(x), blind(x.flip(0))) and not torch.equal(first(x), first(x.flip(0)))
