"""The unified supernet against supernet_small.npz, supernet_train_step.npz, supernet_full_size.json,
supernet_keys.json."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.train.losses import label_smoothing_cross_entropy as smoothed_cross_entropy
from papers.sgnas.method.supernet_training import PathSGD, supernet_gradients, zero_gradients
from papers.sgnas.networks.architectures import MACROS, SUB_BLOCKS, Macro
from papers.sgnas.networks.fixed_supernet import FixedSupernet
from papers.sgnas.networks.published_keys import supernet_from_published, supernet_to_published
from papers.sgnas.networks.supernet import Supernet


def small(golden):
    stored = golden.npz("supernet_small.npz")
    macro = Macro("golden", tuple(map(tuple, stored["layers"].tolist())), int(stored["stem_stride"]), 12, 4)
    supernet = Supernet(macro, 5)
    supernet.load_state_dict(supernet_from_published(golden.part(stored, "sd/"), supernet))
    return supernet, stored


def test_names_and_counts(golden):
    stored = golden.json("supernet_keys.json")
    for name, classes in (("cifar", 100), ("imagenet", 1000)):
        supernet = Supernet(MACROS[name], classes)
        count = sum(p.numel() for p in supernet.parameters())
        entry = stored["counts"]["cifar100" if name == "cifar" else name]
        skip = sum(SUB_BLOCKS * c * c for c in MACROS[name].in_channels)
        assert count == entry["params"] - skip
        published = supernet_to_published(supernet.state_dict(), supernet)
        # Left out: 6 skip convolutions per layer, and the batch counters of the 25 norms that each layer merges.
        assert len(published) == entry["keys"] - 19 * (6 + 25)
    supernet = Supernet(MACROS["cifar"], 100)
    published = supernet_to_published(supernet.state_dict(), supernet)
    for key, shape in stored["cifar_outside_stages_and_stage0"]:
        if key in published:
            assert list(published[key].shape) == shape
        else:
            assert key.endswith(("blocks.3.weight", "num_batches_tracked")) and key.startswith("stages.")
    channels = MACROS["cifar"].in_channels
    skip = [SUB_BLOCKS * c * c for c in channels]
    # The stored total of dead convolutions also holds the depthwise weights of sub-block 3 (9 + 25 + 49 per
    # channel), whose
    # names match the same pattern "blocks.3.": the parameters per stage below settle the true number, 1,311,744.
    assert sum(skip) + 83 * sum(channels) == stored["skip_conv_params_total"]
    mine = [sum(p.numel() for p in stage.parameters()) for stage in supernet.stages]
    assert [a + b for a, b in zip(mine, skip)] == stored["cifar_params_per_stage"]


def test_single_paths(golden):
    supernet, stored = small(golden)
    x = torch.from_numpy(stored["x"])
    supernet.eval()
    frozen = FixedSupernet(supernet)
    with torch.no_grad():
        for path, logits in zip(stored["paths"].tolist(), stored["eval_logits"]):
            golden.close(supernet(x, path), logits, 1e-5)
            golden.close(frozen.path(x, path), logits, 1e-5)


def test_train_mode(golden):
    supernet, stored = small(golden)
    zero_gradients(supernet)
    path = stored["paths"][int(stored["train_path"])].tolist()
    logits = supernet.train()(torch.from_numpy(stored["x"]), path)
    loss = smoothed_cross_entropy(logits, torch.from_numpy(stored["y"]))
    loss.backward()
    golden.close(logits, stored["train_logits"], 1e-5)
    assert loss.item() == pytest.approx(float(stored["train_loss"]), rel=1e-5)
    gradients = supernet_to_published({n: p.grad for n, p in supernet.named_parameters()}, supernet)
    for key, value in golden.part(stored, "train_grad/").items():
        golden.close(gradients[key], value, 5e-4, key)
    for key in stored["train_grad_none"].tolist():  # merged tensors: such a part has an all-zero gradient
        assert key.endswith("blocks.3.weight") or not gradients[key].any(), key
    assert not set(stored["train_skip_conv_with_grad"].tolist()) & set(gradients)
    assert float(stored["train_skip_conv_grad_absmax"]) == 0
    buffers = supernet_to_published(dict(supernet.named_buffers()), supernet)
    for key, value in golden.part(stored, "train_buf/").items():
        golden.close(buffers[key], value, 1e-5, key)


def test_soft(golden):
    supernet, stored = small(golden)
    frozen = FixedSupernet(supernet.eval())
    for j in range(2):
        part = golden.part(stored, f"soft{j}/")
        p = part["p"].view(3, 6, 4).requires_grad_()
        assert p[..., 3].sum(-1).round().int().tolist() == part["bn_index"].tolist()
        golden.close(p[..., 3].sum(-1), part["skip_sum"], 1e-5)
        logits = frozen.soft(torch.from_numpy(stored["x"]), p)
        loss = smoothed_cross_entropy(logits, torch.from_numpy(stored["y"]))
        loss.backward()
        golden.close(logits, part["logits"], 1e-5)
        assert loss.item() == pytest.approx(float(part["loss"]), rel=1e-5)
        golden.close(p.grad.view(3, 24), part["dloss_dp"], 5e-4)


@pytest.mark.parametrize(("mode", "zero_grad"), [("zero", "zeros"), ("none", "none")])
def test_two_optimiser_steps(golden, mode, zero_grad):
    supernet, _ = small(golden)
    stored = golden.npz("supernet_train_step.npz")
    optimizer = PathSGD(supernet, float(stored["momentum"]), float(stored["weight_decay"]), zero_grad)
    losses = []
    for step in range(2):
        x, y = torch.from_numpy(stored["x"][step]), torch.from_numpy(stored["y"][step])
        paths = stored["paths"][step].tolist()
        losses += [loss.item() for loss in supernet_gradients(supernet.train(), x, y, paths)]
        if step == 0:
            gradients = supernet_to_published({n: p.grad for n, p in supernet.named_parameters()}, supernet)
            for key, value in golden.part(stored, "grad_step0/").items():
                golden.close(gradients[key], value, 5e-4, key)
        optimizer.step(float(stored["lr"][step]), paths)
    golden.close(losses, stored[f"{mode}/losses"], 1e-5)
    tensors = supernet_to_published(supernet.state_dict(), supernet)
    for key, value in golden.part(stored, f"{mode}/final/").items():
        if not key.endswith("blocks.3.weight"):
            golden.close(tensors[key], value, 1e-4, key)
    for key, norm in zip(stored["final_norm_keys"].tolist(), stored[f"{mode}/final_norms"]):
        if not key.endswith("blocks.3.weight"):
            assert float(tensors[key].double().norm()) == pytest.approx(norm, rel=1e-4, abs=1e-6), key


def test_full_size(golden):
    stored = golden.json("supernet_full_size.json")
    supernet = Supernet(MACROS["cifar"], 100).eval()
    published = supernet_to_published(supernet.state_dict(), supernet)
    filled = golden.fill({name: tuple(tensor.shape) for name, tensor in published.items()})
    supernet.load_state_dict(supernet_from_published(filled, supernet))
    x = np.random.RandomState(stored["input_seed"]).standard_normal(stored["input_shape"]).astype(np.float32)
    frozen = FixedSupernet(supernet)
    with torch.no_grad():
        for case in stored["cases"]:
            if case["kind"] == "single_path":
                golden.summary(supernet(torch.from_numpy(x), case["ops"]), case["logits"])
                golden.summary(frozen.path(torch.from_numpy(x), case["ops"]), case["logits"])
            else:
                p = torch.tensor(case["p"]).view(19, 6, 4)
                golden.summary(frozen.soft(torch.from_numpy(x), p), case["logits"])
