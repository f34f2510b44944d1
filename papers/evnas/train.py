"""Training a network from scratch: the CIFAR recipe and the ImageNet recipe (README, "Training").

Loss = CE(main) + 0.4 CE(auxiliary) (ImageNet: label-smoothed), SGD, gradients clipped at norm 5, drop-path from 0.
The CIFAR weights kept are the last epoch's, the ImageNet weights the best epoch's, as in the authors' programs. Epochs
are judged on the test set as there; of a set with a validation part of its own on that part, the weights kept once on
the test set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from common.cli.errors import UserError
from common.data.augment import Augmentation
from common.data.batches import Batches, share_limits
from common.data.parts import take
from common.data.pictures.batches import EvalPictures, FolderBatches, TrainPictures, open_pictures
from common.data.pictures.sets import has_validation
from common.data.sets import open_images
from common.run import seeds
from common.run.folder import open_run
from common.spaces.counting import parameters
from common.spaces.darts.network import Genotype
from common.spaces.sizes import check_depth, check_last_batch, check_pixels
from common.train import distributed
from common.train.device import pick_device
from common.train.loop import Metrics, auxiliary_loss, evaluate, read, train_steps
from common.train.losses import TopK, label_smoothing_cross_entropy
from common.train.schedules import cosine, linear_then_slow, warm_up_factor
from common.weights.read import save_weights
from papers.evnas.networks import build, constants, load_genotype
from papers.evnas.ranges import check_training as check
from papers.evnas.settings_train import TrainImageNetSettings, TrainSettings


def cifar_lr(c: TrainSettings, epoch: int) -> float:
    """lr/2 (1 + cos(pi e / E)), constant inside an epoch."""
    return cosine(c.lr, 0.0, epoch, c.epochs)


def imagenet_lr(c: TrainImageNetSettings, epoch: int) -> float:
    """Linear, the last five epochs at a fifth of the slope; for batches above 256 the first W epochs times (e + 1) / W.

    Cosine is as the released program steps it: before the first epoch, so that epoch e has the rate f(e + 1) with
    f(t) = lr/2 (1 + cos(pi t / E)), and 0 in the last. Its warm-up changes the optimizer's rate, from which the
    recursion goes on, and asks for the rate outside a step, which applies the recursion once more: every warmed epoch k
    multiplies all later rates by f(k + 1) / f(k) (k + 1) / W. With W = 5 a twenty-sixth of the rate is left for good.
    """
    warmed = min(epoch + 1, c.warmup_epochs) if c.batch_size > 256 else 0
    if c.schedule == "linear":
        lr = linear_then_slow(c.lr, epoch, c.epochs)
        return lr * warm_up_factor(epoch, c.warmup_epochs) if warmed else lr
    lr = cosine(c.lr, 0.0, epoch + 1, c.epochs)
    return lr * cosine(1.0, 0.0, warmed, c.epochs) * math.prod((k + 1) / c.warmup_epochs for k in range(warmed))


def drop_path_probability(final: float, epoch: int, epochs: int) -> float:
    """p e / E: 0 in the first epoch."""
    return final * epoch / epochs


def train(settings: TrainSettings, options: Any) -> dict[str, Any]:
    """The ``train`` verb on CIFAR-like sets."""
    check(settings, options)
    c, device = settings, pick_device(options)
    genotype = load_genotype(c.arch)
    batches, judged, classes, pins = open_cifar(c, options, device)
    return _run(
        c, options, device, genotype, classes, batches, judged, lambda epoch: cifar_lr(c, epoch),
        torch.nn.functional.cross_entropy, {"data": pins}, keep_best=False,
    )  # fmt: skip


def train_imagenet(settings: TrainImageNetSettings, options: Any) -> dict[str, Any]:
    """The ``train --recipe imagenet`` verb: 224-pixel pictures from class folders or LMDB."""
    check(settings, options)
    c, device = settings, pick_device(options)
    genotype = load_genotype(c.arch)
    batches, judged, classes, pins = open_imagenet(c, options, device)

    def criterion(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return label_smoothing_cross_entropy(logits, target, c.label_smoothing)

    return _run(
        c, options, device, genotype, classes, batches, judged, lambda epoch: imagenet_lr(c, epoch), criterion,
        {"data": pins}, keep_best=True,
    )  # fmt: skip


Opened = tuple[Any, dict[str, Any], Sequence[str], dict[str, str]]


def judging(dataset: str) -> tuple[str, ...]:
    """The parts that a training is judged on, the one for its epochs first: ``val`` where it has one, ``test``."""
    return ("val", "test") if has_validation(dataset) else ("test",)


def open_cifar(c: TrainSettings, options: Any, device: torch.device) -> Opened:
    """(training batches, batches of each part of ``judging``, classes, pins) of images in memory. Raises UserError."""
    if c.dataset == "imagenet":
        raise UserError("imagenet takes the ImageNet recipe; add --recipe imagenet")
    images = open_images(c.dataset, "train", options)
    judged = {part: open_images(c.dataset, part, options) for part in judging(c.dataset)}
    check_pixels(c.dataset, images.size, c.auxiliary)
    check_depth(c.layers, c.auxiliary)
    images, (mean, std) = take(images, c.train_images, "--train-images"), constants(images.name)
    augmentation = Augmentation(mean, std, pad=c.pad, flip=c.flip, cutout=c.cutout)
    batches = Batches(
        images, c.batch_size, augmentation, options.seed, device=device, rank=distributed.rank(),
        world=distributed.world_size(), parts=c.parts,
    )  # fmt: skip
    check_shares(len(images), c.batch_size, batches.parts, c.auxiliary)
    tests = {
        part: Batches(
            held, c.eval_batch_size, augmentation, options.seed, shuffle=False, device=device, stream="test",
            rank=distributed.rank(), world=distributed.world_size(), parts=0,
        )
        for part, held in judged.items()
    }  # fmt: skip
    return batches, tests, images.classes, pins_of(images, *judged.values())


def open_imagenet(c: TrainImageNetSettings, options: Any, device: torch.device) -> Opened:
    """The same of pictures: random resized crop, flip, colour jitter; for testing the centre of 256."""
    check_depth(c.layers, c.auxiliary)
    pictures = open_pictures(c.dataset, "train", options)
    judged = {part: open_pictures(c.dataset, part, options) for part in judging(c.dataset)}
    batches = FolderBatches(
        pictures, c.batch_size, TrainPictures(jitter=(0.4, 0.4, 0.4, 0.2)), options.seed, device=device,
        workers=c.workers, rank=distributed.rank(), world=distributed.world_size(), parts=c.parts,
    )  # fmt: skip
    tests = {
        part: FolderBatches(
            held, c.eval_batch_size, EvalPictures(), options.seed, shuffle=False, device=device, stream="test",
            workers=c.workers, rank=distributed.rank(), world=distributed.world_size(), parts=0,
        )
        for part, held in judged.items()
    }  # fmt: skip
    return batches, tests, pictures.classes, pins_of(pictures, *judged.values())


def pins_of(*parts: Any) -> dict[str, str]:
    """What identifies the images of all parts."""
    return {name: digest for part in parts for name, digest in part.pins.items()}


def check_shares(images: int, batch_size: int, parts: int, auxiliary: bool) -> None:
    """The CIFAR auxiliary classifier normalises single pixels, and one image has no variance. Raises UserError."""
    check_last_batch(images, batch_size, auxiliary)
    for size in {min(batch_size, images), images % batch_size or batch_size} if auxiliary and parts > 1 else ():
        limits = share_limits(size, parts)
        if 1 in (after - before for before, after in pairwise(limits)):
            raise UserError(
                f"a batch of {size} images in {parts} shares leaves a share of one, which the auxiliary classifier "
                f"cannot normalise; change --batch-size or --train-images, or use --no-auxiliary"
            )


def _run(
    c: TrainSettings | TrainImageNetSettings, options: Any, device: torch.device, genotype: Genotype,
    classes: Sequence[str], batches: Any, judged: dict[str, Any], lr_of: Any, criterion: Any, extra: dict[str, Any],
    keep_best: bool,
) -> dict[str, Any]:  # fmt: skip
    """The epochs: learning rate and drop-path per epoch, train, test, save."""
    with open_run(options, c, extra) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        imagenet = isinstance(c, TrainImageNetSettings)
        model = build(genotype, imagenet, len(classes), c.channels, c.layers, c.auxiliary).to(device)
        optimizer = torch.optim.SGD(
            model.parameters(), c.lr, momentum=c.momentum, weight_decay=c.weight_decay, fused=True
        )
        loss_of = auxiliary_loss(criterion, c.auxiliary_weight)
        counter, first, begin = TopK(device), 0, 0
        best: dict[str, Any] = {"error": float("inf"), "epoch": -1, "weights": None}
        word = "valid" if "val" in judged else "test"

        def judge(part: str) -> Metrics:
            return evaluate(model, judged[part].epoch(0), device, options.precision)

        found = None
        if state := run.load():
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            counter.restore(state["counter"])
            first, begin, best = state["epoch"], state["step"], state["best"]

        def snapshot(epoch: int, step: int) -> dict[str, Any]:
            return {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "counter": counter.state(),
                "epoch": epoch, "step": step, "best": dict(best),
            }  # fmt: skip

        for epoch in range(first, c.epochs):
            model.train()
            model.drop_path_prob = drop_path_probability(c.drop_path, epoch, c.epochs)
            lr = lr_of(epoch)
            optimizer.param_groups[0]["lr"] = lr
            steps = train_steps(
                model, run.progress(batches.shares(epoch, begin), f"epoch {epoch}", initial=begin), optimizer, loss_of,
                clip_norm=c.clip, device=device, precision=options.precision, start_step=begin, counter=counter,
                seed=options.seed, epoch=epoch,
            )  # fmt: skip
            for done in steps:
                if run.due():
                    run.save(snapshot(epoch, done))
            trained, counter, begin = read(counter), TopK(device), 0
            row: dict[str, Any] = {
                "epoch": epoch, "lr": lr, "drop_path": model.drop_path_prob, "train_loss": trained.loss,
                "train_top1_error_percent": trained.top1_error, f"{word}_loss": None,
                f"{word}_top1_error_percent": None, f"{word}_top5_error_percent": None,
            }  # fmt: skip
            if (epoch + 1) % c.evaluate_every == 0 or epoch + 1 == c.epochs:
                found = judge(next(iter(judged)))
                row |= {f"{word}_{name}": value for name, value in found.as_dict().items()}
                if found.top1_error < best["error"]:
                    weights = {k: v.clone() for k, v in model.state_dict().items()} if keep_best else None
                    best = {"error": found.top1_error, "epoch": epoch, "weights": weights}
            run.log(**row)
            run.save(snapshot(epoch + 1, 0))
        if c.epochs < 1:
            raise UserError("no epoch was run; set --epochs to 1 or more")
        tested = found if found is not None and word == "test" else judge("test")
        last = tested.as_dict()
        if keep_best and best["weights"] is not None:
            model.load_state_dict(best["weights"])
            tested = judge("test")
        if distributed.rank() == 0:
            about = {
                "architecture": genotype.as_dict(), "space": "darts", "dataset": c.dataset,
                "classes": len(classes), "class_names": list(classes),
                "pixels": 224 if imagenet else batches.images.size, "width": c.channels, "depth": c.layers,
                "stage": options.section, "paper": "evnas",
            }  # fmt: skip
            save_weights(model, run.folder / "weights.safetensors", about)
        metrics = {
            **tested.as_dict(),
            "last_top1_error_percent": last["top1_error_percent"],
            ("best" if word == "test" else "valid") + "_top1_error_percent": best["error"],
            "best_epoch": best["epoch"],
            "parameters": parameters(model),
        }
        return run.finish({"metrics": metrics, "architecture": genotype.as_dict()})
