"""Published networks at full size, filled by rule (no stored weights)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from papers.nsas.architectures import CNN
from papers.nsas.networks import build_derived

CIFAR = {
    "Random_NSAS_cifar_C36_L20_K10": ("Random_NSAS", 10, 36, 20),
    "Random_NSAS_C_cifar_C36_L20_K100": ("Random_NSAS_C", 100, 36, 20),
    "XNAS_cifar_C16_L8_K10": ("XNAS", 10, 16, 8),
}
IMAGENET = {
    "Random_NSAS_C_imagenet_C50_L14": ("Random_NSAS_C", 50, 14),
    "Random_NSAS_imagenet_C48_L14": ("Random_NSAS", 48, 14),
}


@pytest.mark.parametrize("key", CIFAR)
def test_cifar(golden, key):
    want, (name, classes, channels, layers) = golden.json("cnn_full_size.json")[key], CIFAR[key]
    model = golden.fill(
        build_derived(CNN[name], "cifar10", classes, channels, layers, auxiliary=True), want["fill_seed"]
    )
    x, y = golden.wave((want["batch"], 3, 32, 32), want.get("wave_a", 0.7)), torch.tensor(want["targets"])
    with torch.no_grad():
        golden.close(model.eval()(x)[0], want["eval_logits"], 1e-5)
        model.train().double()
        logits, auxiliary = model(x.double())
    loss = F.cross_entropy(logits, y) + 0.4 * F.cross_entropy(auxiliary, y)
    golden.close(loss, want["loss_total"], 2e-3)
    golden.close(logits, want["train_logits"], 2e-3 * (5 if layers == 20 else 1))


@pytest.mark.parametrize("key", IMAGENET)
def test_imagenet(golden, key):
    want, (name, channels, layers) = golden.json("cnn_full_size.json")[key], IMAGENET[key]
    model = golden.fill(
        build_derived(CNN[name], "imagenet", 1000, channels, layers, auxiliary=True), want["fill_seed"]
    ).eval()
    with torch.no_grad():
        logits = model(golden.wave((1, 3, 224, 224), want["wave_a"]))[0][0]
    golden.close(logits[:20], want["eval_logits_first20"], 1e-5)
    assert float(logits.sum()) == pytest.approx(want["eval_logits_sum"], rel=1e-4)
    assert int(logits.argmax()) == want["argmax"]
