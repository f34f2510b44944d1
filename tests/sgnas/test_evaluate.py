"""Weights of the authors' and of our own, whole and damaged."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import lmdb
import pytest
import torch

from common.errors import UserError
from common.weights.read import read_checkpoint
from papers.sgnas.evaluate import load_weights
from papers.sgnas.networks.architectures import MACROS, PUBLISHED
from papers.sgnas.networks.derived import Network
from papers.sgnas.networks.published_keys import to_published
from tests.sgnas.small import KERNELS, command, mistake

TINY = MACROS["tiny"]


def authors_file(path: Path, network: Network, broken: str = "") -> Path:
    """A file as the authors' trainer (timm 0.1.14) wrote it."""
    weights = {f"module.{name}": tensor for name, tensor in to_published(network.state_dict(), network).items()}
    averaged = dict(weights)
    if broken:
        averaged.pop(f"module.{broken}")
    content = {
        "epoch": 499,
        "arch": "sgnas",
        "state_dict": {name: torch.zeros_like(tensor) for name, tensor in weights.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "args": argparse.Namespace(lr=0.016, model="sgnas"),
        "version": 2,
        "state_dict_ema": averaged,
        "metric": 77.1,
    }
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def test_authors_checkpoint(tmp_path):
    source = Network(TINY, KERNELS, 10, True, "hswish", generator=torch.Generator().manual_seed(3)).eval()
    target = Network(TINY, KERNELS, 10, True, "hswish").eval()
    load_weights(target, read_checkpoint(authors_file(tmp_path / "a.pth.tar", source)))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(source(x), target(x))
    with pytest.raises(UserError, match=r"stages\.1\.depthwise"):
        load_weights(
            target, read_checkpoint(authors_file(tmp_path / "b.pth.tar", source, "stages.1.depthwise.bn.weight"))
        )
    with pytest.raises(UserError):  # the network of another architecture
        load_weights(Network(TINY, [[3]] * 5, 10, True, "hswish"), read_checkpoint(tmp_path / "a.pth.tar"))


def test_checkpoint_with_missing_keys(searched, tmp_path, capsys):
    architecture = searched / "architecture.json"
    kernels = json.loads(architecture.read_text())["architecture"]["kernels"]
    network = Network(MACROS["tiny"], kernels, 10, False, "relu")
    tensors = to_published(network.state_dict(), network)
    del tensors["stages.2.point_wise_1.bn.weight"]
    torch.save({"state_dict_ema": tensors}, tmp_path / "w.pth.tar")
    line = mistake(
        capsys, "evaluate", "--dataset", "digits", "--no-se", "--activation", "relu", "--arch", architecture,
        "--checkpoint", tmp_path / "w.pth.tar", "--out", tmp_path / "e",
    )  # fmt: skip
    assert "stages.2.point_wise_1.bn.weight" in line


def test_damaged_lmdb(tree, tmp_path, capsys):

    shutil.copytree(tree / "lmdb", tmp_path / "lmdb")
    environment = lmdb.open(str(tmp_path / "lmdb" / "val.lmdb"))
    with environment.begin(write=True) as transaction:
        value = bytearray(transaction.get(b"00000003"))
        value[-5] ^= 1
        transaction.put(b"00000003", bytes(value))
    environment.close()
    network = Network(MACROS["imagenet"], PUBLISHED["SGNAS-C"], 3, True, "hswish")
    torch.save({"state_dict": to_published(network.state_dict(), network)}, tmp_path / "w.pth.tar")
    line = mistake(
        capsys, "evaluate", "--profile", "paper", "--arch", "SGNAS-C", "--dataset", tmp_path / "lmdb", "--workers", 0,
        "--checkpoint", tmp_path / "w.pth.tar", "--out", tmp_path / "e",
    )  # fmt: skip
    assert "record 3 is damaged" in line and "val.lmdb" in line


def test_mistakes_before_a_result(searched, tmp_path, capsys):
    """Weights of another network are one line, and the folder serves the corrected command."""
    architecture = searched / "architecture.json"
    flags = ("--dataset", "digits", "--no-se", "--activation", "relu", "--out", tmp_path / "e")
    own = Network(MACROS["tiny"], json.loads(architecture.read_text())["architecture"]["kernels"], 10, False, "relu")
    torch.save(to_published(own.state_dict(), own), tmp_path / "w.pth")
    line = mistake(capsys, "evaluate", "--arch", "SGNAS-A", "--checkpoint", tmp_path / "w.pth", *flags)
    assert "does not fit this architecture" in line
    command("evaluate", "--arch", architecture, "--checkpoint", tmp_path / "w.pth", *flags)
    assert (tmp_path / "e" / "result.json").exists()
    for verb in ("cost", "latency"):
        assert "at least 1" in mistake(capsys, verb, "--repeats", 0, "--out", tmp_path / "c")
