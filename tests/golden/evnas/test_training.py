"""Losses, schedules and one training step of the derived networks against the originals' values."""

from __future__ import annotations

import csv
import warnings
from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook

from common.cli.verbs import RunOptions
from common.spaces.darts import train as trainer
from common.spaces.darts.data import TrainingData
from common.spaces.darts.train import drop_path_probability
from common.train.loop import evaluate
from common.train.losses import TopK, label_smoothing_cross_entropy
from papers.evnas import train as training
from papers.evnas.networks.architectures import build
from papers.evnas.settings import Train, TrainImageNet
from papers.evnas.train import rate


def test_losses(golden, close):
    found = golden("losses.npz")
    logits, target = torch.from_numpy(found["logits"]).requires_grad_(), torch.from_numpy(found["targets"]).long()
    loss = label_smoothing_cross_entropy(logits, target, 0.1)
    loss.backward()
    close(loss, found["label_smooth_0p1"])
    close(logits.grad, found["label_smooth_grad"])
    close(functional.cross_entropy(logits, target), found["cross_entropy"])
    counter = TopK()
    counter.add(logits, target)
    _, top1, top5, images = counter.read()
    assert images == len(target)
    assert 100 - top1 == pytest.approx(float(found["top1"]), abs=1e-4)
    assert 100 - top5 == pytest.approx(float(found["top5"]), abs=1e-4)


def test_schedules(golden):
    found = golden("schedules.json")
    cifar, imagenet = Train(), TrainImageNet()
    values = found["cifar_train_lr"]["values"]
    assert [rate(cifar, e) for e in range(len(values))] == pytest.approx(values, abs=1e-12)
    entry = found["cifar_drop_path"]
    assert [
        drop_path_probability(entry["p"], e, entry["epochs"]) for e in range(len(entry["values"]))
    ] == pytest.approx(entry["values"], abs=1e-12)
    for name, settings in (
        ("imagenet_lr_batch256", imagenet),
        ("imagenet_lr_batch1024_lr0.5", TrainImageNet(batch_size=1024, lr=0.5)),
    ):
        values = found[name]["values"]
        assert [rate(settings, e) for e in range(len(values))] == pytest.approx(values, abs=1e-12), name


@pytest.mark.parametrize("batch", [256, 512])
@pytest.mark.parametrize("epochs", [3, 9, 40])
def test_the_cosine_of_imagenet_is_the_released_loop(epochs, batch):
    """The scheduler steps before the first epoch, and warm-up writes into the rate that it goes on from."""
    settings = TrainImageNet(schedule="cosine", epochs=epochs, batch_size=batch)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], settings.lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, float(epochs))
    rates = []
    for epoch in range(epochs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the released order of calls
            scheduler.step()
            current = scheduler.get_lr()[0]
        if epoch < 5 and batch > 256:
            optimizer.param_groups[0]["lr"] = current * (epoch + 1) / 5.0
        rates.append(optimizer.param_groups[0]["lr"])
    assert [rate(settings, e) for e in range(epochs)] == pytest.approx(rates, abs=1e-12)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


class Epochs:
    """Batches by epoch, each as a list of one share; no batch in the epochs that are not named."""

    def __init__(self, batches: dict[int, list]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return 1

    def in_shares(self) -> Epochs:
        return self

    def epoch(self, number: int, start: int = 0):
        return iter([[batch] for batch in self.batches.get(number, [])][start:])


class Judged(Epochs):
    """One batch in every pass."""

    def epoch(self, number: int, start: int = 0):
        return iter(self.batches[0])


@pytest.mark.parametrize("name", ["train_cifar.npz", "train_imagenet.npz"])
def test_one_step(name, golden, fill, rule_input, close, monkeypatch, tmp_path):
    """train() itself, one step of it, in float64 (in float32 a ReLU flips on some processors, and the stem feels it).

    CIFAR: the second of two epochs, after one without a batch; it has the higher error, and its weights are kept.
    ImageNet: the first of six; the second has a higher error, and its weights are not kept.
    """
    found, meta, notes = golden(name), golden("meta.json")["nets"][name], defaultdict(list)
    imagenet, target = "imagenet" in name, torch.from_numpy(found["target"]).long()
    if imagenet:
        x, masks = rule_input("itrain:EvNASB", (2, 3, 224, 224)).double(), None
    else:
        x, masks = torch.from_numpy(found["input"]).double(), list(torch.from_numpy(found["drop_masks"]).double())
    batches = {0: [(x, target)], 1: [(x, target)]} if imagenet else {1: [(x, target)]}

    def built(*args, **kwargs):
        network = fill(build(*args, **kwargs), meta["salt"]).double()
        forward = network.forward
        network.forward = lambda images: (
            notes["output"].append(forward(images, masks if network.training else None)) or notes["output"][-1]
        )
        notes["model"].append(network)
        return network

    def evaluated(*args):
        notes["tested"].append(evaluate(*args))
        error = {1: 30.0, 2: 50.0}.get(len(notes["tested"]), 40.0)
        return replace(notes["tested"][-1], top1_error=error)

    data = TrainingData(
        Epochs(batches), {"test": Judged({0: [(x, target)]})}, tuple(map(str, range(meta["num_classes"]))),
        x.shape[-1], {}, True,
    )  # fmt: skip
    for owner, attribute, function in (
        (training, "open_data", lambda *_: data), (training, "build", built), (trainer, "evaluate", evaluated)
    ):  # fmt: skip
        monkeypatch.setattr(owner, attribute, function)
    sizes = {"arch": meta["arch"], "dataset": "given", "channels": meta["C"], "layers": meta["layers"]}
    settings = TrainImageNet(**sizes, epochs=6) if imagenet else Train(**sizes, epochs=2, lr=0.05, drop_path=0.5)
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: notes["cut"].append(
        [p.grad.clone() for p in optimizer.param_groups[0]["params"]]
    ))  # fmt: skip
    options = RunOptions(out=tmp_path, device="cpu", paper="evnas", section="train")
    try:
        result = training.train(settings, options)
    finally:
        hook.remove()

    step, network = 0 if imagenet else 1, notes["model"][0]
    logits, auxiliary = notes["output"][step]  # CIFAR: the test after the epoch without a batch comes first
    close(logits, found["logits_train"])
    close(auxiliary, found["logits_aux"])
    with (tmp_path / "history.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert float(rows[step]["lr"]) == pytest.approx(0.1 if imagenet else 0.025, rel=1e-12)
    assert float(rows[step]["train_loss"]) == pytest.approx(float(found["loss_total"]), abs=1e-5)
    names = [key for key, _ in network.named_parameters()]
    scale = float(found["grad_norm"]) / 5.0  # gradients are cut to norm 5
    assert scale > 2
    gradients = {k.removeprefix("grad/"): v for k, v in found.items() if k.startswith("grad/")}
    assert gradients
    for key, value in gradients.items():
        close(notes["cut"][0][names.index(key)] * scale, value, key)
    whole = sum(float(g.pow(2).sum()) for g in notes["cut"][0]) ** 0.5
    assert whole == pytest.approx(5.0, rel=1e-4)
    state = network.state_dict()
    for key, value in found.items():
        if key.startswith(("after/", "stats/")):
            close(state[key.split("/", 1)[1]], value, key)
    network.eval()
    with torch.no_grad():
        logits = network(x)[0]
    plain = float(functional.cross_entropy(logits, target))  # tests smooth no labels
    tested = [float(row["test_loss"]) for row in rows]
    assert (tested[0] if imagenet else tested[-1]) == pytest.approx(plain, rel=1e-5)
    if "logits_eval_next" in found:
        close(logits, found["logits_eval_next"])
    assert (result["metrics"]["best_epoch"], result["metrics"]["best_top1_error_percent"]) == (0, 30.0)
    assert result["metrics"]["top1_error_percent"] == (40.0 if imagenet else 50.0)
