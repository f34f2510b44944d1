"""Evolution, latency tables, times for N constraints."""

from __future__ import annotations

import json

import pytest
import torch

from common.cli.verbs import RunOptions
from common.errors import UserError
from papers.sgnas.method.lookup import one_hot, read_latency_table
from papers.sgnas.networks.architectures import MACROS
from papers.sgnas.studies.evolve import evolve
from papers.sgnas.studies.latency import measure_table
from papers.sgnas.studies.settings import Cost, Evolve
from papers.sgnas.studies.speedup import speedup
from tests.sgnas.small import options

TINY = MACROS["tiny"]


@pytest.mark.parametrize("random", [False, True])
def test_evolve(whole, tmp_path, random):
    folder, _ = whole
    settings = Evolve(
        supernet=str(folder),
        dataset="digits",
        search_images=32,
        batch_size=32,
        targets=(3.0, 4.0),
        tolerance=0.2,
        population=3,
        generations=1,
        parents=5 if random else 2,
        random=random,
        recalibrate_batches=1 if random else 0,
    )
    result = evolve(settings, options(tmp_path / "evolve", "evolve"))
    for row in result["architectures"]:
        assert abs(row["lookup_cost"] - row["target"]) <= 0.2
    assert (tmp_path / "evolve" / "architecture-3.json").exists()


def test_latency_table(tmp_path):
    table = measure_table(TINY, 1, torch.device("cpu"), 1)
    assert (
        table.unit == "ms"
        and table.depthwise.shape == (5, 3)
        and float(table.cost(one_hot(torch.zeros(5, 6).long()))) > 0
    )
    content = {"macro": "tiny", "input_size": 32, "unit": "ms", "base": table.base}
    for name in ("depthwise", "expand", "project"):
        content[name] = getattr(table, name).tolist()
    (tmp_path / "l.json").write_text(json.dumps(content))
    assert read_latency_table(tmp_path / "l.json", TINY).fingerprint() == table.fingerprint()
    with pytest.raises(UserError, match="was measured for"):
        read_latency_table(tmp_path / "l.json", MACROS["cifar"])


def test_cost_command(tmp_path):
    result = speedup(Cost(macro="tiny", batch_size=2, repeats=1), RunOptions(out=tmp_path, device="cpu"))
    assert [row["constraints"] for row in result["rows"]] == [1, 3, 10] and (tmp_path / "cost.png").exists()
    seconds = [row["evolution_seconds"] for row in result["rows"]]
    assert seconds[2] == pytest.approx(10 * seconds[0])
