"""An architecture travels between search, training, evaluation and drawing as a small JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.cli.errors import UserError
from common.run.files import read_json, write_json

SCHEMA = 1
Architecture = dict[str, Any] | list[Any] | str


def save_architecture(path: Path, space: str, architecture: Architecture, origin: dict[str, Any] | None = None) -> None:
    """Write ``{schema, space, architecture, origin}``; ``origin`` says which run found it (plain values, no times)."""
    document = {"schema": SCHEMA, "space": space, "architecture": architecture, "origin": origin or {}}
    write_json(Path(path), document)


def read_architecture(path: Path) -> dict[str, Any]:
    """The whole document. Raises UserError when it is absent, damaged or of another schema."""
    document = read_json(Path(path))
    if not isinstance(document, dict) or not {"schema", "space", "architecture"} <= set(document):
        raise UserError(f"{path} is not an architecture file; it must hold schema, space and architecture")
    if document["schema"] != SCHEMA:
        raise UserError(f"{path} has schema {document['schema']!r}; this version reads schema {SCHEMA}")
    return document


def load_architecture(path: Path, space: str) -> Architecture:
    """The architecture of a file that belongs to ``space``. Raises UserError."""
    document = read_architecture(path)
    if document["space"] != space:
        raise UserError(f"{path} holds an architecture of space {document['space']!r}; {space!r} is needed here")
    return document["architecture"]
