"""The name of a run's default folder: what tells it from other runs of the paper, short and readable."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common.settings import result_bearing

LONGEST = 100  # characters of a folder's name
LONGEST_WORD = 28
# Files that every run of a kind calls alike: the folder around them says which one it is.
USUAL_NAMES = frozenset({"architecture", "weights", "supernet", "generator", "result", "model", "checkpoint"})


def default_folder(profile: str, paper: str, section: str, variant: str, words: Iterable[str], seed: int) -> Path:
    """results/<profile>/<paper>/<section>[-<variant>][-<word>…]-seed<seed>; the variant unless it is ``authors``."""
    parts = [section, *([variant] if variant != "authors" else []), *words]
    name, end = "-".join(parts), f"-seed{seed}"
    if len(name) + len(end) > LONGEST:
        name = name[: LONGEST - len(end) - 7].rstrip("-") + "-" + _digest(name)
    return Path("results") / profile / paper / (name + end)


def distinctions(
    section: str, selected: Mapping[str, tuple[str, str]], usual: Any, settings: Any, quantities: bool = False
) -> tuple[str, ...]:
    """Words for the choices that differ from the usual ones: texts (an architecture, a set, a method) and switches.

    selected: selector -> (its usual value, the value chosen), left out where ``section`` says it. usual: the settings
    that profile and variant give. Quantities (epochs, rates) stand in the name on request only: elsewhere a folder
    refuses those of another run.
    """
    words = [value for default, value in selected.values() if value != default and value not in section.split("_")]
    bearing = result_bearing(settings)
    for field in dataclasses.fields(settings):
        old, new = getattr(usual, field.name), getattr(settings, field.name)
        if new == old or field.name not in bearing:
            continue
        if isinstance(new, bool) and isinstance(old, bool):
            words.append(("" if new else "no-") + field.name.replace("_", "-"))
        elif isinstance(new, str | Path) and str(new):
            words.append(word(str(new)))
        elif isinstance(old, str | Path):
            words.append("no-" + field.name.replace("_", "-"))
        elif quantities:
            values = new if isinstance(new, tuple) else (new,)
            shown = "-".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
            words.append(word(field.name.replace("_", "-") + (f"-{shown}" if shown else "")))
    return tuple(words)


def word(text: str) -> str:
    """A setting's text as a part of a folder's name: letters, digits, ``.``, ``_``, ``@`` and ``-`` only.

    Of a path its last part, or the folder around a file that has a usual name; what cannot be shown whole ends in six
    hex digits of the whole text's hash.
    """
    if "/" in text or re.search(r"\.(json|safetensors|ya?ml|pth?(\.tar)?|tar|lmdb)$", text):
        path = Path(text)
        stem = re.sub(r"(\.pth)?\.[A-Za-z]+$", "", path.name) or path.name
        text = path.parent.name if stem.partition("_")[0] in USUAL_NAMES and path.parent.name else stem
    plain = re.sub(r"[^A-Za-z0-9._@]+", "-", text).strip("-._")
    if plain == text and len(plain) <= LONGEST_WORD:
        return plain
    return "-".join(filter(None, (plain[: LONGEST_WORD - 7].strip("-._"), _digest(text))))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
