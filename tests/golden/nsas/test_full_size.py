"""Published networks at full size, filled by rule (no stored weights)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from common.spaces.darts.network import derived
from common.train.loop import auxiliary_loss
from papers.nsas.networks.architectures import CNN
from papers.nsas.train import loss_function

CIFAR = {
    "Random_NSAS_cifar_C36_L20_K10": ("Random_NSAS", 10, 36, 20),
    "Random_NSAS_C_cifar_C36_L20_K100": ("Random_NSAS_C", 100, 36, 20),
    "XNAS_cifar_C16_L8_K10": ("XNAS", 10, 16, 8),
}
IMAGENET = {
    "Random_NSAS_C_imagenet_C50_L14": ("Random_NSAS_C", 50, 14),
    "Random_NSAS_imagenet_C48_L14": ("Random_NSAS", 48, 14),
}


def filled(golden, key, precision=torch.float32):
    """(network of a CIFAR entry, wave, targets)."""
    want, (name, classes, channels, layers) = golden.json("cnn_full_size.json")[key], CIFAR[key]
    model = derived(CNN[name], False, classes, channels, layers, auxiliary=True)
    x, y = golden.wave((want["batch"], 3, 32, 32), want.get("wave_a", 0.7)), torch.tensor(want["targets"])
    return golden.fill(model, want["fill_seed"]).to(precision), x.to(precision), y


def total_norm(model) -> torch.Tensor:
    return torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()


@pytest.mark.parametrize("key", CIFAR)
def test_cifar(golden, key):
    """Evaluation in both precisions; training in float64, beside which float32 is only noise of deep batch norms."""
    want = golden.json("cnn_full_size.json")[key]
    sharp = want["f64"]
    model, x, y = filled(golden, key)
    with torch.no_grad():
        golden.close(model.eval()(x)[0], want["eval_logits"], 1e-5)
    model, x, y = filled(golden, key, torch.float64)
    with torch.no_grad():
        golden.close(model.eval()(x)[0], sharp["eval_logits"], 1e-9)
    logits, auxiliary = model.train()(x)
    main, side = F.cross_entropy(logits, y), F.cross_entropy(auxiliary, y)
    (main + 0.4 * side).backward()
    norm = total_norm(model)
    golden.close(logits, sharp["train_logits"], 1e-8)
    golden.close(auxiliary, sharp["train_aux_logits"], 1e-8)
    golden.close(main + 0.4 * side, sharp["loss_total"], 1e-8)
    golden.close(norm, sharp["grad_norm"], 1e-6)
    # the authors' float32 run
    golden.close(auxiliary, want["train_aux_logits"], 2e-3)
    golden.close(main, want["loss_main"], 2e-3)
    golden.close(side, want["loss_aux"], 2e-3)
    golden.close(main + 0.4 * side, want["loss_total"], 2e-3)
    golden.close(norm, want["grad_norm"], 0.03)
    golden.close(model.stem[0].weight.grad.norm(), want["grad_stem0"], 0.03)
    golden.close(model.classifier.weight.grad.norm(), want["grad_classifier"], 0.03)


@pytest.mark.parametrize("key", CIFAR)
def test_cifar_trained_in_float32(golden, key):
    want = golden.json("cnn_full_size.json")[key]
    model, x, _ = filled(golden, key)
    with torch.no_grad():
        logits, auxiliary = model.train()(x)
    golden.close(logits, want["train_logits"], 2e-3)
    golden.close(auxiliary, want["train_aux_logits"], 2e-3)


def test_imagenet_in_training(golden):
    """A small ImageNet network with label smoothing on both outputs."""
    want = golden.json("cnn_full_size.json")["train_Random_NSAS_C_imagenet_C8_L4"]
    model = derived(CNN["Random_NSAS_C"], True, 1000, 8, 4, auxiliary=True)
    model = golden.fill(model, want["fill_seed"]).train()
    logits, auxiliary = model(golden.wave((want["batch"], 3, 224, 224), want["wave_a"]))
    loss_of = loss_function(want["label_smooth"])
    y = torch.tensor(want["targets"])
    main, side = loss_of(logits, y), loss_of(auxiliary, y)
    total = auxiliary_loss(loss_of, 0.4)((logits, auxiliary), y)
    total.backward()
    for found, key in ((main, "loss_main"), (side, "loss_aux"), (total, "loss_total")):
        golden.close(found, want[key], 2e-4)
    golden.close(logits[:, :5], want["logits_first5"], 2e-4)
    golden.close(auxiliary[:, :5], want["aux_first5"], 2e-4)
    golden.close(total_norm(model), want["grad_norm"], 1e-3)


@pytest.mark.parametrize("key", IMAGENET)
def test_imagenet(golden, key):
    want, (name, channels, layers) = golden.json("cnn_full_size.json")[key], IMAGENET[key]
    model = golden.fill(derived(CNN[name], True, 1000, channels, layers, auxiliary=True), want["fill_seed"]).eval()
    with torch.no_grad():
        logits = model(golden.wave((1, 3, 224, 224), want["wave_a"]))[0][0]
    golden.close(logits[:20], want["eval_logits_first20"], 1e-5)
    assert float(logits.sum()) == pytest.approx(want["eval_logits_sum"], rel=1e-4)
    assert float(logits.norm()) == pytest.approx(want["eval_logits_norm"], rel=1e-5)
    assert int(logits.argmax()) == want["argmax"]
