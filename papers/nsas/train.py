"""Training a derived CNN from scratch: CIFAR recipe and the two ImageNet recipes (section 7).

Loss CE(main) + 0.4 CE(auxiliary), SGD, clip 5, drop-path p e / E; the last epoch's weights are kept (ImageNet: the
best).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from common import seeds
from common.checkpoints import save_weights
from common.counting import parameters
from common.data.augment import Augmentation
from common.data.batches import Batches
from common.data.folder import EvalPictures, FolderBatches, TrainPictures, open_pictures
from common.data.sources import open_images
from common.device import autocast, pick_device
from common.losses import label_smoothing_cross_entropy
from common.runs import check_finite, open_run
from papers.nsas.networks import CIFAR_MEAN, CIFAR_STD, build_derived, load_cnn
from papers.nsas.schedules import drop_path, learning_rate, shifted
from papers.nsas.settings import TrainSettings

if TYPE_CHECKING:
    from common.cli import RunOptions


def train(settings: TrainSettings, options: RunOptions) -> dict:
    """Train and test; returns metrics of the last and the best epoch."""
    device = pick_device(options)
    architecture = load_cnn(settings.arch)
    batches, test, classes, pins = open_data(settings, options, device)
    imagenet = is_imagenet(settings.dataset)
    with open_run(options, settings, {"data": pins}) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = build_derived(
            architecture, "imagenet" if imagenet else "cifar10", classes, settings.channels, settings.layers,
            settings.auxiliary,
        ).to(device)  # fmt: skip
        optimizer = torch.optim.SGD(
            model.parameters(), settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        criterion = loss_function(settings)
        epoch, position, total, right, count, best = 0, 0, 0.0, 0, 0, None
        if state := run.load():
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            epoch, position, best = state["epoch"], state["position"], state["best"]
            total, right, count = state["total"], state["right"], state["count"]

        def snapshot(epoch: int, position: int) -> dict:
            return {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "position": position,
                "best": best, "total": total, "right": right, "count": count,
            }  # fmt: skip

        last: dict = {}
        while epoch < settings.epochs:
            model.train()
            model.drop_path_prob = drop_path(epoch, settings.drop_path, settings.epochs)
            lr = learning_rate(
                settings.schedule, shifted(epoch, settings.shifted_lr), settings.learning_rate,
                settings.learning_rate_min, settings.epochs, settings.batch_size,
            )  # fmt: skip
            optimizer.param_groups[0]["lr"] = lr
            for step, (x, y) in enumerate(batches.epoch(epoch, position), start=position):
                x, y = x.to(device), y.to(device)
                torch.manual_seed(seeds.integer(options.seed, "drop-path", epoch, step))
                optimizer.zero_grad()
                with autocast(device, options.precision):
                    logits, auxiliary = model(x)
                    loss = criterion(logits, y)
                    if auxiliary is not None:
                        loss = loss + settings.auxiliary_weight * criterion(auxiliary, y)
                check_finite(loss.detach(), step=step, architecture=settings.arch)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
                optimizer.step()
                total += float(loss.detach()) * len(y)
                right += int((logits.detach().argmax(1) == y).sum())
                count += len(y)
                if run.due():
                    run.save(snapshot(epoch, step + 1))
            epoch, position = epoch + 1, 0
            row = {"epoch": epoch, "lr": lr, "train_loss": total / max(1, count)}
            row["train_top1_error_percent"] = 100 - 100 * right / max(1, count)
            total, right, count = 0.0, 0, 0
            if epoch % settings.evaluate_every == 0 or epoch == settings.epochs:
                last = test_errors(model, test, device, options.precision)
                if best is None or last["top1_error_percent"] < best["top1_error_percent"]:
                    best = {**last, "epoch": epoch}
                    if imagenet:  # both ImageNet scripts keep the best epoch
                        save_weights(model, run.folder / "weights.safetensors")
            run.log(**row, test_top1_error_percent=last.get("top1_error_percent", float("nan")))
            run.save(snapshot(epoch, 0))
        if not last:
            last = test_errors(model, test, device, options.precision)
        if not imagenet:
            save_weights(model, run.folder / "weights.safetensors")
        metrics = {
            **last, "best_top1_error_percent": best["top1_error_percent"] if best else last["top1_error_percent"],
            "best_epoch": best["epoch"] if best else epoch,
            "parameters": parameters(model),
        }  # fmt: skip
        return run.finish({"metrics": metrics, "architecture": architecture.as_names()})


def is_imagenet(dataset: str) -> bool:
    """ImageNet networks (two stems, 224 pixels) are for the set "imagenet" and folders or files named imagenet*."""
    return Path(dataset).name.startswith("imagenet") and dataset != "imagenet16-120"


def open_data(settings: TrainSettings, options: RunOptions, device: torch.device):
    """(training batches, test batches, classes, pins)."""
    if is_imagenet(settings.dataset):
        return open_imagenet(settings, options, device)
    images = open_images(settings.dataset, "train", options)
    test = open_images(settings.dataset, "test", options)
    if settings.train_images:
        images = images.subset(range(min(settings.train_images, len(images))))
    digits = images.name == "digits"  # a mirrored digit is another sign, and a 16-pixel hole hides it
    augmentation = Augmentation(
        CIFAR_MEAN, CIFAR_STD, pad=2 if digits else 4, flip=not digits, cutout=settings.cutout
    )  # the CIFAR-10 constants also for CIFAR-100
    batches = Batches(images, settings.batch_size, augmentation, options.seed, device=device)
    held = Batches(
        test, settings.eval_batch_size, augmentation, options.seed, shuffle=False, device=device, stream="test"
    )
    return batches, held, len(images.classes), {**images.pins, **test.pins}


def open_imagenet(settings: TrainSettings, options: RunOptions, device: torch.device):
    """Random resized crop, flip, colour jitter 0.4/0.4/0.4/0.2; for testing resize 256, centre crop 224."""
    train, test = (open_pictures(settings.dataset, split, options) for split in ("train", "test"))
    batches = FolderBatches(
        train, settings.batch_size, TrainPictures(jitter=(0.4, 0.4, 0.4, 0.2)), options.seed, device=device,
        workers=settings.workers,
    )  # fmt: skip
    held = FolderBatches(
        test, settings.eval_batch_size, EvalPictures(), options.seed, shuffle=False, device=device, stream="test",
        workers=settings.workers,
    )  # fmt: skip
    return batches, held, len(train.classes), {**train.pins, **test.pins}


def loss_function(settings: TrainSettings):
    """Cross-entropy, or with label smoothing 0.1: targets 0.9 one-hot + 0.1 / K on all classes."""
    if settings.label_smoothing:
        return lambda logits, y: label_smoothing_cross_entropy(logits, y, settings.label_smoothing)
    return nn.functional.cross_entropy


@torch.no_grad()
def test_errors(model: nn.Module, test, device: torch.device, precision: str = "fp32") -> dict:
    """Top-1 and top-5 error in percent, eval mode, drop-path off."""
    model.eval()
    top1 = top5 = count = 0
    for x, y in test.epoch(0):
        x, y = x.to(device), y.to(device)
        with autocast(device, precision):
            logits, _ = model(x)
        found = logits.topk(min(5, logits.shape[1]), 1).indices == y.unsqueeze(1)
        top1 += found[:, 0].sum()
        top5 += found.any(1).sum()
        count += len(y)
    return {
        "top1_error_percent": 100 - 100 * float(top1) / count, "top5_error_percent": 100 - 100 * float(top5) / count
    }  # fmt: skip
