"""Cream of the Crop: distilling prioritized paths for one-shot architecture search (NeurIPS 2020)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from papers.cream.networks.architectures import Architecture


def architecture(source: Any) -> Architecture:
    """An architecture of a published name (``"287"``), a file, the folder of a run, pasted text, or lists of choices.

    Files: what a search wrote, a path as .json or .txt, weights that a training wrote. ``path`` of the result lists one
    choice a block for each of the seven stages. Raises ``common.errors.UserError`` naming stage and position of what is
    wrong.
    """
    from papers.cream.use import architecture as read

    return read(source)


def network(
    architecture: Any = None, *, dataset: str | None = None, classes: int | None = None,
    weights: str | Path | None = None, pretrained: bool = False, **sizes: Any,
) -> nn.Module:  # fmt: skip
    """The derived network in eval mode, [N, 3, H, W] -> logits [N, classes].

    architecture: whatever ``architecture`` takes or gave; may be left out beside weights that say their own.
    dataset, classes: of the classifier; without them those of the file, else ImageNet's 1,000. weights: a file of ours
    or of the authors, or a training's folder, loaded strictly. pretrained: the authors' weights of a published network,
    as ``python -m reproductions checkpoints fetch`` left them. dropout: before the classifier, in train mode.
    single_block, repeat_stage3: as the flags of these names. Raises UserError.
    """
    from papers.cream.use import network as build

    return build(architecture, dataset=dataset, classes=classes, weights=weights, pretrained=pretrained, **sizes)
