"""What an architecture is: parameters and multiply-adds in closed form, and pictures of both cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.data.names import CLASSES, classes_of, parse, side_of
from common.errors import UserError
from common.spaces.drawing import Graph, draw_cells, name_of
from common.spaces.layered import Edge
from common.weights.read import read_metadata
from common.words import hint
from papers.nao_v2.networks.architectures import (
    PUBLISHED_TEXT,
    SPACES,
    Cell,
    Shape,
    edges,
    in_file,
    is_text,
    load,
    loose_ends,
    space_of,
    text_of,
)
from papers.nao_v2.networks.size import size_of
from papers.nao_v2.settings import Describe, Draw

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

# data set: (network, classes, channels, layers) of the published configuration
DATASETS = {
    "cifar10": ("cifar", 10, 36, 6),
    "cifar100": ("cifar", 100, 36, 6),
    "digits": ("cifar", 10, 36, 6),
    "imagenet": ("imagenet", 1000, 52, 4),
    "search": ("cifar", 10, 20, 3),
}
INPUTS = ("c_{k-2}", "c_{k-1}")
ZERO = ("zero",)


def describe(settings: Describe, options: RunOptions | None = None) -> dict[str, Any]:
    """Counts of an architecture. ``NAME-C`` means the width C, e.g. ``NAONet_V2-44``. Raises UserError.

    An architecture file or weights say on which set they were found or trained, and weights at which width and depth;
    without a set CIFAR-10's published configuration is taken.
    """
    held = origin_of(settings.arch)
    kind, classes, width, depth, image = configuration(settings.dataset, held, settings.network, settings.classes)
    name, space = held.get("text", settings.arch), held.get("space", settings.space)
    stem, _, suffix = name.rpartition("-")
    if stem and suffix.isdigit() and not settings.channels and not is_text(name):
        name, width = stem, int(suffix)
    space = space_of(name, space)
    architecture = load(name, space)
    channels, layers = settings.channels or width, settings.layers or depth
    if channels < 2 or channels % 2 or layers < 1:
        raise UserError(f"channels {channels}, layers {layers}: give an even width and at least one layer")
    found = size_of(architecture, Shape(kind, channels, layers, classes, space), image)
    return {
        "name": settings.arch,
        "dataset": settings.dataset or str(held.get("dataset", "cifar10")),
        "classes": classes,
        "channels": channels,
        "layers": layers,
        "parameters": found.parameters,
        "parameters_with_auxiliary": found.parameters_with_auxiliary,
        "macs": found.macs,
        "macs_published": found.macs,
        "loose_ends": {"normal": loose_ends(architecture[0]), "reduction": loose_ends(architecture[1])},
        "architecture": text_of(architecture),
    }


def configuration(
    dataset: str, held: dict[str, Any], network: str = "auto", rows: int = 0
) -> tuple[str, int, int, int, int]:  # fmt: skip
    """(network, classes, channels, layers, pixels) of a published set, of a folder, or of what a file says of itself; 0
    pixels are the set's usual ones. network, rows: kind and classes that are asked for. Raises UserError.
    """
    known = held.get("classes") if not dataset else None
    dataset = dataset or str(held.get("dataset", "cifar10"))
    image = int(held.get("pixels", 0)) if dataset == held.get("dataset") else 0
    if dataset in DATASETS:
        kind, classes, width, depth = DATASETS[dataset]
    elif known:
        kind, classes, width, depth = str(held.get("network", "cifar")), int(known), 36, 6
    elif dataset in CLASSES or Path(parse(dataset)[0]).expanduser().exists():
        from papers.nao_v2.data.sets import kind_of

        kind = kind_of("auto", dataset, None)
        image = side_of(dataset) if kind == "cifar" else 0
        classes, (width, depth) = rows or classes_of(dataset), (36, 6) if kind == "cifar" else (52, 4)
    else:
        raise UserError(
            f"unknown data set {dataset!r}{hint(dataset, DATASETS)}; use {', '.join(DATASETS)}, or a folder"
        )
    if network not in ("auto", kind):
        kind, image, (width, depth) = network, 0, (36, 6) if network == "cifar" else (52, 4)
    classes = rows or classes
    return kind, classes, int(held.get("width", width)), int(held.get("depth", depth)), image


def origin_of(name_or_path: str) -> dict[str, Any]:
    """What a file says of the search that found its architecture, or own weights of themselves (``text`` and ``space``
    are then their architecture); {} for anything else.
    """
    known = not name_or_path or name_or_path in PUBLISHED_TEXT or is_text(name_or_path)
    if known or not Path(name_or_path).exists():
        return {}
    if name_or_path.endswith(".safetensors"):
        said = read_metadata(name_or_path)
        if said.get("paper") != "nao_v2" or "architecture" not in said:
            raise UserError(
                f"{name_or_path} does not hold weights that train of nao_v2 wrote; give those or an architecture"
            )
    else:
        found = in_file(name_or_path)
        if "schema" in found.record or not found.record:
            return dict(found.record.get("origin") or {})
        said = found.record
    return {**said, "text": said["architecture"]["text"], "space": said["space"]}


def draw(settings: Draw, options: RunOptions) -> dict[str, Any]:
    """Both cells as pictures, <out>/normal.<format> and <out>/reduction.<format>. Raises UserError."""
    space = space_of(settings.arch, settings.space)
    cells = {
        kind: Graph(
            f"{name_of(settings.arch)}: {kind} cell", tuple(labelled_edges(cell, space)), INPUTS, ("c_{k}",), ZERO
        )
        for kind, cell in zip(("normal", "reduction"), load(settings.arch, space), strict=True)
    }
    return draw_cells(cells, options.folder, settings.format)


def labelled_edges(cell: Cell, space: str) -> list[Edge]:
    """(from, to, operation): states 0 and 1 are ``c_{k-2}`` and ``c_{k-1}``, state n is ``n``, the output ``c_{k}``.

    An edge carries its operation. An input that no node reads is a loose end too, and leads straight to the output.
    """
    names = {state: INPUTS[state] if state < 2 else str(state) for state in range(len(cell) // 4 + 2)}
    found: list[Edge] = []
    for node, (i1, o1, i2, o2) in enumerate(edges(cell), 2):
        found += [(names[state], names[node], SPACES[space][operation]) for state, operation in ((i1, o1), (i2, o2))]
    return found + [(names[state], "c_{k}", None) for state in loose_ends(cell)]
