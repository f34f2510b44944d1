"""Testing trained networks: own weights, and every released container (bare, under a key, whole pickled module)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.cli.errors import UserError
from common.data.augment import Augmentation
from common.data.batches import Batches
from common.data.pictures.batches import EvalPictures, FolderBatches, open_pictures
from common.data.sets import open_images
from common.run.folder import open_run, say
from common.spaces.sizes import check_pixels
from common.train.device import pick_device
from common.weights.read import load_strict
from papers.nsas.network.networks import CIFAR_MEAN, CIFAR_STD, build_derived
from papers.nsas.network.weights import read_cnn
from papers.nsas.settings import Evaluate
from papers.nsas.train import test_errors

if TYPE_CHECKING:
    import torch

    from common.cli.verbs import RunOptions


def evaluate(settings: Evaluate, options: RunOptions) -> dict:
    """Top-1 and top-5 error of a derived CNN."""
    asked = settings  # what the run is known by; the file says the rest
    settings, found, architecture, network, classes = read_cnn(settings, options)
    device = pick_device(options)
    held, test = open_test(settings, network, options, device)
    check_classes(found.source, classes, settings.dataset, len(held.classes))
    with open_run(options, asked, data=held.pins) as run:
        if run.result is not None:
            return run.result
        say(f"{found.source}: {network} network, C = {settings.channels}, L = {settings.layers}, {settings.dataset}")
        model = build_derived(architecture, network, classes, settings.channels, settings.layers, auxiliary=False)
        load_strict(model, found.tensors, drop=("auxiliary_head.",), source=found.source)
        metrics = test_errors(model.to(device), test, device, options.precision)
        metrics["parameters"] = sum(p.numel() for p in model.parameters())
        size = {"channels": settings.channels, "layers": settings.layers}
        about = {"network": network, **size, "dataset": settings.dataset, "classes": classes}
        return run.finish({"metrics": metrics, "architecture": architecture.as_names(), **about})


def check_classes(source: str, classes: int, dataset: str, there: int) -> None:
    """Raises UserError when a file's classes are not the set's."""
    if classes != there:
        raise UserError(f"{source} tells {classes} classes apart, {dataset} has {there}; test it on the set it is of")


def open_test(settings: Evaluate, network: str, options: RunOptions, device: torch.device):
    """(test set, its batches)."""
    if network == "imagenet":
        held = open_pictures(settings.dataset, "test", options)
        test = FolderBatches(
            held, min(settings.batch_size, len(held)), EvalPictures(), options.seed, shuffle=False, device=device,
            workers=settings.workers,
        )  # fmt: skip
        return held, test
    images = open_images(settings.dataset, "test", options)
    check_pixels(settings.dataset, images.size)
    size, constants = min(settings.batch_size, len(images)), Augmentation(CIFAR_MEAN, CIFAR_STD)
    return images, Batches(images, size, constants, options.seed, shuffle=False, device=device, stream="test")
