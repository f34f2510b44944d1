"""Bad input, pool files, closed-form sizes, checkpoints, shared work, resumption."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.cli.errors import UserError
from common.cli.verbs import RunOptions
from common.spaces.architecture import save_architecture
from common.weights.read import save_weights
from papers.nao_v2.describe import describe
from papers.nao_v2.evaluate import build, read_checkpoint, width_of
from papers.nao_v2.method import balanced, pool
from papers.nao_v2.method.controller import Controller
from papers.nao_v2.network.architectures import (
    PUBLISHED_TEXT,
    SPACES,
    as_file,
    check,
    load,
    parse,
    random_architecture,
    text_of,
)
from papers.nao_v2.network.network import Network
from papers.nao_v2.network.size import size_of
from papers.nao_v2.settings import Evaluate, Search

PUBLISHED = PUBLISHED_TEXT["NAONet_V2"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PUBLISHED[:-2], "39 integers"),
        (PUBLISHED + " 0", "41 integers"),
        ("1 9" + PUBLISHED[3:], "position 2 .*operation 9"),
        ("2 1" + PUBLISHED[3:], "position 1 .*reads state 2"),
        ("x 1" + PUBLISHED[3:], "'x' at position 1"),
        ("-1 1" + PUBLISHED[3:], "reads state -1"),
    ],
)
def test_bad_architecture(text, words):
    with pytest.raises(UserError, match=words) as error:
        parse(text)
    assert "\n" not in str(error.value)


def test_forward_reference_in_the_reduction_cell_is_named():
    numbers = [int(v) for v in PUBLISHED.split()]
    numbers[24] = 4
    with pytest.raises(UserError, match=r"position 25 \(reduction cell, node 3\)"):
        check(numbers)


def test_unknown_name():
    with pytest.raises(UserError, match="no architecture"):
        load("NAONet_V9")


def test_pool_round_trip_keeps_the_sampling_weights(tmp_path):
    candidates = pool.random_pool(np.random.RandomState(3), 30, 5)
    pool.write_pool(tmp_path / "p", candidates)
    again = pool.read_pool(tmp_path / "p")
    assert again == candidates
    p, q = (balanced.probabilities(balanced.sizes(x, 20, 3, 10, "small")) for x in (candidates, again))
    assert np.array_equal(p, q) and p.max() > 1.5 * p.min()  # not silently uniform


def test_bad_pools(tmp_path):
    file = tmp_path / "p"
    file.write_text(PUBLISHED + "\n" + PUBLISHED + "\n")
    with pytest.raises(UserError, match="line 2 repeats line 1"):
        pool.read_pool(file)
    file.write_text(PUBLISHED + "\n" + PUBLISHED[:2] + "9" + PUBLISHED[3:] + "\n")
    with pytest.raises(UserError, match="line 2 is of space 'middle'"):
        pool.read_pool(file)
    file.write_text("\n")
    with pytest.raises(UserError, match="holds no architecture"):
        pool.read_pool(file)


@pytest.mark.parametrize("space", ["small", "middle"])
@pytest.mark.parametrize("kind", ["cifar", "imagenet"])
def test_closed_form_equals_the_built_network(space, kind):
    rng = np.random.RandomState(5)
    for _ in range(4):
        architecture = random_architecture(rng, len(SPACES[space]))
        network = Network(architecture, kind=kind, channels=6, layers=1, classes=7, space=space, auxiliary=True)
        found = size_of(architecture, kind=kind, channels=6, layers=1, classes=7, space=space)
        total = sum(p.numel() for p in network.parameters())
        assert found.parameters_with_auxiliary == total
        assert found.parameters == total - sum(p.numel() for p in network.auxiliary_head.parameters())


def test_macs_are_those_of_a_forward_pass():
    from torch.utils.flop_counter import FlopCounterMode

    for text in PUBLISHED_TEXT.values():
        network = Network(parse(text), channels=8, layers=1).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.randn(1, 3, 32, 32))
        assert size_of(parse(text), channels=8, layers=1).macs == counter.get_total_flops() // 2


def test_describe():
    found = describe("NAONet_V2", "cifar10")
    assert (found["parameters"], found["macs"]) == (4_387_654, 684_238_464)
    widths = {40: 4_382_860, 42: 4_780_915, 44: 5_196_014, 46: 5_628_157, 48: 6_077_344, 52: 7_026_850}
    assert {c: describe(f"NAONet_V2-{c}", "imagenet")["parameters"] for c in widths} == widths
    with pytest.raises(UserError, match="unknown data set"):
        describe("NAONet_V2", "mnist")


def test_describe_takes_the_set_of_the_file(tmp_path):
    for origin, classes in (({"dataset": "cifar100"}, 100), ({"dataset": "some/folder@32", "classes": 7}, 7), ({}, 10)):
        save_architecture(tmp_path / "a.json", "nao", as_file(load("NAONet_V2"), "small"), origin)
        found = describe(str(tmp_path / "a.json"))
        assert found["classes"] == classes
        assert found["parameters"] == size_of(load("NAONet_V2"), classes=classes).parameters
    assert describe(str(tmp_path / "a.json"), "imagenet")["parameters"] == 7_026_850


@pytest.mark.parametrize("kind", ["cifar", "imagenet"])
def test_describe_takes_own_weights_at_their_size(tmp_path, kind):
    architecture, path = load("NAONet_B"), tmp_path / "w.safetensors"
    network = Network(architecture, kind=kind, channels=4, layers=1, classes=7)
    about = {"architecture": as_file(architecture, "small"), "space": "small", "dataset": "a/b", "classes": 7}
    save_weights(network, path, {**about, "paper": "nao_v2", "width": 4, "depth": 1, "network": kind, "pixels": 64})
    found = describe(str(path))
    size = size_of(architecture, kind=kind, channels=4, layers=1, classes=7, image=64)
    assert (found["parameters"], found["macs"], found["dataset"]) == (size.parameters, size.macs, "a/b")
    assert found["parameters"] == sum(p.numel() for p in network.parameters())
    save_weights(network, path, {**about, "paper": "evnas"})
    with pytest.raises(UserError, match="does not hold weights that train of nao_v2 wrote"):
        describe(str(path))


def test_shared_relu_and_pools_change_nothing():
    """ReLU and pooling of a state are done once; against each edge on its own."""
    torch.manual_seed(0)
    network = Network(load("NAONet_V2"), channels=4, layers=1).double().train()
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)

    def plain_cell(cell, s0, s1, drop):
        states = list(cell.maybe_calibrate_size(s0, s1))
        for node, (i1, _, i2, _) in zip(cell.ops, cell.nodes):
            states.append(node.x_op(states[i1]) + node.y_op(states[i2]))
        return cell.final_combine(states)

    network(x).square().sum().backward()
    shared = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    for cell in network.cells:
        cell.forward = lambda s0, s1, drop, cell=cell: plain_cell(cell, s0, s1, drop)
    network(x).square().sum().backward()
    for a, p in zip(shared, network.parameters()):
        assert torch.allclose(a, p.grad, rtol=1e-8, atol=1e-10)


def test_teacher_forcing_at_once_equals_token_by_token():
    torch.manual_seed(0)
    controller = Controller().double()
    tokens = torch.tensor([[1, 8] * 20, [2, 9] * 20])
    outputs = controller.encoder.outputs(tokens)
    e = controller.encoder.embed(outputs)
    whole, decoder = controller.decoder.teacher(tokens, e, outputs), controller.decoder
    state, fed = (e[None], e[None]), torch.zeros(2, 1, dtype=torch.long)
    for position in range(40):
        o, state = decoder.rnn(decoder.embedding(fed), state)
        step = F.log_softmax(decoder.out(decoder.attention(o, outputs)), -1)[:, 0]
        assert torch.allclose(step, whole[:, position], atol=1e-12)
        fed = tokens[:, position : position + 1]


def test_generation_of_a_batch_equals_one_by_one():
    torch.manual_seed(1)
    controller = Controller().eval()
    tokens = torch.tensor([[1, 8, 2, 9] * 10, [2, 7, 1, 11] * 10, [1, 7, 1, 7] * 10])
    together = controller.infer(tokens, 4.0).tolist()
    assert together == [controller.infer(tokens[k : k + 1], 4.0)[0].tolist() for k in range(3)]


def synthetic(path, text=PUBLISHED, channels=4, layers=1, **arguments):
    """A file as the original writes it."""
    network = Network(parse(text), channels=channels, layers=layers, auxiliary=True)
    stored = argparse.Namespace(**{"arch": text, "channels": channels, "layers": layers, "nodes": 5, **arguments})
    torch.save(
        {
            "args": stored,
            "model": {f"module.{k}": v for k, v in network.state_dict().items()},
            "epoch": 3,
            "step": 9,
            "optimizer": {},
            "best_acc_top1": torch.tensor(97.4),
        },
        path,
    )
    return network


def test_authors_checkpoint(tmp_path):
    path = tmp_path / "checkpoint_best.pt"
    original = synthetic(path).eval()
    stored = read_checkpoint(path)
    assert (stored.architecture, stored.channels, stored.layers, width_of(stored.weights)) == (PUBLISHED, 4, 1, 4)
    settings = Evaluate(checkpoint=str(path))
    network, architecture, _, channels, layers = build(settings, stored, 10, "cifar")
    assert (text_of(architecture), channels, layers) == (PUBLISHED, 4, 1)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(network.eval()(x), original(x))
    build(replace(settings, arch="NAONet_V2", channels=4, layers=1), stored, 10, "cifar")
    with pytest.raises(UserError, match="is of architecture"):
        build(replace(settings, arch="NAONet_B"), stored, 10, "cifar")
    with pytest.raises(UserError, match="channels 4, but 36"):
        build(replace(settings, channels=36), stored, 10, "cifar")
    with pytest.raises(UserError, match="layers 1, but 6"):
        build(replace(settings, layers=6), stored, 10, "cifar")


def test_weights_without_arguments_are_recognised(tmp_path):
    path = tmp_path / "bare.pt"
    text = PUBLISHED_TEXT["NAONet_V2_2019_09_11"]
    torch.save(Network(parse(text), channels=4, layers=1).state_dict(), path)
    settings = Evaluate(checkpoint=str(path))
    _, architecture, _, channels, layers = build(settings, read_checkpoint(path), 10, "cifar")
    assert (text_of(architecture), channels, layers) == (text, 4, 1)
    with pytest.raises(UserError, match="does not fit"):
        build(replace(settings, arch="NAONet_V2"), read_checkpoint(path), 10, "cifar")


def test_controller_sizes_must_agree():
    with pytest.raises(UserError, match="twice the embedding"):
        Controller(embedding=32, hidden=100)


TINY = Search(
    dataset="digits",
    valid_images=100,
    train_images=64,
    iterations=2,
    seed_architectures=5,
    new_architectures=3,
    layers=1,
    channels=2,
    epochs=1,
    batch_size=32,
    score_images=20,
    controller_epochs=4,
    generation_seeds=4,
    on_empty="random",
    maximum_step=4,
    final=1,
    final_epochs=1,
    final_batch_size=32,
    final_auxiliary=False,
    final_dropout_keep=0.9,
    final_drop_path_keep=0.9,
)


def options(folder):
    return RunOptions(out=folder, device="cpu", paper="nao_v2", section="search")


class Stop(Exception):
    pass


def test_search_resumes_everywhere(tmp_path, monkeypatch):
    """Stopped after every few saves and started again, inside supernet, controller and generation: same bytes."""
    from common.run.folder import Run
    from papers.nao_v2.search import search

    whole = search(TINY, options(tmp_path / "whole"))
    assert whole["metrics"]["pool"] > 5 and whole["metrics"]["supernet_steps"] == 4
    monkeypatch.setenv("NAS_SAVE_EVERY_S", "0")
    save, left = Run.save, [0]

    def stopping(self, state):
        save(self, state)
        left[0] -= 1
        if left[0] == 0:
            raise Stop

    monkeypatch.setattr(Run, "save", stopping)
    for _ in range(40):
        left[0] = 7
        try:
            search(TINY, options(tmp_path / "parts"))
            break
        except Stop:
            continue
    for name in ("result.json", "architecture.json", "history.csv", "controller.csv", "pool.csv", "arch_pool.1"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_nothing_new_stops_with_the_state_kept(tmp_path, monkeypatch):
    from papers.nao_v2 import search as module

    monkeypatch.setattr(module.pool, "select_new", lambda *a: a[2])
    settings = replace(TINY, on_empty="stop", maximum_step=2)
    with pytest.raises(UserError, match="no new architecture"):
        module.search(settings, options(tmp_path / "r"))
    assert list((tmp_path / "r" / "state").glob("state-*.pt"))
    result = module.search(replace(settings, on_empty="random"), options(tmp_path / "r"))  # goes on from there
    assert result["metrics"]["new_architectures"] == 3
