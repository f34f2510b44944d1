"""Evaluating weights: our own, or the authors' SGNAS-A/B/C checkpoints (averaged weights, ``module.`` prefix
and all).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from common.checkpoints import load_strict, load_tensors
from common.device import pick_device
from common.errors import UserError
from common.runs import open_run, say
from common.training import evaluate as evaluate_model
from papers.sgnas import datasets
from papers.sgnas.describe import counts
from papers.sgnas.network import Network, fold, from_published
from papers.sgnas.ranges import check_ranges
from papers.sgnas.settings import EvaluateSettings


def published_weights(content: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights inside the authors' file: state_dict_ema, else state_dict, else the object itself; no ``module.``."""
    for key in ("state_dict_ema", "state_dict", "model"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def load_weights(network: Network, path: Path) -> None:
    """Load a file into a network, strictly. Raises UserError naming what is missing, unexpected or mis-shaped."""
    tensors = published_weights(load_tensors(path))
    wrong = [name for name, value in tensors.items() if not isinstance(value, torch.Tensor)]
    if wrong:
        raise UserError(f"{path}: {wrong[0]} is no tensor; a state dict of SGNAS weights is expected")
    translated = from_published(tensors, network)
    for name, tensor in network.state_dict().items():  # counters are absent from some exports and without effect here
        if name.endswith("num_batches_tracked"):
            translated.setdefault(name, tensor)
    load_strict(network, translated)


def evaluate(settings: EvaluateSettings, options: Any) -> dict[str, Any]:
    """The ``evaluate`` verb: top-1 and top-5 error, plain cross-entropy."""
    c = settings
    check_ranges(c)
    if not c.checkpoint:
        raise UserError(
            "evaluate needs weights: --checkpoint FILE (weights.safetensors of a training run, or the authors' file)"
        )
    device = pick_device(options)
    test = datasets.open_set(c.dataset, "test", options)
    kernels, macro = datasets.network_of(c.arch, c.dataset, test, c.macro)
    classes = c.classes or len(test.classes)
    extra = {"data": test.pins, "pinned": test.pinned, "kernels": kernels, "macro": macro.name}
    with open_run(options, c, extra) as run:
        if run.result is not None:
            return run.result
        network = Network(macro, kernels, classes, c.se, c.activation).eval()
        load_weights(network, Path(c.checkpoint))
        model = (fold(network) if c.fold_bn else network).to(device)
        batches = datasets.loader(c.dataset, test, c.batch_size, options.seed, device, "test", "test", c.workers)
        found = evaluate_model(model, run.progress(batches.epoch(0), "evaluate"), device, options.precision)
        metrics = {
            "top1_error_percent": found.top1_error,
            "top5_error_percent": found.top5_error,
            "test_loss": found.loss,
            "images": found.images,
            **counts(kernels, macro, classes, c.se),
        }
        top5 = "" if found.top5_error is None else f", top-5 error {found.top5_error:.2f} %"
        say(f"top-1 error {found.top1_error:.2f} %{top5}, {found.images} images")
        return run.finish({"metrics": metrics, "architecture": {"kernels": kernels, "macro": macro.name}})
