"""What a search holds, saves and restores: position, pool, candidates, networks, optimisers, the numpy stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.cli.errors import UserError
from common.run import seeds
from common.train import distributed
from common.train.loop import evaluate, read
from common.train.losses import TopK
from papers.nao_v2.data.sets import all_batches, train_batches, validation_batch
from papers.nao_v2.method import pool
from papers.nao_v2.method.controller import Controller
from papers.nao_v2.method.supernet_training import build_optimizer, score
from papers.nao_v2.network.architectures import SPACES, Architecture, from_tokens, to_tokens, vocabulary
from papers.nao_v2.network.network import Network
from papers.nao_v2.network.operations import DropPath
from papers.nao_v2.network.supernet import Supernet, identity_operations
from papers.nao_v2.scratch import Recipe, Trainer
from papers.nao_v2.settings import Search


class SearchState:
    """The search's variables; ``stage`` and its counters say where it stands."""

    def __init__(self, c: Search, options: Any, run: Any, device: torch.device) -> None:
        self.c, self.run, self.device = c, run, device
        self.seed, self.precision = int(options.seed), options.precision
        self.rng = np.random.RandomState(self.seed)  # the original's one numpy stream: split, pool, draws, swaps
        self.iteration, self.stage, self.epoch, self.step = 0, "supernet", 0, 0
        self.pool: list[Architecture] = []
        self.candidates: list[Architecture] = []
        self.scores: list[float] = []  # of the present iteration, in the order of ``pool``
        self.accuracies: list[float] = []
        self.controller_data: Any = None
        self.kept: list[list[int]] = []
        self.final_scores: list[float] = []
        self.finalist: dict[str, Any] | None = None
        self.generated, self.supernet_steps, self.controller_seconds = 0, 0, 0.0
        self.last_quality: dict[str, float] = {}

    def begin(self, classes: int) -> None:
        """Networks, first candidates; or everything as it was saved."""
        c = self.c
        self.classes = classes
        self.new_supernet(0)
        self.controller = self.new_controller(0)
        self.new_controller_optimizer()
        self.counter = TopK(self.device)
        self.final_recipe.check_ramp(len(self.final_batches(0)))
        saved = self.run.load()
        if saved is not None:
            self.restore(saved)
            return
        torch.manual_seed(seeds.integer(self.seed, "drop path", distributed.rank()))
        if c.pool_file:
            self.candidates = pool.read_pool(Path(c.pool_file), c.space)
        else:
            self.candidates = pool.random_pool(self.rng, c.seed_architectures, len(SPACES[c.space]))

    def new_supernet(self, iteration: int) -> None:
        """Fresh shared weights and optimiser."""
        c = self.c
        torch.manual_seed(seeds.integer(self.seed, "classifier bias", iteration))
        generator = seeds.generator(self.seed, "supernet", iteration)
        self.supernet = Supernet(
            channels=c.channels, layers=c.layers, classes=self.classes, space=c.space, dropout_keep=c.dropout_keep,
            generator=generator,
        ).to(self.device)  # fmt: skip
        exempt = identity_operations(c.space) if c.drop_path_rule == "identity_exempt" else frozenset()
        self.drop = DropPath(c.drop_path_keep, self.supernet_training_steps, 3 * c.layers + 2, exempt)
        self.supernet.drop_path = self.drop if c.drop_path_keep < 1 else None
        self.optimizer = build_optimizer(self.supernet, c.momentum, c.weight_decay)

    def new_controller(self, iteration: int) -> Controller:
        c = self.c
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.integer(self.seed, "controller", iteration))
            return Controller(
                vocabulary(c.space), c.controller_embedding, c.controller_hidden, c.controller_mlp_layers,
                c.controller_mlp_hidden, c.controller_mlp_dropout,
            ).to(self.device)  # fmt: skip

    def new_controller_optimizer(self) -> None:
        """Adam starts anew in each iteration; the controller's weights go on (or start anew: an option)."""
        if self.c.controller_weights == "reset" and self.iteration:
            self.controller = self.new_controller(self.iteration)
        self.controller_optimizer = torch.optim.Adam(
            self.controller.parameters(), lr=self.c.controller_lr,
            weight_decay=self.c.controller_weight_decay, foreach=True,
        )  # fmt: skip

    def supernet_batches(self) -> Any:
        c = self.c
        return train_batches(
            self.train, c.dataset, c.batch_size, self.seed, self.device, "supernet", c.cutout, shares=c.parts
        )

    def final_batches(self, number: int) -> Any:
        """Batches of the training from scratch of the ``number``-th of the best."""
        c = self.c
        return train_batches(
            self.train, c.dataset, c.final_batch_size, self.seed, self.device, f"final-{number}", shares=c.parts
        )

    @property
    def supernet_training_steps(self) -> int:
        """Steps of one supernet training; 35,200 with the published settings."""
        return max(self.c.epochs * len(self.supernet_batches()), 1)

    @property
    def final_recipe(self) -> Recipe:
        """How the best are trained from scratch. As released, their drop path's ramp is as long as the supernet's."""
        c = self.c
        return Recipe(
            epochs=c.final_epochs, lr=c.lr, lr_min=c.lr_min,
            momentum=c.momentum, weight_decay=c.weight_decay, clip=c.clip, drop_path_keep=c.final_drop_path_keep,
            drop_path_steps=c.final_drop_path_steps or self.supernet_training_steps,
        )  # fmt: skip

    def enter_iteration(self, iteration: int) -> None:
        """Step counter and schedule restart; weights, momentum and statistics continue (or start anew: an option)."""
        self.iteration = iteration
        fresh = self.stage == "supernet" and self.epoch == 0 and self.step == 0
        if fresh and iteration and self.c.supernet_weights == "reset":
            with torch.random.fork_rng(devices=[]):
                self.new_supernet(iteration)

    def best_tokens(self) -> torch.Tensor:
        """Sequences that the latent steps start from, int64 [up to 100, 40]."""
        return torch.tensor([to_tokens(a) for a in self.pool[: self.c.generation_seeds]], device=self.device)

    # -- records ------------------------------------------------------------------------------------------------------

    def log_epoch(self, epoch: int, rate: float) -> None:
        metrics = read(self.counter)
        self.supernet_steps += self.step
        self.counter = TopK(self.device)
        self.run.log(
            epoch=self.iteration * self.c.epochs + epoch, iteration=self.iteration, iteration_epoch=epoch, lr=rate,
            candidates=len(self.candidates), train_loss=metrics.loss, train_top1_error_percent=metrics.top1_error,
        )  # fmt: skip

    def log_controller(self, epoch: int, losses: tuple[float, float, float], quality: tuple[float, float]) -> None:
        self.last_quality = {"controller_pairwise_accuracy": quality[0], "controller_hamming": quality[1]}
        self.run.log(
            file="controller", epoch=self.iteration * self.c.controller_epochs + epoch, iteration=self.iteration,
            iteration_epoch=epoch, loss=losses[0], mse=losses[1], nll=losses[2], pairwise_accuracy=quality[0],
            hamming=quality[1],
        )  # fmt: skip

    def log_generation(self) -> None:
        self.generated += len(self.candidates)
        self.run.log(
            file="generation", iteration=self.iteration, largest_step=self.step, decoded=len(self.kept),
            candidates=len(self.candidates),
        )  # fmt: skip

    # -- position -----------------------------------------------------------------------------------------------------

    def advance(self, stage: str, iteration: int | None = None) -> None:
        """The next stage begins; its counters are 0 and the state is saved."""
        self.stage, self.epoch, self.step = stage, 0, 0
        self.iteration = self.iteration if iteration is None else iteration
        if stage == "supernet":
            self.scores, self.kept = [], []
        self.save()

    def save_if_due(self) -> None:
        if self.run.due():
            self.save()

    def save(self) -> None:
        """Write everything (a common act of all processes)."""
        self.run.save(
            {
                "position": [self.iteration, self.stage, self.epoch, self.step],
                "pool": [to_tokens(a) for a in self.pool],
                "candidates": [to_tokens(a) for a in self.candidates],
                "scores": self.scores,
                "accuracies": self.accuracies,
                "kept": self.kept,
                "final_scores": self.final_scores,
                "finalist": self.finalist,
                "counts": [self.generated, self.supernet_steps],
                "controller_seconds": self.controller_seconds,
                "last_quality": self.last_quality,
                "supernet": self.supernet.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "controller": self.controller.state_dict(),
                "controller_optimizer": self.controller_optimizer.state_dict(),
                "controller_data": None if self.controller_data is None else list(self.controller_data),
                "counter": self.counter.state(),
                "stream": list(self.rng.get_state()),
            }
        )

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue exactly where ``save`` was called."""
        self.iteration, self.stage, self.epoch, self.step = saved["position"]
        self.pool = [from_tokens(t) for t in saved["pool"]]
        self.candidates = [from_tokens(t) for t in saved["candidates"]]
        self.scores, self.accuracies, self.kept = saved["scores"], saved["accuracies"], saved["kept"]
        self.final_scores, self.finalist = saved["final_scores"], saved["finalist"]
        self.generated, self.supernet_steps = saved["counts"]
        self.controller_seconds, self.last_quality = saved["controller_seconds"], saved["last_quality"]
        self.supernet.load_state_dict(saved["supernet"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.c.zero_grad == "zeros":  # used parameters have a gradient (of zeros, as good as any) from then on
            for parameter in self.supernet.parameters():
                if parameter in self.optimizer.state:
                    parameter.grad = torch.zeros_like(parameter)
        self.controller.load_state_dict(saved["controller"])
        self.controller_optimizer.load_state_dict(saved["controller_optimizer"])
        if saved["controller_data"] is not None:
            self.controller_data = tuple(t.to(self.device) for t in saved["controller_data"])
        self.counter.restore(saved["counter"])
        self.rng.set_state(tuple(saved["stream"]))


def score_architecture(s: SearchState, number: int) -> float:
    """Accuracy of the ``number``-th architecture of the pool, as a fraction."""
    c = s.c
    if c.score_images:
        batches = [validation_batch(s.valid, c.score_images, s.seed, s.iteration, number)]
    else:
        batches = all_batches(s.valid)
    found = torch.tensor(score(s.supernet, s.pool[number], batches, s.precision), dtype=torch.float64)
    distributed.broadcast([found])  # one score for all, should processes round differently
    return float(found)


def write_iteration(s: SearchState) -> None:
    """arch_pool.i, arch_pool.perf.i and a row of pool.csv."""
    if s.run.writes:
        pool.write_pool(s.run.folder / f"arch_pool.{s.iteration}", s.pool)
        pool.write_scores(s.run.folder / f"arch_pool.perf.{s.iteration}", s.accuracies)
    s.run.log(
        file="pool", iteration=s.iteration, size=len(s.pool), best=s.accuracies[0], worst=s.accuracies[-1],
        mean=float(np.mean(s.accuracies)),
    )  # fmt: skip


def nothing_new(s: SearchState) -> list[Architecture]:
    """What happens when the controller yields nothing new. Raises UserError (state kept) or gives random ones."""
    if s.c.on_empty == "random":
        return pool.random_pool(s.rng, s.c.new_architectures, len(SPACES[s.c.space]))
    s.save()
    raise UserError(
        f"the controller of iteration {s.iteration} decoded no new architecture up to step {s.c.maximum_step}; "
        f"the state is kept in {s.run.folder}: go on with --on-empty random, or choose another --out "
        f"and more --controller-epochs"
    )


def train_finalist(s: SearchState, number: int) -> float:
    """Train one architecture from scratch at the search's size; accuracy in percent on the validation images."""
    c = s.c
    if s.finalist is None:
        torch.manual_seed(seeds.integer(s.seed, "final", number))
    with torch.random.fork_rng(devices=[]):
        network = Network(
            s.pool[number], channels=c.channels, layers=c.layers, classes=s.classes, space=c.space,
            auxiliary=c.final_auxiliary, dropout_keep=c.final_dropout_keep, relu_in_place=c.final_relu_in_place,
            generator=seeds.generator(s.seed, "final", number),
        ).to(s.device)  # fmt: skip
    trainer = Trainer(network, s.final_recipe, s.device, s.precision, seeds.integer(s.seed, "final chance", number))
    if s.finalist is not None:
        trainer.restore(s.finalist)
    batches = s.final_batches(number)

    def at_step() -> None:
        if s.run.due():
            s.finalist = trainer.state()
            s.save()

    while trainer.epoch < c.final_epochs:
        metrics = trainer.train_epoch(batches, at_step, lambda b: s.run.progress(b, f"final {number}"))
        s.finalist, epoch = trainer.state(), trainer.epoch - 1
        s.run.log(
            file="final", epoch=number * c.final_epochs + epoch, number=number, number_epoch=epoch,
            train_loss=metrics.loss, train_top1_error_percent=metrics.top1_error,
        )  # fmt: skip
        s.save()
    found = evaluate(network, all_batches(s.valid), s.device, s.precision)
    return 100.0 - found.top1_error
