"""Training from scratch: the ImageNet recipe (RMSprop, EMA, squeeze-excite, h-swish) or CIFAR's (SGD, cosine)."""

from __future__ import annotations

from typing import Any

import torch

from common.cli.errors import UserError
from common.cli.ranges import refuse_idle
from common.data.parts import in_file_order, take
from common.data.pictures.sets import has_validation
from common.run import seeds
from common.run.folder import open_run
from common.train import distributed
from common.train.device import pick_device
from common.train.loop import evaluate, read, train_steps
from common.train.losses import TopK, label_smoothing_cross_entropy
from common.train.optim import EMA, RMSpropTF, without_decay
from common.train.schedules import cosine, step_decay, warm_up
from common.weights.read import save_weights
from papers.sgnas.data import sets as datasets
from papers.sgnas.describe import counts
from papers.sgnas.network.derived import Network, to_published
from papers.sgnas.ranges import check_ranges
from papers.sgnas.settings import TrainSettings


def learning_rate(c: TrainSettings, epoch: int, step: int, steps: int) -> float:
    """CIFAR: a cosine per step. ImageNet: constant within an epoch, a linear warm-up, then a step decay
    without offset."""
    if c.schedule == "cosine":
        return cosine(c.learning_rate, 0.0, epoch * steps + step, c.epochs * steps)
    after = step_decay(c.learning_rate, c.decay_rate, epoch, c.decay_epochs)
    return warm_up(c.warmup_lr, c.learning_rate, epoch, c.warmup_epochs, after)


def build_optimizer(network: torch.nn.Module, c: TrainSettings) -> torch.optim.Optimizer:
    """SGD with decay on everything, or TensorFlow-style RMSprop without decay on biases and one-dimensional tensors."""
    if c.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(), c.learning_rate, momentum=c.momentum, weight_decay=c.weight_decay, foreach=True
        )
    groups = without_decay(network, c.weight_decay)
    return RMSpropTF(groups, lr=c.learning_rate, alpha=0.9, eps=0.001, momentum=c.momentum)


def check_train(c: TrainSettings, given: frozenset[str]) -> None:
    """Raises UserError for a setting out of range, or one that the chosen schedule does not use."""
    check_ranges(c)
    unused = []
    if c.schedule == "cosine":
        unused = ["decay_epochs", "decay_rate", "warmup_lr", *(["warmup_epochs"] if c.warmup_epochs else [])]
    refuse_idle(c, dict.fromkeys(unused, "--schedule step"), given)
    if not c.warmup_epochs:
        refuse_idle(c, {"warmup_lr": "--warmup-epochs 1 or more"}, given)


def training_batches(c: TrainSettings, images: Any, seed: int, device: torch.device) -> datasets.Loader:
    """The epochs of training. A last, smaller batch is left out, as the authors do on ImageNet; on CIFAR it counts."""
    last = not in_file_order(images)
    return datasets.loader(
        c.dataset, images, c.batch_size, seed, device, "scratch", "train", c.workers, last, shares=c.parts
    )


def train(settings: TrainSettings, options: Any) -> dict[str, Any]:
    """The ``train`` verb. Tests after every epoch and keeps the weights (the averaged ones where EMA is on) that do
    best; on a set with a validation part of its own this part chooses, and the weights it chose are tested once.
    """
    c = settings
    check_train(c, options.given or frozenset())
    if c.epochs < 1:
        raise UserError(f"--epochs must be at least 1, not {c.epochs}")
    distributed.setup()
    device = pick_device(options)
    images, test = datasets.open_set(c.dataset, "train", options), datasets.open_set(c.dataset, "test", options)
    judge = datasets.open_set(c.dataset, "val", options) if has_validation(c.dataset) else test
    images = take(images, c.train_images, "--train-images")
    kernels, macro = datasets.network_of(c.arch, c.dataset, images, c.macro)
    classes = len(images.classes)
    extra = {
        "data": {**images.pins, **judge.pins, **test.pins},
        "pinned": images.pinned and test.pinned,
        "kernels": kernels,
        "macro": macro.name,
    }
    with open_run(options, c, extra) as run:
        if run.result is not None:
            return run.result
        build = (macro, kernels, classes, c.se, c.activation, c.bn_momentum, c.dropout)
        network = Network(*build, seeds.generator(options.seed, "weights")).to(device)
        optimizer = build_optimizer(network, c)
        ema = EMA(network, c.ema) if c.ema else None
        batches = training_batches(c, images, options.seed, device)
        judging, tests = (
            datasets.loader(c.dataset, part, 256, options.seed, device, "test", "test", c.workers)
            for part in (judge, test)
        )
        word = "test" if judge is test else "valid"  # what chooses the epoch; the published sets have no part for it
        counter, steps = TopK(device), len(batches)
        best: dict[str, Any] = {"error": float("inf"), "epoch": -1, "weights": None, "top5": None}
        last = None
        first = begin = 0
        if state := run.load():
            network.load_state_dict(state["network"])
            optimizer.load_state_dict(state["optimizer"])
            if ema is not None:
                ema.load_state_dict(state["ema"])
            best, last, first, begin = state["best"], state["last"], state["epoch"], state["step"]
            counter.restore(state["counter"])
        else:
            torch.manual_seed(seeds.integer(options.seed, "dropout", 0))

        def snapshot(epoch: int, step: int) -> dict[str, Any]:
            return {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "ema": ema.state_dict() if ema else None,
                "best": dict(best),
                "last": last,
                "counter": counter.state(),
                "epoch": epoch,
                "step": step,
            }

        def loss_of(output: Any, target: torch.Tensor) -> torch.Tensor:
            return label_smoothing_cross_entropy(output, target, c.label_smoothing)

        def rate(step: int, epoch: int) -> None:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(c, epoch, step, steps)

        test_loss = loss_of if c.smoothed_test_loss else torch.nn.functional.cross_entropy
        judged = Network(*build).to(device) if ema else network
        for epoch in range(first, c.epochs):
            network.train()
            rate(begin, epoch)
            progress = train_steps(
                network,
                run.progress(batches.shares(epoch, begin), f"epoch {epoch}", initial=begin),
                optimizer,
                loss_of,
                ema=ema,
                device=device,
                precision=options.precision,
                start_step=begin,
                counter=counter,
                seed=options.seed,
                epoch=epoch,
            )
            for done in progress:
                rate(done, epoch)
                if run.due():
                    run.save(snapshot(epoch, done))
            trained = read(counter)
            counter, begin = TopK(device), 0
            if ema is not None:
                ema.copy_to(judged)
            tested = evaluate(judged, judging.epoch(0), device, options.precision, loss=test_loss)
            last = tested.top1_error
            if tested.top1_error < best["error"]:
                weights = {name: tensor.clone() for name, tensor in judged.state_dict().items()}
                best = {"error": tested.top1_error, "top5": tested.top5_error, "epoch": epoch, "weights": weights}
            run.log(
                epoch=epoch,
                lr=learning_rate(c, epoch, 0, steps),
                train_loss=trained.loss,
                train_top1_error_percent=trained.top1_error,
                **{f"{word}_{name}": value for name, value in tested.as_dict().items()},
            )
            run.save(snapshot(epoch + 1, 0))
        errors = {"top1_error_percent": best["error"], "top5_error_percent": best["top5"]}
        if judge is not test:
            errors["valid_top1_error_percent"] = best["error"]
            if ema is not None:
                ema.copy_to(judged)
            last = evaluate(judged, tests.epoch(0), device, options.precision).top1_error
        network.load_state_dict(best["weights"])
        if judge is not test:
            errors |= evaluate(network, tests.epoch(0), device, options.precision, loss=test_loss).as_dict()
            errors.pop("loss")
        if distributed.rank() == 0:
            about = {
                "paper": "sgnas",
                "stage": "train",
                "space": "sgnas",
                "architecture": {"kernels": kernels, "macro": macro.name},
                "dataset": c.dataset,
                "classes": classes,
                "input_size": macro.input_size,
                "se": c.se,
                "activation": c.activation,
                "weights": "ema" if ema else "raw",
            }
            save_weights(Published(network), run.folder / "weights.safetensors", about)
        found = counts(kernels, macro, classes, c.se)
        metrics = {
            **errors,
            "last_top1_error_percent": last,
            "best_epoch": best["epoch"],
            **found,
        }
        return run.finish({"metrics": metrics, "architecture": {"kernels": kernels, "macro": macro.name}})


class Published(torch.nn.Module):
    """A view of a network whose state dict has the authors' names and channel order."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        tensors = to_published(self.network.state_dict(), self.network)
        return {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
