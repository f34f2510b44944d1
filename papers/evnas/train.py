"""Training a network from scratch: the CIFAR recipe and the ImageNet recipe (README, "Training").

Loss = CE(main) + 0.4 CE(auxiliary) (ImageNet: label-smoothed), SGD, gradients clipped at norm 5, drop-path from 0.
The CIFAR weights kept are the last epoch's, the ImageNet weights the best epoch's, as in the authors' programs.
"""

from __future__ import annotations

from typing import Any

import torch

from common import distributed, seeds
from common.checkpoints import save_weights
from common.counting import parameters
from common.data.augment import Augmentation
from common.data.batches import Batches
from common.data.folder import EvalPictures, FolderBatches, TrainPictures, open_pictures
from common.data.sources import open_images
from common.device import pick_device
from common.errors import UserError
from common.losses import TopK, label_smoothing_cross_entropy
from common.runs import open_run
from common.schedules import cosine, linear_then_slow, warm_up_factor
from common.spaces.sizes import check_depth, check_last_batch, check_pixels, is_imagenet
from common.training import auxiliary_loss, evaluate, read, train_steps
from papers.evnas.networks import build, constants, load_genotype
from papers.evnas.ranges import check_ranges
from papers.evnas.settings_train import TrainImageNetSettings, TrainSettings


def cifar_lr(c: TrainSettings, epoch: int) -> float:
    """lr/2 (1 + cos(pi e / E)), constant inside an epoch."""
    return cosine(c.lr, 0.0, epoch, c.epochs)


def imagenet_lr(c: TrainImageNetSettings, epoch: int) -> float:
    """Linear, the last five epochs at a fifth of the slope; for batches above 256 the first epochs times (e + 1) /
    5."""
    if c.schedule == "linear" and c.epochs > 5:
        lr = linear_then_slow(c.lr, epoch, c.epochs)
    else:
        lr = cosine(c.lr, 0.0, epoch, c.epochs)
    return lr * warm_up_factor(epoch, c.warmup_epochs) if c.batch_size > 256 else lr


def drop_path_probability(final: float, epoch: int, epochs: int) -> float:
    """p e / E: 0 in the first epoch."""
    return final * epoch / epochs


def train(settings: TrainSettings, options: Any) -> dict[str, Any]:
    """The ``train`` verb on CIFAR-like sets."""
    check_ranges(settings)
    c, device = settings, pick_device(options)
    genotype = load_genotype(c.arch)
    batches, tests, classes, pins = open_cifar(c, options, device)
    network = lambda: build(genotype, False, classes, c.channels, c.layers, c.auxiliary)  # noqa: E731
    return _run(
        c, options, device, network, batches, tests, lambda epoch: cifar_lr(c, epoch),
        torch.nn.functional.cross_entropy, {"data": pins}, keep_best=False,
    )  # fmt: skip


def train_imagenet(settings: TrainImageNetSettings, options: Any) -> dict[str, Any]:
    """The ``train --recipe imagenet`` verb: 224-pixel pictures from class folders or LMDB."""
    check_ranges(settings)
    c, device = settings, pick_device(options)
    genotype = load_genotype(c.arch)
    batches, tests, classes, pins = open_imagenet(c, options, device)

    def criterion(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return label_smoothing_cross_entropy(logits, target, c.label_smoothing)

    network = lambda: build(genotype, True, classes, c.channels, c.layers, c.auxiliary)  # noqa: E731
    return _run(
        c, options, device, network, batches, tests, lambda epoch: imagenet_lr(c, epoch), criterion,
        {"data": pins}, keep_best=True,
    )  # fmt: skip


Opened = tuple[Any, Any, int, dict[str, str]]


def open_cifar(c: TrainSettings, options: Any, device: torch.device) -> Opened:
    """(training batches, test batches, classes, pins) of images in memory. Raises UserError."""
    if is_imagenet(c.dataset):
        raise UserError(f"{c.dataset} takes the ImageNet recipe; add --recipe imagenet")
    images, test = (open_images(c.dataset, split, options) for split in ("train", "test"))
    check_pixels(c.dataset, images.size, c.auxiliary)
    check_depth(c.layers, c.auxiliary)
    if c.train_images:
        images = images.subset(range(min(c.train_images, len(images))))
    world, (mean, std) = distributed.world_size(), constants(images.name)
    check_last_batch(len(images), per_process(c.batch_size, world), c.auxiliary)
    augmentation = Augmentation(mean, std, pad=c.pad, flip=c.flip, cutout=c.cutout)
    batches = Batches(
        images, per_process(c.batch_size, world), augmentation, options.seed, device=device, rank=distributed.rank(),
        world=world,
    )  # fmt: skip
    tests = Batches(test, c.eval_batch_size, augmentation, options.seed, shuffle=False, device=device, stream="test")
    return batches, tests, len(images.classes), {**images.pins, **test.pins}


def open_imagenet(c: TrainImageNetSettings, options: Any, device: torch.device) -> Opened:
    """The same of pictures: random resized crop, flip, colour jitter; for testing the centre of 256."""
    check_depth(c.layers, c.auxiliary)
    pictures, test = (open_pictures(c.dataset, split, options) for split in ("train", "test"))
    world = distributed.world_size()
    batches = FolderBatches(
        pictures, per_process(c.batch_size, world), TrainPictures(jitter=(0.4, 0.4, 0.4, 0.2)), options.seed,
        device=device, workers=c.workers, rank=distributed.rank(), world=world,
    )  # fmt: skip
    tests = FolderBatches(
        test, c.eval_batch_size, EvalPictures(), options.seed, shuffle=False, device=device, stream="test",
        workers=c.workers,
    )  # fmt: skip
    return batches, tests, len(pictures.classes), {**pictures.pins, **test.pins}


def per_process(batch_size: int, world: int) -> int:
    """Images per process. Raises UserError when the batch does not divide."""
    if batch_size % world:
        raise UserError(f"batch size {batch_size} is not divisible by {world} processes; change --batch-size")
    return batch_size // world


def _run(
    c: TrainSettings | TrainImageNetSettings, options: Any, device: torch.device, network: Any, batches: Any,
    tests: Any, lr_of: Any, criterion: Any, extra: dict[str, Any], keep_best: bool,
) -> dict[str, Any]:  # fmt: skip
    """The epochs: learning rate and drop-path per epoch, train, test, save."""
    with open_run(options, c, extra) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = network().to(device)
        optimizer = torch.optim.SGD(
            model.parameters(), c.lr, momentum=c.momentum, weight_decay=c.weight_decay, fused=True
        )
        loss_of = auxiliary_loss(criterion, c.auxiliary_weight)
        counter, first, begin = TopK(device), 0, 0
        best: dict[str, Any] = {"error": float("inf"), "epoch": -1, "weights": None}
        tested = None
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
                model, run.progress(batches.epoch(epoch, begin), f"epoch {epoch}", initial=begin), optimizer, loss_of,
                clip_norm=c.clip, device=device, precision=options.precision, start_step=begin, counter=counter,
            )  # fmt: skip
            for done in steps:
                if run.due():
                    run.save(snapshot(epoch, done))
            trained, counter, begin = read(counter), TopK(device), 0
            row: dict[str, Any] = {
                "epoch": epoch, "lr": lr, "drop_path": model.drop_path_prob, "train_loss": trained.loss,
                "train_top1_error_percent": trained.top1_error, "test_loss": None,
                "test_top1_error_percent": None, "test_top5_error_percent": None,
            }  # fmt: skip
            if (epoch + 1) % c.evaluate_every == 0 or epoch + 1 == c.epochs:
                tested = evaluate(model, tests.epoch(0), device, options.precision)
                row |= {f"test_{name}": value for name, value in tested.as_dict().items()}
                if tested.top1_error < best["error"]:
                    weights = {k: v.clone() for k, v in model.state_dict().items()} if keep_best else None
                    best = {"error": tested.top1_error, "epoch": epoch, "weights": weights}
            run.log(**row)
            run.save(snapshot(epoch + 1, 0))
        if c.epochs < 1:
            raise UserError("no epoch was run; set --epochs to 1 or more")
        tested = tested or evaluate(model, tests.epoch(0), device, options.precision)
        last = tested.as_dict()
        if keep_best and best["weights"] is not None:
            model.load_state_dict(best["weights"])
            tested = evaluate(model, tests.epoch(0), device, options.precision)
        if distributed.rank() == 0:
            save_weights(model, run.folder / "weights.safetensors")
        metrics = {
            **tested.as_dict(),
            "last_top1_error_percent": last["top1_error_percent"],
            "best_top1_error_percent": best["error"],
            "best_epoch": best["epoch"],
            "parameters": parameters(model),
        }
        return run.finish({"metrics": metrics, "architecture": load_genotype(c.arch).as_dict()})
