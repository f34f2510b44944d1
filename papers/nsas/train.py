"""Training a derived CNN from scratch: the CIFAR recipe and the two ImageNet recipes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from common.cli.errors import UserError
from common.cli.settings import refuse_idle
from common.data.batches import Batches
from common.data.parts import take
from common.data.pictures.batches import EvalPictures, FolderBatches, TrainPictures, open_pictures
from common.data.pictures.sets import has_validation
from common.data.pictures.sizes import image_size
from common.data.sets import open_images
from common.run import seeds
from common.run.folder import open_run, say
from common.run.keep import Values
from common.spaces.counting import parameters
from common.spaces.sizes import check_pixels
from common.train import distributed
from common.train.device import pick_device
from common.train.loop import auxiliary_loss, evaluate, read, train_step
from common.train.losses import TopK, label_smoothing_cross_entropy
from common.train.schedules import cosine, exponential
from common.weights.read import save_weights
from papers.nsas.data import augmentation
from papers.nsas.method.schedules import drop_path, imagenet_linear, shifted
from papers.nsas.network.networks import Named, build_derived, load_cnn
from papers.nsas.settings import Train

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

IMAGENET_PIXELS = 128  # pictures from this side on take the ImageNet network


def train(settings: Train, options: RunOptions) -> dict:
    """Train and test a derived CNN; metrics of the last and of the best epoch (Method 9).

    CE(main) + 0.4 CE(auxiliary) with SGD; the learning rate changes every epoch, drop-path grows as p e / E. CIFAR: the
    last epoch's weights are kept; ImageNet: the best one's. On a set with a validation part of its own this part judges
    the epochs, and the kept weights are tested once.
    """
    network = network_of(settings, options)
    imagenet = network == "imagenet"
    device = pick_device(options)
    architecture = load_cnn(settings.arch)
    batches, judged, classes, pins = open_data(settings, network, options, device)
    part, word = ("val", "valid") if "val" in judged else ("test", "test")
    with open_run(options, settings, data=pins) as run:
        if run.result is not None:
            return run.result
        say(f"{network} network, {settings.channels} channels, {settings.layers} cells, {classes} classes")
        seeds.seed_everything(options.seed)
        model = build_derived(
            architecture, network, classes, settings.channels, settings.layers, settings.auxiliary
        ).to(device)  # fmt: skip
        optimizer = torch.optim.SGD(
            model.parameters(), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        loss_of = auxiliary_loss(loss_function(settings.label_smoothing), settings.auxiliary_weight)
        counter, now = TopK(device), Values(best={}, last={}, weights=None)
        run.keeps(model=model, optimizer=optimizer, counter=counter, now=now)
        for epoch in run.epochs(settings.epochs):
            model.train()
            model.drop_path_prob = drop_path(epoch, settings.drop_path, settings.epochs)
            lr = learning_rate(settings, epoch)
            optimizer.param_groups[0]["lr"] = lr
            for step, shares in run.steps(batches.in_shares(), epoch):
                if distributed.world_size() == 1:
                    torch.manual_seed(seeds.integer(options.seed, "drop-path", epoch, step))
                train_step(
                    model, shares, optimizer, loss_of, clip_norm=settings.clip, precision=options.precision,
                    counter=counter, step=step,
                )  # fmt: skip
            trained, error = read(counter), None
            if (epoch + 1) % settings.eval_every == 0 or epoch + 1 == settings.epochs:
                now.last = test_errors(model, judged[part], device, options.precision)
                error = now.last["top1_error_percent"]
                if not now.best or error < now.best["top1_error_percent"]:
                    now.best = {**now.last, "epoch": epoch}
                    if imagenet:  # both ImageNet scripts keep the best epoch
                        now.weights = {name: value.clone() for name, value in model.state_dict().items()}
            run.log(
                epoch=epoch, lr=lr, train_loss=trained.loss, train_top1_error_percent=trained.top1_error,
                **{f"{word}_top1_error_percent": error},
            )  # fmt: skip
        if now.weights is not None:
            model.load_state_dict(now.weights)
        if part != "test":
            now.last = test_errors(model, judged["test"], device, options.precision)
        if run.writes:
            record = record_of(architecture, settings, network, classes, judged["test"])
            save_weights(model, run.folder / "weights.safetensors", metadata=record)
        chosen = "best_top1_error_percent" if part == "test" else "valid_top1_error_percent"
        metrics = {
            **now.last, chosen: now.best["top1_error_percent"], "best_epoch": now.best["epoch"],
            "parameters": parameters(model),
        }  # fmt: skip
        return run.finish({"metrics": metrics, "architecture": architecture.as_names(), "network": network})


def record_of(architecture: Named, settings: Train, network: str, classes: int, test: Any) -> dict[str, Any]:
    """What a file of weights says of itself."""
    return {
        "architecture": architecture.as_names(), "space": "darts", "dataset": settings.dataset, "classes": classes,
        "width": settings.channels, "depth": settings.layers, "stage": "train", "paper": "nsas", "network": network,
        "pixels": 224 if network == "imagenet" else test.images.size,
    }  # fmt: skip


def learning_rate(settings: Train, epoch: int) -> float:
    """The rate of an epoch under the schedule; with ``shifted_lr`` that of the next one."""
    epoch = shifted(epoch, settings.shifted_lr)
    if settings.schedule == "cosine":
        return cosine(settings.lr, settings.lr_min, epoch, settings.epochs)
    if settings.schedule == "step":
        return exponential(settings.lr, 0.97, epoch)
    return imagenet_linear(epoch, settings.lr, settings.epochs, settings.batch_size)


def network_of(settings: Train, options: RunOptions) -> str:
    """The network, "cifar" or "imagenet". Raises UserError for settings of the other one's recipe."""
    settings.check(options.given)
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


def shared(settings: Train) -> dict[str, int]:
    """Which shares of every batch this process takes."""
    return {"rank": distributed.rank(), "world": distributed.world_size(), "parts": settings.parts}


def check_shares(settings: Train, images: int) -> None:
    """The CIFAR auxiliary classifier normalises single pixels, and one image has no variance. Raises UserError."""
    parts = settings.parts or distributed.world_size()
    for size in {min(images, settings.batch_size), images % settings.batch_size or settings.batch_size}:
        if settings.auxiliary and (size // parts == 1 or (size < parts and size)):
            raise UserError(
                f"{images} images leave {'a last batch' if parts == 1 else 'a share'} of one, which the auxiliary "
                f"classifier cannot normalise; change the batch size of {settings.batch_size}, or use --no-auxiliary"
            )


def open_data(settings: Train, network: str, options: RunOptions, device: torch.device):
    """(training batches, batches of each part of ``judging``, classes, pins)."""
    if network == "imagenet":
        return open_imagenet(settings, options, device)
    images = open_images(settings.dataset, "train", options)
    check_pixels(settings.dataset, images.size, settings.auxiliary)
    parts = {part: open_images(settings.dataset, part, options) for part in judging(settings.dataset)}
    images = take(images, settings.train_images, "--train-images")
    check_shares(settings, len(images))
    augmented = augmentation(images, settings.cutout)
    batches = Batches(images, settings.batch_size, augmented, options.seed, device=device, **shared(settings))
    judged = {
        part: Batches(
            held, settings.eval_batch_size, augmented, options.seed, shuffle=False, device=device, stream="test"
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


def open_imagenet(settings: Train, options: RunOptions, device: torch.device):
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


def loss_function(label_smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy, or with label smoothing 0.1: targets 0.9 one-hot + 0.1 / K on all classes."""
    if label_smoothing:
        return lambda logits, y: label_smoothing_cross_entropy(logits, y, label_smoothing)
    return nn.functional.cross_entropy


def test_errors(model: nn.Module, test, device: torch.device, precision: str = "fp32") -> dict:
    """Loss, top-1 and top-5 error in percent, eval mode, drop-path off."""
    return evaluate(model, test.epoch(0), device, precision).as_dict()
