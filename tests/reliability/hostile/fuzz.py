"""Words and files at random: a result or a line, and what is written of a result reads back as the same.

Hypothesis makes the inputs, near to what is right: published architectures with parts exchanged, repeated and cut.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.cli.parsing import parse
from common.data.nasbench201 import EDGES, OPERATIONS
from common.errors import UserError
from common.outside import load_yaml
from common.spaces.darts.genotype import PRIMITIVES, genotype
from common.spaces.nasbench201.cell import cell
from common.spaces.pasted import plain
from papers.cream.networks.architectures import PUBLISHED as CREAM
from papers.cream.networks.architectures import resolve as cream_path
from papers.evnas.__main__ import VERBS as EVNAS
from papers.nao_v2.__main__ import VERBS as NAO_V2
from papers.nao_v2.networks.architectures import PUBLISHED_TEXT, text_of
from papers.nao_v2.networks.architectures import load as nao
from papers.nsas.__main__ import VERBS as NSAS
from papers.nsas.recurrent.architecture import ACTIVATIONS, recurrent_of
from papers.sgnas.__main__ import VERBS as SGNAS
from papers.sgnas.networks.architectures import PUBLISHED as KERNELS
from papers.sgnas.networks.architectures import read as sgnas
from reproductions.checkpoints.pins import load_checkpoints
from reproductions.claims import load_file
from tests.reliability.proof.counts import Count

VERBS = {"evnas": EVNAS, "nao_v2": NAO_V2, "nsas": NSAS, "sgnas": SGNAS}
Reader = Callable[[Any], Any]


@dataclass
class Tally:
    """What came of the inputs of one kind; wrong: what was neither a right result nor a line."""

    tried: int = 0
    results: int = 0
    wrong: list[str] = field(default_factory=list)

    def one(self, reader: Reader, value: Any) -> None:
        """Try an input."""
        self.tried += 1
        caught = io.StringIO()
        try:
            with contextlib.redirect_stdout(caught), contextlib.redirect_stderr(caught):
                reader(value)
            self.results += 1
        except UserError as error:
            if not str(error).strip():
                self.wrong.append(f"{value!r}: an empty line")
        except SystemExit as leaving:
            if leaving.code not in (0, None):
                self.wrong.append(f"{value!r}: exit {leaving.code}")
        except BaseException as error:
            self.wrong.append(f"{value!r}: {type(error).__name__}: {error}")


# -- architectures ------------------------------------------------------------------------------------------------

ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.text(max_size=5) | st.sampled_from(PRIMITIVES),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=12,
)  # fmt: skip
SIGNS = st.sampled_from(list("()[]{},;:|+~'\"= \n\t\\0123456789.-_abeGN") + ["none", "~0", "range(2, 6)", "inf", "\0"])


@st.composite
def near(draw: Any, texts: list[str]) -> str:
    """One of some texts with a few of its characters taken away, exchanged or added."""
    text = list(draw(st.sampled_from(texts)))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, max(len(text) - 1, 0)))
        text[place : place + draw(st.integers(0, 2))] = [draw(SIGNS)] * draw(st.integers(0, 1))
    return "".join(text)


def pairs(operations: tuple[str, ...], nodes: int, each: int) -> st.SearchStrategy:
    """(operation, state) pairs of a cell, states up to two beyond what a node may read."""
    most = [number // each + each for number in range(nodes * each)]
    return st.tuples(*(st.tuples(st.sampled_from(operations), st.integers(0, high)) for high in most)).map(list)


GENOTYPES = st.fixed_dictionaries(
    {kind: pairs(PRIMITIVES, 4, 2) for kind in ("normal", "reduce")},
    optional={f"{kind}_concat": st.lists(st.integers(0, 6), max_size=6) for kind in ("normal", "reduce")},
)
RECURRENT = st.fixed_dictionaries(
    {"recurrent": pairs(ACTIVATIONS, 8, 1), "concat": st.lists(st.integers(0, 9), max_size=9)}
)
NAO = st.lists(st.integers(0, 5), min_size=39, max_size=41)
PATHS = st.lists(st.lists(st.integers(-1, 7), max_size=6) | st.integers(0, 6), min_size=6, max_size=8)
ROWS = st.lists(st.lists(st.sampled_from([3, 5, 7, 7, 3, 4]), max_size=7) | st.integers(0, 777), min_size=4, max_size=6)


def darts(value: Any) -> None:
    """A genotype is read again from its plain lists and from its text; all states that it names are there."""
    found = genotype(plain(value) if isinstance(value, str) else value)
    assert genotype(json.loads(json.dumps(found.as_dict()))) == found
    assert genotype(plain(repr(found))) == found
    for own, concat in ((found.normal, found.normal_concat), (found.reduce, found.reduce_concat)):
        assert all(0 <= state < slot // 2 + 2 for slot, (_, state) in enumerate(own)) and len(own) == 8
        assert len(set(concat)) == len(concat) and set(concat) <= set(range(6))


def recurrent(value: Any) -> None:
    """The same of recurrent cells."""
    found = recurrent_of(value, "x")
    assert recurrent_of(json.loads(json.dumps(found.as_names())), "x") == found
    assert all(0 <= state <= node for node, (_, state) in enumerate(found.recurrent))


def cell201(value: Any) -> None:
    """A cell is read again from its string, its digits and its numbers, and by a second, plain reading."""
    found = cell(value)
    assert cell(str(found)) == found and cell(found.digits) == found and cell(list(found.operations)) == found
    names = re.findall(r"([a-z0-9_]+)~\d", str(found))
    assert tuple(map(OPERATIONS.index, names)) == found.operations and len(names) == len(EDGES)


def nao_text(value: Any) -> None:
    """An architecture of NAO is read again from its text, and its integers are those that stand in the input."""
    found = nao(value if isinstance(value, str) else " ".join(map(str, value)))
    assert nao(text_of(found)) == found
    if isinstance(value, list):
        assert [v for part in found for v in part] == value


def cream(value: Any) -> None:
    """A path is read again from its text."""
    found = cream_path(value if isinstance(value, str) else repr(value))
    again = cream_path(repr([list(stage) for stage in found.path]))
    assert again.path == found.path


def kernels(value: Any) -> None:
    """Kernel lists are read again from their text and their digits."""
    found = sgnas(value)
    if len(found.kernels) == 5:  # of the small macro structure
        assert sgnas(repr(found.kernels), "tiny").kernels == found.kernels
    assert all(1 <= len(row) <= 6 and set(row) <= {3, 5, 7} for row in found.kernels)


# -- files and flags ----------------------------------------------------------------------------------------------


def file_of(reader: Callable[[Path], Any]) -> Reader:
    """A reader of texts that writes them to a file first."""

    def read(text: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (path := Path(folder) / "x.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
            reader(path)

    return read


SETTINGS = ["evnas:\n  search: {epochs: 3, lr: 1e-3}\n", "epochs: 3\nlr: 0.1\ndataset: digits\n", "a: &x [1]\nb: *x\n"]
CLAIM = [
    "- id: evnas.x.y\n  kind: sizes\n  table: 1\n  value: 3.5\n  unit: M\n", "- id: a.b\n  compute: papers.evnas:x\n"
]  # fmt: skip
PIN = ["evnas-x:\n  paper: evnas\n  files: []\n  sources: [{gdrive: abc}]\n  sha256: 00ff\n"]
VALUES = st.sampled_from(["", "0", "-1", "1e9", "nan", "inf", "3", "x", "[]", "None", "../..", "--", "0.5", "9" * 30])


@st.composite
def commands(draw: Any) -> tuple[str, list[str]]:
    """A verb of a paper with a few flags, most of them its own, with any values."""
    paper = draw(st.sampled_from(sorted(VERBS)))
    verb = draw(st.sampled_from(sorted(VERBS[paper])))
    stage = draw(st.sampled_from(list(VERBS[paper][verb].stages.values())))
    names = [*stage.settings.__dataclass_fields__, "out", "seed", "device", "profile", "variant", "precision", "data"]
    words = [verb]
    for name in draw(st.lists(st.sampled_from(names), max_size=3)):
        flag = f"--{name.replace('_', '-')}"
        words += [flag, draw(VALUES)] if draw(st.booleans()) else [f"{flag}={draw(VALUES)}"]
    return paper, words


def flags(value: tuple[str, list[str]]) -> None:
    """The settings that a command means are inside their ranges, and mean the same when they are read twice."""
    paper, words = value
    _, first, options = parse(paper, VERBS[paper], words)
    _, again, _ = parse(paper, VERBS[paper], words)
    assert first == again and options.seed >= 0


STRING = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
GENOTYPE = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_5x5', 2), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('skip_connect', 2), ('dil_conv_5x5', 3), ('sep_conv_3x3', 1)], normal_concat=range(2, 6), "
    "reduce=[('dil_conv_5x5', 1), ('avg_pool_3x3', 0), ('sep_conv_3x3', 0), ('avg_pool_3x3', 2), ('sep_conv_3x3', 1), "
    "('max_pool_3x3', 0), ('skip_connect', 2), ('none', 3)], reduce_concat=[2, 3, 4, 5])"
)
KINDS: dict[str, tuple[str, st.SearchStrategy, Reader]] = {
    "genotypes": ("all papers", GENOTYPES | ANY | near([GENOTYPE]), darts),
    "recurrent cells": ("nsas", RECURRENT | ANY, recurrent),
    "NAS-Bench-201 cells": ("all papers", near([STRING, "314102", "naslib: (3, 1, 0, 2, 4, 4)"])
                            | st.lists(st.integers(-1, 5), min_size=5, max_size=7) | ANY, cell201),
    "architectures of NAO": ("nao_v2", NAO | near(list(PUBLISHED_TEXT.values())), nao_text),
    "paths": ("cream", PATHS | near([repr(path) for path in CREAM.values()]), cream),
    "kernel lists": ("sgnas", ROWS | near([repr(rows) for rows in KERNELS.values()]), kernels),
    "settings files": ("all papers", near(SETTINGS) | st.text(max_size=30), file_of(load_yaml)),
    "claims": ("all papers", near(CLAIM) | st.text(max_size=30), file_of(load_file)),
    "pins": ("all papers", near(PIN) | st.text(max_size=30), file_of(load_checkpoints)),
    "flags of every verb": ("all papers", commands(), flags),
}  # fmt: skip


def tried(kind: str, examples: int) -> Tally:
    """Inputs of one kind, the same ones every time."""
    _, strategy, reader = KINDS[kind]
    tally = Tally()

    @settings(max_examples=examples, derandomize=True, database=None, deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(strategy)
    def attempt(value: Any) -> None:
        tally.one(reader, value)

    attempt()
    return tally


def counted(moments: int) -> Iterator[Count]:
    """Inputs and right answers by kind; ten a moment, of flags one (a parser is made for each)."""
    for kind, (paper, _, _) in KINDS.items():
        tally = tried(kind, moments * (1 if "flags" in kind else 10))
        yield Count("fuzzing", paper, kind, tally.tried, tally.tried - len(tally.wrong))
