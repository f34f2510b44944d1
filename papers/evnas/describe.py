"""Counts of a network, and drawings of its cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from common.cli.errors import UserError
from common.data.nasbench201 import drawn_edges
from common.run.files import make_folder
from common.spaces import drawing
from common.spaces.architecture import read_architecture
from common.spaces.counting import conv_macs, macs, parameters
from common.spaces.darts import supernet as darts_supernet
from common.spaces.darts.network import Genotype
from common.spaces.nasbench201 import network as nasbench201
from common.weights.read import read_metadata
from papers.evnas.networks import CLASSES, build, load_genotype
from papers.evnas.settings_train import DescribeSettings, DrawSettings


class Given(NamedTuple):
    """What a file says beside its cells; 0 and "" where it says nothing. ``pixels``: side of the set's images."""

    dataset: str = ""
    classes: int = 0
    pixels: int = 0
    channels: int = 0
    layers: int = 0
    imagenet: bool = False  # trained with the ImageNet recipe


def recorded(name: str) -> tuple[Genotype, Given]:
    """(cells, what the file says of its set and size) of a published name, an architecture file, or own weights.

    Raises UserError.
    """
    if name.endswith(".safetensors"):
        said = read_metadata(name)
        if said.get("paper", "evnas") != "evnas" or not isinstance(said.get("architecture"), dict):
            raise UserError(f"{name} does not hold weights that train of evnas wrote; give those, or the architecture")
        found = [int(said.get(key, 0)) for key in ("classes", "pixels", "width", "depth")]
        imagenet = said.get("stage") == "train_imagenet"
        return Genotype.from_dict(said["architecture"]), Given(str(said.get("dataset", "")), *found, imagenet)
    genotype = load_genotype(name)
    said = (read_architecture(Path(name)).get("origin") or {}) if name.endswith(".json") else {}
    return genotype, Given(str(said.get("dataset", "")), int(said.get("classes", 0)), int(said.get("pixels", 0)))


def describe(name: str, dataset: str | None = None) -> dict[str, Any]:
    """Counts for a published name, an architecture file, or weights of one's own (at their width and depth).

    dataset: cifar10, cifar100, digits or imagenet; default the set that the file names, else cifar10. ``parameters``
    leaves out the auxiliary head, as the paper does; ``macs`` are convolutions and classifier; ``macs_published`` is
    the paper's column: convolutions alone, at the set's input size. Raises UserError.
    """
    genotype, given = recorded(name)
    used = dataset or given.dataset or "cifar10"
    own = used == given.dataset  # the file's classes and pixels hold for its own set only
    classes = (given.classes if own else 0) or CLASSES.get(used, 0)
    imagenet = used == "imagenet" or (own and given.imagenet)
    pixels = (given.pixels if own else 0) or (224 if imagenet else 32)
    if not classes:
        raise UserError(f"unknown data set {used!r}; describe knows {', '.join(CLASSES)}")
    network = build(genotype, imagenet, classes, given.channels, given.layers, auxiliary=True)
    return {
        "name": name,
        "dataset": used,
        "classes": classes,
        "parameters": parameters(network),
        "parameters_with_auxiliary": parameters(network, exclude=()),
        "macs": macs(network, (3, pixels, pixels)),
        "macs_published": conv_macs(network, (3, pixels, pixels)),
        "architecture": genotype.as_dict(),
    }


def supernet_parameters(space: str, classes: int = 10) -> int:
    """Parameters of the search network: S1 1,930,618; S2 1,686,106 with 10 classes (without the alphas)."""
    if space == "s1":
        return parameters(darts_supernet.Supernet(classes=classes))
    return parameters(nasbench201.Supernet(classes=classes), exclude=("arch_parameters",))


def space_size(space: str) -> int:
    """Number of genotypes: (180 * 7^8)^2 in S1, 5^6 cells in S2."""
    return (180 * 7**8) ** 2 if space == "s1" else 5**6


def run(settings: DescribeSettings, options: Any) -> dict[str, Any]:
    """The ``describe`` verb."""
    return describe(settings.arch, settings.dataset)


INPUTS = ("c_{k-2}", "c_{k-1}")


def edges_of(pairs: Any) -> list[drawing.Edge]:
    """Labelled edges of a cell in the field's drawing: c_{k-2}, c_{k-1}, nodes 0 to 3, c_{k}."""
    names = [*INPUTS, "0", "1", "2", "3"]
    edges: list[drawing.Edge] = [(names[state], str(slot // 2), op) for slot, (op, state) in enumerate(pairs)]
    return edges + [(str(node), "c_{k}", None) for node in range(4)]


def graphs(arch: str) -> dict[str, list[drawing.Edge]]:
    """File name -> edges: both cells of an S1 architecture, or the one cell of an S2 architecture file or string."""
    text = arch if arch.startswith("|") else None
    if arch.endswith(".json"):
        document = read_architecture(Path(arch))
        text = document["architecture"] if document["space"] == "nasbench201" else None
    if text is not None:
        return {"cell": drawn_edges(text)}
    genotype = load_genotype(arch)
    return {"normal cell": edges_of(genotype.normal), "reduction cell": edges_of(genotype.reduce)}


def draw(settings: DrawSettings, options: Any) -> dict[str, Any]:
    """The ``draw`` verb: one picture per cell."""
    cells, folder = graphs(settings.arch), options.folder
    make_folder(folder)
    written = []
    for title, edges in cells.items():
        path = folder / f"{title.split()[0]}.{settings.format}"
        drawing.draw_cells(edges, path, title=title, inputs=() if title == "cell" else INPUTS)
        written.append(str(path))
        print(path)
    return {"files": written}
