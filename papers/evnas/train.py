"""Training a network from scratch by the CIFAR or the ImageNet recipe (Method 7 of the README), or a cell of
NAS-Bench-201 by the benchmark's.

The epochs are ``common.spaces.darts.train``; here stands what is EvNAS's: data, rates, criterion, kept weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from common.data.augment import Augmentation
from common.errors import UserError
from common.run import seeds
from common.run.device import pick_device
from common.run.folder import open_run
from common.spaces.counting import parameters
from common.spaces.darts.data import TrainingData, open_large, open_small
from common.spaces.darts.train import about_derived, save_derived, train_derived
from common.spaces.nasbench201.settings import TrainCell
from common.spaces.nasbench201.train import train_cell
from common.train.compiling import compile_whole
from common.train.losses import label_smoothing_cross_entropy
from common.train.schedules import cosine, linear_then_slow, warm_up_factor
from common.use.darts import DerivedStart, derived_start
from common.use.nasbench201 import cell_start
from papers.evnas.networks.architectures import PUBLISHED, build, constants, load_genotype
from papers.evnas.settings import Train, TrainImageNet

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

S = TypeVar("S", bound=Train | TrainImageNet)


def train(settings: Train | TrainImageNet, options: RunOptions) -> dict[str, Any]:
    """Loss CE(main) + 0.4 CE(auxiliary) (ImageNet: label-smoothed), SGD, gradients cut to norm 5, drop path from 0.

    The CIFAR weights kept are the last epoch's, the ImageNet weights the best epoch's, as in the authors' programs.
    """
    imagenet, device = isinstance(settings, TrainImageNet), pick_device(options)
    settings, start = started(settings, options)
    genotype = start.genotype if start else load_genotype(settings.arch)
    data = open_data(settings, options, device)
    with open_run(options, settings, data=data) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = build(
            genotype, imagenet, len(data.classes), settings.channels, settings.layers, settings.auxiliary
        ).to(device)  # fmt: skip
        origin = {"started_from": start.start.into(model, data.classes, settings.dataset)} if start else {}
        optimizer = torch.optim.SGD(
            model.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay, fused=True
        )
        compile_whole(model, options)
        run.tells(about_derived(run, settings, model, genotype, data), raw="model")
        trained = train_derived(
            run, settings, model, optimizer, data, lambda epoch: rate(settings, epoch), criterion(settings), imagenet
        )
        save_derived(run, settings, model, genotype, data)
        metrics = {**trained.as_dict(), "parameters": parameters(model)}
        return run.finish({"metrics": metrics, "architecture": genotype.as_dict(), **origin})


def started(settings: S, options: RunOptions) -> tuple[S, DerivedStart | None]:
    """The weights of ``--checkpoint``, and the settings with what they settle. Raises UserError, for weights of the
    other recipe's network too.
    """
    settings, start = derived_start(settings, options.given, "evnas", load_genotype)
    if start is not None and start.form.imagenet != isinstance(settings, TrainImageNet):
        own, other = ("an ImageNet", "imagenet") if start.form.imagenet else ("a CIFAR", "cifar")
        raise UserError(f"{start.start.found.source} is of {own} network; add --recipe {other}")
    return settings, start


def train_nb201(settings: TrainCell, options: RunOptions) -> dict[str, Any]:
    """A cell of NAS-Bench-201 by the benchmark's own recipe, beside what its tables say. Raises UserError."""
    settings, cell, start = cell_start(settings, options, PUBLISHED)
    return train_cell(settings, options, cell, start)


def open_data(settings: Train | TrainImageNet, options: RunOptions, device: torch.device) -> TrainingData:
    """What the recipe reads. Raises UserError."""
    if isinstance(settings, TrainImageNet):
        return open_large(settings, options, device, settings.workers)
    if settings.dataset == "imagenet":
        raise UserError("imagenet takes the ImageNet recipe; add --recipe imagenet")
    pad, flip, cutout = settings.pad, settings.flip, settings.cutout
    return open_small(
        settings, options, device, lambda images: Augmentation(*constants(images.name), pad, flip, cutout)
    )


def criterion(settings: Train | TrainImageNet) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy; on ImageNet label-smoothed."""
    if isinstance(settings, Train):
        return cross_entropy
    smoothing = settings.label_smoothing
    return lambda logits, target: label_smoothing_cross_entropy(logits, target, smoothing)


def rate(settings: Train | TrainImageNet, epoch: int) -> float:
    """The learning rate of an epoch, constant inside it."""
    if isinstance(settings, TrainImageNet):
        warmup = settings.warmup_epochs if settings.batch_size > 256 else 0
        return imagenet_lr(settings.schedule, settings.lr, epoch, settings.epochs, warmup)
    return cosine(settings.lr, 0.0, epoch, settings.epochs)


def imagenet_lr(schedule: str, lr: float, epoch: int, epochs: int, warmup: int = 0) -> float:
    """Linear, the last five epochs at a fifth of the slope; the first W = ``warmup`` epochs times (e + 1) / W.

    Cosine is as the released program steps it: before the first epoch, so that epoch e has the rate f(e + 1) with
    f(t) = lr/2 (1 + cos(pi t / E)), and 0 in the last. Its warm-up changes the optimizer's rate, from which the
    recursion goes on, and asks for the rate outside a step, which applies the recursion once more: every warmed epoch k
    multiplies all later rates by f(k + 1) / f(k) (k + 1) / W. With W = 5 a twenty-sixth of the rate is left for good.
    """
    warmed = min(epoch + 1, warmup)
    if schedule == "linear":
        lr = linear_then_slow(lr, epoch, epochs)
        return lr * warm_up_factor(epoch, warmup) if warmed else lr
    lr = cosine(lr, 0.0, epoch + 1, epochs)
    return lr * cosine(1.0, 0.0, warmed, epochs) * math.prod((k + 1) / warmup for k in range(warmed))
