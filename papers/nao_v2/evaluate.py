"""Evaluating weights: our own files, and the authors' checkpoints (dict of args, model, epoch, …)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from common.data.names import other_set
from common.data.pictures.sets import Pictures
from common.data.sets import Images
from common.errors import UserError
from common.run.device import pick_device
from common.run.folder import open_run, say
from common.train.compiling import compile_whole
from common.train.loop import evaluate as evaluate_model
from common.weights import read as checkpoints
from common.weights.read import load_strict
from papers.nao_v2.data.sets import open_set, test_batches
from papers.nao_v2.networks.architectures import PUBLISHED_TEXT, Architecture, Shape, load, parse, space_of, text_of
from papers.nao_v2.networks.derived import Network
from papers.nao_v2.networks.size import Size, size_of
from papers.nao_v2.settings import Evaluate

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

# Names under which a training script may have stored its arguments.
ARGUMENTS = {
    "architecture": ("arch", "fixed_arc", "architecture", "genotype"),
    "channels": ("channels", "init_channels"),
    "layers": ("layers", "num_layers"),
    "nodes": ("nodes", "num_nodes"),
}


@dataclass(frozen=True)
class Stored:
    """A checkpoint's weights, and what the file says of the network and its set (None: nothing)."""

    weights: dict[str, torch.Tensor]
    architecture: str | None = None
    channels: int | None = None
    layers: int | None = None
    nodes: int | None = None
    dataset: str | None = None
    space: str | None = None
    class_names: tuple[str, ...] = ()
    stand: dict[str, Any] = field(default_factory=dict)  # of an unfinished training, as in the result
    identity: dict[str, str] = field(default_factory=dict)  # which state of it

    @property
    def kind(self) -> str:
        """The network for small images, or that for pictures of ImageNet's size."""
        return "imagenet" if "stem0.0.weight" in self.weights else "cifar"

    @property
    def classes(self) -> int:
        """Rows of the classifier. Raises UserError where there is none."""
        if "classifier.weight" not in self.weights:
            raise UserError("the checkpoint has no classifier.weight: it is no network of NAO's")
        return int(self.weights["classifier.weight"].shape[0])

    @property
    def likely_set(self) -> str:
        """The published set of such a network; empty for another number of classes."""
        return {("cifar", 10): "cifar10", ("cifar", 100): "cifar100", ("imagenet", 1000): "imagenet"}.get(
            (self.kind, self.classes), ""
        )


def read_checkpoint(path: Path, weights: str = "auto") -> Stored:
    """Our own weights, or the authors' container in any of its forms. Raises UserError."""
    read = checkpoints.read_checkpoint(path, weights)
    if own := read.metadata:
        architecture = own.get("architecture")
        if isinstance(architecture, dict):
            architecture = architecture.get("text")
        if own.get("paper", "nao_v2") != "nao_v2":
            raise UserError(f"{path} holds weights of {own['paper']}; give a file of nao_v2")
        return Stored(
            read.tensors, architecture, own.get("width"), own.get("depth"), None, own.get("dataset"), own.get("space"),
            tuple(own.get("class_names", ())), read.stand, read.identity,
        )  # fmt: skip
    arguments = read.beside.get("args")
    values = arguments if isinstance(arguments, Mapping) else getattr(arguments, "__dict__", {})
    found: dict[str, Any] = {}
    for name, aliases in ARGUMENTS.items():
        value = next((values[a] for a in aliases if values.get(a) is not None), None)
        if name == "architecture":
            if isinstance(value, list | tuple):  # may be stored as parsed integers, flat or one list per cell
                flat = [v for part in value for v in (part if isinstance(part, list | tuple) else [part])]
                value = " ".join(str(int(v)) for v in flat)
            found[name] = str(value) if value else None
        else:
            found[name] = int(value) if value is not None else None
    stored = Stored(read.tensors, **found)
    if arguments is not None:  # the authors' own file: of the published set of such a network, as far as there is one
        stored = replace(stored, dataset=stored.likely_set or None)
    return stored


def width_of(weights: Mapping[str, torch.Tensor]) -> int | None:
    """Channels as the stem's shape tells."""
    if "stem.0.weight" in weights:
        return int(weights["stem.0.weight"].shape[0]) // 3
    if "stem1.1.weight" in weights:
        return int(weights["stem1.1.weight"].shape[0])
    return None


def resolve(c: Evaluate, stored: Stored) -> tuple[Architecture, str, int, int]:
    """(architecture, space, channels, layers): asked for, else stored, else published; both must agree.

    Raises UserError naming what was asked for and what the checkpoint holds.
    """
    source = Path(c.checkpoint).name
    space = space_of(c.arch or ("" if stored.architecture else "NAONet_V2"), c.space)
    if stored.space and space not in ("small", stored.space):
        raise UserError(f"{source} is of space {stored.space!r}, but {space!r} was asked for; leave --space out")
    space = stored.space or space
    held = parse(stored.architecture, space, where=f"{source} (stored architecture)") if stored.architecture else None
    asked = load(c.arch, space) if c.arch else None
    if held is not None and asked is not None and held != asked:
        raise UserError(
            f"{source} is of architecture {text_of(held)!r}, but {c.arch!r} was asked for; leave --arch out to "
            f"take the stored one"
        )
    architecture = held or asked or load("NAONet_V2")
    width = width_of(stored.weights)
    if stored.channels and width and stored.channels != width:
        raise UserError(f"{source} says {stored.channels} channels, its stem has {width}; the file is inconsistent")
    channels = _agree("channels", c.channels, stored.channels or width, 36 if stored.kind == "cifar" else 52, source)
    cells = {int(key.split(".")[1]) for key in stored.weights if key.startswith("cells.")}
    depth = (max(cells) - 1) // 3 if cells else None
    layers = _agree("layers", c.layers, stored.layers or depth, 6 if stored.kind == "cifar" else 4, source)
    return architecture, space, channels, layers


def _agree(name: str, asked: int, held: int | None, default: int, source: str) -> int:
    if asked and held and asked != held:
        raise UserError(
            f"{source} has {name} {held}, but {asked} was asked for; leave --{name} out to take the stored value"
        )
    return asked or held or default


def build(c: Evaluate, stored: Stored) -> tuple[Network, Architecture, Shape]:
    """The network with its weights, its architecture, and its shape.

    For weights without stored architecture, older published ones are tried as well. Raises UserError.
    """
    architecture, space, channels, layers = resolve(c, stored)
    shape = Shape(stored.kind, channels, layers, stored.classes, space)
    candidates = [architecture]
    if not c.arch and stored.architecture is None:
        candidates += [load(name) for name in PUBLISHED_TEXT if load(name) != architecture]
    first: UserError | None = None
    for candidate in candidates:
        network = Network(candidate, shape)
        try:
            load_strict(network, stored.weights, source=Path(c.checkpoint).name)
        except UserError as error:
            first = first or error
            continue
        return network, candidate, shape
    assert first is not None
    raise first


def set_of(c: Evaluate, stored: Stored) -> str:
    """The set to test on: asked for, else stored, else the published one of such a network.

    Raises UserError where the weights are of another set, or nothing says of which. A folder may be a copy of the set
    under any name: only its classes are compared (by ``opened``).
    """
    source = Path(c.checkpoint).name
    if not c.dataset:
        found = stored.dataset or stored.likely_set
        if not found:
            raise UserError(f"{source} ({stored.classes} classes) does not say which set it is of; give --dataset")
        return found
    if stored.dataset and other_set(stored.dataset, c.dataset):
        raise UserError(
            f"{source} is of {stored.dataset}, but --dataset {c.dataset} was asked for; leave --dataset out to test on "
            f"its own set"
        )
    return c.dataset


@dataclass(frozen=True)
class Opened:
    """Weights in their network, and the set to test them on."""

    stored: Stored
    network: Network
    architecture: Architecture
    shape: Shape
    dataset: str
    test: Images | Pictures

    @property
    def size(self) -> Size:
        """Parameters and multiply-adds at the size of the images."""
        image = 0 if isinstance(self.test, Pictures) else self.test.size
        return size_of(self.architecture, self.shape, image)


def open_checkpoint(c: Evaluate, options: RunOptions) -> Opened:
    """The checkpoint, built, and its test set. Raises UserError where they do not fit each other or the settings."""
    if not c.checkpoint:
        raise UserError(
            "evaluate needs weights: --checkpoint FILE (weights.safetensors of a training, or the authors' file)"
        )
    stored, source = read_checkpoint(Path(c.checkpoint), c.weights), Path(c.checkpoint).name
    dataset = set_of(c, stored)
    if dataset == "imagenet" and stored.kind == "cifar":
        raise UserError(f"{c.checkpoint} is of a CIFAR network; --dataset imagenet needs an ImageNet one")
    network, architecture, shape = build(c, stored)
    test = open_set(dataset, "test", stored.kind, options)
    if len(test.classes) != stored.classes:
        raise UserError(
            f"{source} tells {stored.classes} classes apart, {dataset} has {len(test.classes)}; give its own set"
        )
    if stored.class_names and stored.class_names != tuple(test.classes):
        other = next(pair for pair in zip(stored.class_names, test.classes) if pair[0] != pair[1])
        raise UserError(
            f"{source} was trained on {stored.dataset}, with a class {other[0]!r} where {dataset} has {other[1]!r}; "
            f"give its own set"
        )
    return Opened(stored, network, architecture, shape, dataset, test)


def evaluate(settings: Evaluate, options: RunOptions) -> dict[str, Any]:
    """Test error of weights: eval mode, running statistics, no auxiliary head; error = 100 - top-1 accuracy."""
    c, device = settings, pick_device(options)
    found = open_checkpoint(c, options)
    text, shape = text_of(found.architecture), found.shape
    identity = {"architecture": text, "tested_on": found.dataset, **found.stored.identity}
    with open_run(options, c, data=found.test, **identity) as run:
        if run.result is not None:
            return run.result
        say(
            f"{Path(c.checkpoint).name}: {found.stored.kind} network, {shape.channels} channels, "
            f"{shape.layers} layers, on {found.dataset}"
        )
        batches = test_batches(found.test, c.batch_size, options.seed, device, c.workers)
        compile_whole(found.network, options)
        tested = evaluate_model(found.network.to(device), run.shows(batches, "test"), device, options.precision)
        metrics = {
            "top1_error_percent": tested.top1_error, "top5_error_percent": tested.top5_error,
            "test_loss": tested.loss, "images": tested.images, "parameters": found.size.parameters,
            "macs": found.size.macs, "channels": shape.channels, "layers": shape.layers,
        }  # fmt: skip
        return run.finish({"metrics": metrics, "architecture": text, **found.stored.stand})
