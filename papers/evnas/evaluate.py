"""Testing trained weights: one's own, or the authors' checkpoints (README, "Evaluation").

The network is built without auxiliary head; the checkpoint's head and a ``module.`` prefix are taken off, and
everything else must fit exactly (the authors' programs load non-strictly and would test an untrained network without a
word).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from common.cli.errors import UserError
from common.data.augment import Augmentation
from common.data.batches import Batches
from common.data.names import other_set
from common.data.pictures.batches import EvalPictures, FolderBatches, open_pictures
from common.data.sets import open_images
from common.run.folder import open_run
from common.spaces.counting import parameters
from common.spaces.darts.network import Genotype
from common.spaces.sizes import check_pixels
from common.train import distributed
from common.train.device import pick_device
from common.train.loop import evaluate as test_metrics
from common.weights.read import Checkpoint, load_strict, read_checkpoint
from papers.evnas.networks import build, constants, load_genotype
from papers.evnas.ranges import check_ranges
from papers.evnas.settings_train import EvaluateSettings


def read(settings: EvaluateSettings) -> Checkpoint:
    """The weights of a file in any of the field's containers. Raises UserError."""
    if not settings.checkpoint:
        raise UserError(
            "no checkpoint given; add --checkpoint FILE (weights.safetensors of train, or the authors' file)"
        )
    return read_checkpoint(settings.checkpoint, settings.weights)


def resolved(settings: EvaluateSettings, options: Any, found: Checkpoint) -> EvaluateSettings:
    """The settings with the data set that the weights belong to, where the user names none.

    Raises UserError where the file names another set than the user, and where nobody names one: a profile's set (the
    digits) says nothing about the authors' weights.
    """
    c, own = settings, found.metadata.get("dataset")
    given = options.given
    said = "dataset" in given if given is not None else c.dataset != EvaluateSettings.dataset
    if (paper := found.metadata.get("paper", "evnas")) != "evnas":
        raise UserError(f"{c.checkpoint} holds weights of {paper}; give a file of evnas")
    if own is None:
        if not said and c.dataset != EvaluateSettings.dataset:
            raise UserError(
                f"{c.checkpoint} does not say which data set it is of, and profile {options.profile} would test it on "
                f"{c.dataset}; name the set with --dataset, or use --profile paper"
            )
        return c
    if not said:
        return dataclasses.replace(c, dataset=own)
    if other_set(own, c.dataset):
        raise UserError(f"{c.checkpoint} was trained on {own}, not on {c.dataset}; leave --dataset out, or name {own}")
    return c


def genotype_of(settings: EvaluateSettings, found: Checkpoint) -> Genotype:
    """The cells that ``--arch`` names, or those the file says it has. Raises UserError where neither does."""
    if settings.arch:
        return load_genotype(settings.arch)
    cells = found.metadata.get("architecture")
    if cells is None:
        raise UserError(
            f"{settings.checkpoint} does not say its architecture; add --arch (EvNASA, EvNASB, EvNASC or a file)"
        )
    return Genotype.from_dict(cells)


def check_classes(found: Checkpoint, classes: Sequence[str], dataset: str) -> None:
    """Raises UserError where the classifier's outputs are not the set's classes: their number, and their names where
    the file knows them."""
    weight, names = found.tensors.get("classifier.weight"), found.metadata.get("class_names")
    if weight is not None and weight.shape[0] != len(classes):
        raise UserError(
            f"{found.source}: its classifier has {weight.shape[0]} classes and {dataset} has {len(classes)}; name the "
            f"data set it is of with --dataset"
        )
    if names and list(names) != list(classes):
        other = next(pair for pair in zip(names, classes, strict=False) if pair[0] != pair[1])
        raise UserError(
            f"{found.source} was trained on {found.metadata.get('dataset')}, with a class {other[0]!r} where {dataset} "
            f"has {other[1]!r}; name its own set"
        )


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
    found, device = read(settings), pick_device(options)
    c, genotype, tensors = resolved(settings, options, found), genotype_of(settings, found), found.tensors
    imagenet = of_imagenet(tensors)
    test, tests = open_test(c, imagenet, options, device)
    check_classes(found, test.classes, c.dataset)
    channels, layers = shape_of(tensors, imagenet)
    model = build(genotype, imagenet, len(test.classes), c.channels or channels, c.layers or layers)
    load_strict(model, tensors, drop=("auxiliary_head.",), source=found.source)
    with open_run(options, c, {"data": test.pins}) as run:
        if run.result is not None:
            return run.result
        model.to(device)
        tested = test_metrics(model, tests.epoch(0), device, options.precision)
        metrics = {**tested.as_dict(), "images": tested.images, "parameters": parameters(model)}
        return run.finish({"metrics": metrics, "architecture": genotype.as_dict(), "weights": found.weights})


def open_test(c: EvaluateSettings, imagenet: bool, options: Any, device: torch.device) -> tuple[Any, Any]:
    """(test set, its batches). Raises UserError."""
    if c.dataset == "imagenet" and not imagenet:
        raise UserError(f"{c.checkpoint} is of a CIFAR network; --dataset imagenet needs an ImageNet one")
    mine: Any = {"rank": distributed.rank(), "world": distributed.world_size(), "parts": 0}
    if imagenet:
        test = open_pictures(c.dataset, "test", options)
        return test, FolderBatches(
            test, c.batch_size or 128, EvalPictures(), options.seed, shuffle=False, device=device, workers=c.workers,
            **mine,
        )  # fmt: skip
    images = open_images(c.dataset, "test", options)
    check_pixels(c.dataset, images.size)
    plain = Augmentation(*constants(images.name))
    return images, Batches(
        images, c.batch_size or 96, plain, options.seed, shuffle=False, device=device, stream="test", **mine
    )
