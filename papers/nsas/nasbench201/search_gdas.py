"""GDAS with NSAS on NAS-Bench-201."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from common.data.batches import Batches, Order
from common.run import seeds
from common.run.device import onto, pick_device
from common.run.folder import open_run
from common.run.keep import Values
from common.spaces.nasbench201.network import EDGE_NAMES, EDGES, OPERATIONS, ReLUConvBN, Supernet
from common.train.compiling import compile_operations
from common.train.loop import mean_gradients
from common.train.schedules import cosine
from papers.nsas.method.loss import LossSums, differentiate
from papers.nsas.method.relaxation import gumbel, nb201_temperature, straight_through
from papers.nsas.nasbench201.constraints import Code, makers_of_gdas, random_code, uniform
from papers.nsas.nasbench201.loss import Drawn, gdas_loss, gdas_weights
from papers.nsas.nasbench201.result import finish, short
from papers.nsas.nasbench201.settings import SearchNb201Gdas
from papers.nsas.nasbench201.supernet import batches_of, open_halves, open_supernet, weighted_logits

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions
    from common.run.folder import Run


def search(settings: SearchNb201Gdas, options: RunOptions) -> dict:
    """Learn a table alpha over the operations beside the supernet; the cell is its argmax (Method 14 and 16).

    for each batch: draw a cell a_t from alpha; make the constraint cells a_i;
        step on L(w) = v_0 CE(w; a_t) + sum_i v_i CE(w; a_i), as released without gradient through the a_i;
        draw another cell from alpha, step on CE(alpha) on a batch of the other half

    As released a third draw h stands in the constraints for a_t (``shared_cells``), and the clip of the weights counts
    the gradient that the last step of alpha left (``stale_clip``).
    """
    device = pick_device(options)
    make = makers_of_gdas(settings.constraints, settings.shared_cells)[settings.constraint]
    gradient = settings.constraint_gradient
    weights, scale = gdas_weights(settings.constraint, settings.constraints, settings.penalty, gradient)
    train, valid, note = open_batches(settings, options, device)
    with open_run(options, settings, data=train.images) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        supernet, optimizer, touched = open_supernet(settings, len(train.images.classes), device)
        compile_operations(supernet, options, ReLUConvBN)
        alphas = Alphas(device, settings.arch_lr, settings.arch_weight_decay, options.seed)
        sums, held_sums, now = LossSums(), LossSums(), Values(previous=(), valid_top1=0.0)
        run.keeps(supernet=supernet, optimizer=optimizer, touched=touched, alphas=alphas)
        run.keeps(sums=sums, held=held_sums, now=now)
        for epoch in run.epochs(settings.epochs):
            supernet.train()
            lr = cosine(settings.lr, settings.lr_min, epoch, settings.epochs)
            tau = nb201_temperature(epoch, settings.epochs, settings.tau_max, settings.tau_min)
            optimizer.param_groups[0]["lr"] = lr
            for step, shares in run.steps(train.in_shares(), epoch):
                draw_h, draw_current = (
                    alphas.draw(tau, name, epoch, step) for name in ("gumbel-constraints", "gumbel")
                )
                h, current = draw_h().code, draw_current().code
                draw = uniform(seeds.numpy_rng(options.seed, "constraints", epoch, step))
                if step == 0:
                    now.previous = h if settings.shared_cells else random_code(draw)
                constraints = make(draw, h if settings.shared_cells else current, now.previous)
                optimizer.zero_grad()
                if not settings.stale_clip:
                    alphas.table.grad = None
                told = (draw_current, constraints, weights, scale, gradient)
                where = {"step": step, "architecture": current}
                differentiate(gdas_loss, supernet, shares, told, sums, [alphas.table], **where)
                touched.fill(current, *(constraints if gradient else []))
                clipped = [*supernet.parameters(), *([alphas.table] if settings.stale_clip else [])]
                nn.utils.clip_grad_norm_(clipped, settings.clip)
                optimizer.step()
                held_out = valid.drawn_shares(epoch * len(train) + step, train.size(step))  # with replacement
                draw_held = alphas.draw(tau, "gumbel-alpha", epoch, step)
                alphas.learn(supernet, held_out, draw_held, held_sums)
                touched.note(draw_held().code)  # as released it leaves gradients; clearing makes them zero
                now.previous = current
            now.valid_top1 = (held := held_sums.read("valid"))["valid_top1_percent"]
            run.log(epoch=epoch, lr=lr, tau=tau, **sums.read(), **held, cell=short(alphas.cell()))
        alphas.write(run)
        metrics = {"supernet_accuracy_percent": now.valid_top1}  # of the last epoch's architecture steps, as printed
        return finish(run, alphas.cell(), metrics, options, note, train.images.name)


def open_batches(settings: SearchNb201Gdas, options: RunOptions, device: torch.device) -> tuple[Batches, Batches, str]:
    """(batches for the weights, batches of the other half for alpha, where the halves are from)."""
    first, second, note = open_halves(settings.dataset, settings.train_images, options)
    train = batches_of(first, settings.batch_size, Order(options.seed), device)
    return train, batches_of(second, settings.batch_size, Order(options.seed, "valid"), device), note


class Alphas:
    """The table alpha [6, 5] with its Adam; ``table.grad`` is what the last step left there."""

    def __init__(self, device: torch.device, lr: float, weight_decay: float, seed: int) -> None:
        self.seed = seed
        self.table = initial_alphas().to(device).requires_grad_()
        self.optimizer = torch.optim.Adam([self.table], lr, betas=(0.5, 0.999), weight_decay=weight_decay)

    def draw(self, tau: float, name: str, epoch: int, step: int) -> Callable[[], Drawn]:
        """A Gumbel draw, a function of the seed, the draw's name, epoch and step; each call gives it a new graph."""
        noise = onto(self.table.device, gumbel(self.table.shape, seeds.generator(self.seed, name, epoch, step)))

        def drawn() -> Drawn:
            weights, index, _ = straight_through(self.table, noise, tau)
            return Drawn(weights, tuple(index.tolist()))

        return drawn

    def learn(
        self, supernet: Supernet, shares: list[tuple[Tensor, Tensor]], draw: Callable[[], Drawn], sums: LossSums
    ) -> None:
        """A step down CE of the drawn cell on this process's shares of a batch; the gradient is taken for alpha only.

        draw: called for every share, whose graphs are their own. sums: take loss and hits.
        """

        def loss_of(x: Tensor, y: Tensor) -> Tensor:
            drawn = draw()
            logits = weighted_logits(supernet, x, drawn.weights, drawn.code)
            sums.count(logits, y)
            return nn.functional.cross_entropy(logits, y)

        (self.table.grad,), loss = mean_gradients(supernet, shares, loss_of, [self.table])
        self.optimizer.step()
        sums.add(loss)

    def cell(self) -> Code:
        """The largest entry of each edge, the first of equals."""
        return decode(self.table)

    def write(self, run: Run) -> None:
        """alphas.csv: the table, a row an edge."""
        for edge, row in zip(EDGE_NAMES, self.table.tolist(), strict=True):
            run.log("alphas", edge=edge, **dict(zip(OPERATIONS, row, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        """Table, gradient, Adam."""
        return {"table": self.table.detach(), "grad": self.table.grad, "optimizer": self.optimizer.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.table.copy_(state["table"])
        self.table.grad = None if state["grad"] is None else state["grad"].to(self.table.device)
        self.optimizer.load_state_dict(state["optimizer"])


def initial_alphas() -> Tensor:
    """1e-3 normal [6, 5]."""
    return 1e-3 * torch.randn(len(EDGES), len(OPERATIONS))


def decode(alphas: Tensor) -> Code:
    """The cell of alpha [6, 5]: the largest entry of each edge, the first of equals."""
    return tuple(int(i) for i in alphas.detach().argmax(-1))
