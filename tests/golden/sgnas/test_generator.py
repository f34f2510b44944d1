"""Look-up, architecture parameters, priors, sampling, generator, losses and schedules against their golden files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from common.train.losses import label_smoothing_cross_entropy as smoothed_cross_entropy
from common.train.optim import RMSpropTF
from common.train.schedules import cosine
from papers.sgnas.method.generator import Generator, arg_max_ops, gumbel_softmax, normalise
from papers.sgnas.method.generator_training import build_optimizer, target_pool, temperature
from papers.sgnas.method.lookup import cost_of_ops, cost_range, hardware_loss, macs_table, one_hot
from papers.sgnas.method.prior import nearest_key, prior_keys, random_candidate
from papers.sgnas.method.sampling import LayerOrder
from papers.sgnas.networks.architectures import MACROS, Macro, kernels_of, ops_of
from papers.sgnas.networks.derived import Network
from papers.sgnas.networks.fixed_supernet import FixedSupernet
from papers.sgnas.networks.published_keys import supernet_from_published
from papers.sgnas.networks.supernet import Supernet
from papers.sgnas.settings import Train
from papers.sgnas.train import rate


def macro_of(config) -> Macro:
    cifar = config["dataset"].startswith("cifar")
    layers = tuple(map(tuple, config["layers"]))
    return Macro("golden", layers, 1 if cifar else 2, config["input_size"], 4 if cifar else 7)


def test_lookup_tables(golden):
    for config in golden.json("lookup_tables.json").values():
        table = macs_table(macro_of(config))
        assert table.base == pytest.approx(config["basic"], rel=1e-9)
        golden.close(table.depthwise, config["depthwise"], 1e-6)
        golden.close(table.expand, config["point_1"], 1e-6)
        golden.close(table.project, config["point_2"], 1e-6)


def test_architecture_parameters(golden):
    stored = golden.npz("arch_param_ops.npz")
    for name, config in golden.json("lookup_tables.json").items():
        table, layers = macs_table(macro_of(config)), len(config["layers"])
        part = golden.part(stored, f"{name}/")
        for j in range(3):
            logits = part["logits"].view(layers, 6, 4).clone().requires_grad_()
            noise = part[f"soft{j}/gumbel"].view(layers, 6, 4).nan_to_num(0.0)
            p = gumbel_softmax(logits, float(part[f"soft{j}/tau"]), noise)
            p.retain_grad()
            cost = table.cost(p)
            cost.backward()
            golden.close(p.view(layers, 24), part[f"soft{j}/p"], 1e-5)
            assert cost.item() == pytest.approx(part[f"soft{j}/mflops"].item(), rel=1e-5)
            golden.close(p.grad.view(layers, 24), part[f"soft{j}/dflops_dp"], 5e-4)
            golden.close(logits.grad.view(layers, 24), part[f"soft{j}/dflops_dlogits"], 5e-4)
        ops = arg_max_ops(part["logits"].view(layers, 6, 4))
        assert torch.equal(one_hot(ops).view(layers, 24), part["onehot"])
        assert cost_of_ops(table, ops) == pytest.approx(part["onehot_mflops"].item(), rel=1e-6)
        kernels = kernels_of(ops.tolist())
        assert [row + [0] * (6 - len(row)) for row in kernels] == part["decoded"].tolist()
        encoded = torch.tensor(ops_of(kernels))
        assert torch.equal(one_hot(encoded).view(layers, 24), part["encoded"])
        assert cost_of_ops(table, encoded) == pytest.approx(part["encoded_mflops"].item(), rel=1e-6)
        for pattern, cost in zip(part["edge_patterns"].tolist(), part["edge_mflops"].tolist()):
            assert cost_of_ops(table, [pattern] * layers) == pytest.approx(cost, rel=1e-6)


def test_sampling_trace(golden):
    for layer in golden.json("sampling_trace.json"):
        for call in layer["calls"]:
            order = LayerOrder(
                list(call["expansion_order_before"]),
                call["expansion_index_before"],
                [list(row) for row in call["block_orders_before"]],
                list(call["block_index_before"]),
            )

            def draw(what, number, n, call=call):
                if what == "expansion":
                    return [e - 2 for e in call["expansion_order_after"]]
                return call["active_permutation"] if what == "active" else list(call["block_orders_after"][number])

            assert order.next(call["reset"], draw) == call["ops"]
            assert sum(op != 3 for op in call["ops"]) == call["active_count"]
            assert order.expansions == call["expansion_order_after"]
            assert order.expansion_index == call["expansion_index_after"]
            assert order.kernels == call["block_orders_after"]
            assert order.kernel_index == call["block_index_after"]


def test_small_generator(golden):
    stored = golden.npz("generator_small.npz")
    generator = Generator(*stored["meta"].tolist())
    generator.load_state_dict(golden.part(stored, "sd/"))
    out = generator(torch.tensor(stored["hc"]), torch.from_numpy(stored["prior"]))
    golden.close(out.view(1, 1, 4, 24), stored["out"], 1e-5)
    (out.view(4, 24) * torch.from_numpy(stored["cotangent"])).sum().backward()
    for name, parameter in generator.named_parameters():
        golden.close(parameter.grad, stored["grad/" + name], 5e-4, name)


def test_two_generator_steps(golden):
    stored, small = golden.npz("generator_train_step.npz"), golden.npz("supernet_small.npz")
    macro = Macro("golden", tuple(map(tuple, small["layers"].tolist())), 1, 12, 4)
    supernet = Supernet(macro, 5)
    supernet.load_state_dict(supernet_from_published(golden.part(small, "sd/"), supernet))
    frozen, table = FixedSupernet(supernet.eval()), macs_table(macro)
    generator = Generator(10, 8, 5)
    generator.load_state_dict(golden.part(stored, "gen/"))
    optimizer = build_optimizer(generator)
    low, high = float(stored["low"]), float(stored["high"])
    for step in range(2):
        part = golden.part(stored, f"step{step}/")
        target = float(stored["targets"][step])
        logits = generator(normalise(target, low, high), torch.from_numpy(stored["prior"]))[0]
        shift = 0 if step == 0 else (logits.detach().view(3, 24) - part["gen_out"]).mean()
        golden.close(logits.view(3, 24) - shift, part["gen_out"], 1e-4)
        p = gumbel_softmax(logits, float(stored["taus"][step]), part["gumbel"].view(3, 6, 4).nan_to_num(0.0))
        golden.close(p.view(3, 24), part["p"], 1e-5)
        cost = table.cost(p)
        assert cost.item() == pytest.approx(part["mflops"].item(), rel=1e-5)
        hc = hardware_loss(cost, target, float(stored["alpha"]), float(stored["loss_penalty"]))
        ce = smoothed_cross_entropy(
            frozen.soft(torch.from_numpy(stored["x"][step]), p), torch.from_numpy(stored["y"][step])
        )
        assert hc.item() == pytest.approx(part["hc_loss"].item(), rel=1e-4)
        assert ce.item() == pytest.approx(part["ce_loss"].item(), rel=1e-5)
        optimizer.zero_grad()
        (hc + ce).backward()
        for name, value in golden.part(stored, f"step{step}/grad/").items():
            golden.close(dict(generator.named_parameters())[name].grad, value, 5e-4, name)
        optimizer.step()
    for name, value in golden.part(stored, "final/").items():
        golden.close(generator.state_dict()[name], value, 1e-4, name)


def test_losses_and_schedules(golden):
    stored = golden.json("scalars.json")
    for row in stored["hardware_loss"]:
        got = hardware_loss(
            torch.tensor(row["generated"], dtype=torch.float64), row["target"], row["alpha"], row["penalty"]
        )
        assert got.item() == pytest.approx(row["loss"], rel=1e-6, abs=1e-12)
    for row in stored["label_smoothing"]:
        logits = torch.tensor(row["logits"], dtype=torch.float64)
        assert smoothed_cross_entropy(logits, torch.tensor(row["target"]), row["eta"]).item() == pytest.approx(
            row["loss"]
        )
    schedules = stored["schedules"]
    entry = schedules["cosine_cifar_scratch"]
    for step, lr in entry["lr_at_step"].items():
        total = entry["steps_per_epoch"] * entry["epochs_in_t_max"]
        assert cosine(entry["base"], 0.0, int(step), total) == pytest.approx(lr, rel=1e-9)
    entry = schedules["imagenet_scratch"]
    for epoch, lr in entry["lr_in_epoch"].items():
        settings = Train(
            lr=entry["base"],
            decay_epochs=entry["decay_epochs"],
            decay_rate=entry["decay_rate"],
            warmup_lr=entry["warmup_lr"],
            warmup_epochs=entry["warmup_epochs"],
        )
        assert rate(settings, int(epoch), 0, 1) == pytest.approx(lr, rel=1e-9)
    entry = schedules["tau"]
    for epoch, tau in entry["tau_in_generator_epoch"].items():
        assert temperature(int(epoch), entry["start"], entry["decay"]) == pytest.approx(tau, rel=1e-9)
    for row in schedules["generator_epochs"]:  # the authors' two numbers; ours are separate counts
        assert max(0, row["search_epochs"] - row["warmup_epochs"]) == row["generator_epochs"]
    entry = schedules["hardware_pool"]
    assert target_pool(entry["low"], entry["high"], entry["step"]) == entry["values_before_shuffle"]


def test_rmsprop(golden):
    stored = golden.json("scalars.json")["rmsprop_tf"]
    weight = torch.nn.Parameter(torch.tensor(stored["init"]))
    optimizer = RMSpropTF(
        [weight],
        lr=stored["lrs"][0],
        alpha=stored["alpha"],
        eps=stored["eps"],
        momentum=stored["momentum"],
        weight_decay=stored["weight_decay"],
    )
    for lr, gradient, expected in zip(stored["lrs"], stored["grads"], stored["params_after_each_step"]):
        optimizer.param_groups[0]["lr"] = lr
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        golden.close(weight, expected, 1e-5)


def test_priors(golden):
    stored = golden.json("scalars.json")
    for row in stored["prior_keys"]:
        assert prior_keys(row["low"], row["high"], row["pool_size"]) == row["keys"]
    for row in stored["nearest_prior"]:
        assert nearest_key(row["query"], row["keys"]) == row["chosen"]
    for name, entry in stored["prior_candidates"].items():
        table = macs_table(MACROS["imagenet" if name == "imagenet" else "cifar"])
        rng = np.random.RandomState(entry["numpy_seed"])
        rows = {row["draw"]: row for row in entry["rows"]}
        for draw in range(max(rows) + 1):
            ops = random_candidate(rng, 19)
            if draw in rows:
                assert ops == rows[draw]["ops"]
                cost = cost_of_ops(table, ops)
                assert cost == pytest.approx(rows[draw]["mflops"], rel=1e-6)
                assert (abs(cost - entry["target"]) <= 1) == rows[draw]["accepted"]
    for name, entry in stored["flops_range"].items():
        table = macs_table(MACROS["imagenet" if name == "imagenet" else "cifar"])
        low, high = cost_range(table)
        assert low == pytest.approx(entry["one_3x3"], rel=1e-6)
        assert high == pytest.approx(entry["six_7x7"], rel=1e-6)
        assert cost_of_ops(table, [[0, 0, 3, 3, 3, 3]] * 19) == pytest.approx(entry["two_3x3"], rel=1e-6)
        assert cost_of_ops(table, [[0] * 6] * 19) == pytest.approx(entry["six_3x3"], rel=1e-6)


def test_sweep_counts(golden):
    table = macs_table(MACROS["imagenet"])
    for row in golden.json("generator_sweep.json"):
        assert cost_of_ops(table, ops_of(row["kernels"])) == pytest.approx(row["lookup_mflops"], rel=1e-6)
    row = golden.json("generator_sweep.json")[7]
    for key, se in (("se_hswish", True), ("plain_relu6", False)):
        network = Network(MACROS["imagenet"], row["kernels"], 1000, se)
        assert sum(p.numel() for p in network.parameters()) == row[key]["params"]


@pytest.fixture
def published():
    root = Path(os.environ.get("NAS_DATA", "data")) / "sgnas"
    if not (root / "generator_imagenet.npz").exists():
        pytest.skip("the published generator is not under the data root (NAS_DATA)")
    from papers.sgnas.method.trained_generator import load_generator

    return load_generator("published", data=root.parent)


def test_published_generator(golden, published):
    stored = golden.npz("generator_published.npz")
    targets = torch.from_numpy(stored["targets"])
    prior = published.pool.nearest(360.0)
    out = published.network(normalise(targets, 270, 450), prior)
    golden.close(out.view(-1, 19, 24), stored["out"], 1e-5)
    other = published.network(
        normalise(float(stored["other_prior_target"]), 270, 450), torch.from_numpy(stored["other_priors"])
    )
    golden.close(other.view(-1, 19, 24), stored["other_prior_out"], 1e-5)
    network = published.network.requires_grad_(True)
    network.zero_grad()
    (
        network(normalise(targets[:1], 270, 450), prior).view(19, 24) * torch.from_numpy(stored["cotangent"])
    ).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.norm().item() == pytest.approx(float(stored["gradnorm/" + name]), rel=5e-4)
        if "grad/" + name in stored:
            golden.close(parameter.grad, stored["grad/" + name], 5e-4, name)


def test_published_sweep(golden, published):
    rows = golden.json("generator_sweep.json")
    ops = arg_max_ops(published.logits([row["target"] for row in rows]))
    assert [kernels_of(row) for row in ops.tolist()] == [row["kernels"] for row in rows]
