"""Testing trained networks: own weights and every released container (bare, ``module.``-prefixed,
whole pickled model).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from common.checkpoints import load_legacy_module, load_strict, load_tensors, strip_prefix
from common.data.augment import Augmentation
from common.data.batches import Batches
from common.data.folder import EvalPictures, FolderBatches, open_pictures
from common.data.sources import open_images
from common.data.text import Corpus, batchify
from common.device import pick_device
from common.errors import UserError
from common.runs import open_run
from common.spaces.sizes import check_pixels, is_imagenet
from common.unpickling import module_tensors
from papers.nsas.networks import CIFAR_MEAN, CIFAR_STD, build_derived, load_cnn, size_of
from papers.nsas.ranges import check_ranges
from papers.nsas.recurrent import Cell, Dropouts, LanguageModel
from papers.nsas.recurrent_training import evaluate as text_loss
from papers.nsas.recurrent_training import perplexity
from papers.nsas.settings import EvaluateRecurrentSettings, EvaluateSettings
from papers.nsas.train import test_errors
from papers.nsas.train_recurrent import load_cell, unigram_perplexity

if TYPE_CHECKING:
    import torch

    from common.cli import RunOptions

# what the one whole-module pickle may name; every name becomes an inert stand-in, nothing is imported for it
PICKLED_CLASSES = {
    "model.RNNModel", "model.DARTSCell", "model_search.DARTSCell", "genotypes.Genotype", "utils.LockedDropout",
    "collections.OrderedDict", "locked_dropout.LockedDropout",
    "torch.nn.modules.sparse.Embedding", "torch.nn.modules.linear.Linear", "torch.nn.modules.container.ModuleList",
    "torch.nn.modules.container.ParameterList", "torch.nn.modules.batchnorm.BatchNorm1d",
    "torch.nn.parameter.Parameter", "torch.nn.backends.thnn._get_thnn_function_backend",
    "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter",
}  # fmt: skip


def evaluate(settings: EvaluateSettings, options: RunOptions) -> dict:
    """Top-1 and top-5 error of a derived CNN."""
    check_ranges(settings, defaults=("channels", "layers"))
    need_checkpoint(settings.checkpoint)
    device, architecture = pick_device(options), load_cnn(settings.arch)
    imagenet = is_imagenet(settings.dataset)
    held, test = open_test(settings, options, device)
    trained = training_settings(settings.checkpoint)
    channels, layers = size_of(
        "imagenet" if imagenet else settings.dataset, settings.arch,
        settings.channels or trained.get("channels", 0), settings.layers or trained.get("layers", 0),
    )  # fmt: skip
    with open_run(options, settings, {"data": held.pins}) as run:
        if run.result is not None:
            return run.result
        model = build_derived(
            architecture, "imagenet" if imagenet else "cifar10", len(held.classes), channels, layers, auxiliary=False
        )
        load_strict(model, strip_prefix(load_tensors(settings.checkpoint)), drop=("auxiliary_head.",))
        metrics = test_errors(model.to(device), test, device, options.precision)
        metrics["parameters"] = sum(p.numel() for p in model.parameters())
        return run.finish({"metrics": metrics, "architecture": architecture.as_names()})


def open_test(settings: EvaluateSettings, options: RunOptions, device: torch.device):
    """(test set, its batches)."""
    if is_imagenet(settings.dataset):
        held = open_pictures(settings.dataset, "test", options)
        test = FolderBatches(
            held, settings.batch_size, EvalPictures(), options.seed, shuffle=False, device=device,
            workers=settings.workers,
        )  # fmt: skip
        return held, test
    images = open_images(settings.dataset, "test", options)
    check_pixels(settings.dataset, images.size)
    size, constants = min(settings.batch_size, len(images)), Augmentation(CIFAR_MEAN, CIFAR_STD)
    return images, Batches(images, size, constants, options.seed, shuffle=False, device=device, stream="test")


def evaluate_recurrent(settings: EvaluateRecurrentSettings, options: RunOptions) -> dict:
    """Validation (batch 10) and test (batch 1) perplexity of a recurrent network."""
    check_ranges(settings, defaults=("width",))
    need_checkpoint(settings.checkpoint)
    corpus = Corpus.open(settings.text, options, settings.max_tokens, settings.max_types)
    device, cell = pick_device(options), load_cell(settings.arch)
    with open_run(options, settings, {"data": corpus.pins}) as run:
        if run.result is not None:
            return run.result
        width = settings.width or training_settings(settings.checkpoint).get("width", 0) or 850
        model = LanguageModel(corpus.types, width, Cell(width, cell.recurrent, cell.concat), Dropouts())
        load_recurrent(model, settings.checkpoint)
        model.to(device)
        valid = batchify(corpus.valid, settings.eval_batch_size).to(device)
        test = batchify(corpus.test, 1).to(device)
        metrics = {
            "test_perplexity": perplexity(text_loss(model, test, settings.bptt)),
            "valid_perplexity": perplexity(text_loss(model, valid, settings.bptt)),
            "unigram_perplexity": unigram_perplexity(corpus),
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        architecture = {"recurrent": [list(p) for p in cell.recurrent], "concat": list(cell.concat)}
        return run.finish({"metrics": metrics, "architecture": architecture})


def load_recurrent(model: LanguageModel, path: str) -> None:
    """Own safetensors, a state dict, or the released whole-module pickle (read without running any of its code)."""
    try:
        tensors = strip_prefix(load_tensors(path))
    except UserError:
        if path.endswith(".safetensors"):
            raise
        tensors = module_tensors(load_legacy_module(path, PICKLED_CLASSES))
    tensors.setdefault("decoder.weight", tensors.get("encoder.weight"))  # tied
    load_strict(model, tensors)


def need_checkpoint(path: str) -> None:
    """One line instead of a traceback."""
    if not path:
        raise UserError("evaluate needs weights: give --checkpoint FILE (from train, or a released file)")
    if not Path(path).exists():
        raise UserError(
            f"{path}: no such file; train first, or fetch it with python -m reproductions checkpoints fetch"
        )


def training_settings(checkpoint: str) -> dict:
    """Settings of the run that wrote the weights, where they lie beside them."""
    path = Path(checkpoint).parent / "settings.json"
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text()).get("settings", {})
    except json.JSONDecodeError:
        return {}
