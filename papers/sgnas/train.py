"""Training from scratch (Method 9): ImageNet's recipe (RMSprop, averaged weights) or CIFAR's (SGD, cosine)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from common.data.parts import fitting_batch, in_file_order, refuse_sizes, take
from common.data.pictures.sets import has_validation
from common.run import distributed, seeds
from common.run.device import pick_device
from common.run.folder import Run, open_run
from common.run.keep import Values
from common.run.progress import shows
from common.train.compiling import compile_whole
from common.train.loop import Metrics, evaluate, read, train_step
from common.train.losses import TopK, label_smoothing_cross_entropy
from common.train.optim import EMA, RMSpropTF, without_decay
from common.train.schedules import cosine, step_decay, warm_up
from common.use.finetune import Start, arch_asked, read_start, settled
from common.use.names import weights_of
from common.use.settings import OfWeights
from common.weights.read import Checkpoint, save_weights
from papers.sgnas import use
from papers.sgnas.data import sets as datasets
from papers.sgnas.describe import counts
from papers.sgnas.evaluate import load_weights
from papers.sgnas.networks.architectures import SPACE, Kernels, Macro, check_kernels, macro_for
from papers.sgnas.networks.architectures import read as read_architecture
from papers.sgnas.networks.derived import Network
from papers.sgnas.networks.published_keys import Published
from papers.sgnas.settings import Train

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

TEST_BATCH_SIZE = 256


def rate(c: Train, epoch: int, step: int, steps: int) -> float:
    """Learning rate of a step. CIFAR: a cosine. ImageNet: a linear warm-up, then a step decay, by the epoch."""
    if c.schedule == "cosine":
        return cosine(c.lr, 0.0, epoch * steps + step, c.epochs * steps)
    after = step_decay(c.lr, c.decay_rate, epoch, c.decay_epochs)
    return warm_up(c.warmup_lr, c.lr, epoch, c.warmup_epochs, after)


def build_optimizer(network: torch.nn.Module, c: Train) -> torch.optim.Optimizer:
    """SGD with decay on everything, or TensorFlow-style RMSprop without decay on biases and one-dimensional tensors."""
    if c.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(), c.lr, momentum=c.momentum, weight_decay=c.weight_decay, foreach=True
        )
    return RMSpropTF(without_decay(network, c.weight_decay), lr=c.lr, alpha=0.9, eps=0.001, momentum=c.momentum)


def training_batches(c: Train, images: Any, seed: int, device: torch.device) -> datasets.Loader:
    """The epochs of training. A last, smaller batch is left out, as the authors do on ImageNet; on CIFAR it counts."""
    batches = datasets.Loaders(c.dataset, seed, device, c.workers)
    return batches(images, c.batch_size, "scratch", "train", drop_last=not in_file_order(images), parts=c.parts)


def test_batches(c: Train, images: Any, seed: int, device: torch.device) -> datasets.Loader:
    """The images that trained weights are tested on."""
    return datasets.Loaders(c.dataset, seed, device, c.workers)(images, TEST_BATCH_SIZE, "test", "test")


@dataclass(frozen=True)
class Data:
    """What is trained on, what chooses the epoch, what is reported, and the network for them.

    judge: the set's own validation part; a set without one (the published ones) is judged by ``test``.
    """

    images: datasets.ImageSet
    judge: datasets.ImageSet
    test: datasets.ImageSet
    kernels: Kernels
    macro: Macro

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.images.classes)


def open_data(c: Train, options: RunOptions, start: Started | None = None) -> Data:
    """start: weights, whose architecture is then trained. Raises UserError where the set or the architecture cannot be
    read, or do not fit.
    """
    images: Any = datasets.open_set(c.dataset, "train", options)
    test = datasets.open_set(c.dataset, "test", options)
    judge = datasets.open_set(c.dataset, "val", options) if has_validation(c.dataset) else test
    images = take(images, c.train_images, "--train-images")
    batch = fitting_batch(len(images), c.batch_size)
    parts = c.parts if batch == c.batch_size or batch >= 2 * c.parts else 0
    refuse_sizes(images.name, len(images), len(images.classes), c, {"batch_size": batch, "parts": parts})
    if start is not None:
        return Data(images, judge, test, start.kernels, datasets.macro_of(c.dataset, images, start.macro))
    return Data(images, judge, test, *datasets.network_of(c.arch, c.dataset, images, c.macro))


@dataclass(frozen=True)
class Started:
    """Weights that a training starts from, and the network that they are of."""

    file: Path
    found: Checkpoint
    kernels: Kernels
    macro: str
    se: bool
    activation: str
    classes: int

    def into(self, network: Network, data: Data) -> dict[str, Any]:
        """Load them into the network that is to be trained; what result.json says of it. Raises UserError."""
        macro = macro_for(self.macro, data.macro.input_size)
        held = Network(macro, self.kernels, self.classes, self.se, self.activation)
        load_weights(held, self.found)
        start = Start(self.file, self.found, held.state_dict(), self.classes)
        return start.into(network, data.images.classes, data.images.name)


def started(settings: Train, options: RunOptions) -> tuple[Train, Started | None]:
    """The settings with what the weights of ``--checkpoint`` say of their network, and those. Raises UserError where a
    flag says something else.
    """
    if not settings.checkpoint:
        return settings, None
    named = arch_asked(settings, options.given)
    file, arch = weights_of(OfWeights(checkpoint=settings.checkpoint, arch=named))
    _, found = read_start(settings.checkpoint, "sgnas")
    own = use.of_weights(read_architecture(arch) if arch else None, found, use.Wanted(None, None))
    structure = own.macro or (settings.macro if settings.macro != "auto" else "imagenet")
    said = {"macro": structure, "se": own.se, **({"activation": own.activation} if found.metadata else {})}
    fixed = {"macro": said.pop("macro")} if settings.macro == "auto" else {}
    fixed |= {"arch": "" if found.metadata else str(arch), "checkpoint": str(file)}
    settings = settled(settings, options.given, said, found.source, **fixed)
    kernels = check_kernels(own.kernels, macro_for(structure), found.source)
    return settings, Started(file, found, kernels, structure, bool(own.se), settings.activation, own.classes)


def train(settings: Train, options: RunOptions) -> dict[str, Any]:
    """The ``train`` verb. After every epoch the weights (the averaged ones where EMA is on) are judged on the test set,
    or on the validation part of a set that has one; those that do best are kept, tested and written.
    """
    distributed.setup()
    c, start = started(settings, options)
    device, data = pick_device(options), open_data(c, options, start)
    pins = {**data.images.pins, **data.judge.pins, **data.test.pins}
    pinned = data.images.pinned and data.test.pinned
    with open_run(options, c, data=pins, pinned=pinned, kernels=data.kernels, macro=data.macro.name) as run:
        if run.result is not None:
            return run.result
        network = build(c, data, options.seed, device)
        origin = {"started_from": start.into(network, data)} if start else {}
        optimizer = build_optimizer(network, c)
        ema = EMA(network, c.ema_decay) if c.ema_decay else None
        torch.manual_seed(seeds.integer(options.seed, "dropout", 0))
        judged = build(c, data, options.seed, device) if ema else network
        for net in {network, judged}:
            compile_whole(net, options)
        counter, best = TopK(device), Values(error=float("inf"), top5=None, epoch=-1, weights=None, last=None)
        run.tells(about_of(c, data), raw="network", **({"ema": "ema"} if ema else {}))
        run.keeps(network=network, optimizer=optimizer, counter=counter, best=best, **({"ema": ema} if ema else {}))
        batches, loss_of = training_batches(c, data.images, options.seed, device), smoothed(c.label_smoothing)
        judging, tests = (test_batches(c, part, options.seed, device) for part in (data.judge, data.test))
        for epoch in run.epochs(c.epochs):
            network.train()
            for step, shares in run.steps(batches.in_shares(), epoch):
                for group in optimizer.param_groups:
                    group["lr"] = rate(c, epoch, step, len(batches))
                train_step(network, shares, optimizer, loss_of, precision=options.precision, counter=counter, step=step)
                if ema is not None:
                    ema.update(network)
            if ema is not None:
                ema.copy_to(judged)
            trained, found = read(counter), errors(c, judged, judging, options)
            best.last = found.top1_error
            if found.top1_error < best.error:
                best.error, best.top5, best.epoch = found.top1_error, found.top5_error, epoch
                best.weights = {name: tensor.clone() for name, tensor in judged.state_dict().items()}
            log(run, epoch, rate(c, epoch, 0, len(batches)), trained, found, data)
        if data.judge is data.test:
            network.load_state_dict(best.weights)
            metrics = {"top1_error_percent": best.error, "top5_error_percent": best.top5}
        else:  # what chose the epoch is not what is reported
            if ema is not None:
                ema.copy_to(judged)
            best.last = errors(c, judged, tests, options).top1_error
            network.load_state_dict(best.weights)
            found = errors(c, network, tests, options)
            metrics = {"top1_error_percent": found.top1_error, "top5_error_percent": found.top5_error}
            metrics["valid_top1_error_percent"] = best.error
        write_weights(run, network, c, data)
        metrics |= {"last_top1_error_percent": best.last, "best_epoch": best.epoch}
        metrics |= counts(data.kernels, data.macro, data.classes, c.se)
        return run.finish({
            "metrics": metrics, "architecture": {"kernels": data.kernels, "macro": data.macro.name}, **origin,
        })  # fmt: skip


def build(c: Train, data: Data, seed: int, device: torch.device) -> Network:
    """The derived network with fresh weights."""
    weights = seeds.generator(seed, "weights")
    return Network(
        data.macro, data.kernels, data.classes, c.se, c.activation, c.bn_momentum, c.dropout, weights
    ).to(device)  # fmt: skip


def smoothed(smoothing: float) -> Any:
    """(logits, labels) -> smoothed cross-entropy."""
    return lambda logits, labels: label_smoothing_cross_entropy(logits, labels, smoothing)


def errors(c: Train, network: Network, batches: datasets.Loader, options: RunOptions) -> Metrics:
    """Errors on all images of the batches; the loss is smoothed where the authors' was."""
    loss = smoothed(c.label_smoothing) if c.smoothed_test_loss else torch.nn.functional.cross_entropy
    return evaluate(network, shows(batches, "test"), pick_device(options), options.precision, loss=loss)


def log(run: Run, epoch: int, lr: float, trained: Metrics, found: Metrics, data: Data) -> None:
    """A row of history.csv; the columns of what chose the epoch say which part it was."""
    part = "test" if data.judge is data.test else "valid"
    tested: dict[str, Any] = {f"{part}_{name}": value for name, value in found.as_dict().items()}
    run.log(epoch=epoch, lr=lr, train_loss=trained.loss, train_top1_error_percent=trained.top1_error, **tested)


def about_of(c: Train, data: Data) -> dict[str, Any]:
    """All that ``evaluate`` asks of a file of weights."""
    return {
        "paper": "sgnas",
        "stage": "train",
        "space": SPACE,
        "architecture": {"kernels": data.kernels, "macro": data.macro.name},
        "dataset": c.dataset,
        "classes": data.classes,
        "class_names": list(data.images.classes),
        "input_size": data.macro.input_size,
        "se": c.se,
        "activation": c.activation,
        "weights": "ema" if c.ema_decay else "raw",
    }


def write_weights(run: Run, network: Network, c: Train, data: Data) -> None:
    """weights.safetensors under the authors' names."""
    if run.writes:
        save_weights(Published(network), run.folder / "weights.safetensors", about_of(c, data))
