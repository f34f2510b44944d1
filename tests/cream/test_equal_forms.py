"""Each optimisation equals the plain way of doing the same thing."""

import copy
import random
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.train.losses import label_smoothing_cross_entropy
from papers.cream.method import scoring
from papers.cream.method.board import Board, Entry
from papers.cream.method.meta import MetaRules, choose_teacher, meta_update
from papers.cream.method.path_sgd import PathSGD, parameter_groups
from papers.cream.method.scoring import recalibrated
from papers.cream.method.space import sample_path
from papers.cream.method.student import ShareStatistics, Student
from papers.cream.networks.blocks import convolution, mean_pool
from papers.cream.networks.convolution import recording
from papers.cream.networks.layout import Layout
from papers.cream.networks.networks import Supernet, derive, folded

SMALL = Layout(stem=8, first=8, widths=(8, 8, 16, 16, 24), last=16, features=24)


def student_of(net, path, images=None, labels=None):
    """A path on one share."""
    return Student(
        net, PathSGD(parameter_groups(net, 1e-2)), path, [(images, torch.zeros(8) if labels is None else labels)]
    )


@pytest.mark.parametrize("zero_filled", [True, False])
def test_path_sgd_equals_dense_sgd(zero_filled):
    """torch.optim.SGD over the whole supernet, gradients filled with zeros (or None), against the path optimiser."""
    torch.manual_seed(0)
    dense = Supernet([1, 2, 1, 1, 1], 6, 3, SMALL).double().train()
    sparse = Supernet([1, 2, 1, 1, 1], 6, 3, SMALL).double().train()
    sparse.load_state_dict(dense.state_dict())
    reference = torch.optim.SGD(
        [{**group} for group in parameter_groups(dense, 1e-2)], lr=0.1, momentum=0.9, nesterov=True
    )
    optimizer = PathSGD(parameter_groups(sparse, 1e-2), 0.9, "zeros" if zero_filled else "none")
    rng = np.random.RandomState(0)
    for step in range(12):
        path = sample_path(rng, [1, 2, 1, 1, 1])
        x, y = torch.randn(4, 3, 32, 32).double(), torch.randint(0, 6, (4,))
        lrs = [0.1 / (1 + step)] * 2 + [0.01] * 2
        reference.zero_grad(set_to_none=not zero_filled)
        label_smoothing_cross_entropy(dense(x, path), y).backward()
        for group, lr in zip(reference.param_groups, lrs):
            group["lr"] = lr
        reference.step()
        optimizer.catch_up(sparse.path_parameters(path) + sparse.meta_parameters())
        optimizer.clear()
        label_smoothing_cross_entropy(sparse(x, path), y).backward()
        optimizer.lrs = lrs
        optimizer.step()
    optimizer.flush()
    for (name, a), b in zip(dense.named_parameters(), sparse.parameters()):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12), name


def test_graph_free_scoring_equals_scoring_with_graphs():
    torch.manual_seed(1)
    net = Supernet([1, 2, 1, 1, 1], 6, 3, SMALL).double().train()
    twin = Supernet([1, 2, 1, 1, 1], 6, 3, SMALL).double().train()
    twin.load_state_dict(net.state_dict())
    rng, board = np.random.RandomState(1), Board(4)
    for score in range(4):
        soft = torch.softmax(torch.randn(3, 6).double(), 1)
        board.add(
            Entry(float(score), 10.0, sample_path(rng, [1, 2, 1, 1, 1]), [torch.randn(3, 3, 32, 32).double()], [soft])
        )
    path = sample_path(rng, [1, 2, 1, 1, 1])
    choice = choose_teacher(student_of(net, path), board, MetaRules())
    plain = [twin.meta_score(torch.softmax(twin(e.images[0], path), 1) - e.soft[0]) for e in board.entries]
    assert torch.allclose(choice.scores, torch.stack(plain).detach(), rtol=1e-11)
    ours = torch.autograd.grad(choice.values[0], net.path_parameters(path))
    theirs = torch.autograd.grad(torch.sigmoid(-plain[-1]), twin.path_parameters(path))
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-14) for a, b in zip(ours, theirs))
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(net.buffers(), twin.buffers()))


def test_argmax_value_moves_the_statistics_only_once():
    torch.manual_seed(1)
    net = Supernet([1, 1, 1, 1, 1], 6, 3, SMALL).train()
    board = Board(2)
    rng = np.random.RandomState(0)
    for score in range(2):
        images, soft = torch.randn(3, 3, 32, 32), torch.full((3, 6), 1 / 6)
        board.add(Entry(float(score), 10.0, sample_path(rng, [1] * 5), [images], [soft]))
    rule = MetaRules(value="argmax_positive")
    choice = choose_teacher(student_of(net, sample_path(rng, [1] * 5)), board, rule)
    assert int(net.bn1.num_batches_tracked) == 2
    assert torch.allclose(choice.values[0], torch.sigmoid(choice.scores.max()), atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_pointwise_convolution_equals_the_plain_one(stride, bias, memory):
    torch.manual_seed(0)
    ours = convolution(5, 8, 1, stride, bias=bias).double()
    x = torch.randn(3, 5, 7, 6).double().to(memory_format=memory).requires_grad_()
    twin = x.detach().contiguous().requires_grad_()
    weight = torch.randn(3, 8, -(-7 // stride), -(-6 // stride)).double()
    plain = torch.nn.functional.conv2d(twin, ours.weight, ours.bias, stride)
    with torch.no_grad():
        assert torch.allclose(ours(x), plain, atol=1e-14)
    expected = torch.autograd.grad((plain * weight).sum(), [twin, *ours.parameters()])
    for context in (nullcontext(), recording()):
        with context:
            out = ours(x)
        assert torch.allclose(out, plain, atol=1e-14)
        for got, want in zip(torch.autograd.grad((out * weight).sum(), [x, *ours.parameters()]), expected):
            assert torch.allclose(got, want, atol=1e-13)


def test_mean_pool_is_the_mean():
    x = torch.randn(2, 3, 5, 7).contiguous(memory_format=torch.channels_last)
    assert torch.equal(mean_pool(x), x.mean((2, 3), keepdim=True))


def test_folded_network_gives_the_same_logits():
    torch.manual_seed(0)
    net = derive([[0], [3, 0], [4], [1, 2], [3], [2], [0]], 7).train()
    for _ in range(2):
        net(torch.randn(4, 3, 64, 64))
    net.eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        fast = folded(net).to(memory_format=torch.channels_last)
        assert torch.allclose(net(x), fast(x.contiguous(memory_format=torch.channels_last)), atol=1e-5)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fast.modules())


def test_recalibration_is_undone():
    torch.manual_seed(0)
    net = Supernet([1] * 5, 6, 3, SMALL).train()
    path = sample_path(np.random.RandomState(0), [1] * 5)
    before = [b.clone() for b in net.buffers()]
    batches = [torch.randn(4, 3, 32, 32) for _ in range(3)]
    with recalibrated(net, path, batches):
        assert int(net.path_norms(path)[0].num_batches_tracked) == 3
        stem = torch.stack([net.conv_stem(x).mean((0, 2, 3)) for x in batches]).mean(0)
        assert torch.allclose(net.bn1.running_mean, stem, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, net.buffers())) and net.training and net.bn1.momentum == 0.1


def test_randaugment_and_erasing_depend_on_their_stream_alone():
    from PIL import Image

    from papers.cream.data.randaugment import RandAugment
    from papers.cream.data.transforms import Erasing, TrainTransform

    picture = Image.fromarray(np.random.RandomState(0).randint(0, 255, (48, 60, 3)).astype(np.uint8))
    transform = TrainTransform(32, jitter=0.4, augment=RandAugment())
    one, two = (np.asarray(transform(picture, random.Random(5))) for _ in range(2))
    assert one.shape == (32, 32, 3) and (one == two).all()
    batch = torch.zeros(64, 3, 16, 16)
    erased = [Erasing(0.5)(batch.clone(), torch.Generator().manual_seed(1)) for _ in range(2)]
    touched = (erased[0] != 0).flatten(1).any(1).float().mean()
    assert torch.equal(*erased) and 0.3 < touched < 0.7


def test_statistics_of_shares():
    """The rule written plainly: every share runs alone from the statistics before the step; then their mean."""
    torch.manual_seed(0)
    net = Supernet([1] * 5, 6, 3, SMALL).double().train()
    paths = [sample_path(np.random.RandomState(seed), [1] * 5) for seed in (0, 1)]
    images = [torch.randn(n, 3, 32, 32).double() for n in (4, 2)]
    shares = ShareStatistics(net, [4 / 6, 2 / 6])
    copies = [copy.deepcopy(net) for _ in images]
    for path in (*paths, paths[0]):  # the shares take turns, as in a step
        for number, x in enumerate(images):
            assert torch.allclose(shares.run(number, x, path), copies[number](x, path), atol=1e-12)
    shares.finish()
    for (name, b), one, two in zip(net.named_buffers(), copies[0].buffers(), copies[1].buffers(), strict=True):
        mean = one if name.endswith("tracked") else one * 4 / 6 + two * 2 / 6
        assert torch.allclose(b, mean, rtol=1e-12, atol=1e-14), name


def test_a_meta_update_that_diverges_elsewhere_stops_here(monkeypatch):
    """Another process's losses are NaN, this one's are not: both see the mean, so both stop and none waits."""
    torch.manual_seed(0)
    net, rng, board = Supernet([1] * 5, 6, 3, SMALL).train(), np.random.RandomState(0), Board(1)
    board.add(Entry(1.0, 10.0, sample_path(rng, [1] * 5), [torch.randn(3, 3, 32, 32)], [torch.full((3, 6), 1 / 6)]))
    student = student_of(net, sample_path(rng, [1] * 5), torch.randn(8, 3, 32, 32), torch.randint(0, 6, (8,)))
    student.optimizer.lrs = [0.1] * 4

    def reduce(tensors, weight=1.0):
        for t in tensors:
            if t.shape == (2,):  # the two losses
                t.fill_(torch.nan)

    monkeypatch.setattr("common.run.distributed.all_reduce_mean", reduce)
    with pytest.raises(UserError, match="meta update not finite"):
        meta_update(student, board, MetaRules())


class Fixed(list):
    """Batches that are the same in every epoch."""

    def epoch(self, number: int, start: int = 0):
        return self[start:]


def test_a_path_that_a_board_holds_twice_is_scored_once(monkeypatch):
    """The rows, their order and the supernet are those of scoring each."""
    torch.manual_seed(0)
    net = Supernet([1, 1, 1, 1, 1], 6, 3, SMALL).train()
    plain, other = [[0]] * 7, [[0], [0], [1], *[[0]] * 4]
    paths, images = [plain, other, list(plain), other], [torch.randn(4, 3, 32, 32) for _ in range(2)]
    batches = Fixed([(images[0], torch.tensor([0, 1, 2, 0]))])
    space, scored, error = SimpleNamespace(mflops=lambda path: 1.0), [], scoring.path_error
    monkeypatch.setattr(scoring, "path_error", lambda *args: scored.append(1) or error(*args))
    before = copy.deepcopy(net.state_dict())
    once = scoring.score_paths(net, paths, space, (0, 2), images, batches)
    assert len(scored) == 2
    monkeypatch.setattr(scoring, "firsts", lambda items: range(len(list(items))))
    assert scoring.score_paths(net, paths, space, (0, 2), images, batches) == once and len(scored) == 6
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
