"""Cells looked up in made-up tables: what people paste, numbers beside an independent count, both releases."""

from __future__ import annotations

import json

import numpy as np
import pytest

from common.cli.verbs import main
from common.data.nasbench201 import CELLS, DATASETS, Table, to_string
from common.errors import UserError
from common.spaces.architecture import save_architecture
from common.spaces.nasbench201 import lookup as module
from papers.evnas.__main__ import VERBS
from papers.nsas.__main__ import VERBS as NSAS

CODE = (3, 0, 1, 1, 4, 2)
CELL = to_string(CODE)


def arrays(*left_out: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {"ops": np.stack(np.unravel_index(rng.permutation(CELLS), (5,) * 6), axis=1).astype(np.uint8)}
    for dataset in DATASETS:
        for name in ("valid_12", "valid_200", "test_12", "test_200"):
            found[f"{dataset.replace('-', '_')}_{name}"] = np.round(rng.uniform(10, 95, CELLS), 1)
    return {name: array for name, array in found.items() if name not in left_out}


@pytest.fixture
def tables(monkeypatch):
    held = {"new": Table(arrays()), "old": {"".join(map(str, code)): 50.0 for code in np.ndindex(*(5,) * 6)}}

    def opened(name):
        def give(*_):
            if held[name] is None:
                raise UserError(f"the {name} table is missing; get it")
            return held[name]

        return give

    monkeypatch.setattr(Table, "open", opened("new"))
    monkeypatch.setattr(module, "release_1_0", opened("old"))
    held["old"]["301142"] = 49.0
    return held


def said(capsys, verbs, *words: str) -> dict:
    main("evnas" if verbs is VERBS else "nsas", verbs, ["lookup", *words, "--json"])
    return json.loads(capsys.readouterr().out)


def test_every_notation_is_the_same_cell(tables, tmp_path, capsys):
    save_architecture(tmp_path / "architecture.json", "nasbench201", CELL)
    (tmp_path / "cells.txt").write_text(f"{CELL}\n\n301142\n")
    index = str(tables["new"].index(CODE))
    words = [CELL, "301142", "(3, 0, 1, 1, 4, 2)", "naslib: (2, 1, 0, 0, 4, 3)", index, str(tmp_path),
             str(tmp_path / "architecture.json"), str(tmp_path / "cells.txt")]  # fmt: skip
    found = said(capsys, VERBS, *words)["cells"]
    assert {entry["cell"] for entry in found} == {CELL} and {entry["index"] for entry in found} == {int(index)}
    assert said(capsys, VERBS, *"301142")["cells"][0]["cell"] == CELL  # six words
    assert said(capsys, NSAS, "GDAS_NSAS")["cells"][0]["numbers"] == [3, 3, 0, 3, 2, 2]


def test_numbers_are_those_of_the_tables(tables, capsys):
    (entry,) = said(capsys, VERBS, "301142")["cells"]
    assert len(entry["rows"]) == 7 and entry["connected"]
    columns, row = arrays(), tables["new"].index(CODE)
    for found in entry["rows"][:-1]:
        for part in ("valid", "test"):
            column = columns[f"{found['dataset'].replace('-', '_')}_{part}_{found['epochs']}"]
            value = column[row]
            assert found[f"{part}_accuracy_percent"] == value
            assert found[f"{part}_rank"] == 1 + sum(column > value)
            assert found[f"{part}_regret_points"] == pytest.approx(column.max() - value)
    old = entry["rows"][-1]
    assert (old["release"], old["test_accuracy_percent"], old["test_rank"], old["test_regret_points"]) == (
        "1.0", 49.0, CELLS, 1.0,
    )  # fmt: skip


def test_equal_graphs_and_cells_that_see_no_image(tables, capsys):
    """Node 2 is node 0 through a convolution, read directly or from node 1; the benchmark counts 6,466 graphs."""
    (one,), (blind,) = (said(capsys, VERBS, word)["cells"] for word in ("330322", "300000"))
    assert [equal["cell"] for equal in one["equal_cells"]] == [to_string((3, 0, 1, 3, 2, 2))]
    assert one["connected"] and not blind["connected"]
    found = module.Tables(None)
    found.equals(CODE)
    assert len(found._equal) == 6466 and sum(map(len, found._equal.values())) == CELLS


def test_what_a_person_reads(tables, capsys):
    main("evnas", VERBS, ["lookup", "301142", "300000"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(CELL) and sum("imagenet16-120" in line for line in lines) == 4
    assert any("do not see the image" in line for line in lines) and any(" 1.0 " in line for line in lines)
    tables["new"] = Table(arrays("cifar10_test_200", "cifar10_test_12"))
    main("evnas", VERBS, ["lookup", "301142"])
    assert sum(line.rstrip().endswith("-") for line in capsys.readouterr().out.splitlines()) == 2


def test_one_release_is_enough_and_none_is_said(tables, capsys):
    tables["new"] = None
    (entry,) = said(capsys, VERBS, CELL)["cells"]
    assert entry["index"] is None and [row["release"] for row in entry["rows"]] == ["1.0"]
    tables["new"], tables["old"] = Table(arrays()), None
    assert {row["release"] for row in said(capsys, VERBS, CELL)["cells"][0]["rows"]} == {"1.1"}
    tables["new"] = None
    with pytest.raises(SystemExit):
        main("evnas", VERBS, ["lookup", CELL])
    assert capsys.readouterr().err == "error: the new table is missing; get it\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "no cell given; give strings in quotes"),
        (["15625"], "index 15625 is not between 0 and 15624"),
        (["EvNASA"], "'EvNASA' is no cell of NAS-Bench-201"),
        (["305142"], "operation 2 (edge 2<-1) is 5"),
        (["nowhere.json"], "no file nowhere.json"),
        (["301142", "--seed", "3"], "--seed does nothing here"),
    ],
)
def test_mistakes(tables, capsys, words, line):
    with pytest.raises(SystemExit):
        main("evnas", VERBS, ["lookup", *words])
    assert line in capsys.readouterr().err
