"""NAS-Bench-201: notations, tables, splits."""

from __future__ import annotations

import gzip
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data import nasbench201
from common.data.nasbench201 import Table, halves, official_halves, release_1_0, to_operations, to_string
from common.errors import UserError

cells = st.lists(st.integers(0, 4), min_size=6, max_size=6)


@given(cells)
def test_string_and_operations_are_inverse(operations):
    assert list(to_operations(to_string(operations))) == operations


def test_string_form():
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"
    assert to_operations(text) == (3, 0, 1, 4, 2, 0) and to_string((3, 0, 1, 4, 2, 0)) == text
    for wrong in ("", text[1:], text.replace("none", "zero"), text.replace("~2", "~1")):
        with pytest.raises(UserError, match="no NAS-Bench-201 architecture string"):
            to_operations(wrong)
    for wrong in ((1, 2), (0, 1, 2, 3, 4, 5), (-1, 0, 0, 0, 0, 0)):
        with pytest.raises(UserError, match="no NAS-Bench-201 cell"):
            to_string(wrong)


def made_up_arrays():
    rng = np.random.default_rng(0)
    ops = np.stack(np.unravel_index(rng.permutation(nasbench201.CELLS), (5,) * 6), axis=1).astype(np.uint8)
    return {"ops": ops, "cifar10_valid_200": np.round(rng.uniform(10, 95, nasbench201.CELLS), 1)}


def test_table_index_rank_and_optimum():
    arrays = made_up_arrays()
    table = Table(arrays)
    column = arrays["cifar10_valid_200"]
    for row in (0, 7, 15624):
        assert table.index(table.string(row)) == table.index(tuple(arrays["ops"][row])) == row
        assert table.lookup(table.string(row), "cifar10", "valid") == column[row]
        rank = 1 + int((column > column[row]).sum())
        assert table.rank(row, "cifar10", "valid") == table.ranks("cifar10", "valid")[row] == rank
    best, accuracy = table.optimum("cifar10", "valid")
    assert accuracy == column.max() == column[best] and table.rank(best, "cifar10", "valid") == 1
    entry = table.entry(3, "cifar10")
    assert entry.valid == column[3] and np.isnan(entry.test)


def test_table_mistakes():
    table = Table(made_up_arrays())
    with pytest.raises(UserError, match="lack cifar10_test_200"):
        table.lookup(0, "cifar10")
    with pytest.raises(UserError, match="has no data set 'mnist'"):
        table.column("mnist")
    with pytest.raises(UserError, match="after 12 and 200 epochs"):
        table.column("cifar10", "valid", 100)
    with pytest.raises(UserError, match="not between 0 and 15624"):
        table.index(15625)
    arrays = made_up_arrays()
    arrays["ops"][0] = arrays["ops"][1]
    with pytest.raises(UserError, match="missing or repeated"):
        Table(arrays)
    with pytest.raises(UserError, match="ops is"):
        Table({"ops": np.zeros((5, 6), np.uint8)})


def test_missing_and_damaged_tables(tmp_path):
    options = SimpleNamespace(data=tmp_path, allow_unpinned=False)
    with pytest.raises(UserError, match="data fetch nasbench201"):
        Table.open(options)
    (tmp_path / "nasbench201").mkdir()
    (tmp_path / "nasbench201" / "nasbench201_tables.npz").write_bytes(b"PK garbage")
    with pytest.raises(UserError, match="not the pinned file"):
        Table.open(options)
    with pytest.raises(UserError, match="no readable table"):
        Table.open(SimpleNamespace(data=tmp_path, allow_unpinned=True))


@pytest.mark.parametrize(
    ("name", "count", "first5", "total"),
    [
        ("cifar10", 50_000, [0, 5, 7, 11, 13], 623_618_849),
        ("cifar100-test", 10_000, [1, 3, 4, 5, 8], 25_109_591),
    ],
)
def test_official_halves(name, count, first5, total):
    first, second = official_halves(name)
    assert first[:5].tolist() == first5 and int(first.sum()) == total
    assert len(first) == len(second) == count // 2
    assert np.array_equal(np.sort(np.concatenate([first, second])), np.arange(count))


def test_halves_fall_back_to_seeded_random_ones():
    assert halves("cifar10", 50_000)[2] == "official"
    assert halves("imagenet16-120-test", 6_000)[2] == "official"
    first, second, origin = halves("cifar10", 4001, seed=3)
    again = halves("cifar10", 4001, seed=3)
    other = halves("cifar10", 4001, seed=4)
    assert origin == "fallback" and np.array_equal(first, again[0]) and not np.array_equal(first, other[0])
    assert (len(first), len(second)) == (2000, 2001)
    assert np.array_equal(np.sort(np.concatenate([first, second])), np.arange(4001))
    with pytest.raises(UserError, match="has no split"):
        official_halves("mnist")
    assert set(nasbench201.split_pins()) == {"embedded/nasbench201_splits.npz"}


@pytest.mark.real_data
def test_real_tables(real_root):
    table = Table.open(SimpleNamespace(data=real_root, allow_unpinned=False))
    expected = {
        ("cifar10", "test"): (6111, 94.3733), ("cifar10", "valid"): (6111, 91.6067),
        ("cifar100", "test"): (9930, 73.5133), ("cifar100", "valid"): (9930, 73.4933),
        ("imagenet16-120", "test"): (857, 47.3111), ("imagenet16-120", "valid"): (10676, 46.7333),
    }  # fmt: skip
    for (dataset, part), (row, accuracy) in expected.items():
        best, value = table.optimum(dataset, part)
        assert best == row and value == pytest.approx(accuracy, abs=5e-5)
    resnet = table.index((3, 0, 3, 1, 0, 1))
    assert table.string(resnet) == "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
    assert table.lookup(resnet, "cifar10") == pytest.approx(93.91, abs=0.005)  # release 1.0 of the benchmark: 93.97
    assert table.pinned and table.entry(6111, "cifar10").parameters_m > 1
    assert table.lookup(6111, "cifar100", "valid", 12) == pytest.approx(60.2, abs=1e-3)


@pytest.mark.real_data
def test_release_1_0_differs_from_the_tables(real_root):
    """Mean, median and best as the release is described; some cells have other means in v1.1."""
    options = SimpleNamespace(data=real_root, allow_unpinned=False)
    if not (real_root / "nasbench201" / "cifar10_test_200ep.csv.gz").exists():
        pytest.skip("the data root has no table of release 1.0")
    found = release_1_0(options)
    values = np.array(list(found.values()))
    assert (round(values.mean(), 4), round(float(np.median(values)), 4)) == (87.0424, 90.7067)
    assert max(found, key=found.get) in ("333132", "333123") and found["303101"] == pytest.approx(93.97, abs=0.005)
    assert int((values == 10.0).sum()) == 341
    table = Table.open(options)
    assert found["310440"] == pytest.approx(table.lookup((3, 1, 0, 4, 4, 0), "cifar10"), abs=0.006)
    assert abs(found["330322"] - table.lookup((3, 3, 0, 3, 2, 2), "cifar10")) > 0.05


def test_a_damaged_release_1_0_is_one_line(tmp_path):
    options = SimpleNamespace(data=tmp_path, allow_unpinned=True)
    with pytest.raises(UserError, match=r"data fetch nasbench201-v1\.0"):
        release_1_0(options)
    path = tmp_path / "nasbench201" / "cifar10_test_200ep.csv.gz"
    path.parent.mkdir()
    for content in (b"no gzip", gzip.compress(b"code\n1\n"), gzip.compress(b"code,cifar10_test_top1\n000000,x\n")):
        path.write_bytes(content)
        with pytest.raises(UserError, match="no readable table"):
            release_1_0(options)
    path.write_bytes(gzip.compress(b"code,cifar10_test_top1\n000000,10.0\n"))
    with pytest.raises(UserError, match="has 1 cells"):
        release_1_0(options)


def test_where_a_cell_is_looked_up():
    for name in nasbench201.DATASETS:
        assert nasbench201.looked_up(name) == name
    assert nasbench201.looked_up("digits") == "cifar10"
