"""Schedules, losses, optimisers, averages, training and evaluation loops, each against a plain formula."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.errors import UserError
from common.train import schedules
from common.train.loop import Metrics, auxiliary_loss, evaluate, gradients, read, train_step
from common.train.losses import TopK, label_smoothing_cross_entropy, soft_target_cross_entropy
from common.train.optim import EMA, RMSpropTF, clip, without_decay, zero_fill_grads


def test_schedules():
    s = schedules
    assert [s.cosine(0.025, 0.001, e, 50) for e in (0, 25, 50)] == pytest.approx([0.025, 0.013, 0.001])
    assert s.cosine(0.1, 0, 3, 0) == 0.1 and s.cosine_then_minimum(0.1, 0.01, 60, 50) == 0.01
    assert [s.linear(1.0, t, 10) for t in (0, 5, 10, 11)] == [1.0, 0.5, 0.0, 0.0]
    assert s.linear_then_slow(0.1, 0, 250) == 0.1 and s.linear_then_slow(0.1, 244, 250) == pytest.approx(0.1 / 245)
    assert s.linear_then_slow(0.1, 245, 250) == pytest.approx(0.1 / 245)
    assert s.linear_then_slow(0.1, 249, 250) == pytest.approx(0.1 / (245 * 5))
    assert s.exponential(0.1, 0.97, 2) == pytest.approx(0.1 * 0.97**2)
    assert [s.step_decay(1.0, 0.5, e, 2.4) for e in (0, 2, 3, 5)] == [1.0, 1.0, 0.5, 0.25]
    assert [s.warm_up_factor(e, 5) for e in (0, 4, 5)] == [0.2, 1.0, 1.0]
    assert s.warm_up(0.0, 0.3, 1, 3, 9.0) == pytest.approx(0.1) and s.warm_up(0.0, 0.3, 3, 3, 9.0) == 9.0
    with pytest.raises(ValueError, match="more than 5"):
        s.linear_then_slow(0.1, 0, 5)


def test_label_smoothing_and_soft_targets():
    torch.manual_seed(0)
    logits, target = torch.randn(6, 5, dtype=torch.float64), torch.randint(5, (6,))
    soft = torch.full((6, 5), 0.1 / 5, dtype=torch.float64)
    soft[torch.arange(6), target] += 0.9
    by_hand = -(soft * logits.log_softmax(1)).sum(1).mean()
    assert label_smoothing_cross_entropy(logits, target, 0.1).item() == pytest.approx(by_hand.item(), abs=1e-12)
    assert soft_target_cross_entropy(logits, soft).item() == pytest.approx(by_hand.item(), abs=1e-12)
    assert torch.equal(label_smoothing_cross_entropy(logits, target, 0.0), F.cross_entropy(logits, target))


def test_error_counters():
    counter = TopK()
    logits = torch.eye(8)[:4] * 9 + torch.arange(8.0)
    counter.add(logits, torch.tensor([0, 1, 7, 0]), torch.tensor(2.0))
    counter.add(logits[:2], torch.tensor([0, 1]), torch.tensor(5.0))
    loss, top1, top5, images = counter.read()
    assert (loss, images) == (pytest.approx(3.0), 6)
    assert top1 == pytest.approx(100 * (1 - 4 / 6)) and top5 == pytest.approx(100 * (1 - 5 / 6))
    other = TopK()
    other.load_state_dict(counter.state_dict())
    assert other.read() == counter.read()


def test_the_sixth_guess_is_a_miss():
    counter = TopK()
    counter.add(torch.arange(8.0, 0.0, -1.0).expand(8, 8), torch.arange(8))  # the target is the first, second, … guess
    assert counter.read()[1:] == (pytest.approx(100 * 7 / 8), pytest.approx(100 * 3 / 8), 8)


@pytest.mark.parametrize("classes", [3, 5, 6])
def test_a_top5_error_that_says_nothing_is_left_out(classes):
    counter = TopK()
    counter.add(torch.eye(classes), torch.arange(classes))
    counter.add(torch.empty(0, classes), torch.empty(0, dtype=torch.int64), torch.tensor(float("nan")))  # no images
    loss, top1, top5, images = counter.read()
    assert (loss, top1, top5, images) == (0.0, 0.0, 0.0 if classes == 6 else None, classes)
    again = TopK()
    again.load_state_dict(counter.state_dict())
    assert ("top5_error_percent" in Metrics(*again.read()).as_dict()) is (classes == 6)


def test_parts_of_a_batch_follow_the_rule_of_batch_normalisation():
    """Statistics are the weighted mean of what each share made of those before the step; gradients are per image."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)).double()
    plain = copy.deepcopy(model)
    x, y = torch.randn(5, 3, 2, 2).double(), torch.randint(3, (5,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    shares = [(x[:3], y[:3]), (x[3:4], y[3:4]), (x[4:], y[4:]), (x[5:], y[5:])]
    train_step(model, shares, optimizer, F.cross_entropy)

    start, means, variances = copy.deepcopy(plain.state_dict()), 0, 0
    for a, b in shares[:3]:
        plain.load_state_dict({**plain.state_dict(), **{k: v for k, v in start.items() if "running" in k}})
        (F.cross_entropy(plain(a), b) * len(b) / 5).backward()
        means, variances = means + plain[1].running_mean * len(b) / 5, variances + plain[1].running_var * len(b) / 5
    assert torch.allclose(model[1].running_mean, means, atol=1e-15)
    assert torch.allclose(model[1].running_var, variances, atol=1e-15)
    assert model[1].num_batches_tracked == 1
    for a, b in zip(model.parameters(), plain.parameters()):
        assert torch.allclose(a, b - 0.1 * b.grad, atol=1e-14)


def test_rmsprop_as_in_tensorflow():
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(3, dtype=torch.float64))
    still = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = RMSpropTF([{"params": [w, still], "weight_decay": 0.01}], lr=0.1, alpha=0.9, eps=1e-3, momentum=0.9)
    s, b, expected = torch.ones(3).double(), torch.zeros(3).double(), w.detach().clone()
    for step in range(4):
        grad = torch.randn(3, dtype=torch.float64)
        w.grad = grad.clone()
        optimizer.param_groups[0]["lr"] = lr = 0.1 / (step + 1)
        optimizer.step()
        g = grad + 0.01 * expected
        s = s + 0.1 * (g * g - s)
        b = 0.9 * b + lr * g / (s + 1e-3).sqrt()
        expected = expected - b
        assert torch.allclose(w, expected, atol=1e-14)
        assert torch.equal(w.grad, grad)
    assert torch.equal(still, torch.ones(2).double())


def test_average_of_weights_and_statistics():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = EMA(model, 0.9)
    expected = {k: v.clone() for k, v in model.state_dict().items()}
    for _ in range(3):
        model(torch.randn(4, 2))
        with torch.no_grad():
            model[0].weight.add_(1)
        ema.update(model)
        for key, value in model.state_dict().items():
            mixed = 0.9 * expected[key] + (1 - 0.9) * value
            expected[key] = mixed.to(value.dtype)
    assert all(torch.allclose(ema.values[k].float(), expected[k].float(), atol=1e-6) for k in expected)
    copy = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema.copy_to(copy)
    again = EMA(copy, 0.9)
    again.load_state_dict(ema.state_dict())
    assert torch.equal(copy[0].weight, ema.values["0.weight"]) and torch.equal(again.values["0.weight"], copy[0].weight)


def test_zero_filled_gradients_keep_momentum_and_decay_moving():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([used, unused], lr=0.1, momentum=0.9, weight_decay=0.5)
    (used.sum() + unused.sum()).backward()
    optimizer.step()
    before = unused.detach().clone()
    optimizer.zero_grad()
    used.sum().backward()
    given = used.grad.clone()
    zero_fill_grads([used, unused])
    assert torch.equal(used.grad, given) and torch.equal(unused.grad, torch.zeros(2))
    optimizer.step()
    momentum = 0.9 * 1.5 + 0.5 * before
    assert torch.allclose(unused, before - 0.1 * momentum)


def test_groups_and_clip():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    free, rest = without_decay(model, 0.1)
    assert len(free["params"]) == 3 and free["weight_decay"] == 0 and rest["weight_decay"] == 0.1
    p = nn.Parameter(torch.zeros(4))
    p.grad = torch.full((4,), 3.0)
    assert clip([p], 0) is None
    assert clip([p], 1.0).item() == pytest.approx(6.0) and p.grad.norm().item() == pytest.approx(1.0, abs=1e-5)


class WithAuxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.auxiliary_head = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        hidden = self.body(x).relu()
        return self.head(hidden), self.auxiliary_head(hidden) if self.training else None


def batches(n=3):
    g = torch.Generator().manual_seed(5)
    return [(torch.randn(8, 4, generator=g), torch.randint(3, (8,), generator=g)) for _ in range(n)]


def train_epoch(model, batches, optimizer, loss_of, ema=None, **options):
    model.train()
    counter = TopK("cpu")
    for batch in batches:
        train_step(model, batch, optimizer, loss_of, counter=counter, **options)
        if ema is not None:
            ema.update(model)
    return read(counter)


def test_an_epoch_equals_the_plain_loop():
    torch.manual_seed(0)
    model, plain = WithAuxiliary(), WithAuxiliary()
    plain.load_state_dict(model.state_dict())
    a = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    b = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    ema = EMA(model, 0.5)
    metrics = train_epoch(model, batches(), a, auxiliary_loss(F.cross_entropy, 0.4), ema, clip_norm=0.1)
    losses = []
    for x, y in batches():
        b.zero_grad()
        logits, auxiliary = plain(x)
        loss = F.cross_entropy(logits, y) + 0.4 * F.cross_entropy(auxiliary, y)
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
        b.step()
        losses.append(loss.item())
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in model.state_dict().items())
    assert metrics.loss == pytest.approx(sum(losses) / 3) and metrics.images == 24
    assert set(metrics.as_dict()) == {"loss", "top1_error_percent"}


def test_gradients_of_shares_are_those_of_the_whole_batch():
    torch.manual_seed(0)
    model = WithAuxiliary().double().eval()
    x, y = torch.randn(10, 4, dtype=torch.float64), torch.randint(3, (10,))
    found = []
    for batch in ((x, y), [(x[:3], y[:3]), (x[3:3], y[3:3]), (x[3:], y[3:])]):
        model.zero_grad()
        loss = gradients(model, batch, lambda inputs, target: F.cross_entropy(model(inputs)[0], target))
        found.append((loss, model.body.weight.grad.clone()))
    assert found[0][0] == pytest.approx(F.cross_entropy(model(x)[0], y).item()) == pytest.approx(found[1][0])
    assert torch.allclose(found[0][1], found[1][1])


def test_a_counter_is_kept_as_a_module_is_and_emptied_where_it_is_read():
    counter, other = TopK(), TopK()
    counter.add(torch.eye(7), torch.tensor([0, 1, 2, 3, 4, 5, 0]), torch.tensor(2.0))
    other.load_state_dict(counter.state_dict())
    assert read(other) == read(counter) and read(counter).images == 0


def test_a_non_finite_loss_stops_before_the_update():
    model = WithAuxiliary().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    bad = (torch.full((8, 4), math.nan), torch.zeros(8, dtype=torch.int64))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(UserError, match="loss is nan at epoch 2, step 6"):
        train_step(model, bad, optimizer, auxiliary_loss(F.cross_entropy, 0), epoch=2, step=6)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_evaluation():
    torch.manual_seed(0)
    model = WithAuxiliary().train()
    metrics = evaluate(model, batches())
    assert model.training
    model.eval()
    x, y = (torch.cat(t) for t in zip(*batches()))
    logits = model(x)[0]
    expected = 100 * (logits.argmax(1) != y).double().mean().item()
    assert metrics.top1_error == pytest.approx(expected) and metrics.images == 24
    assert metrics.loss == pytest.approx(F.cross_entropy(logits, y).item(), abs=1e-6)
    assert evaluate(model, batches(), forward=lambda x: model(x)[0]) == metrics
    assert isinstance(metrics, Metrics)
    with pytest.raises(UserError, match="no images"):
        evaluate(model, [])


def test_evaluation_takes_the_running_statistics_and_moves_none():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).train()
    model[1].running_mean.normal_()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = evaluate(model, batches())
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    x, y = (torch.cat(t) for t in zip(*batches()))
    assert found.loss == pytest.approx(F.cross_entropy(model.eval()(x), y).item(), abs=1e-6)


def test_bf16_is_opt_in():
    model = WithAuxiliary()
    metrics = train_epoch(
        model, batches(), torch.optim.SGD(model.parameters(), 0.1), auxiliary_loss(F.cross_entropy, 0.4),
        precision="bf16",
    )  # fmt: skip
    assert math.isfinite(metrics.loss) and model.body.weight.dtype is torch.float32
    assert math.isfinite(evaluate(model, batches(), precision="bf16").loss)
