"""The draw verb: one bar a block, for published names, path lists and files."""

import re

import pytest

from common.cli import verbs as cli
from papers.cream.__main__ import VERBS
from papers.cream.describe import block_label
from papers.cream.network.architectures import PUBLISHED, SKIP
from papers.cream.network.derived import spec_of
from papers.cream.network.layout import BlockSpec


def test_labels():
    assert block_label(BlockSpec("mbconv", 5, 2, 16, 24, 6)) == "5x5\ne6"
    assert block_label(BlockSpec("dwsep", 3, 1, 16, 16)) == "3x3"


@pytest.mark.parametrize("name", ["14", "604"])
def test_one_label_a_block(name, tmp_path):
    cli.main("cream", VERBS, ["draw", name, "--format", "svg", "--out", str(tmp_path)])
    drawn = re.findall(r"<!-- (\dx\d) -->", (tmp_path / "architecture.svg").read_text())
    kernels = [f"{b.kernel}x{b.kernel}" for stage in spec_of(name, 1000).stages for b in stage]
    assert drawn == kernels
    assert len(drawn) == sum(entry != SKIP for entries in PUBLISHED[name] for entry in entries)


def test_an_unknown_name_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main("cream", VERBS, ["draw", "605"])
    assert stop.value.code not in (0, None)
    error = capsys.readouterr().err
    assert "605" in error and "Traceback" not in error and error.count("\n") == 1
