"""Golden: RMSpropTF, EMA, retraining schedules, and five steps of the training itself."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from common.cli.verbs import RunOptions
from common.data.sets import Images
from common.train.optim import EMA, RMSpropTF
from common.weights.read import load_tensors
from papers.cream import train as stage
from papers.cream.method.schedules import training_lr
from papers.cream.networks.layout import Layout, network_spec
from papers.cream.networks.networks import DerivedNetwork
from papers.cream.settings import Train


def test_rmsprop_tf(golden):
    arrays = golden.load("losses_optim_ema.npz")
    w, b = (nn.Parameter(torch.from_numpy(arrays[f"rms/{name}0"])) for name in "wb")
    optimizer = RMSpropTF(
        [{"params": [w], "weight_decay": 1e-2}, {"params": [b], "weight_decay": 0.0}], alpha=0.9, eps=1e-3, momentum=0.9
    )
    for k in range(6):
        w.grad, b.grad = (torch.from_numpy(arrays[f"rms/g{name}{k}"]) for name in "wb")
        for group in optimizer.param_groups:
            group["lr"] = 0.064 * (1 - k / 10)
        optimizer.step()
        assert np.allclose(w.detach(), arrays[f"rms/w{k + 1}"], rtol=0, atol=1e-9)
        assert np.allclose(b.detach(), arrays[f"rms/b{k + 1}"], rtol=0, atol=1e-9)


def test_ema(golden):
    arrays = golden.load("losses_optim_ema.npz")
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))

    def put(prefix):
        model.load_state_dict(
            {k: torch.from_numpy(arrays[f"{prefix}/{k}"]).reshape(v.shape) for k, v in model.state_dict().items()}
        )

    put("ema/0")
    ema = EMA(model, float(arrays["ema/decay"]))
    for k in range(1, 9):
        put(f"ema/model{k}")
        ema.update(model)
        for name, value in ema.state_dict().items():
            assert np.allclose(value, arrays[f"ema/after{k}/{name}"], rtol=0, atol=1e-6), (k, name)


@pytest.mark.parametrize("case", ["cosine_500", "step_500", "retrain_yaml_none"])
def test_learning_rates(golden, case):
    row = golden.load("schedules.json")[case]
    settings = Train(
        schedule={"cosine": "cosine", "step": "step", "sgd": "none"}[row["sched"]], lr=row["lr"], epochs=row["epochs"],
        warmup_lr=row["warmup_lr"], warmup_epochs=row["warmup_epochs"], decay_epochs=row["decay_epochs"],
        decay_rate=row["decay_rate"], lr_min=row["min_lr"], cooldown=row["cooldown"],
    )  # fmt: skip
    rate, epochs = training_lr(settings, "287")
    assert epochs == row["num_epochs"]
    for epoch, lr in row["lr_per_epoch"].items():
        assert rate(int(epoch)) == pytest.approx(lr, rel=1e-9)


def test_train_trace(golden, monkeypatch, tmp_path):
    """Five epochs of one stored batch through ``train`` itself: losses, rates, raw and averaged weights; in float64."""
    info, arrays = golden.load("train_trace.json"), golden.load("train_trace.npz")
    told, steps = info["settings"], info["steps"]
    layout = Layout(stem=8, first=8, widths=(16, 24, 24, 32, 40), last=24, features=48)
    spec = network_spec([[0], [3, 0], [4], [1, 2], [3], [2], [0]], 7, layout, single_block_default=False)
    stored, made, norms = golden.weights(golden.load("child_tiny.npz"), torch.float64), [], []

    def network(*arguments):
        made.append(DerivedNetwork(spec).double())
        made[-1].load_state_dict(stored)
        return made[-1]

    class Batches:
        """The batch of an epoch, or the three images that are tested."""

        def __init__(self, tested):
            self.tested = tested

        def __len__(self):
            return 1

        def in_shares(self):
            return self

        def epoch(self, number, start=0):
            if self.tested:
                yield golden.normal(3101, (3, 3, 32, 32)).double(), torch.tensor([0, 3, 5])
            else:
                yield [(golden.normal(3001 + number, (6, 3, 32, 32)).double(), golden.integers(4001 + number, 7, 6))]

    norm = lambda values: float(torch.sqrt(sum((v.detach().double() ** 2).sum() for v in values)))
    errors = stage.Training.errors

    def measured(self, *rest):
        names = [name for name, _ in self.net.named_parameters()]
        norms.append([norm(self.net.parameters()), norm(self.ema.state_dict()[name] for name in names)])
        assert [[len(g["params"]), g["weight_decay"]] for g in self.optimizer.param_groups] == info["param_groups"]
        return errors(self, *rest)

    images = Images(
        torch.zeros(12, 3, 32, 32, dtype=torch.uint8), torch.arange(12) % 7, tuple("abcdefg"), "digits", True
    )
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)  # float32 losses would round the gradients
    monkeypatch.setattr(stage.sets, "open_source", lambda *a: images)
    monkeypatch.setattr(stage, "training_batches", lambda *a: Batches(False))
    monkeypatch.setattr(stage, "testing_batches", lambda *a: Batches(True))
    monkeypatch.setattr(stage, "training_lr", lambda *a: (lambda epoch: steps[epoch]["lr"], 5))
    monkeypatch.setattr(stage, "DerivedNetwork", network)
    monkeypatch.setattr(stage.Training, "errors", measured)
    settings = Train(
        arch="[[0],[3,0],[4],[1,2],[3],[2],[0]]", dataset="digits", resolution=32, batch_size=6, parts=1, epochs=5,
        schedule="none", alpha=told["alpha"], optimizer_eps=told["eps"], momentum=told["momentum"],
        weight_decay=told["weight_decay"], ema_decay=told["ema_decay"], label_smoothing=told["smoothing"], dropout=0.0,
    )  # fmt: skip
    result = stage.train(settings, RunOptions(out=tmp_path, device="cpu", paper="cream", section="train"))
    with (tmp_path / "history.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    for row, want, (raw, average) in zip(rows, steps, norms, strict=True):
        assert (float(row["lr"]), float(row["train_loss"])) == pytest.approx((want["lr"], want["loss"]), rel=1e-8)
        assert (raw, average) == pytest.approx((want["param_l2"], want["ema_l2"]), rel=1e-8)
    ema, raw = (load_tensors(tmp_path / f"weights{part}.safetensors") for part in ("", "_raw"))
    for name, value in info["final_l2"].items():
        assert float(raw[name].norm()) == pytest.approx(value, rel=1e-8), name
    assert int(ema["bn1.num_batches_tracked"]) == info["ema_num_batches"]
    assert np.allclose(raw["conv_stem.weight"], arrays["conv_stem"], rtol=0, atol=1e-8)
    assert np.allclose(raw["classifier.bias"], arrays["classifier_bias"], rtol=0, atol=1e-8)
    assert np.allclose(ema["bn1.running_var"], arrays["ema_bn1_running_var"], rtol=0, atol=1e-8)
    net, x = network().eval(), golden.normal(3101, (3, 3, 32, 32)).double()
    for weights, name in ((raw, "eval_logits_model"), (ema, "eval_logits_ema")):
        net.load_state_dict(weights)
        with torch.no_grad():
            assert np.allclose(net(x), arrays[name], rtol=0, atol=1e-8)
    logits = torch.from_numpy(arrays["eval_logits_ema"])
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 3, 5]))
    assert result["metrics"]["loss"] == pytest.approx(float(loss), rel=1e-8)
