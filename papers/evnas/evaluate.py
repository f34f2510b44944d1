"""Testing trained weights: one's own, or the authors' checkpoints (README, "Evaluation").

The network is built without auxiliary head; the checkpoint's head and a ``module.`` prefix are taken off, and
everything else must fit exactly (the authors' programs load non-strictly and would test an untrained network without a
word).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from common.checkpoints import load_strict, load_tensors, strip_prefix
from common.counting import parameters
from common.data.augment import Augmentation
from common.data.batches import Batches
from common.data.folder import EvalPictures, FolderBatches, open_pictures
from common.data.sources import open_images
from common.device import pick_device
from common.errors import UserError
from common.runs import open_run
from common.spaces.sizes import check_pixels, is_imagenet
from common.training import evaluate as test_metrics
from papers.evnas.networks import build, constants, load_genotype
from papers.evnas.ranges import check_ranges
from papers.evnas.settings_train import EvaluateSettings


def read_checkpoint(path: str) -> dict[str, Any]:
    """The tensors of a checkpoint: bare state dict, or the ImageNet container's ``state_dict`` entry."""
    if not path:
        raise UserError(
            "no checkpoint given; add --checkpoint FILE (weights.safetensors of train, or the authors' file)"
        )
    tensors: Any = load_tensors(Path(path))
    if isinstance(tensors, dict):
        tensors = tensors.get("state_dict", tensors)
    if not isinstance(tensors, dict) or not all(isinstance(key, str) for key in tensors):
        raise UserError(f"{path} holds no state dict (names and tensors); give the weights of a network")
    return strip_prefix(tensors)


def shape_of(tensors: dict[str, Any], imagenet: bool) -> tuple[int, int]:
    """(initial channels, number of cells) that a state dict belongs to; zeros where it tells nothing."""
    stem = tensors.get("stem0.3.weight" if imagenet else "stem.0.weight")
    cells = {int(key.split(".")[1]) for key in tensors if key.startswith("cells.") and key.split(".")[1].isdigit()}
    channels = 0 if stem is None else stem.shape[0] // (1 if imagenet else 3)
    return channels, max(cells) + 1 if cells else 0


def of_imagenet(tensors: dict[str, Any]) -> bool:
    """Whether the weights are of the ImageNet form (two stems, 224 pixels): the folder's name need not say so."""
    return any(key.startswith("stem0.") for key in tensors)


def evaluate(settings: EvaluateSettings, options: Any) -> dict[str, Any]:
    """The ``evaluate`` verb: top-1 and top-5 error in eval mode on the test set."""
    check_ranges(settings, defaults=("channels", "layers"))
    c, device = settings, pick_device(options)
    genotype, tensors = load_genotype(c.arch), read_checkpoint(c.checkpoint)
    imagenet = of_imagenet(tensors)
    test, tests = open_test(c, imagenet, options, device)
    channels, layers = shape_of(tensors, imagenet)
    model = build(genotype, imagenet, len(test.classes), c.channels or channels, c.layers or layers)
    load_strict(model, tensors, drop=("auxiliary_head.",), source=c.checkpoint)
    with open_run(options, c, {"data": test.pins}) as run:
        if run.result is not None:
            return run.result
        model.to(device)
        found = test_metrics(model, tests.epoch(0), device, options.precision)
        metrics = {**found.as_dict(), "images": found.images, "parameters": parameters(model)}
        return run.finish({"metrics": metrics, "architecture": genotype.as_dict()})


def open_test(c: EvaluateSettings, imagenet: bool, options: Any, device: torch.device) -> tuple[Any, Any]:
    """(test set, its batches). Raises UserError."""
    if is_imagenet(c.dataset) and not imagenet:
        raise UserError(f"{c.checkpoint} is of a CIFAR network; --dataset {c.dataset} needs an ImageNet one")
    if imagenet:
        test = open_pictures(c.dataset, "test", options)
        return test, FolderBatches(
            test, c.batch_size or 128, EvalPictures(), options.seed, shuffle=False, device=device, workers=c.workers
        )
    images = open_images(c.dataset, "test", options)
    check_pixels(c.dataset, images.size)
    plain = Augmentation(*constants(images.name))
    return images, Batches(images, c.batch_size or 96, plain, options.seed, shuffle=False, device=device, stream="test")
