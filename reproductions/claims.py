"""The claims: every published number of the five papers as one checked entry.

``reproductions/claims/<paper>.yaml`` is a list of entries; ``reproductions/claims/README.md`` describes the keys.
Reading is strict: a wrong key, a wrong type, an unknown unit, a duplicate id or an unknown command is refused with file
and line, because a claim that silently never matches would look like a number nobody has checked.
"""

from __future__ import annotations

import ast
import math
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from common.data.pins import data_pins
from common.errors import UserError
from common.outside import check_nesting
from common.papers import PAPERS
from common.words import suggestion
from reproductions.checkpoints.pins import load_checkpoints
from reproductions.kinds import OF_QUANTITY, kind_of

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "reproductions" / "claims"
UNITS = (
    "percent",  # errors, accuracies, shares
    "count",  # parameters, MACs, architectures, images: whole numbers
    "millions",  # a published, rounded count
    "perplexity",
    "correlation",  # Kendall's tau and the like
    "ratio",
    "seconds",
    "hours",
    "gpu_hours",
    "gpu_days",
    "epochs",
    "pixels",
    "exact",  # text or a list, compared for equality
)
STANDARD_VERBS = ("search", "train", "evaluate", "draw", "describe")
HOUSE_VERBS = ("claims", "check", "seeds", "compare", "report", "readme", "bench", "data", "checkpoints")
NEEDS = re.compile(r"(training|search|gpu|quoted|(data|checkpoint|unpublished):[A-Za-z0-9_.+-]+)\Z")
COMPUTE = re.compile(r"(describe:[^:]+(:[^:]*)?:[a-z0-9_.]+|call:[\w.]+:\w+(:.*)?)\Z")
TEXTS = (
    "id", "quantity", "unit", "source", "paper_or_code", "command", "margin_reason", "compute", "metric", "result",
    "table", "row", "column", "note", "headline", "reduced",
)  # fmt: skip
IDENTIFIER = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_+-]+)+\Z")


@dataclass(frozen=True)
class Claim:
    """One published value. Optional keys have a default here; everything else must be given."""

    id: str
    quantity: str
    unit: str
    value: Any  # a number, a text or a list
    source: str
    paper_or_code: str
    needs: list
    command: str
    margin: float | int
    margin_reason: str
    compute: str = ""
    spread: float | int | None = None  # published standard deviation over runs
    seeds: int = 1  # runs behind the published mean (1: unknown or a single run)
    metric: str = ""  # key in result.json's metrics; default: the quantity
    result: str = ""  # glob of result.json below results/, instead of matching the command
    table: str = ""  # name of the published table it stands in …
    row: str = ""  # … and its place there
    column: str = ""
    note: str = ""
    headline: str = ""  # what it measures, in words: one of the numbers that the front page shows
    reduced: str = ""  # glob of smaller runs below results/, shown beside it besides those of the same command
    holds: bool = True  # False: this suite finds the published value false, and its check demands that this stays so
    published: bool = True  # False: nobody published it; measured by running the authors' code, to be met all the same
    file: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)

    @property
    def paper(self) -> str:
        return self.id.split(".")[0]

    @property
    def kind(self) -> str:
        """One of ``kinds.KINDS``, or context."""
        return kind_of(self.needs, self.quantity)

    @property
    def hardest(self) -> str:
        """The hardest thing it needs: computed, checkpoint, training, search, data, quoted or unpublished."""
        for kind in ("quoted", "search", "training"):
            if kind in self.needs:
                return kind
        for kind in ("unpublished", "checkpoint", "data"):
            if any(need.startswith(kind + ":") for need in self.needs):
                return kind
        return "computed"

    @property
    def metric_key(self) -> str:
        return self.metric or self.quantity


REQUIRED = tuple(
    f.name for f in fields(Claim) if f.name not in ("file", "line") and f.default.__class__.__name__ == "_MISSING_TYPE"
)
ALLOWED = tuple(f.name for f in fields(Claim) if f.name not in ("file", "line"))


def load_all(paper: str | None = None, folder: Path = FOLDER) -> list[Claim]:
    """Claims of one paper or of all, in file order. Raises UserError on the first fault, naming file and line."""
    if paper is not None and paper not in PAPERS:
        raise UserError(f"unknown paper {paper!r}; there are {', '.join(PAPERS)}")
    claims: list[Claim] = []
    for name in [paper] if paper else PAPERS:
        path = folder / f"{name}.yaml"
        if path.exists():
            claims += load_file(path)
    first: dict[str, Claim] = {}
    for claim in claims:
        if claim.id in first:
            other = first[claim.id]
            raise UserError(
                f"{claim.file}:{claim.line}: duplicate id {claim.id!r}; first used at {other.file}:{other.line}"
            )
        first[claim.id] = claim
    return claims


def load_file(path: Path) -> list[Claim]:
    """Claims of one file, each checked; see the module docstring."""
    shown = _shown(path)
    try:
        text = path.read_text(encoding="utf-8")
        check_nesting(text, path)
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{shown}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{shown}:{mark.line + 1 if mark else 1}: not YAML: {what}") from None
    if node is None:
        return []
    if not isinstance(node, yaml.SequenceNode):
        raise UserError(f"{shown}:{node.start_mark.line + 1}: expected a list of claims, each starting with '- id:'")
    return [_claim(entry, shown, path.stem) for entry in node.value]


def _claim(node: yaml.Node, shown: str, paper: str) -> Claim:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{shown}:{line}: expected a claim, 'key: value' pairs starting with '- id:'")
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        key, at = str(key_node.value), key_node.start_mark.line + 1
        if key not in ALLOWED:
            raise UserError(f"{shown}:{at}: unknown key {key!r}; allowed are {', '.join(ALLOWED)}")
        if key in values:
            raise UserError(f"{shown}:{at}: key {key!r} twice in one claim")
        values[key], lines[key] = _plain(value_node), at
    name = values.get("id", "?")
    for key in REQUIRED:
        if key not in values:
            raise UserError(f"{shown}:{line}: claim {name!r} lacks {key!r}")
    for faults in (_faults_of_words, _faults_of_values, _faults_of_needs, _faults_of_commands):
        for key, text in faults(values, paper):  # the first is said
            raise UserError(f"{shown}:{lines.get(key, line)}: claim {name!r}: {text}")
    return Claim(**values, file=shown, line=line)


Faults = Iterator[tuple[str, str]]  # (key, what is wrong with it)


def _faults_of_words(values: dict[str, Any], paper: str) -> Faults:
    for key in TEXTS:
        if key in values and not isinstance(values[key], str):
            yield key, f"{key} must be text, not {values[key]!r}; quote it"
    if not IDENTIFIER.match(values["id"]) or values["id"].split(".")[0] != paper:
        yield "id", f"id must look like {paper}.something.more"
    if not re.fullmatch(r"[a-z0-9_]+", values["quantity"]):
        yield "quantity", "quantity must be lower_case_words"
    if values["paper_or_code"] not in ("paper", "code", "both"):
        yield "paper_or_code", "paper_or_code must be paper, code or both"
    if not values["margin_reason"].strip():
        yield "margin_reason", "say why this margin"


def _faults_of_values(values: dict[str, Any], paper: str) -> Faults:
    if values["unit"] not in UNITS:
        yield "unit", f"unknown unit {values['unit']!r}; units are {', '.join(UNITS)}"
    exact = values["unit"] == "exact"
    if not (isinstance(values["value"], str | list) if exact else _is_number(values["value"])):
        yield "value", f"value {values['value']!r} does not fit unit {values['unit']!r}"
    for key in ("holds", "published"):
        if type(values.get(key, True)) is not bool:
            yield key, f"{key} must be true or false, not {values[key]!r}"
    if not values.get("holds", True) and not values.get("compute"):
        yield "holds", "what the suite finds false must be computed: give compute"
    for key, least in (("margin", 0), ("spread", 0), ("seeds", 1)):
        number = values.get(key)
        if number is not None and not (_is_number(number) and number >= least):
            yield key, f"{key} must be a finite number of at least {least}, not {number!r}"


def _faults_of_needs(values: dict[str, Any], paper: str) -> Faults:
    if not isinstance(values["needs"], list):
        yield "needs", "needs must be a list, [] when nothing is needed"
    for need in values["needs"]:
        if not isinstance(need, str) or not NEEDS.match(need):
            among = "training, search, gpu, data:NAME, checkpoint:ID, quoted, unpublished:WHAT"
            yield "needs", f"unknown need {need!r}; use {among}"
        word, _, subject = need.partition(":")
        known = known_needs().get(word)
        if known is not None and subject not in known:
            yield "needs", f"unknown {word} {subject!r}{suggestion(subject, known)}"


def _faults_of_commands(values: dict[str, Any], paper: str) -> Faults:
    needs = {str(need).partition(":")[0] for need in values["needs"]}
    if ("quoted" not in needs or values["command"]) and (problem := command_problem(values["command"])):
        yield "command", problem
    if not values["needs"] and not values.get("compute"):
        yield "needs", "a claim that needs nothing must say how it is computed: compute: describe:… or call:…"
    if not values["needs"] and values["quantity"] not in OF_QUANTITY:
        yield (
            "quantity",
            f"kinds.py does not say of what kind {values['quantity']!r} is",
        )
    if not {"quoted", "unpublished"} & needs:
        shown = re.match(r"python -m reproductions claims (\S+)\Z", values["command"])
        if shown and shown[1] != values["id"]:
            yield "command", f"the command shows another claim, {shown[1]!r}; name {values['id']!r}"
    if values.get("compute") and not COMPUTE.match(values["compute"]):
        yield "compute", "compute must be describe:NAME:DATASET:KEY or call:MODULE:FUNCTION:ARG…"


@cache
def known_needs() -> dict[str, tuple[str, ...]]:
    """The names that ``data:`` and ``checkpoint:`` may stand before."""
    return {"data": (*data_pins(), "imagenet"), "checkpoint": tuple(load_checkpoints())}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def command_problem(command: str) -> str:
    """Empty for a command this suite knows, else one line saying what is wrong with it."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        return f"command does not parse: {error}"
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words[:1] == ["torchrun"] and "-m" in words:
        words = ["python", *words[words.index("-m") :]]
    if words[:2] != ["python", "-m"] or len(words) < 4:
        return f"unknown command {command!r}; expected python -m papers.<paper> VERB or python -m reproductions VERB"
    module, verb = words[2], words[3]
    if module == "reproductions":
        return (
            "" if verb in HOUSE_VERBS else f"unknown verb {verb!r} of reproductions; there are {', '.join(HOUSE_VERBS)}"
        )
    paper = module.removeprefix("papers.")
    if not module.startswith("papers.") or paper not in PAPERS:
        return f"unknown module {module!r}; there are papers.{{{','.join(PAPERS)}}} and reproductions"
    verbs = paper_verbs(paper)
    return "" if verb in verbs else f"unknown verb {verb!r} of papers.{paper}; there are {', '.join(verbs)}"


@cache
def paper_verbs(paper: str) -> tuple[str, ...]:
    """Verbs in the VERBS literal of ``papers/<paper>/__main__.py``, read without importing it."""
    path = ROOT / "papers" / paper / "__main__.py"
    if path.exists():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Dict):
                continue
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == "VERBS" for t in targets):
                return tuple(str(k.value) for k in node.value.keys if isinstance(k, ast.Constant))
    return STANDARD_VERBS


def _plain(node: yaml.Node) -> Any:
    """A YAML node as plain values by the safe loader's rules."""
    try:
        return yaml.constructor.SafeConstructor().construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError, AttributeError) as error:
        raise UserError(f"line {node.start_mark.line + 1}: {' '.join(str(error).split())[:200]}") from None


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(ROOT))
    except ValueError:
        return str(path)
