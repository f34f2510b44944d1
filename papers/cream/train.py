"""Training a derived network: RMSpropTF, EMA, RandAugment, random erasing, label smoothing (Method 11)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from common.data.batches import Epochs
from common.data.parts import take
from common.data.pictures.sets import has_validation
from common.run import distributed, seeds
from common.run.device import autocast, pick_device
from common.run.folder import Run, open_run, say
from common.run.keep import Values
from common.run.progress import shows
from common.train.compiling import compile_whole
from common.train.loop import Metrics, evaluate, gradients, read
from common.train.losses import TopK, label_smoothing_cross_entropy
from common.train.optim import EMA, RMSpropTF, without_decay
from common.use.finetune import Start, arch_asked, settled
from common.use.settings import OfWeights
from common.weights.read import save_weights
from papers.cream.data import batches as data
from papers.cream.data import sets
from papers.cream.data.randaugment import RandAugment
from papers.cream.method.schedules import training_lr, untrained_share
from papers.cream.networks.architectures import Architecture, resolve
from papers.cream.networks.derived import architecture_of, input_size, single_block_rule, spec_of
from papers.cream.networks.layout import NetworkSpec
from papers.cream.networks.networks import DerivedNetwork, placed
from papers.cream.settings import Recipe, Train
from papers.cream.use import held_network

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

TESTED = ("top1_error_percent", "top5_error_percent", "loss", "raw_top1_error_percent", "raw_top5_error_percent")


def train(settings: Train, options: RunOptions) -> dict[str, Any]:
    """Train, testing raw and EMA weights after every epoch; the reported numbers are the EMA's last, its best beside.

    A folder with ``val`` beside ``test`` is watched on ``val`` and tested once, at the end. Writes weights.safetensors
    (EMA), weights_raw.safetensors and result.json. Raises UserError.
    """
    settings, arch, start = started(settings, options)
    size = input_size(arch, settings.resolution, settings.dataset)
    images = take(sets.open_source(settings.dataset, "train", size, options), settings.train_images, "--train-images")
    test = sets.open_source(settings.dataset, "test", size, options)
    validation = sets.open_source(settings.dataset, "val", size, options) if has_validation(settings.dataset) else test
    prefix = "" if validation is test else "valid_"  # of what is measured after an epoch
    data.refuse_interpolation(settings, test, options.given)
    device = pick_device(options)
    distributed.setup()
    classes = len(images.classes)
    spec = spec_of(arch, classes, settings.single_block, settings.repeat_stage3)
    batches = training_batches(images, settings, size, options.seed, device)
    tested, watched = (testing_batches(part, settings, size, device) for part in (test, validation))
    rate, epochs = training_lr(settings, arch.name)
    if line := untrained_share(settings, epochs * len(batches)):
        say(line)
    parts = [images, test] if validation is test else [images, test, validation]
    with open_run(options, settings, data=parts, path=arch.path) as run:
        if run.result is not None:
            return run.result
        network = Training(spec, settings, options.seed, device)
        origin = {"started_from": network.start_from(start, images.classes, settings.dataset)} if start else {}
        for net in (network.net, network.averaged()):
            compile_whole(net, options)
        now = Values(measured=dict.fromkeys(named(prefix)), best={})
        about = {
            "paper": "cream", "stage": "train", "space": "cream", "dataset": settings.dataset, "classes": classes,
            "class_names": list(images.classes),
            "architecture": architecture_of(arch, size, settings.single_block, settings.repeat_stage3),
        }  # fmt: skip
        run.tells(about, raw="network.net", ema="network.ema")
        run.keeps(network=network, now=now)
        for epoch, trained in fit(run, network, batches, settings, rate, epochs):
            row: dict[str, Any] = dict.fromkeys(named(prefix))
            if (epoch + 1) % settings.eval_every == 0 or epoch + 1 == epochs:
                row = now.measured = network.errors(watched, options.precision, prefix)
                error, least = row[f"{prefix}top1_error_percent"], f"best_{prefix}top1_error_percent"
                if not now.best or error < now.best[least]:
                    now.best = {least: error, "best_epoch": epoch}
            run.log(epoch=epoch, lr=rate(epoch), train_loss=trained.loss, train_top1_error_percent=trained.top1_error,
                    **row)  # fmt: skip

        metrics = {**now.measured, **now.best}
        if validation is not test:
            metrics |= network.errors(tested, options.precision)
        if run.writes:
            save_weights(network.averaged(), run.folder / "weights.safetensors", {**about, "weights": "ema"})
            save_weights(network.net, run.folder / "weights_raw.safetensors", {**about, "weights": "raw"})
        metrics |= {**spec.sizes(size), "epochs": epochs, "steps": epochs * len(batches)}
        architecture = {"path": arch.path, "resolution": size}
        return run.finish(
            {"paper": "cream", "stage": "train", "metrics": metrics, "architecture": architecture, **origin}
        )


def started(settings: Train, options: RunOptions) -> tuple[Train, Architecture, Start | None]:
    """(settings, architecture, the weights of ``--checkpoint``), the first two as those weights say. Raises UserError
    where a flag says otherwise, and where nobody says of which network the weights are.
    """
    if not settings.checkpoint:
        return settings, resolve(settings.arch), None
    named = arch_asked(settings, options.given)
    held = held_network(OfWeights(checkpoint=settings.checkpoint, arch=named), settings)
    file, found, arch = held.file, held.found, held.architecture
    said = {
        "single_block": "default" if single_block_rule(arch, settings.single_block) else "strict",
        "repeat_stage3": settings.repeat_stage3 or bool(arch.extra.get("repeat_stage3")),
    }  # fmt: skip
    own = {name: said[name] for name in said if arch.extra}  # of files that do not say it, the flags say it
    settings = settled(settings, options.given, own, found.source, arch=named, checkpoint=str(file))
    return settings, arch, Start(file, found, held.network.state_dict(), held.network.classes)


class Training:
    """A network being trained, its averaged weights, optimiser and counts: what a run keeps of a training."""

    def __init__(self, spec: NetworkSpec, recipe: Recipe, seed: int, device: torch.device) -> None:
        seeds.seed_everything(seed)
        self.net = placed(DerivedNetwork(spec, recipe.dropout), device)
        distributed.broadcast(self.net.state_dict().values())
        self.optimizer = RMSpropTF(
            without_decay(self.net, recipe.weight_decay), recipe.lr, recipe.alpha, recipe.optimizer_eps,
            momentum=recipe.momentum,
        )  # fmt: skip
        self.ema = EMA(self.net, recipe.ema_decay)
        self.counter = TopK(device)
        self.device = device
        self._smooth = placed(DerivedNetwork(spec), device)

    def start_from(self, start: Start, classes: Sequence[str], dataset: str) -> dict[str, Any]:
        """Take the weights of a file, for the average too; what result.json says of it."""
        said = start.into(self.net, classes, dataset)
        self.ema = EMA(self.net, self.ema.decay)
        return said

    def averaged(self) -> DerivedNetwork:
        """The network with the averaged weights as they are now."""
        self.ema.copy_to(self._smooth)
        return self._smooth

    def errors(self, test: Epochs, precision: str, prefix: str = "") -> dict[str, Any]:
        """Loss and errors of the averaged weights and errors of the raw ones, under the names TESTED with a prefix."""
        raw, ema = (evaluate(net, shows(test, "test"), self.device, precision) for net in (self.net, self.averaged()))
        values = (ema.top1_error, ema.top5_error, ema.loss, raw.top1_error, raw.top5_error)
        return dict(zip(named(prefix), values, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Weights, average, optimiser and counts (in several processes a common act of all)."""
        return {name: getattr(self, name).state_dict() for name in ("net", "ema", "optimizer", "counter")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)


def fit(
    run: Run, network: Training, batches: Epochs, recipe: Recipe, rate: Callable[[int], float], epochs: int
) -> Iterator[tuple[int, Metrics]]:
    """Train with the learning rate rate(epoch); after every epoch, before it is saved: (epoch, its training metrics).

    network: kept by the run.
    """
    for epoch in run.epochs(epochs):
        for group in network.optimizer.param_groups:
            group["lr"] = rate(epoch)
        network.net.train()
        for step, shares in run.steps(batches.in_shares(), epoch):
            train_step(network, shares, recipe.label_smoothing, run.options, epoch * len(batches) + step)
            network.ema.update(network.net)
        yield epoch, read(network.counter)


def train_step(
    network: Training, shares: list[tuple[Tensor, Tensor]], label_smoothing: float, options: RunOptions, step: int
) -> None:
    """One update from this process's shares of a batch: the gradient is the mean over the images of the whole batch.

    Dropout's mask is a function of step and share, however the shares are shared out. Raises UserError when the mean
    loss is not finite, before the update, in all processes or in none.
    """
    net, places = network.net, count(distributed.rank() * len(shares))

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        if net.dropout:
            torch.manual_seed(seeds.integer(options.seed, "dropout", step, next(places)))
        with autocast(labels.device, options.precision):
            logits = net(images)
        loss = label_smoothing_cross_entropy(logits.float(), labels, label_smoothing)
        network.counter.add(logits, labels, loss)
        return loss

    network.optimizer.zero_grad(set_to_none=True)
    gradients(net, shares, loss_of, step=step)
    network.optimizer.step()


def named(prefix: str) -> tuple[str, ...]:
    """The names of what is tested."""
    return tuple(prefix + name for name in TESTED)


def training_batches(images: sets.Source, recipe: Recipe, size: int, seed: int, device: torch.device) -> Epochs:
    """Batches of the recipe's augmentation."""
    augment = None
    if recipe.randaugment:
        augment = RandAugment(recipe.randaugment, recipe.randaugment_operations, recipe.randaugment_std)
    return data.train_batches(images, recipe, size, seed, device, randaugment=augment)


def testing_batches(images: sets.Source, recipe: Recipe, size: int, device: torch.device) -> Epochs:
    """Batches that are only tested."""
    return data.plain_batches(images, recipe.eval_batch_size, size, device, recipe.workers, recipe.interpolation)
