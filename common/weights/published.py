"""What a published checkpoint is of: a small JSON file beside it, written when the file is fetched or verified.

The authors' files do not say which data set they are of, and ten classes fit CIFAR-10 and digits alike. No torch here.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from common.data.names import PICTURE_SETS, SMALL_SETS, TEXTS, canonical
from common.data.pins import data_root
from common.errors import UserError
from common.run.files import write_json


def pinned(identifier: str) -> Path:
    """The authors' file of a pin, under ``checkpoints/`` of the data root. Raises UserError with what fetches it."""
    path = data_root() / "checkpoints" / identifier
    if not path.is_file():
        raise UserError(
            f"the authors' weights {identifier} are not at {path}; get them with: python -m reproductions checkpoints "
            f"fetch {identifier}"
        )
    return path


def beside(path: Path) -> Path:
    """Where the facts of a checkpoint stand: ``<its name>.json``."""
    return path.with_name(path.name + ".json")


def record(path: Path, facts: dict[str, Any]) -> None:
    """Write the facts (checkpoint, paper, architecture, dataset) beside the file; a read-only folder stays as it is."""
    if known(path) != facts:
        with contextlib.suppress(OSError, UserError):
            write_json(beside(path), facts)


def known(path: Path | str) -> dict[str, Any]:
    """The facts beside a file; empty where there are none."""
    try:
        content = json.loads(beside(Path(path)).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("dataset"), str) else {}


def check_set(settings: Any, profile: str) -> None:
    """Raise UserError where settings test a published checkpoint on another named set than its own.

    A folder passes: it may be a copy of the set; the number of classes is compared when the weights are loaded.
    """
    path = getattr(settings, "checkpoint", "")
    facts = known(path) if path else {}
    for name, sets in (("dataset", (*SMALL_SETS, *PICTURE_SETS)), ("text", TEXTS)):
        asked = getattr(settings, name, None)
        if facts and isinstance(asked, str) and canonical(asked) in sets and canonical(asked) != facts["dataset"]:
            own, which = facts["dataset"], facts.get("checkpoint", "ID")
            raise UserError(
                f"{path} is the published checkpoint {which} of {own}, and this would test it on {asked} "
                f"(profile {profile}); use --profile paper --{name} {own}, or: python -m "
                f"reproductions checkpoints evaluate {which}"
            )
