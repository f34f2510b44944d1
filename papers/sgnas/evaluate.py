"""Testing weights: our own, which say what network they are of, or the authors' SGNAS-A/B/C checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.data.names import IMAGE_SETS, PICTURE_SETS
from common.errors import UserError
from common.run.device import pick_device
from common.run.folder import open_run, say
from common.train.compiling import compile_whole
from common.train.loop import evaluate as errors_of
from common.weights.read import Checkpoint, load_strict, read_checkpoint
from papers.sgnas.data import sets as datasets
from papers.sgnas.describe import counts
from papers.sgnas.networks.architectures import MACROS, Kernels, Macro, check_kernels
from papers.sgnas.networks.derived import Network, fold
from papers.sgnas.networks.published_keys import from_published
from papers.sgnas.settings import Evaluate

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

CLASSIFIER = "classifier.1.weight"


def load_weights(network: Network, found: Checkpoint) -> None:
    """Load what was read, ours or the authors', strictly. Raises UserError naming what does not fit."""
    translated = from_published(found.tensors, network)
    for name, tensor in network.state_dict().items():  # counters are absent from some exports and without effect here
        if name.endswith("num_batches_tracked"):
            translated.setdefault(name, tensor)
    load_strict(network, translated, source=found.source)


@dataclass(frozen=True)
class Subject:
    """What is evaluated on what, after the file of weights and the settings were heard."""

    kernels: Kernels
    macro: Macro
    classes: int
    se: bool
    activation: str
    dataset: str
    test: Any


def subject(c: Evaluate, found: Checkpoint, options: RunOptions) -> Subject:
    """The network and the set. The file's own word comes first; raises UserError where a flag says something else, and
    where set or classes are not those of the weights.
    """
    about = found.metadata if found.metadata.get("space") == "sgnas" else {}
    given = options.given or frozenset()
    se = any(".se." in name for name in found.tensors)
    activation = about.get("activation", c.activation)
    for name, own in (("se", se), ("activation", activation)):
        if name in given and getattr(c, name) != own:
            raise UserError(f"--{name} {getattr(c, name)}: {found.source} has {name} {own}; leave the flag out")
    dataset = c.dataset if "dataset" in given else about.get("dataset", c.dataset)
    known = (*IMAGE_SETS, *PICTURE_SETS)
    if about and dataset != about["dataset"] and dataset in known:
        raise UserError(
            f"{found.source} was trained on {about['dataset']}, not on {dataset}; leave --dataset out, or give a "
            f"folder with the same classes"
        )
    test = datasets.open_set(dataset, "test", options)
    if c.arch:
        kernels, macro = datasets.network_of(c.arch, dataset, test, c.macro)
        if about and about["architecture"]["kernels"] != kernels:
            raise UserError(f"{found.source} holds the weights of another architecture than {c.arch}; leave --arch out")
    elif about:
        structure = about["architecture"]["macro"]
        if "macro" in given and c.macro not in ("auto", structure):
            raise UserError(f"--macro {c.macro}: {found.source} has the {structure} structure; leave the flag out")
        kernels = check_kernels(about["architecture"]["kernels"], MACROS[structure], found.source)
        macro = datasets.macro_of(dataset, test, structure)
    else:
        raise UserError(f"{found.source} does not say its architecture; name it, such as --arch SGNAS-A")
    classes = len(test.classes)
    if CLASSIFIER in found.tensors and len(found.tensors[CLASSIFIER]) != classes:
        raise UserError(
            f"{found.source} does not fit {dataset}: its weights are for {len(found.tensors[CLASSIFIER])} classes, the "
            f"set has {classes}; give their own (the authors': --profile paper, or --dataset imagenet)"
        )
    return Subject(kernels, macro, classes, se, activation, dataset, test)


def evaluate(settings: Evaluate, options: RunOptions) -> dict[str, Any]:
    """The ``evaluate`` verb: top-1 and top-5 error, plain cross-entropy."""
    c = settings
    if not c.checkpoint:
        raise UserError(
            "evaluate needs weights: --checkpoint FILE (weights.safetensors of a training run, or the authors' file)"
        )
    device = pick_device(options)
    weights = read_checkpoint(Path(c.checkpoint), c.weights)
    asked = subject(c, weights, options)
    identity: dict[str, Any] = {
        "kernels": asked.kernels, "macro": asked.macro.name, "se": asked.se, "activation": asked.activation,
        "set": asked.dataset,
    }  # fmt: skip
    with open_run(options, c, data=asked.test, **identity, **weights.identity) as run:
        if run.result is not None:
            return run.result
        network = Network(asked.macro, asked.kernels, asked.classes, asked.se, asked.activation).eval()
        load_weights(network, weights)
        model = (fold(network) if c.fold_bn else network).to(device)
        compile_whole(model, options)
        batches = datasets.Loaders(asked.dataset, options.seed, device, c.workers)
        shown = run.shows(batches(asked.test, c.batch_size, "test", "test"), "evaluate")
        found = errors_of(model, shown, device, options.precision)
        metrics = {
            "top1_error_percent": found.top1_error,
            "top5_error_percent": found.top5_error,
            "test_loss": found.loss,
            "images": found.images,
            **counts(asked.kernels, asked.macro, asked.classes, asked.se),
        }
        say(f"{asked.dataset}: top-1 error {found.top1_error:.2f} %, {found.images} images")
        return run.finish({
            "metrics": metrics, "architecture": {"kernels": asked.kernels, "macro": asked.macro.name}, **weights.stand,
        })  # fmt: skip
