"""Reading ``reproductions/checkpoints.yaml``: strict, with file and line in every complaint."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from common.data.names import PICTURE_SETS, SMALL_SETS
from common.errors import UserError
from common.outside import check_nesting
from common.papers import PAPERS
from common.weights.published import TEXTS

PINS = Path(__file__).resolve().parents[1] / "checkpoints.yaml"
DIGESTS = {"git_blob": 40, "sha256": 64, "md5": 32, "sha256_prefix": 8}
REQUIRED: dict[str, Any] = {"paper": str, "architecture": str, "dataset": str, "format": str, "sources": list}
OPTIONAL: dict[str, Any] = {
    "expected": dict, "margin": (int, float), "bytes": int, "evaluate": list, "note": str,
    **dict.fromkeys(DIGESTS, str),
}  # fmt: skip
SOURCES = ({"github", "commit", "path"}, {"gdrive", "name"}, {"url"})
_HEX = re.compile(r"[0-9a-f]+\Z")


@dataclass(frozen=True)
class Checkpoint:
    """One published file. digests: algorithm -> hex as far as known; expected: metric -> published value."""

    id: str
    paper: str
    architecture: str
    dataset: str
    format: str
    sources: list[dict[str, str]]
    expected: dict[str, float] = field(default_factory=dict)
    margin: float = 0.0
    digests: dict[str, str] = field(default_factory=dict)
    bytes: int | None = None
    evaluate: list[str] | None = None
    note: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """What stands beside the file, so that a test on another set is refused."""
        return {
            "checkpoint": self.id, "paper": self.paper, "architecture": self.architecture, "dataset": self.dataset,
        }  # fmt: skip

    @property
    def pinned(self) -> bool:
        """Whether a hash is known beforehand (else the first download's is recorded)."""
        return bool(self.digests)


def addresses(source: dict[str, str]) -> list[str]:
    """The addresses at which a source can be downloaded."""
    if "github" in source:
        path = urllib.parse.quote(source["path"])
        name, commit = source["github"], source["commit"]
        return [
            f"https://raw.githubusercontent.com/{name}/{commit}/{path}",
            f"https://github.com/{name}/raw/{commit}/{path}",
        ]
    if "gdrive" in source:
        return [f"https://drive.usercontent.google.com/download?id={source['gdrive']}&export=download&confirm=t"]
    return [source["url"]]


def browser_hint(checkpoint: Checkpoint) -> str:
    """What to do where a host wants a browser."""
    drive = [source for source in checkpoint.sources if "gdrive" in source]
    where = (
        f"open https://drive.google.com/file/d/{drive[0]['gdrive']}/view in a browser, download the file"
        if drive
        else "download the file by other means"
    )
    return f"{where} and run: python -m reproductions checkpoints fetch {checkpoint.id} --from FILE"


def load_checkpoints(path: Path = PINS) -> dict[str, Checkpoint]:
    """All entries by id. Raises UserError naming file and line of the first fault."""
    try:
        text = path.read_text(encoding="utf-8")
        check_nesting(text, path)
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}: a mapping from id to checkpoint is expected")
    found: dict[str, Checkpoint] = {}
    for key, value in root.value:
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{path}:{key.start_mark.line + 1}: an id is expected, not a list or a mapping")
        if key.value in found:
            raise UserError(f"{path}:{key.start_mark.line + 1}: duplicate id {key.value}")
        found[key.value] = _entry(path, key, value)
    return found


def _entry(path: Path, key: yaml.Node, node: yaml.Node) -> Checkpoint:
    where = f"{path}:{key.start_mark.line + 1}: {key.value}"
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{where}: a mapping is expected")
    values: dict[str, Any] = {}
    for name, part in node.value:
        here = f"{path}:{name.start_mark.line + 1}: {key.value}"
        allowed = {**REQUIRED, **OPTIONAL}
        if name.value not in allowed:
            raise UserError(f"{here}: unknown key {name.value!r}; known: {', '.join(sorted(allowed))}")
        if name.value in values:
            raise UserError(f"{here}: key {name.value!r} is given twice")
        values[name.value] = _plain(part)
        if not isinstance(values[name.value], allowed[name.value]):
            raise UserError(f"{here}: {name.value} has the wrong type ({type(values[name.value]).__name__})")
    missing = sorted(set(REQUIRED) - set(values))
    if missing:
        raise UserError(f"{where}: {missing[0]} is missing")
    if values["paper"] not in PAPERS:
        raise UserError(f"{where}: unknown paper {values['paper']!r}; there are {', '.join(PAPERS)}")
    known = (*SMALL_SETS, *PICTURE_SETS, *TEXTS, "nasbench201")
    if values["dataset"] not in known:
        raise UserError(f"{where}: unknown dataset {values['dataset']!r}; one of {', '.join(known)}")
    if {"--dataset", "--text"} & set(values.get("evaluate") or ()):
        raise UserError(f"{where}: evaluate takes the set from dataset; leave --dataset and --text out")
    digests = {name: values.pop(name) for name in DIGESTS if name in values}
    for name, digest in digests.items():
        _check_digest(where, name, digest)
    for source in values["sources"]:
        if not isinstance(source, dict) or set(source) - {"git_blob"} not in SOURCES:
            raise UserError(f"{where}: a source is github, commit, path; or gdrive, name; or url; not {source}")
        if "git_blob" in source:
            _check_digest(where, "git_blob", source["git_blob"])
    for metric, value in values.get("expected", {}).items():
        if not isinstance(value, (int, float)):
            raise UserError(f"{where}: expected {metric} must be a number")
    return Checkpoint(id=key.value, digests=digests, **values)


def _check_digest(where: str, name: str, digest: str) -> None:
    if not _HEX.match(digest) or len(digest) != DIGESTS[name]:
        raise UserError(f"{where}: {name} must be {DIGESTS[name]} hexadecimal digits, not {digest!r}")


def _plain(node: yaml.Node) -> Any:
    constructor = yaml.SafeLoader("")
    try:
        return constructor.construct_object(node, deep=True)
    finally:
        constructor.dispose()
