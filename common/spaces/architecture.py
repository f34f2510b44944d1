"""An architecture travels between search, training, evaluation and drawing as a small JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError
from common.run.files import read_json, write_json
from common.settings import MOST

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


def whole(value: Any, name: str, where: str, least: int = 0) -> int:
    """A whole number that a file says; nothing said is 0. Raises UserError for anything else."""
    if value is None or value == "":
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
        raise UserError(f"{where}: {name} is {value!r}; a whole number from {least} is expected")
    return value


class Record(NamedTuple):
    """What a file says beside its architecture; 0, "" and False where it says nothing."""

    dataset: str = ""
    classes: int = 0
    pixels: int = 0  # side of the set's images
    channels: int = 0
    layers: int = 0
    imagenet: bool = False  # weights of the ImageNet form

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Record:
        """Of an architecture file (there in ``origin``), or of the metadata of weights that a training wrote."""
        origin = document.get("origin") or {}
        if not isinstance(origin, Mapping):
            raise UserError(f"the file's origin is {origin!r}; a mapping is expected")
        said = {**document, **origin}
        classes, pixels, width, depth = (
            whole(said.get(key), key, "the file") for key in ("classes", "pixels", "width", "depth")
        )  # fmt: skip
        imagenet = said.get("network") == "imagenet" or said.get("stage") == "train_imagenet"
        return cls(str(said.get("dataset") or ""), classes, pixels, width, depth, imagenet)


def recorded(name: str, paper: str = "") -> tuple[dict[str, Any], Record]:
    """({space, architecture, …}, what else it says) of an architecture file, or of weights that a training wrote; an
    empty mapping for a name that is no file.

    paper: where given, the paper that the weights must be of. Raises UserError.
    """
    from common.spaces.pasted import inside, is_pasted

    name = inside(name)
    if is_pasted(name):
        return {}, Record()  # cells alone
    if name.endswith(".json"):
        document = read_architecture(Path(name))
        return document, Record.of(document)
    if name.endswith(".safetensors"):
        from common.weights.read import read_metadata

        said = read_metadata(name)
        if paper and said.get("paper", paper) != paper:
            raise UserError(f"{name} holds weights of {said['paper']}; give a file of {paper}")
        if "architecture" not in said:
            raise UserError(f"{name} does not say its architecture; describe the architecture's name or file instead")
        return said, Record.of(said)
    return {}, Record()
