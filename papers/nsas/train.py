"""Training a derived CNN from scratch: the CIFAR recipe and the two ImageNet recipes (Method 8 and 9).

The epochs are ``common.spaces.darts.train``; here stand this paper's data, rates and loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from common.data.pictures.sizes import image_size
from common.errors import UserError
from common.run import seeds
from common.run.device import pick_device
from common.run.folder import open_run, say
from common.settings import refuse_idle
from common.spaces.counting import parameters
from common.spaces.darts.data import TrainingData, open_large, open_small
from common.spaces.darts.network import derived
from common.spaces.darts.train import about_derived, save_derived, train_derived
from common.train.compiling import compile_whole
from common.train.losses import label_smoothing_cross_entropy
from common.train.schedules import cosine, exponential
from common.use.darts import DerivedStart, derived_start
from common.use.finetune import settled
from papers.nsas.data import augmentation
from papers.nsas.method.schedules import imagenet_linear, shifted
from papers.nsas.networks.architectures import load_genotype
from papers.nsas.settings import Train

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

IMAGENET_PIXELS = 128  # pictures from this side on take the ImageNet network


def train(settings: Train, options: RunOptions) -> dict[str, Any]:
    """CE(main) + 0.4 CE(auxiliary), SGD, gradients cut to norm 5; drop-path grows as p e / E.

    CIFAR: the last epoch's weights are kept and tested; ImageNet: the best one's are kept, and the errors of the last
    and of the best epoch are reported. On a set with a validation part of its own this part judges the epochs, and the
    kept weights are tested once. Raises UserError for settings that do not fit together.
    """
    settings, start = started(settings, options)
    network, device = network_of(settings, options), pick_device(options)
    genotype = start.genotype if start else load_genotype(settings.arch)
    imagenet = network == "imagenet"
    data = open_data(settings, network, options, device)
    with open_run(options, settings, data=data) as run:
        if run.result is not None:
            return run.result
        classes = len(data.classes)
        say(f"{network} network, {settings.channels} channels, {settings.layers} cells, {classes} classes")
        seeds.seed_everything(options.seed)
        model = derived(genotype, imagenet, classes, settings.channels, settings.layers, settings.auxiliary).to(device)
        origin = {"started_from": start.start.into(model, data.classes, settings.dataset)} if start else {}
        optimizer = torch.optim.SGD(
            model.parameters(), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        compile_whole(model, options)
        data = replace(data, train=SeededSteps(data.train, options.seed))
        criterion = loss_function(settings.label_smoothing)
        run.tells(about_derived(run, settings, model, genotype, data), raw="model")
        trained = train_derived(
            run, settings, model, optimizer, data, lambda epoch: learning_rate(settings, epoch), criterion, imagenet
        )
        save_derived(run, settings, model, genotype, data)
        judged_by_test = trained.judge == "test"
        metrics = {
            **(trained.last if judged_by_test else trained.kept).as_dict(),
            f"{'best' if judged_by_test else 'valid'}_top1_error_percent": trained.best_error,
            "best_epoch": trained.best_epoch, "parameters": parameters(model),
        }  # fmt: skip
        return run.finish({"metrics": metrics, "architecture": genotype.as_dict(), "network": network, **origin})


def started(settings: Train, options: RunOptions) -> tuple[Train, DerivedStart | None]:
    """The weights of ``--checkpoint``, and the settings with what they settle: cells, width, depth, form. Raises
    UserError.
    """
    settings, start = derived_start(settings, options.given, "nsas", load_genotype)
    if start is not None:
        form = {"network": "imagenet" if start.form.imagenet else "cifar"}
        settings = settled(settings, options.given, form, start.start.found.source)
    return settings, start


def network_of(settings: Train, options: RunOptions) -> str:
    """The network, "cifar" or "imagenet". Raises UserError for settings that no recipe has."""
    if settings.schedule == "linear" and settings.epochs <= 5:
        raise UserError(f"--schedule linear ends with five epochs of their own: --epochs {settings.epochs} is too few")
    network = form_of(settings.network, settings.dataset, options)
    if network == "imagenet":
        if settings.schedule == "cosine" and "schedule" not in (options.given or ()):
            raise UserError(
                f"--dataset {settings.dataset} takes the ImageNet network, and the default is the CIFAR recipe; choose "
                f"--variant imagenet-step or imagenet-linear, or --network cifar"
            )
        refuse_idle(settings, {"cutout": "--network cifar"}, options.given)
    return network


def form_of(network: str, dataset: str, options: RunOptions) -> str:
    """The network that is asked for, or, for "auto", by the size of the pictures: never by the name of a folder."""
    if network != "auto":
        return network
    return "imagenet" if image_size(dataset, options) >= IMAGENET_PIXELS else "cifar"


def open_data(settings: Train, network: str, options: RunOptions, device: torch.device) -> TrainingData:
    """What the recipe reads. Raises UserError."""
    if network == "imagenet":
        return open_large(settings, options, device, settings.workers)
    return open_small(settings, options, device, lambda images: augmentation(images, settings.cutout))


class SeededSteps:
    """Batches in shares; before each the generator of drop-path is set, as a function of (seed, epoch, step)."""

    def __init__(self, batches: Any, seed: int) -> None:
        self.batches, self.seed = batches, seed

    def __len__(self) -> int:
        return len(self.batches)

    def in_shares(self) -> SeededSteps:
        """These, as ``run.steps`` takes them."""
        return self

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """The shares of every batch from ``start`` on."""
        for step, shares in enumerate(self.batches.shares(epoch, start), start):
            torch.manual_seed(seeds.integer(self.seed, "drop-path", epoch, step))
            yield shares


def learning_rate(settings: Train, epoch: int) -> float:
    """The rate of an epoch under the schedule; with ``shifted_lr`` that of the next one."""
    epoch = shifted(epoch, settings.shifted_lr)
    if settings.schedule == "cosine":
        return cosine(settings.lr, settings.lr_min, epoch, settings.epochs)
    if settings.schedule == "step":
        return exponential(settings.lr, 0.97, epoch)
    return imagenet_linear(epoch, settings.lr, settings.epochs, settings.batch_size)


def loss_function(label_smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy, or with label smoothing 0.1: targets 0.9 one-hot + 0.1 / K on all classes."""
    if label_smoothing:
        return lambda logits, y: label_smoothing_cross_entropy(logits, y, label_smoothing)
    return cross_entropy
