"""Training a derived network from scratch, as the programs of DARTS and its descendants do:

    for epoch e = 0 … E - 1:
        learning rate of e; drop-path probability p e / E
        for each batch: SGD step on loss(logits) + w loss(auxiliary logits), gradients cut to a total norm
        every ``eval_every`` epochs, and after the last: error on the part that judges the epochs
    keep the last epoch's weights, or the best epoch's

Its learning rate, criterion and augmentation are the paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.run.folder import Run
from common.run.keep import Values
from common.spaces.darts.data import TrainingData
from common.spaces.darts.genotype import Genotype
from common.spaces.darts.network import NetworkCIFAR, NetworkImageNet
from common.spaces.darts.settings import TrainDerived
from common.train.loop import Metrics, auxiliary_loss, evaluate, read, train_step
from common.train.losses import TopK
from common.weights.read import save_weights

Network = NetworkCIFAR | NetworkImageNet


class Trained(NamedTuple):
    """What came of a training; errors in percent."""

    kept: Metrics  # of the kept weights, on the test set
    last: Metrics  # of the last epoch's weights, on the test set
    best_error: float  # top-1, of the best epoch, on the part that judges the epochs
    best_epoch: int
    judge: str  # that part: "test", or "val" of a set that has one

    def as_dict(self) -> dict[str, Any]:
        """Under the names that results use."""
        return {
            **self.kept.as_dict(), "last_top1_error_percent": self.last.top1_error,
            ("best" if self.judge == "test" else "valid") + "_top1_error_percent": self.best_error,
            "best_epoch": self.best_epoch,
        }  # fmt: skip


def train_derived(
    run: Run, settings: TrainDerived, model: Network, optimizer: torch.optim.Optimizer, data: TrainingData,
    lr_of: Callable[[int], float], criterion: Callable[[Tensor, Tensor], Tensor], keep_best: bool,
) -> Trained:  # fmt: skip
    """Train ``model``, on its device; it ends with the kept weights.

    lr_of: epoch -> learning rate. criterion: (logits, labels) -> mean loss. keep_best: keep the best epoch's weights
    instead of the last one's. Of a set with a validation part this part judges the epochs, and the test set is looked
    at once.
    """
    device, precision = next(model.parameters()).device, run.options.precision
    loss_of, counter = auxiliary_loss(criterion, settings.auxiliary_weight), TopK(device)
    best = Values(error=float("inf"), epoch=-1, weights=None)
    run.keeps(model=model, optimizer=optimizer, counter=counter, best=best)
    word, tested = "test" if data.judge == "test" else "valid", None

    def errors(part: str) -> Metrics:
        return evaluate(model, run.shows(data.judged[part], part), device, precision)

    for epoch in run.epochs(settings.epochs):
        model.train()
        model.drop_path_prob = drop_path_probability(settings.drop_path, epoch, settings.epochs)
        optimizer.param_groups[0]["lr"] = lr = lr_of(epoch)
        for step, shares in run.steps(data.train.in_shares(), epoch):
            train_step(
                model, shares, optimizer, loss_of, clip_norm=settings.clip, precision=precision, counter=counter,
                step=step,
            )  # fmt: skip
        trained = read(counter)
        row: dict[str, Any] = {
            "epoch": epoch, "lr": lr, "drop_path": model.drop_path_prob, "train_loss": trained.loss,
            "train_top1_error_percent": trained.top1_error, f"{word}_loss": None,
            f"{word}_top1_error_percent": None, f"{word}_top5_error_percent": None,
        }  # fmt: skip
        if (epoch + 1) % settings.eval_every == 0 or epoch + 1 == settings.epochs:
            tested = errors(data.judge)
            row |= {f"{word}_{name}": value for name, value in tested.as_dict().items()}
            if tested.top1_error < best.error:
                best.error, best.epoch = tested.top1_error, epoch
                best.weights = {k: v.clone() for k, v in model.state_dict().items()} if keep_best else None
        run.log(**row)

    last = kept = tested if tested is not None and word == "test" else errors("test")
    if best.weights is not None:
        model.load_state_dict(best.weights)
        kept = errors("test")
    return Trained(kept, last, best.error, best.epoch, data.judge)


def drop_path_probability(final: float, epoch: int, epochs: int) -> float:
    """p e / E: 0 in the first epoch."""
    return final * epoch / epochs


def save_derived(run: Run, settings: TrainDerived, model: Network, genotype: Genotype, data: TrainingData) -> None:
    """weights.safetensors of the kept weights; its metadata say what they are of."""
    if run.writes:
        about = about_derived(run, settings, model, genotype, data)
        save_weights(model, run.folder / "weights.safetensors", about)


def about_derived(
    run: Run, settings: TrainDerived, model: Network, genotype: Genotype, data: TrainingData
) -> dict[str, Any]:
    """What weights of ``model`` are of."""
    return {
        "architecture": genotype.as_dict(), "space": "darts", "dataset": settings.dataset,
        "classes": len(data.classes), "class_names": list(data.classes), "pixels": data.pixels,
        "width": settings.channels, "depth": settings.layers, "stage": run.options.section,
        "paper": run.options.paper, "network": "imagenet" if isinstance(model, NetworkImageNet) else "cifar",
    }  # fmt: skip
