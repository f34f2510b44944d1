"""``hubconf.py``: one function a paper, with the arguments of the paper's ``network``."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path

import pytest
import torch

import common
from common.errors import UserError
from common.papers import PAPERS

ROOT = Path(__file__).resolve().parents[2]


def test_a_function_for_every_paper():
    functions = runpy.run_path(str(ROOT / "hubconf.py"))
    for paper in PAPERS:
        assert f"papers.{paper}.network" in functions[paper].__doc__
    assert sorted(functions["dependencies"]) == sorted(["torchvision", *common.NEEDED])


def test_the_readmes_lines_run():
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## In Python")[2]
    code = text.partition("```python\n")[2].partition("```")[0]
    assert "network(" in code
    names: dict = {}
    exec(code, names)
    assert names["net"](torch.zeros(1, 3, 32, 32)).shape == (1, 10) and names["cells"] == names["architecture"](
        "evnasa"
    )


def test_a_network_from_the_hub():
    net = torch.hub.load(str(ROOT), "evnas", "EvNASA", source="local", channels=4, layers=3, classes=5)
    assert not net.training and net(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


NAMES = {"cream": "14", "evnas": "EvNASA", "nao_v2": "NAONet_V2", "nsas": "Random_NSAS", "sgnas": "SGNAS-A"}


@pytest.mark.parametrize("paper", PAPERS)
def test_words_that_no_network_has(paper):
    """What other programs call it is named; three channels are said; classes are at least one."""
    network = importlib.import_module(f"papers.{paper}").network
    refused = (
        ({"num_classes": 7}, "has no word 'num_classes'; did you mean 'classes'"),
        ({"in_chans": 1}, "in_chans: these networks take three channels"),
        ({"classes": 0}, "classes must be 1 or more, not 0"),
        ({"classes": -1}, "classes must be 1 or more, not -1"),
    )
    for words, line in refused:
        with pytest.raises(UserError, match=line):
            network(NAMES[paper], **words)
