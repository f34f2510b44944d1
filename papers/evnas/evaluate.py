"""Testing trained weights: one's own, or the authors' checkpoints (Method 8 of the README).

The network is built without auxiliary head; the checkpoint's head and a ``module.`` prefix are taken off, and
everything else must fit exactly: the authors' programs load non-strictly and would test an untrained network without a
word.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from common.data.names import other_set
from common.errors import UserError
from common.run.device import pick_device
from common.run.folder import open_run
from common.spaces.counting import parameters
from common.spaces.darts.data import open_test
from common.spaces.darts.genotype import Genotype
from common.spaces.darts.weights import Form, check_classes, form_of, genotype_of
from common.spaces.nasbench201.train import evaluate_cell, is_cell
from common.train.compiling import compile_whole
from common.train.loop import evaluate as test_metrics
from common.weights.read import Checkpoint, load_strict, read_checkpoint
from papers.evnas.networks.architectures import build, constants, load_genotype
from papers.evnas.settings import Evaluate

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


class Loaded(NamedTuple):
    """Weights with what is needed to test them."""

    settings: Evaluate  # with the data set that the weights belong to
    found: Checkpoint
    form: Form  # width and depth as the user gives them, else those of the tensors
    genotype: Genotype
    test: Any  # the test set
    batches: Any


def evaluate(settings: Evaluate, options: RunOptions) -> dict[str, Any]:
    """Top-1 and top-5 error in percent, in eval mode, on the test set."""
    if settings.checkpoint and is_cell(found := read_checkpoint(settings.checkpoint, settings.weights)):
        return evaluate_cell(settings, options, found)
    device = pick_device(options)
    settings, found, form, genotype, test, batches = load(settings, options, device)
    model = build(genotype, form.imagenet, len(test.classes), form.channels, form.layers)
    load_strict(model, found.tensors, drop=("auxiliary_head.",), source=found.source)
    with open_run(options, settings, data=test, **found.identity) as run:
        if run.result is not None:
            return run.result
        compile_whole(model, options)
        tested = test_metrics(model.to(device), run.shows(batches, "test"), device, options.precision)
        metrics = {**tested.as_dict(), "images": tested.images, "parameters": parameters(model)}
        about = {"architecture": genotype.as_dict(), "weights": found.weights, **found.stand}
        return run.finish({"metrics": metrics, **about})


def load(settings: Evaluate, options: RunOptions, device: torch.device) -> Loaded:
    """The weights of a file in any of the field's containers, and the set they are tested on. Raises UserError."""
    if not settings.checkpoint:
        raise UserError(
            "no checkpoint given; add --checkpoint FILE (weights.safetensors of train, or the authors' file)"
        )
    found = read_checkpoint(settings.checkpoint, settings.weights)
    settings = resolved(settings, options, found)
    genotype, form = genotype_of(found, settings.arch, load_genotype), form_of(found)
    if settings.dataset == "imagenet" and not form.imagenet:
        raise UserError(f"{settings.checkpoint} is of a CIFAR network; --dataset imagenet needs an ImageNet one")
    batch_size = settings.batch_size or (128 if form.imagenet else 96)
    trained_on = str(found.metadata.get("dataset", ""))  # whose constants it was trained with

    def own(dataset: str) -> Any:
        return constants(trained_on or dataset)

    test, batches = open_test(settings.dataset, form.imagenet, batch_size, options, device, own, settings.workers)
    check_classes(found, test.classes, settings.dataset)
    form = form._replace(channels=settings.channels or form.channels, layers=settings.layers or form.layers)
    return Loaded(settings, found, form, genotype, test, batches)


def resolved(settings: Evaluate, options: RunOptions, found: Checkpoint) -> Evaluate:
    """The settings with the data set that the weights belong to, where the user names none.

    Raises UserError where the file names another set than the user, and where nobody names one: a profile's set (the
    digits) says nothing about the authors' weights.
    """
    own, given = found.metadata.get("dataset"), options.given
    said = "dataset" in given if given is not None else settings.dataset != Evaluate.dataset
    if (paper := found.metadata.get("paper", "evnas")) != "evnas":
        raise UserError(f"{settings.checkpoint} holds weights of {paper}; give a file of evnas")
    if own is None:
        if not said and settings.dataset != Evaluate.dataset:
            raise UserError(
                f"{settings.checkpoint} does not say which data set it is of, and profile {options.profile} would test "
                f"it on {settings.dataset}; name the set with --dataset, or use --profile paper"
            )
        return settings
    if not said:
        return dataclasses.replace(settings, dataset=own)
    if other_set(own, settings.dataset):
        raise UserError(
            f"{settings.checkpoint} was trained on {own}, not on {settings.dataset}; leave --dataset out, or name {own}"
        )
    return settings
