"""NAO-V2 (Balanced NAO): one-shot search with size-proportional sampling and an encoder-predictor-decoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from papers.nao_v2.use import Found


def architecture(source: Any, space: str = "small") -> Found:
    """An architecture of a published name (``"NAONet_V2"``), a file, the folder of a run, or the 40 integers.

    Files: what a search wrote, the integers as .txt or .json, weights that a training wrote. The integers may stand in
    lists or tuples, nested or not, or in a text with blanks, commas or brackets. space: the operations that they name
    (small, middle, large), where no file says it. The result is the pair (normal cell, reduction cell). Raises
    ``common.errors.UserError`` with the position of what is wrong; a sequence of NAO version 1 is named as such.
    """
    from papers.nao_v2.use import architecture as read

    return read(source, space)


def network(
    architecture: Any = None, *, dataset: str | None = None, classes: int | None = None,
    weights: str | Path | None = None, pretrained: bool = False, **sizes: Any,
) -> nn.Module:  # fmt: skip
    """The derived network in eval mode, [N, 3, H, W] -> logits [N, classes].

    architecture: whatever ``architecture`` takes or gave; may be left out beside weights that say their own.
    dataset, classes: of the classifier, and the published width, depth and form that go with the set;
    without them those of the file, else CIFAR-10's. channels (of the first cell, even), layers (normal cells a stage),
    form (cifar for small images, imagenet): others than those. auxiliary: with the auxiliary head, which answers in
    train mode only: (logits, auxiliary logits). dropout_keep: before the classifier. weights: a file of ours or of the
    authors, or a training's folder, loaded strictly. pretrained: the authors' weights, as
    ``python -m reproductions checkpoints fetch`` left them. Raises UserError.
    """
    from papers.nao_v2.use import network as build

    return build(architecture, dataset=dataset, classes=classes, weights=weights, pretrained=pretrained, **sizes)
