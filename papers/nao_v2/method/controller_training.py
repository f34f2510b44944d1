"""The controller's data and its training steps; 1,000 epochs of tiny batches, so nothing here waits for the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from common.run import seeds
from common.run.folder import check_finite
from common.train import distributed
from papers.nao_v2.method.controller import Controller
from papers.nao_v2.method.ranking import hamming, pairwise_accuracy
from papers.nao_v2.network.architectures import swapped


def training_data(
    rng: np.random.RandomState, sequences: Sequence[Sequence[int]], targets: Sequence[float], copies: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(train tokens [N, 40], train targets [N], validation tokens, validation targets).

    The pairs are shuffled by numpy; 90 % train. The train part is repeated ``copies`` - 1 times more, with the operands
    of one random node per cell swapped (draws: node of the normal cell, then of the reduction cell), same target.
    """
    order = np.arange(len(sequences))
    rng.shuffle(order)
    cut = int(len(order) * 0.9)
    train = [list(sequences[k]) for k in order[:cut]]
    wanted = [targets[k] for k in order[:cut]]
    nodes = len(train[0]) // 8
    enlarged = [list(s) for s in train]
    for _ in range(copies - 1):
        for tokens in train:
            a, b = int(rng.randint(0, nodes)), int(rng.randint(0, nodes))
            enlarged.append(swapped(tokens, a, b))
    valid = order[cut:] if cut < len(order) else order[-1:]
    return (
        torch.tensor(enlarged),
        torch.tensor(wanted * copies, dtype=torch.float32),
        torch.tensor([list(sequences[k]) for k in valid]),
        torch.tensor([targets[k] for k in valid], dtype=torch.float32),
    )


def controller_step(
    controller: Controller, tokens: Tensor, target: Tensor, optimizer: torch.optim.Optimizer, clip_norm: float,
    trade_off: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """One Adam step on 0.8 MSE + 0.2 NLL; (loss, mse, nll) before it."""
    optimizer.zero_grad(set_to_none=True)
    loss, mse, nll = controller.losses(tokens, target, trade_off)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(controller.parameters(), clip_norm, foreach=True)
    optimizer.step()
    return loss.detach(), mse.detach(), nll.detach()


def controller_epoch(
    controller: Controller, tokens: Tensor, targets: Tensor, optimizer: torch.optim.Optimizer, batch_size: int,
    clip_norm: float, trade_off: float, seed: int, iteration: int, epoch: int,
) -> tuple[float, float, float]:  # fmt: skip
    """One shuffled epoch; mean (loss, mse, nll). The order is a function of (seed, iteration, epoch).

    Raises UserError when the epoch's mean loss is not finite (looked at once per epoch).
    """
    controller.train()
    if distributed.world_size() > 1:  # every process trains the same controller: the same dropout, if any, in all
        torch.manual_seed(seeds.integer(seed, "controller dropout", iteration, epoch))
    order = torch.randperm(len(tokens), generator=seeds.generator(seed, "controller", iteration, epoch)).to(
        tokens.device
    )
    total = torch.zeros(3, device=tokens.device)
    for start in range(0, len(tokens), batch_size):
        index = order[start : start + batch_size]
        losses = controller_step(controller, tokens[index], targets[index], optimizer, clip_norm, trade_off)
        total += torch.stack(losses) * len(index)
    check_finite(total[0], controller_epoch=epoch)
    loss, mse, nll = (total / len(tokens)).tolist()
    return loss, mse, nll


@torch.no_grad()
def controller_quality(controller: Controller, tokens: Tensor, targets: Tensor) -> tuple[float, float]:
    """(pairwise accuracy of the predictor, Hamming distance of the reconstructed sequences) on held-out pairs."""
    controller.eval()
    outputs = controller.encoder.outputs(tokens)
    predicted = controller.encoder.predict(outputs).flatten().tolist()
    decoded, _ = controller.decoder.free(controller.encoder.embed(outputs), outputs, controller.nodes)
    return pairwise_accuracy(targets.tolist(), predicted), hamming(tokens.tolist(), decoded.tolist())
