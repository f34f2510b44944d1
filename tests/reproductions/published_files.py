"""Synthetic files in the published containers: the published names and shapes, random content."""

from __future__ import annotations

import argparse
import gzip
import json
import math
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from reproductions.checkpoints.pins import Checkpoint

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
KEYS = {  # checkpoint -> file of (name, shape) pairs that the published file has
    "nsas-cifar10": "nsas/data/keys_cifar10_Random_NSAS.json.gz",
    "nsas-cifar10-600": "nsas/data/keys_cifar10_Random_NSAS.json.gz",
    "nsas-c-cifar100": "nsas/data/keys_cifar100_Random_NSAS_C.json.gz",
    "nsas-c-imagenet": "nsas/data/keys_imagenet_Random_NSAS_C.json.gz",
    "nsas-c-imagenet-last": "nsas/data/keys_imagenet_Random_NSAS_C.json.gz",
    "nsas-ptb": "nsas/data/keys_rnn_ptb.json.gz",
    "nao-v2-cifar10": "nao_v2/data/state_dict_cifar_naonet_v2_36.json",
    "nao-v2-imagenet": "nao_v2/data/state_dict_imagenet_naonet_v2_52.json",
    "cream-14": "cream/data/keys_child_14.json",
    "cream-481": "cream/data/keys_child_481.json",
    "sgnas-a": "sgnas/data/checkpoint_keys_sgnas_a.json",
}
MODULE = {"sgnas", "nsas-c-imagenet-linear"}  # keys behind module., as DataParallel saves them
CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}


def listed(checkpoint: Checkpoint) -> list[tuple[str, list[int]]] | None:
    """The published names and shapes, where a list of them is at hand."""
    if checkpoint.id not in KEYS:
        return None
    path = GOLDEN / KEYS[checkpoint.id]
    raw = path.read_bytes()
    content: Any = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    if isinstance(content, dict):
        content = content.get("state_dict") or content["keys"]
    return [(entry[0], list(entry[1])) for entry in content]


def filled(name: str, shape: list[int], generator: torch.Generator) -> Tensor:
    """Random weights, normalisation as it starts: the outputs stay finite at any depth."""
    last = name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if last == "running_var" or (last == "weight" and len(shape) == 1):
        return torch.ones(shape)
    if len(shape) < 2:
        return torch.zeros(shape)
    return torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))


def network(checkpoint: Checkpoint) -> nn.Module:
    """This suite's network of that architecture, auxiliary head included: its names are the authors'."""
    classes = CLASSES.get(checkpoint.dataset, 0)
    flags = checkpoint.evaluate or []
    imagenet = checkpoint.dataset == "imagenet"
    if checkpoint.paper == "nsas":
        from common.spaces.darts.network import derived
        from papers.nsas.networks.architectures import load_genotype, size_of

        channels = int(flags[flags.index("--channels") + 1]) if "--channels" in flags else 0
        channels, layers = size_of(checkpoint.dataset, checkpoint.architecture, channels, 0)
        return derived(load_genotype(checkpoint.architecture), imagenet, classes, channels, layers, auxiliary=True)
    if checkpoint.paper == "evnas":
        from papers.evnas.networks.architectures import build, load_genotype

        return build(load_genotype(checkpoint.architecture), imagenet, classes, auxiliary=True)
    if checkpoint.paper == "nao_v2":
        from papers.nao_v2.networks.architectures import Shape, load
        from papers.nao_v2.networks.derived import Network

        return Network(load(checkpoint.architecture), Shape("cifar", 36, 6, classes))
    if checkpoint.paper == "cream":
        from papers.cream.networks.derived import spec_of
        from papers.cream.networks.networks import DerivedNetwork

        return DerivedNetwork(spec_of(checkpoint.architecture, classes))
    from papers.sgnas.data import sets as datasets
    from papers.sgnas.networks.derived import Network as Derived

    kernels, macro = datasets.network_of(checkpoint.architecture, "imagenet", None, "imagenet")
    return Derived(macro, kernels, classes, True, "hswish")


def state_dict(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Random weights under the published names."""
    generator = torch.Generator().manual_seed(0)
    keys = listed(checkpoint)
    if keys is None:
        net = network(checkpoint)
        state = net.state_dict()
        if checkpoint.paper == "sgnas":
            from papers.sgnas.networks.published_keys import to_published

            state = to_published(state, net)
        keys = [(name, list(value.shape)) for name, value in state.items()]
    if "NNI hub" in checkpoint.format:  # other names in the same order
        keys = [(f"blocks.{i}", shape) for i, (_, shape) in enumerate(keys[:-2])] + [
            (f"classifier.1.{name.rpartition('.')[2]}", shape) for name, shape in keys[-2:]
        ]
        return {name: filled("weight" if len(s) else "num_batches_tracked", s, generator) for name, s in keys}
    return {name: filled(name, shape, generator) for name, shape in keys}


def write(checkpoint: Checkpoint, path: Path) -> None:
    """A file as it was published: bare, in one of the containers, or the whole pickled module."""
    state = state_dict(checkpoint)
    if "whole pickled module" in checkpoint.format:
        return write_module(state, path)
    if checkpoint.id in MODULE or checkpoint.paper in MODULE:
        state = {f"module.{name}": value for name, value in state.items()}
    args = argparse.Namespace(lr=0.1, model="x", resume=None, betas=(0.9, 0.999))
    values: dict[str, Any] = {
        "epoch": 247, "step": 1000, "arch": "x", "version": 2, "metric": np.float64(75.3), "args": args,
        "best_acc_top1": np.float64(75.3), "optimizer": {"state": {0: {"m": torch.zeros(2)}}, "param_groups": []},
        "state_dict": state, "model": state, "state_dict_ema": {k: v.clone() for k, v in state.items()},
    }  # fmt: skip
    if checkpoint.format.startswith("dict: "):
        names = checkpoint.format.removeprefix("dict: ").split(", ")
        torch.save({name: values[name] for name in names}, path)
    else:
        assert checkpoint.format.startswith("state_dict"), checkpoint.format
        torch.save(state, path)


def write_module(state: dict[str, Tensor], path: Path) -> None:
    """The recurrent network as its authors pickled it: whole, with classes that nobody here has."""
    made = {}
    for module, name in (("model", "RNNModel"), ("model", "DARTSCell"), ("utils", "LockedDropout")):
        sys.modules.setdefault(module, types.ModuleType(module))
        made[name] = type(name, (nn.Module,), {"__module__": module})
        setattr(sys.modules[module], name, made[name])
    try:
        cell, whole = made["DARTSCell"](), made["RNNModel"]()
        cell._W0 = nn.Parameter(state["rnns.0._W0"])
        count = sum(name.startswith("rnns.0._Ws.") for name in state)
        cell._Ws = nn.ParameterList(nn.Parameter(state[f"rnns.0._Ws.{i}"]) for i in range(count))
        whole.lockdrop, whole.rnns = made["LockedDropout"](), nn.ModuleList([cell])
        words, width = state["encoder.weight"].shape
        whole.encoder, whole.decoder = nn.Embedding(words, width), nn.Linear(width, words)
        whole.encoder.weight = nn.Parameter(state["encoder.weight"])
        whole.decoder.weight = whole.encoder.weight
        torch.save(whole, path, pickle_module=pickle, _use_new_zipfile_serialization=False)
    finally:
        for module in ("model", "utils"):
            sys.modules.pop(module, None)


def lay_out(root: Path) -> None:
    """A data root with a few images or words of every set in its official layout (not its pinned content)."""
    rng = np.random.default_rng(0)
    for folder, file, key, classes in (("cifar-10-batches-py", "test_batch", b"labels", 10),
                                       ("cifar-100-python", "test", b"fine_labels", 100)):  # fmt: skip
        (root / folder).mkdir(parents=True)
        content = {b"data": rng.integers(0, 256, (2, 3072), dtype=np.uint8), key: [0, classes - 1]}
        (root / folder / file).write_bytes(pickle.dumps(content))
    for i in range(1000):
        (root / "imagenet" / "train" / f"n{i:08d}").mkdir(parents=True)
    for i in (0, 7):
        (root / "imagenet" / "val" / f"n{i:08d}").mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(
            root / "imagenet" / "val" / f"n{i:08d}" / "a.JPEG"
        )
    (root / "penn").mkdir()
    words = [f"w{i}" for i in range(9999)]  # and the end of a line
    for name, some in (("train", words), ("valid", words[:80]), ("test", words[:40])):
        lines = [" ".join(some[i : i + 20]) for i in range(0, len(some), 20)]
        (root / "penn" / f"{name}.txt").write_text("".join(f" {line} \n" for line in lines))
