"""SGNAS: Searching by Generating, one-shot NAS with an architecture generator (Huang & Chu, CVPR 2021)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from papers.sgnas.networks.architectures import Architecture


def architecture(source: Any) -> Architecture:
    """An architecture of a published name (``"SGNAS-A"``), a file, the folder of a run, kernel lists, or their text.

    Files: what a search or ``generate`` wrote, lists as .json or .txt, weights that a training wrote. Text: nested
    lists or tuples, or a word of digits a layer (``"5535 553 …"``). ``kernels`` of the result lists the kernel sizes of
    every layer. Raises ``common.errors.UserError`` naming layer and sub-block of what is wrong.
    """
    from papers.sgnas.networks.architectures import read

    return read(source)


def network(
    architecture: Any = None, *, dataset: str | None = None, classes: int | None = None,
    weights: str | Path | None = None, pretrained: bool = False, **sizes: Any,
) -> nn.Module:  # fmt: skip
    """The derived network in eval mode, [N, 3, H, W] -> logits [N, classes], its layers named as in the authors' files.

    architecture: whatever ``architecture`` takes or gave; may be left out beside weights that say their own.
    dataset, classes: of the classifier; without them those of the file, else ImageNet's 1,000. macro: the structure
    (imagenet, cifar, tiny); without it that of the file, else of the set. se, activation: squeeze-excite, and relu
    (ReLU6) or hswish; without them what weights have, else both as published on ImageNet, neither on other sets (the
    authors' recipes). weights: a file of ours or of the authors, or a training's folder, loaded strictly. pretrained:
    the authors' weights, as ``python -m reproductions checkpoints fetch`` left them. Raises UserError.
    """
    from papers.sgnas.use import network as build

    return build(architecture, dataset=dataset, classes=classes, weights=weights, pretrained=pretrained, **sizes)
