"""Testing trained networks: own weights, and every released container (bare, under a key, whole pickled module)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.run.device import pick_device
from common.run.folder import open_run, say
from common.spaces.counting import parameters
from common.spaces.darts.data import open_test
from common.spaces.darts.network import derived
from common.spaces.darts.weights import check_classes
from common.spaces.nasbench201.train import evaluate_cell, is_cell
from common.train.compiling import compile_whole
from common.train.loop import evaluate as test_metrics
from common.weights.read import load_strict, read_checkpoint
from papers.nsas.data import constants
from papers.nsas.networks.weights import read_cnn
from papers.nsas.settings import Evaluate

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def evaluate(settings: Evaluate, options: RunOptions) -> dict[str, Any]:
    """Top-1 and top-5 error of a derived CNN on its test set, in percent (Method 10). Raises UserError."""
    if settings.checkpoint and Path(settings.checkpoint).exists():
        cells = read_checkpoint(settings.checkpoint, settings.weights)
        if is_cell(cells):
            return evaluate_cell(settings, options, cells)
    asked, device = settings, pick_device(options)  # asked: what the run is known by; the file says the rest
    settings, found, genotype, form = read_cnn(settings, options)
    test, batches = open_test(
        settings.dataset, form.imagenet, settings.batch_size, options, device, constants, settings.workers
    )
    check_classes(found, test.classes, settings.dataset)
    with open_run(options, asked, data=test, **found.identity) as run:
        if run.result is not None:
            return run.result
        network = "imagenet" if form.imagenet else "cifar"
        say(f"{found.source}: {network} network, C = {settings.channels}, L = {settings.layers}, {settings.dataset}")
        model = derived(genotype, form.imagenet, form.classes, settings.channels, settings.layers)
        load_strict(model, found.tensors, drop=("auxiliary_head.",), source=found.source)
        compile_whole(model, options)
        tested = test_metrics(model.to(device), run.shows(batches, "test"), device, options.precision)
        metrics = {**tested.as_dict(), "parameters": parameters(model)}
        size = {"channels": settings.channels, "layers": settings.layers}
        about = {"network": network, **size, "dataset": settings.dataset, "classes": form.classes}
        return run.finish({"metrics": metrics, "architecture": genotype.as_dict(), **about, **found.stand})
