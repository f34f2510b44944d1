"""Settings of ``predict`` and ``export``, the same in all papers; papers add words of their own. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from common.settings import Settings, setting


@dataclass(frozen=True)
class OfWeights(Settings):
    """Trained weights, in any container."""

    checkpoint: str = setting("", "weights.safetensors of a training, its folder, or the authors' file")
    arch: str = setting("", "published name or architecture file, for weights that do not say what they are of")
    weights: Literal["auto", "ema", "raw"] = setting("auto", "which of a file with averaged and raw; auto: averaged")


@dataclass(frozen=True)
class Predict(OfWeights):
    """What pictures show, by trained weights."""

    images: tyro.conf.Positional[tuple[str, ...]] = setting((), "picture files, folders, and patterns in quotes")
    top: int = setting(5, "most probable classes that are listed of every picture", at_least=1)
    format: Literal["csv", "json"] = setting("csv", "of the table: image, rank, class, probability")
    batch_size: int = setting(64, "pictures at once; changes no result", at_least=1, result=False)


@dataclass(frozen=True)
class Export(OfWeights):
    """A network as a file for other programs."""

    format: Literal["onnx", "torchscript"] = setting("onnx", "kind of the file")
