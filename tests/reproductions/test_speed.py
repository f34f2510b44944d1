"""What ``make bench`` measured becomes files and tables: machines, shares, the originals beside them, growth."""

from __future__ import annotations

import json

import pytest

from common.errors import UserError
from common.papers import PAPERS
from reproductions.speed import bench, growth, needs, tables
from tests.benchmarks.growth import CURVES
from tests.benchmarks.scale import STEPS
from tests.benchmarks.test_workloads import ALL


def measured(seconds, **extra):
    stats = {"median": seconds, "rounds": 5, "q1": seconds * 0.9, "q3": seconds * 1.1}
    return {"name": "test", "stats": stats, "extra_info": extra}


def workload(paper, name, seconds, flops, images=0, device="cpu"):
    return measured(seconds, paper=paper, workload=name, device=device, images=images, about=f"{name}. Original: x.",
                    flops=flops, operators=7, peak_bytes=400e6)  # fmt: skip


RAW = {
    "datetime": "2026-11-28T19:30:00.1+00:00",
    "machine_info": {"node": "secret-host"},
    "benchmarks": [
        workload("kernels", "large_product", 0.2, int(2e10)),
        workload("kernels", "product", 0.5028, int(2e10)),
        workload("evnas", "s1_search_step", 0.5, int(1e10), 4),
        workload("nao_v2", "controller_step", 0.03, None, 100),
        *(measured(0.001 * size, curve="cream_board", paper="Cream", axis="entries", step="a step", size=size)
          for size in (1, 2, 4)),
        *(measured(9.0, processes=count, cores=2, steps={"evnas": 1.0 / count}) for count in (1, 2)),
        *(measured(1.0, search=search, phase=phase, flops_an_image=1e9, flops_besides=0, operators=1000)
          for search, parts in STEPS.items() for phase in parts),
    ],
}  # fmt: skip


@pytest.fixture
def written(tmp_path, monkeypatch):
    """results/benchmarks and the picture of RAW."""
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "FOLDER", tmp_path / "benchmarks")
    monkeypatch.setattr(growth, "PICTURE", tmp_path / "growth.svg")
    (tmp_path / "raw.json").write_text(json.dumps(RAW))
    assert bench.main([str(tmp_path / "raw.json")]) == 0
    return tmp_path


def test_files(written):
    (file,) = (path for path in (written / "benchmarks").glob("*.json") if path.name != bench.GROWTH)
    assert file.stem.endswith("-cores") or "-cores-" in file.stem
    found = json.loads(file.read_text())
    assert "secret-host" not in file.read_text() and "command" not in found["environment"]
    assert found["date"] == "2026-11-28"
    rows = {row["workload"]: row for row in found["rows"]}
    step = rows["s1_search_step"]  # 20 of the product's 100 GFLOP/s, 8 images a second
    assert (step["share_of_product"], step["images_per_s"], step["peak_mb"]) == pytest.approx((0.2, 8, 400))
    assert rows["controller_step"]["share_of_product"] is None
    curve = json.loads((written / "benchmarks" / bench.GROWTH).read_text())["curves"]["cream_board"]
    assert curve["sizes"] == [1, 2, 4]
    assert growth.exponent(curve["sizes"], curve["seconds"]) == pytest.approx(1)
    first = (written / "growth.svg").read_text()
    growth.draw(json.loads((written / "benchmarks" / bench.GROWTH).read_text()), written / "again.svg")
    assert (written / "again.svg").read_text() == first and first.count("<svg") == 1


def test_tables(written, monkeypatch):
    text = tables.benchmarks(written / "benchmarks")
    row = next(line for line in text.splitlines() if line.startswith("| evnas"))
    assert "Original" not in row
    # 1.585 s there, 0.5 here; in turns 1.6; 862 MB there, 400 here
    assert row.endswith("| 0.5 | 8 | 400 | 20 % | 1.585 | 3.2 | 1.6 | 862 | 0.46 |")
    assert "GPU: not run." in text and "2.00 times" in text and "100 GFLOP/s" in text
    found = json.loads((written / "benchmarks" / bench.GROWTH).read_text())
    monkeypatch.setattr(tables, "growth_file", lambda: found)
    assert "1: 1, 2: 2, 4: 4" in tables.growth_table() and "| 2 | 2 | 0.5 |" in tables.growth_table()
    assert tables.needs_table().count("\n| ") == 2 + sum(len(parts) for parts in STEPS.values())


def test_nothing_measured_says_not_run(tmp_path, monkeypatch):
    assert "not run" in tables.benchmarks(tmp_path)
    monkeypatch.setattr(tables, "growth_file", dict)
    assert "not run" in tables.growth_table() and "not run" in tables.needs_table()


def test_a_gpu_decides_by_arithmetic_or_by_starting():
    published = {
        "nao_v2": {"score": {"flops_an_image": 1e9, "flops_besides": 0, "operators": 1}},
        "cream": {"train": {"operators": 1000}},
    }
    phase = needs.Phase("nao_v2", "score", 3600, 67e12 * 0.3 / 1e9)  # a second of arithmetic a step
    assert needs.hours(phase, published, 1) == (pytest.approx(1), False)
    assert needs.hours(phase, published, 8) == (pytest.approx(1 / 8), False)
    published["nao_v2"]["score"] = {"flops_an_image": 0.0, "flops_besides": 0, "operators": 1000}
    a_step = 1000 * needs.overhead(published) * 3600 / 3600
    assert needs.hours(phase, published, 8) == (pytest.approx(a_step), True)
    published["nao_v2"]["score"] = {"flops_an_image": 0.0, "flops_besides": 67e12 * 0.3, "operators": 1}
    assert needs.hours(phase, published, 8) == (pytest.approx(1), False)  # what does not depend on images is not shared
    published["nao_v2"]["score"] = {"flops_an_image": 0.0, "flops_besides": 0, "operators": 1000}
    alone = needs.Phase("nao_v2", "score", 3600, 1, of_candidates=True)
    assert needs.hours(alone, published, 8) == (pytest.approx(a_step / 8), True)


def test_numbers_of_steps_are_the_published_ones():
    steps = {(p.search, p.name): p.steps for phases in needs.SEARCHES.values() for p in phases()}
    assert steps["evnas_darts", "train"] == 19_550 and steps["evnas_darts", "fitness"] == 62_500
    assert steps["nsas", "train"] == 39_100 and steps["nsas", "select"] == 125_000
    assert (steps["nao_v2", "train"], steps["nao_v2", "score"], steps["nao_v2", "controller"]) == (
        140_800, 5_800, 351_000,
    )  # fmt: skip
    assert steps["sgnas", "train"] == 480_950 and steps["sgnas", "generator"] == 19_550
    assert steps["cream", "train"] == 120 * 1251


def test_every_figure_of_an_original_has_its_workload():
    known = {(paper, name) for paper in (*PAPERS, "kernels") for name in tables.originals()[paper]}
    assert known <= set(ALL) and {paper for paper, _ in known} == {*PAPERS, "kernels"}
    assert all(curve.sizes == tuple(sorted(curve.sizes)) and len(curve.sizes) > 3 for curve in CURVES.values())


def test_mistakes_are_one_line(tmp_path):
    for content in ("", "[]", '{"benchmarks": []}'):
        (tmp_path / "raw.json").write_text(content)
        with pytest.raises(UserError, match=r"make bench|benchmark-enable"):
            bench.main([str(tmp_path / "raw.json")])
    with pytest.raises(UserError, match="make bench"):
        bench.main([str(tmp_path / "absent.json")])
