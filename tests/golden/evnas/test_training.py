"""Losses, schedules and one training step of the derived networks against the originals' values."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn import functional

from common.spaces.darts.train import drop_path_probability
from common.train.losses import TopK, label_smoothing_cross_entropy
from papers.evnas.networks.architectures import build, load_genotype
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


@pytest.mark.parametrize("name", ["train_cifar.npz", "train_imagenet.npz"])
def test_one_step(name, golden, fill, rule_input, close):
    found, meta = golden(name), golden("meta.json")["nets"][name]
    imagenet = "imagenet" in name
    network = build(
        load_genotype(meta["arch"]), imagenet, meta["num_classes"], meta["C"], meta["layers"], meta["auxiliary"]
    )
    fill(network, meta["salt"]).double().train()  # in float32 a ReLU flips on some processors, and the stem feels it
    network.drop_path_prob = meta["drop_path_prob"]
    if imagenet:
        x, masks, weight_decay, lr = rule_input("itrain:EvNASB", (2, 3, 224, 224)).double(), None, 3e-5, 0.1
    else:
        x, weight_decay, lr = torch.from_numpy(found["input"]).double(), 3e-4, 0.025
        masks = list(torch.from_numpy(found["drop_masks"]).double())
    target = torch.from_numpy(found["target"]).long()
    smoothing = meta.get("label_smooth", 0.0)
    optimizer = torch.optim.SGD(network.parameters(), lr, momentum=0.9, weight_decay=weight_decay)
    logits, auxiliary = network(x, masks)
    main = label_smoothing_cross_entropy(logits, target, smoothing)
    side = label_smoothing_cross_entropy(auxiliary, target, smoothing)
    loss = main + 0.4 * side
    loss.backward()
    close(logits, found["logits_train"])
    close(auxiliary, found["logits_aux"])
    for value, key in ((main, "loss_main"), (side, "loss_aux"), (loss, "loss_total")):
        close(value, found[key], key)
    named = dict(network.named_parameters())
    gradients = {k.removeprefix("grad/"): v for k, v in found.items() if k.startswith("grad/")}
    assert gradients
    for key, value in gradients.items():
        close(named[key].grad, value, key)
    close(torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0), found["grad_norm"])
    optimizer.step()
    state = network.state_dict()
    for key, value in found.items():
        if key.startswith(("after/", "stats/")):
            close(state[key.split("/", 1)[1]], value, key)
    if "logits_eval_next" in found:
        network.eval()
        with torch.no_grad():
            close(network(x)[0], found["logits_eval_next"])
