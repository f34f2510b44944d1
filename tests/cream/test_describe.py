"""Sizes of networks and their pictures: published names, path lists, files."""

import json
import re

import pytest

from common.cli import verbs as cli
from common.errors import UserError
from common.spaces.architecture import save_architecture
from papers.cream.__main__ import VERBS
from papers.cream.describe import blocks_of
from papers.cream.networks.architectures import PUBLISHED, SKIP
from papers.cream.networks.derived import spec_of
from tests.cream.tools import described


def test_single_block_rule(tmp_path):
    assert described("14")["blocks"][0] == ["k3 e4"]  # the entry 3 of a one-block stage is not read
    assert described("14", single_block="strict")["blocks"][0] == ["k5 e6"]
    path = [[0], [5], [0, 1], [0], [1], [2], [0]]
    assert described(json.dumps(path))["blocks"] == [["k7 e6"], ["k3 e4", "k3 e6"], ["k3 e4"], ["k3 e6"], ["k5 e4"]]
    assert described(json.dumps(path), single_block="default")["blocks"][2] == ["k3 e6"]
    assert described(json.dumps(PUBLISHED["287"]))["parameters"] == described("285")["parameters"] == 6_044_368
    save_architecture(tmp_path / "a.json", "cream", {"path": path, "resolution": 96}, {})
    found = described(str(tmp_path / "a.json"))
    assert found["resolution"] == 96 and found["blocks"][0] == ["k7 e6"]
    four = [[0], [3], [3], [3, 3, 3, 1], [3], [3], [0]]
    assert len(described(json.dumps(four), repeat_stage3=True)["blocks"][2]) == 5


@pytest.mark.parametrize("alias", [("112", "114"), ("285", "287"), ("470", "481"), ("600", "604")])
def test_aliases(alias):
    assert described(alias[0])["parameters"] == described(alias[1])["parameters"]


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("23", "never its architecture"),
        ("72", "never its architecture"),
        ("15", "unknown architecture"),
        ("", "no architecture given"),
        ("[[0],[3]]", "list of 7 lists"),
        ("[[0],[9],[3],[3],[3],[3],[0]]", "stage 1: unknown choice 9"),
        ("[[0],[3],[3],[3],[3],[3],[1]]", "stage 6: unknown choice 1"),
        ("[[0],[-1,3],[3],[3],[3],[3],[0]]", "stage 1 has no first block"),
        ("[[0],[3", "not a path list"),
    ],
)
def test_bad_architectures(arch, message):
    with pytest.raises(UserError, match=message) as caught:
        described(arch)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["14", "604"])
def test_a_column_a_block(name, tmp_path):
    """Kernel and expansion of every block that the path chose, and the two blocks that say what they are."""
    cli.main("cream", VERBS, ["draw", name, "--out", str(tmp_path)])
    words = re.findall(r"<!-- (.+) -->", (tmp_path / "architecture.svg").read_text())
    assert f"Cream {name}" in words and words.count("1x1") == 2 and words.count("fixed") == 1
    blocks = [b for stage in spec_of(name, 1000).stages for b in stage]
    assert len(blocks) == sum(entry != SKIP for entries in PUBLISHED[name] for entry in entries)
    drawn = blocks_of(spec_of(name, 1000), 224)[1:-1]  # without stem and last convolution
    assert [(b.channels, b.kernels) for b in drawn] == [
        (b.cout, (b.kernel,) * (b.expand if b.kind == "mbconv" else 1)) for b in blocks
    ]
    assert all(words.count(str(b.cout)) >= 1 for b in blocks)


def test_an_unknown_name_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main("cream", VERBS, ["draw", "605"])
    assert stop.value.code not in (0, None)
    error = capsys.readouterr().err
    assert "605" in error and "Traceback" not in error and error.count("\n") == 1
