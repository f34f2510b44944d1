"""What an architecture is: kernels, parameters, multiply-adds, and its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.data.names import SMALL_SETS, classes_of, side_of
from common.spaces.blocks import Block, draw_blocks
from common.spaces.drawing import name_of
from papers.sgnas.networks.architectures import (
    FIRST_CHANNELS,
    LAST_CHANNELS,
    STEM_CHANNELS,
    Architecture,
    Kernels,
    Macro,
    check_kernels,
    macro_for,
    read,
)
from papers.sgnas.settings import Describe, Draw

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

DATASETS = {
    "imagenet": ("imagenet", 1000),
    "cifar10": ("cifar", 10),
    "cifar100": ("cifar", 100),
    "digits": ("cifar", 10),
}


def counts(kernels: Kernels, macro: Macro, classes: int, se: bool) -> dict[str, int]:
    """Parameters and multiply-adds of the derived network at its macro structure's input size, in closed form.

    macs: all convolutions and the linear layer; macs_published: convolutions only, squeeze-excite included.
    """
    size = -(-macro.input_size // macro.stem_stride)
    parameters, macs = 27 * STEM_CHANNELS + 2 * STEM_CHANNELS, size * size * 27 * STEM_CHANNELS

    def block(channels: int, out: int, row: list[int], stride: int, size: int) -> tuple[int, int, int]:
        hidden, after = channels * len(row), -(-size // stride)
        weights, work = 2 * hidden + 2 * out, 0  # normalisation behind the depthwise part and the projection
        if len(row) > 1:
            weights += channels * hidden + 2 * hidden
            work += channels * hidden * size**2
        depthwise = channels * sum(k * k for k in row)
        weights += depthwise + hidden * out
        work += (depthwise + hidden * out) * after**2
        if se:
            narrow = hidden // 4
            weights += 2 * hidden * narrow + narrow + hidden
            work += 2 * hidden * narrow
        return weights, work, after

    rows = [(STEM_CHANNELS, FIRST_CHANNELS, [3], 1)]
    rows += [(c, out, row, stride) for c, (out, stride), row in zip(macro.in_channels, macro.layers, kernels)]
    for channels, out, row, stride in rows:
        weights, work, size = block(channels, out, row, stride, size)
        parameters, macs = parameters + weights, macs + work
    last = macro.layers[-1][0] * LAST_CHANNELS
    parameters += last + 2 * LAST_CHANNELS + LAST_CHANNELS * classes + classes
    macs += last * size * size
    return {"parameters": parameters, "macs": macs + LAST_CHANNELS * classes, "macs_published": macs}


def description(
    name_or_path: str, dataset: str | None = None, classes: int = 0, macro: str = "auto"
) -> dict[str, Any]:  # fmt: skip
    """Counts and kernels. A published architecture on ImageNet (the usual) with squeeze-excite, as published; on CIFAR
    without, as in the authors' recipe. A file is described for the set, classes and input size it was found on (of the
    published generator: ImageNet), on other sets without squeeze-excite, unless another set is named. Of a folder the
    classes are counted; its pictures have 224 pixels, or those of ``FOLDER@SIZE``. classes, macro: others than those.
    Raises UserError.
    """
    found = read(name_or_path)
    kernels, size = found.kernels, side_of(dataset or "")
    wanted = (found.macro if macro == "auto" else macro) or ""
    if not wanted:
        dataset = dataset or "imagenet"
        small = dataset in SMALL_SETS or 0 < size <= 64
        structure, classes = "cifar" if small else "imagenet", classes or classes_of(dataset)
    else:
        structure = wanted
        usual = 1000 if structure == "imagenet" else 10
        classes = classes or (classes_of(dataset) if dataset else found.classes or usual)
        size = size or (found.input_size if not dataset or dataset == found.dataset else 0)
        published = structure == "imagenet" and classes == 1000  # what the published generator's files are of
        dataset = dataset or found.dataset or ("imagenet" if published else "unnamed")
    check_kernels(kernels, macro_for(structure), name_or_path)
    built = macro_for(structure, size)
    se = dataset == "imagenet" if found.se is None else found.se
    sizes = counts(kernels, built, classes, se)
    return {
        "name": name_or_path,
        "dataset": dataset,
        "classes": classes,
        "input_size": built.input_size,
        **sizes,
        "parameters_with_auxiliary": sizes["parameters"],
        "architecture": {"kernels": kernels, "macro": structure},
    }


def describe(settings: Describe, options: RunOptions) -> dict[str, Any]:
    """The ``describe`` verb: counts and kernels."""
    found = description(settings.arch, settings.dataset, settings.classes, settings.macro)
    if options.json:
        return found
    kernels = " ".join("".join(map(str, row)) for row in found["architecture"]["kernels"])
    return {key: value for key, value in found.items() if key != "architecture"} | {"kernels": kernels}


def draw(settings: Draw, options: RunOptions) -> dict[str, Any]:
    """<out>/architecture.<format>: a column a layer, a square a sub-block with its kernel. Raises UserError."""
    found = read(settings.arch)
    return draw_blocks(blocks_of(found), name_of(settings.arch), options.folder, settings.format)


def blocks_of(found: Architecture) -> list[Block]:
    """Stem, first block, the searched layers (stages by their width) and the last convolution."""
    macro = macro_for(found.macro or "imagenet", found.input_size)
    side = -(-macro.input_size // macro.stem_stride)
    blocks = [Block("stem", side, STEM_CHANNELS, (3,), word="3x3"), Block("0", side, FIRST_CHANNELS, (3,), fixed=True)]
    stage, before = 0, FIRST_CHANNELS
    for (channels, stride), kernels in zip(macro.layers, found.kernels):
        side = -(-side // stride)
        stage += channels != before
        blocks.append(Block(str(stage), side, channels, tuple(kernels)))
        before = channels
    return [*blocks, Block("last", side, LAST_CHANNELS, (1,), word="1x1")]
