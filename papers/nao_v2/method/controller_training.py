"""The controller's data and its training steps; 1,000 epochs of tiny batches, so nothing here waits for the device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.run import distributed, seeds
from common.run.folder import Run
from common.train.losses import check_finite, look, with_gradients
from papers.nao_v2.method.agreement import hamming, pairwise_accuracy
from papers.nao_v2.method.controller import Controller
from papers.nao_v2.networks.architectures import swapped
from papers.nao_v2.settings import Search


def training_data(
    rng: np.random.RandomState, sequences: Sequence[Sequence[int]], targets: Sequence[float], copies: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(train tokens [N, 40], train targets [N], validation tokens, validation targets).

    The pairs are shuffled by numpy; 90 % train. The train part is repeated ``copies`` - 1 times more, with the operands
    of one random node per cell swapped (draws: node of the normal cell, then of the reduction cell), same target
    (Method 6).
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
    look(with_gradients(loss.detach(), controller.parameters()), refuse_infinite)
    torch.nn.utils.clip_grad_norm_(controller.parameters(), clip_norm, foreach=True)
    optimizer.step()
    return loss.detach(), mse.detach(), nll.detach()


def refuse_infinite(loss: float) -> None:
    """Raises UserError for a loss that is no finite number."""
    if not math.isfinite(loss):
        raise UserError("the controller's loss, or a gradient of it, is not finite: it stops before this update; look "
                        "at the scores, or start over with a lower --controller-lr")  # fmt: skip


def controller_epoch(
    controller: Controller, tokens: Tensor, targets: Tensor, optimizer: torch.optim.Optimizer, batch_size: int,
    clip_norm: float, trade_off: float,
) -> tuple[float, float, float]:  # fmt: skip
    """One epoch in the order of ``tokens`` [N, length] and ``targets`` [N]; mean (loss, mse, nll)."""
    controller.train()
    total = torch.zeros(3, device=tokens.device)
    for x, y in zip(tokens.split(batch_size), targets.split(batch_size)):
        losses = controller_step(controller, x, y, optimizer, clip_norm, trade_off)
        total += torch.stack(losses) * len(x)
    loss, mse, nll = (total / len(tokens)).tolist()
    return loss, mse, nll


def train_controller(run: Run, c: Search, controller: Controller, data: Sequence[Tensor], iteration: int) -> None:
    """Predict scaled accuracies and rebuild sequences (Method 6): a new Adam, weights as they are.

    data: what ``training_data`` gives. An epoch's order is a function of (seed, iteration, epoch). Raises UserError for
    an epoch whose mean loss is not finite.
    """
    tokens, targets, valid_tokens, valid_targets = (t.to(controller.device) for t in data)
    optimizer = torch.optim.Adam(
        controller.parameters(), lr=c.controller_lr, weight_decay=c.controller_weight_decay, foreach=True
    )
    run.keeps(controller_optimizer=optimizer)
    seed = run.options.seed
    for epoch, _ in run.each(c.controller_epochs, "controller epoch"):
        if distributed.world_size() > 1:  # every process trains the same controller: the same dropout, if any, in all
            torch.manual_seed(seeds.integer(seed, "controller dropout", iteration, epoch))
        order = torch.randperm(len(tokens), generator=seeds.generator(seed, "controller", iteration, epoch))
        order = order.to(controller.device)
        losses = controller_epoch(
            controller, tokens[order], targets[order], optimizer, c.controller_batch_size, c.controller_clip,
            c.trade_off,
        )  # fmt: skip
        check_finite(losses[0], controller_epoch=epoch)
        if (epoch + 1) % 100 == 0 or epoch + 1 == c.controller_epochs:
            accuracy, distance = controller_quality(controller, valid_tokens, valid_targets)
            run.log(
                file="controller", epoch=iteration * c.controller_epochs + epoch, iteration=iteration,
                iteration_epoch=epoch, loss=losses[0], mse=losses[1], nll=losses[2], pairwise_accuracy=accuracy,
                hamming=distance,
            )  # fmt: skip


@torch.no_grad()
def controller_quality(controller: Controller, tokens: Tensor, targets: Tensor) -> tuple[float, float]:
    """(pairwise accuracy of the predictor, Hamming distance of the reconstructed sequences) on held-out pairs."""
    controller.eval()
    outputs = controller.encoder.outputs(tokens)
    predicted = controller.encoder.predict(outputs).flatten().tolist()
    decoded, _ = controller.decoder.free(controller.encoder.embed(outputs), outputs, controller.nodes)
    return pairwise_accuracy(targets.tolist(), predicted), hamming(tokens.tolist(), decoded.tolist())
