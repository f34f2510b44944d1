"""Faster forms against plain ones: shared work in cells, whole sequences, batches, shares."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from papers.nao_v2.method.controller import Controller
from papers.nao_v2.method.supernet_training import build_optimizer, supernet_step
from papers.nao_v2.networks.architectures import Shape, load, parse
from papers.nao_v2.networks.derived import Network
from papers.nao_v2.networks.supernet import Supernet

FIRST = parse(" ".join(["0"] * 40))


def test_shared_relu_and_pools_change_nothing():
    """ReLU and pooling of a state are done once; against each edge on its own."""
    torch.manual_seed(0)
    network = Network(load("NAONet_V2"), Shape(channels=4, layers=1)).double().train()
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


def test_shares_of_a_supernet_step():
    """Gradient: the mean over all images. Running statistics: the mean, by images, of what each share makes of them."""
    x, y, sizes = torch.randn(5, 3, 32, 32), torch.tensor([0, 1, 2, 3, 4]), [3, 2]

    def fresh() -> Supernet:
        return Supernet(channels=2, layers=1, generator=torch.Generator().manual_seed(0)).train()

    network, single = fresh(), [fresh(), fresh()]
    single[1].load_state_dict(network.state_dict())
    single[0].load_state_dict(network.state_dict())
    shares = list(zip(x.split(sizes), y.split(sizes)))
    supernet_step(network, FIRST, shares, build_optimizer(network, 0.9, 0.0), 0.0, "none")  # rate 0
    for part, (px, py) in zip(single, zip(x.split(sizes), y.split(sizes))):
        torch.nn.functional.cross_entropy(part(px, FIRST), py).backward()
    for (name, p), a, b in zip(network.named_parameters(), *(s.parameters() for s in single)):
        if p.grad is not None:
            assert torch.allclose(p.grad, 0.6 * a.grad + 0.4 * b.grad, atol=1e-5), name
    for (name, p), a, b in zip(network.named_buffers(), *(s.buffers() for s in single)):
        if "running_" in name:
            assert torch.allclose(p, 0.6 * a + 0.4 * b, atol=1e-6), name
