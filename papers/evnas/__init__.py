"""EvNAS: evolving neural architecture using one shot model (Sinha and Chen, GECCO 2021)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from common.spaces.darts.genotype import Genotype
    from common.spaces.nasbench201.cell import Cell201


def architecture(source: str | Path | Any) -> Genotype | Cell201:
    """The cells of a published name (``EvNASA``, ``EvNASB``, ``EvNASC``, ``DARTS_V1``, ``DARTS_V2``), a file or a text.

    A file: ``architecture.json`` or ``weights.safetensors`` of a run, its folder, a .json or .txt of plain values. A
    text: ``Genotype(normal=[('sep_conv_3x3', 0), …], normal_concat=range(2, 6), reduce=[…], reduce_concat=…)``, lists
    or dicts of the same; of NAS-Bench-201 ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``, or six numbers (0 none, 1
    skip_connect, 2 nor_conv_1x1, 3 nor_conv_3x3, 4 avg_pool_3x3 on the edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2;
    NASLib's coding as ``naslib: (…)``). Text is read, never run. Raises UserError saying what is wrong where.
    """
    from papers.evnas.use import architecture as read

    return read(source)


def network(
    architecture: Any = None, *, dataset: str | None = None, classes: int | None = None,
    weights: str | Path | None = None, pretrained: bool = False, **sizes: Any,
) -> nn.Module:  # fmt: skip
    """The network of an architecture (anything that :func:`architecture` takes, or its result), in eval mode.

    It is a plain module: [B, 3, H, W] -> logits [B, classes]; every layer is called as a module. dataset: says classes
    and form (``imagenet``: 224 pixels, else 32); default what the file says, else cifar10. classes: where no known set
    says them. weights: a file, or a training's folder; sizes and, where they say it, the architecture come from there;
    keys must fit exactly, but for an auxiliary head's. pretrained: the authors' weights, if fetched. sizes:
    ``channels`` (36; ImageNet 48; NAS-Bench-201 16), ``layers`` (20; 14; 5 cells a stage), ``auxiliary=True`` (a second
    classifier, with which train mode gives (logits, auxiliary logits)), ``form`` ("cifar", "imagenet").
    Raises UserError.
    """
    from papers.evnas.use import network as make

    return make(architecture, dataset=dataset, classes=classes, weights=weights, pretrained=pretrained, **sizes)
