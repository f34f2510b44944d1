"""Test error of given weights: EMA weights, resize by 1 / 0.875 (bicubic), centre crop, fp32 (Method 12)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from common.data.names import CLASSES
from common.errors import UserError
from common.run import distributed
from common.run.device import pick_device
from common.run.folder import open_run, say
from common.train.compiling import compile_whole
from common.train.loop import evaluate as test_error
from common.weights.read import read_metadata
from papers.cream.data import batches as data
from papers.cream.data import sets
from papers.cream.networks.architectures import Architecture, of_weights, resolve
from papers.cream.networks.derived import input_size, spec_of
from papers.cream.networks.networks import DerivedNetwork, folded, placed
from papers.cream.networks.weights import load_weights
from papers.cream.settings import Evaluate

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def evaluate(settings: Evaluate, options: RunOptions) -> dict[str, Any]:
    """Evaluate published or own weights on the test split; writes result.json. Raises UserError."""
    settings, arch = what_is_tested(settings, options)
    size = input_size(arch, settings.resolution, settings.dataset)
    device = pick_device(options)
    distributed.setup()
    test = sets.open_source(settings.dataset, "test", size, options)
    data.refuse_interpolation(settings, test, options.given)
    spec = spec_of(arch, len(test.classes), settings.single_block, settings.repeat_stage3)
    net = DerivedNetwork(spec)
    origin, file = load_weights(net, settings.checkpoint, settings.weights)
    with open_run(options, settings, data=test, path=arch.path, **file.identity) as run:
        if run.result is not None:
            return run.result
        model = placed(folded(net), device)
        compile_whole(model, options)
        batches = data.plain_batches(test, settings.batch_size, size, device, settings.workers, settings.interpolation)
        measured = test_error(model, run.shows(batches, "test"), device, options.precision)
        metrics = {**measured.as_dict(), **spec.sizes(size), "images": measured.images}
        if file.epoch is not None:
            metrics["checkpoint_epoch"] = file.epoch
        return run.finish(
            {"paper": "cream", "stage": "evaluate", "metrics": metrics, "network": arch.name, "weights": origin,
             "weights_kind": file.weights, "architecture": {"path": arch.path, "resolution": size}, **file.stand}
        )  # fmt: skip


def what_is_tested(settings: Evaluate, options: RunOptions) -> tuple[Evaluate, Architecture]:
    """The network to test, and the settings with the file's own set and resolution where the user names none.

    Weights trained here say what they are. Raises UserError where neither they nor ``--arch`` say it, and where the
    user names another set than theirs.
    """
    arch = of_weights(settings.checkpoint) if settings.checkpoint and not settings.arch else resolve(settings.arch)
    about = read_metadata(settings.checkpoint) if settings.checkpoint else {}
    trained_on = str(about.get("dataset", ""))
    if not trained_on or trained_on == settings.dataset:
        return settings, arch
    if options.given is not None and "dataset" not in options.given:
        size = settings.resolution if "resolution" in options.given else about["architecture"]["resolution"]
        say(f"{settings.checkpoint} was trained on {trained_on}: it is tested on that")
        return replace(settings, dataset=trained_on, resolution=size), arch
    if trained_on in CLASSES and settings.dataset in CLASSES:
        raise UserError(
            f"{settings.checkpoint} was trained on {trained_on}, --dataset is {settings.dataset}, whose classes are "
            f"others; leave --dataset out to test it on {trained_on}"
        )
    return settings, arch
