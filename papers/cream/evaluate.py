"""Test error of given weights (section 5): EMA weights, resize by 1 / 0.875 (bicubic), centre crop, fp32."""

from __future__ import annotations

from typing import Any

import torch

from common import distributed
from common.device import pick_device
from common.runs import open_run
from common.training import evaluate as test_error
from papers.cream import data
from papers.cream.checkpoints import load_weights, stored_epoch
from papers.cream.describe import spec_of
from papers.cream.folding import folded
from papers.cream.networks import DerivedNetwork
from papers.cream.planning import seconds_per_image
from papers.cream.ranges import check_ranges
from papers.cream.settings import EvaluateSettings


def evaluate(settings: EvaluateSettings, options: Any) -> dict[str, Any]:
    """Evaluate published or own weights on the test split; writes result.json. Raises UserError."""
    check_ranges(settings)
    name, _, size, path = spec_of(settings.arch, 1000, settings.resolution, dataset=settings.dataset)
    device = pick_device(options)
    distributed.setup()
    test = data.open_source(settings.dataset, "test", size, options)
    _, spec, _, _ = spec_of(
        settings.arch, len(test.classes), settings.resolution, settings.single_block, settings.repeat_stage3,
        settings.dataset,
    )  # fmt: skip
    with open_run(options, settings, {**data.data_pins(test), "path": path}) as run:
        if run.result is not None:
            return run.result
        net = DerivedNetwork(spec)
        origin = load_weights(net, settings.checkpoint, settings.weights)
        model = folded(net).to(device, memory_format=torch.channels_last)
        batches = data.test_batches(test, settings.batch_size, size, device, settings.workers, settings.interpolation)
        metrics = test_error(model, batches.epoch(0), device, options.precision)
        sizes = {
            "parameters": spec.count("parameters"), "macs": spec.count("macs", size),
            "macs_published": spec.count("thop2020", size), "images": metrics.images,
            **stored_epoch(settings.checkpoint),
        }  # fmt: skip
        return run.finish(
            {"paper": "cream", "stage": "evaluate", "metrics": {**metrics.as_dict(), **sizes}, "network": name,
             "weights": origin, "architecture": {"path": path, "resolution": size}}
        )  # fmt: skip


def plan(settings: EvaluateSettings, options: Any) -> list[str]:
    """What the run would do."""
    check_ranges(settings)
    _, spec, size, _ = spec_of(settings.arch, 1000, settings.resolution, dataset=settings.dataset)
    test = data.open_source(settings.dataset, "test", size, options)
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
