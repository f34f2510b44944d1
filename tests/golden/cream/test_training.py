"""Golden: RMSpropTF, EMA, retraining schedules, and five training steps of a small network."""

import numpy as np
import pytest
import torch
from torch import nn

from common.train.losses import label_smoothing_cross_entropy
from common.train.optim import EMA, RMSpropTF, without_decay
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


def test_train_trace(golden):
    info, arrays = golden.load("train_trace.json"), golden.load("train_trace.npz")
    settings = info["settings"]
    layout = Layout(stem=8, first=8, widths=(16, 24, 24, 32, 40), last=24, features=48)
    spec = network_spec([[0], [3, 0], [4], [1, 2], [3], [2], [0]], 7, layout, single_block_default=False)
    net = DerivedNetwork(spec).double()
    net.load_state_dict(golden.weights(golden.load("child_tiny.npz"), torch.float64))
    ema = EMA(net, settings["ema_decay"])
    groups = without_decay(net, settings["weight_decay"])
    assert [[len(g["params"]), g["weight_decay"]] for g in groups] == info["param_groups"]
    optimizer = RMSpropTF(groups, alpha=settings["alpha"], eps=settings["eps"], momentum=settings["momentum"])
    norm = lambda values: float(torch.sqrt(sum((v.double() ** 2).sum() for v in values)))
    net.train()
    for k, want in enumerate(info["steps"]):
        x, y = golden.normal(3001 + k, (6, 3, 32, 32)).double(), golden.integers(4001 + k, 7, 6)
        for group in optimizer.param_groups:
            group["lr"] = want["lr"]
        optimizer.zero_grad()
        loss = label_smoothing_cross_entropy(net(x), y, settings["smoothing"])
        loss.backward()
        optimizer.step()
        ema.update(net)
        assert float(loss) == pytest.approx(want["loss"], rel=1e-8)
        names = [name for name, _ in net.named_parameters()]
        assert norm(p.detach() for p in net.parameters()) == pytest.approx(want["param_l2"], rel=1e-8)
        assert norm(ema.state_dict()[name] for name in names) == pytest.approx(want["ema_l2"], rel=1e-8)
    for name, value in info["final_l2"].items():
        assert float(net.state_dict()[name].norm()) == pytest.approx(value, rel=1e-8), name
    assert int(ema.state_dict()["bn1.num_batches_tracked"]) == info["ema_num_batches"]
    x = golden.normal(3101, (3, 3, 32, 32)).double()
    net.eval()
    with torch.no_grad():
        assert np.allclose(net(x), arrays["eval_logits_model"], rtol=0, atol=1e-8)
        assert np.allclose(net.conv_stem.weight, arrays["conv_stem"], rtol=0, atol=1e-8)
        assert np.allclose(net.classifier.bias, arrays["classifier_bias"], rtol=0, atol=1e-8)
        assert np.allclose(ema.state_dict()["bn1.running_var"], arrays["ema_bn1_running_var"], rtol=0, atol=1e-8)
        ema.copy_to(net)
        assert np.allclose(net(x), arrays["eval_logits_ema"], rtol=0, atol=1e-8)
