"""Test error of given weights: EMA weights, resize by 1 / 0.875 (bicubic), centre crop, fp32."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from common.cli.errors import UserError
from common.run.folder import open_run, say
from common.train import distributed
from common.train.device import pick_device
from common.train.loop import evaluate as test_error
from common.weights.read import read_metadata
from papers.cream.data import batches as data
from papers.cream.describe import CLASSES, spec_of
from papers.cream.network.architectures import Named, of_weights, resolve
from papers.cream.network.folding import folded
from papers.cream.network.keys import load_weights
from papers.cream.network.networks import DerivedNetwork
from papers.cream.planning import seconds_per_image
from papers.cream.settings import Evaluate


def evaluate(settings: Evaluate, options: Any) -> dict[str, Any]:
    """Evaluate published or own weights on the test split; writes result.json. Raises UserError."""
    settings, named = network_of(settings, options)
    name, _, size, path = spec_of(named, 1000, settings.resolution, dataset=settings.dataset)
    device = pick_device(options)
    distributed.setup()
    test = data.open_source(settings.dataset, "test", size, options)
    data.refuse_interpolation(settings, test, options.given)
    _, spec, _, _ = spec_of(
        named, len(test.classes), settings.resolution, settings.single_block, settings.repeat_stage3,
        settings.dataset,
    )  # fmt: skip
    with open_run(options, settings, {**data.data_pins(test), "path": path}) as run:
        if run.result is not None:
            return run.result
        net = DerivedNetwork(spec)
        origin, file = load_weights(net, settings.checkpoint, settings.weights)
        model = folded(net).to(device, memory_format=torch.channels_last)
        batches = data.test_batches(test, settings.batch_size, size, device, settings.workers, settings.interpolation)
        metrics = test_error(model, batches.epoch(0), device, options.precision)
        sizes = {
            "parameters": spec.count("parameters"), "macs": spec.count("macs", size),
            "macs_published": spec.count("thop2020", size), "images": metrics.images,
            **({} if file.epoch is None else {"checkpoint_epoch": file.epoch}),
        }  # fmt: skip
        return run.finish(
            {"paper": "cream", "stage": "evaluate", "metrics": {**metrics.as_dict(), **sizes}, "network": name,
             "weights": origin, "weights_kind": file.weights, "architecture": {"path": path, "resolution": size}}
        )  # fmt: skip


def network_of(settings: Evaluate, options: Any) -> tuple[Evaluate, Named]:
    """The network to test, and the settings with the file's own set and resolution where the user names none.

    Weights trained here say what they are. Raises UserError where neither they nor ``--arch`` say it, and where the
    user names another set than theirs.
    """
    named = of_weights(settings.checkpoint) if settings.checkpoint and not settings.arch else resolve(settings.arch)
    about = read_metadata(settings.checkpoint) if settings.checkpoint else {}
    trained_on = str(about.get("dataset", ""))
    if not trained_on or trained_on == settings.dataset:
        return settings, named
    if options.given is not None and "dataset" not in options.given:
        size = settings.resolution if "resolution" in options.given else about["architecture"]["resolution"]
        say(f"{settings.checkpoint} was trained on {trained_on}: it is tested on that")
        return replace(settings, dataset=trained_on, resolution=size), named
    if trained_on in CLASSES and settings.dataset in CLASSES:
        raise UserError(
            f"{settings.checkpoint} was trained on {trained_on}, --dataset is {settings.dataset}, whose classes are "
            f"others; leave --dataset out to test it on {trained_on}"
        )
    return settings, named


def plan(settings: Evaluate, options: Any) -> list[str]:
    """What the run would do."""
    settings, named = network_of(settings, options)
    _, _, size, _ = spec_of(named, 1000, settings.resolution, dataset=settings.dataset)
    test = data.open_source(settings.dataset, "test", size, options)
    data.refuse_interpolation(settings, test, options.given)
    _, spec, _, _ = spec_of(
        named, len(test.classes), settings.resolution, settings.single_block, settings.repeat_stage3,
        settings.dataset,
    )  # fmt: skip
    macs = spec.count("macs", size)
    elements = max(layer.cout * layer.out**2 for layer in spec.layers(size) if layer.kind == "conv")
    memory = 4 * (spec.count("parameters") + 4 * elements * settings.batch_size)
    seconds = len(test) * seconds_per_image(spec, size) / 3 / distributed.world_size()
    return [
        f"{len(test)} images at {size}, {macs / 1e6:.1f}M multiply-adds each: {len(test) * macs / 1e9:.1f}G in all",
        f"estimated time on this CPU: {seconds / 60:.1f} minutes, from one small batch timed just now, reading the "
        f"pictures not counted",
        f"estimated memory: {memory / 2**30:.2f} GiB beside torch and the data",
    ]
