"""Driving the real loops on golden values: what a stage would draw or read is handed to it, what it does is kept."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import torch

from common.cli.verbs import RunOptions
from papers.nsas.recurrent.model import Masks

DTYPES = {"f64": torch.float64, "f32": torch.float32}


class Recorder:
    """Lists by name: of a patched function every call's note is kept."""

    def __init__(self) -> None:
        self.notes = defaultdict(list)

    def clipping(self, monkeypatch, model: torch.nn.Module) -> None:
        """Gradients and their norm as they are handed to the clip."""
        clip = torch.nn.utils.clip_grad_norm_

        def noted(parameters, *args, **kwargs):
            self.notes["grads"].append(
                {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
            )
            norm = clip(parameters, *args, **kwargs)
            self.notes["grad_norm"].append(float(norm))
            return norm

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", noted)

    def steps(self, optimizer: torch.optim.Optimizer, model: torch.nn.Module, more=lambda: {}) -> torch.optim.Optimizer:
        """Learning rate before, norms of the parameters and ``more`` after every step."""
        optimizer.register_step_pre_hook(lambda o, *_: self.notes["lr"].append(o.param_groups[0]["lr"]))

        def after(*_) -> None:
            self.notes["norms_after"].append([float(p.detach().norm()) for p in model.parameters()])
            for key, value in more().items():
                self.notes[key].append(value)

        optimizer.register_step_post_hook(after)
        return optimizer


def options(tmp_path, section: str) -> RunOptions:
    """Options of a run in a folder of the test."""
    return RunOptions(out=tmp_path, device="cpu", paper="nsas", section=section)


def masks(arrays, prefix: str, keep: dict[str, float], dtype: torch.dtype) -> Masks:
    """Stored 0/1 masks, divided by the keep probability."""
    names = {"embedding": "embedding", "inputs": "input", "x": "x", "hidden": "hidden", "output": "output"}
    return Masks(**{
        name: torch.from_numpy(arrays[f"mask/{prefix}_{stored}"]).to(dtype) / keep[stored]
        for name, stored in names.items()
        if f"mask/{prefix}_{stored}" in arrays
    })  # fmt: skip


def corpus(monkeypatch, module, train: np.ndarray, valid: np.ndarray, types: int) -> None:
    """The module reads these two streams (the test stream is the validation one)."""
    text = SimpleNamespace(train="train", valid="valid", test="valid", types=types, pins={}, pinned=True)
    monkeypatch.setattr(module, "Corpus", SimpleNamespace(open=lambda *_: text))
    streams = {"train": torch.from_numpy(train.astype(np.int64)), "valid": torch.from_numpy(valid.astype(np.int64))}
    monkeypatch.setattr(module, "batchify", lambda words, *_: streams[words])
