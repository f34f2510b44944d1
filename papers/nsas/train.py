"""Training a derived CNN from scratch: CIFAR recipe and the two ImageNet recipes.

Loss CE(main) + 0.4 CE(auxiliary), SGD, clip 5, drop-path p e / E; the last epoch's weights are kept (ImageNet: the
best).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from common.cli.errors import UserError
from common.cli.ranges import refuse_idle
from common.data.augment import Augmentation
from common.data.batches import Batches
from common.data.parts import take
from common.data.pictures.batches import EvalPictures, FolderBatches, TrainPictures, open_pictures
from common.data.pictures.sets import has_validation
from common.data.pictures.sizes import image_size
from common.data.sets import open_images
from common.run import seeds
from common.run.folder import open_run, say
from common.spaces.counting import parameters
from common.spaces.sizes import check_depth, check_pixels
from common.train import distributed
from common.train.device import pick_device
from common.train.loop import auxiliary_loss, evaluate, read, train_steps
from common.train.losses import TopK, label_smoothing_cross_entropy
from common.weights.read import read_checkpoint, save_weights
from papers.nsas.method.schedules import drop_path, learning_rate, shifted
from papers.nsas.network.networks import CIFAR_MEAN, CIFAR_STD, build_derived, load_cnn
from papers.nsas.ranges import check_ranges
from papers.nsas.settings import TrainSettings

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

IMAGENET_PIXELS = 128  # pictures from this side on take the ImageNet network


def train(settings: TrainSettings, options: RunOptions) -> dict:
    """Train and test; returns metrics of the last and the best epoch. On a set with a validation part of its own this
    part judges the epochs, and the weights are tested once.
    """
    network = check(settings, options)
    imagenet = network == "imagenet"
    device = pick_device(options)
    architecture = load_cnn(settings.arch)
    batches, judged, classes, pins = open_data(settings, network, options, device)
    part, word = ("val", "valid") if "val" in judged else ("test", "test")
    with open_run(options, settings, {"data": pins}) as run:
        if run.result is not None:
            return run.result
        say(f"{network} network, {settings.channels} channels, {settings.layers} cells, {classes} classes")
        seeds.seed_everything(options.seed)
        model = build_derived(
            architecture, network, classes, settings.channels, settings.layers, settings.auxiliary
        ).to(device)  # fmt: skip
        record = {
            "architecture": architecture.as_names(), "space": "darts", "dataset": settings.dataset, "classes": classes,
            "width": settings.channels, "depth": settings.layers, "stage": "train", "paper": "nsas", "network": network,
            "pixels": 224 if imagenet else judged["test"].images.size,
        }  # fmt: skip
        optimizer = torch.optim.SGD(
            model.parameters(), settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        loss_of = auxiliary_loss(loss_function(settings), settings.auxiliary_weight)
        counter, epoch, position, best, last = TopK(device), 0, 0, None, {}
        if state := run.load():
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            counter.restore(state["counter"])
            epoch, position, best, last = state["epoch"], state["position"], state["best"], state["last"]

        def snapshot(epoch: int, position: int) -> dict:
            return {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "position": position,
                "best": best, "last": last, "counter": counter.state(),
            }  # fmt: skip

        while epoch < settings.epochs:
            model.train()
            model.drop_path_prob = drop_path(epoch, settings.drop_path, settings.epochs)
            lr = learning_rate(
                settings.schedule, shifted(epoch, settings.shifted_lr), settings.learning_rate,
                settings.learning_rate_min, settings.epochs, settings.batch_size,
            )  # fmt: skip
            optimizer.param_groups[0]["lr"] = lr
            steps = train_steps(
                model, seeded(batches, epoch, position, options.seed), optimizer, loss_of, clip_norm=settings.clip,
                device=device, precision=options.precision, start_step=position, counter=counter,
                seed=options.seed, epoch=epoch,
            )  # fmt: skip
            for done in steps:
                if run.due():
                    run.save(snapshot(epoch, done))
            trained, counter = read(counter), TopK(device)
            epoch, position = epoch + 1, 0
            row = {"epoch": epoch, "lr": lr, "train_loss": trained.loss, "train_top1_error_percent": trained.top1_error}
            tested = epoch % settings.evaluate_every == 0 or epoch == settings.epochs
            if tested:
                last = test_errors(model, judged[part], device, options.precision)
                if best is None or last["top1_error_percent"] < best["top1_error_percent"]:
                    best = {**last, "epoch": epoch}
                    if imagenet and run.writes:  # both ImageNet scripts keep the best epoch
                        save_weights(model, run.folder / "weights.safetensors", metadata=record)
            run.log(**row, **{f"{word}_top1_error_percent": last["top1_error_percent"] if tested else None})
            run.save(snapshot(epoch, 0))
        chosen = "best_top1_error_percent" if part == "test" else "valid_top1_error_percent"
        if part != "test" and imagenet and best:  # the kept weights are the best epoch's
            model.load_state_dict(read_checkpoint(run.folder / "weights.safetensors").tensors)
        if not last or part != "test":
            last = test_errors(model, judged["test"], device, options.precision)
        if run.writes and (best is None or not imagenet):
            save_weights(model, run.folder / "weights.safetensors", metadata=record)
        metrics = {
            **last, chosen: best["top1_error_percent"] if best else last["top1_error_percent"],
            "best_epoch": best["epoch"] if best else epoch, "parameters": parameters(model),
        }  # fmt: skip
        return run.finish({"metrics": metrics, "architecture": architecture.as_names(), "network": network})


def check(settings: TrainSettings, options: RunOptions) -> str:
    """The network. Raises UserError for settings out of range, without effect, or of another network's recipe."""
    check_ranges(settings)
    check_depth(settings.layers, settings.auxiliary)
    if settings.schedule == "linear" and settings.epochs <= 5:
        raise UserError(f"--schedule linear ends with five epochs of their own: --epochs {settings.epochs} is too few")
    network = network_of(settings, options)
    if network == "imagenet" and settings.schedule == "cosine" and "schedule" not in (options.given or ()):
        raise UserError(
            f"--dataset {settings.dataset} takes the ImageNet network, and the default is the CIFAR recipe; choose "
            f"--variant imagenet-step or imagenet-linear, or --network cifar"
        )
    idle = {"cutout": "--network cifar"} if network == "imagenet" else {}
    if settings.schedule != "cosine":
        idle["learning_rate_min"] = "--schedule cosine"
    if not settings.auxiliary:
        idle["auxiliary_weight"] = "--auxiliary"
    refuse_idle(settings, idle, options.given)
    return network


def network_of(settings: TrainSettings, options: RunOptions) -> str:
    """``--network``, or by the size of the pictures: never by the name of a folder."""
    if settings.network != "auto":
        return settings.network
    return "imagenet" if image_size(settings.dataset, options) >= IMAGENET_PIXELS else "cifar"


def seeded(batches, epoch: int, start: int, seed: int) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """The shares of every batch of an epoch; before each batch the generator of drop-path is set, so that one process
    needs no saved state for it (of several, each has its own: ``train_steps``).
    """
    for step, shares in enumerate(batches.shares(epoch, start), start=start):
        torch.manual_seed(seeds.integer(seed, "drop-path", epoch, step))
        yield shares


def shared(settings: TrainSettings) -> dict[str, int]:
    """Which shares of every batch this process takes."""
    return {"rank": distributed.rank(), "world": distributed.world_size(), "parts": settings.parts}


def check_shares(settings: TrainSettings, images: int) -> None:
    """The CIFAR auxiliary classifier normalises single pixels, and one image has no variance. Raises UserError."""
    parts = settings.parts or distributed.world_size()
    for size in {min(images, settings.batch_size), images % settings.batch_size or settings.batch_size}:
        if settings.auxiliary and (size // parts == 1 or (size < parts and size)):
            raise UserError(
                f"{images} images leave {'a last batch' if parts == 1 else 'a share'} of one, which the auxiliary "
                f"classifier cannot normalise; change the batch size of {settings.batch_size}, or use --no-auxiliary"
            )


def open_data(settings: TrainSettings, network: str, options: RunOptions, device: torch.device):
    """(training batches, batches of each part of ``judging``, classes, pins)."""
    if network == "imagenet":
        return open_imagenet(settings, options, device)
    images = open_images(settings.dataset, "train", options)
    check_pixels(settings.dataset, images.size, settings.auxiliary)
    parts = {part: open_images(settings.dataset, part, options) for part in judging(settings.dataset)}
    images = take(images, settings.train_images, "--train-images")
    check_shares(settings, len(images))
    digits = images.name == "digits"  # a mirrored digit is another sign, and a 16-pixel hole hides it
    augmentation = Augmentation(
        CIFAR_MEAN, CIFAR_STD, pad=2 if digits else 4, flip=not digits, cutout=settings.cutout
    )  # the CIFAR-10 constants also for CIFAR-100
    batches = Batches(images, settings.batch_size, augmentation, options.seed, device=device, **shared(settings))
    judged = {
        part: Batches(
            held, settings.eval_batch_size, augmentation, options.seed, shuffle=False, device=device, stream="test"
        )
        for part, held in parts.items()
    }
    return batches, judged, len(images.classes), pins_of(images, *parts.values())


def judging(dataset: str) -> tuple[str, ...]:
    """The parts of a set that a training is judged on: ``val`` where it has one (its epochs), and ``test``."""
    return ("val", "test") if has_validation(dataset) else ("test",)


def pins_of(*parts) -> dict[str, str]:
    """What identifies the images of all parts."""
    return {name: digest for part in parts for name, digest in part.pins.items()}


def open_imagenet(settings: TrainSettings, options: RunOptions, device: torch.device):
    """Random resized crop, flip, colour jitter 0.4/0.4/0.4/0.2; for testing resize 256, centre crop 224."""
    parts = {part: open_pictures(settings.dataset, part, options) for part in judging(settings.dataset)}
    train = open_pictures(settings.dataset, "train", options)
    train = take(train, settings.train_images, "--train-images")
    batches = FolderBatches(
        train, settings.batch_size, TrainPictures(jitter=(0.4, 0.4, 0.4, 0.2)), options.seed, device=device,
        workers=settings.workers, **shared(settings),
    )  # fmt: skip
    judged = {
        part: FolderBatches(
            held, settings.eval_batch_size, EvalPictures(), options.seed, shuffle=False, device=device, stream="test",
            workers=settings.workers,
        )
        for part, held in parts.items()
    }  # fmt: skip
    return batches, judged, len(train.classes), pins_of(train, *parts.values())


def loss_function(settings: TrainSettings):
    """Cross-entropy, or with label smoothing 0.1: targets 0.9 one-hot + 0.1 / K on all classes."""
    if settings.label_smoothing:
        return lambda logits, y: label_smoothing_cross_entropy(logits, y, settings.label_smoothing)
    return nn.functional.cross_entropy


def test_errors(model: nn.Module, test, device: torch.device, precision: str = "fp32") -> dict:
    """Loss, top-1 and top-5 error in percent, eval mode, drop-path off."""
    return evaluate(model, test.epoch(0), device, precision).as_dict()
