"""Settings: frozen dataclasses whose defaults are the published run; profiles and files state only what differs.

    @dataclass(frozen=True)
    class Search(Settings):
        epochs: int = setting(50, "epochs of the supernet", at_least=1)

A setting carries its help and its range where it is declared; both hold on the command line and in Python alike.
No torch here: ``--help`` must be instant. YAML files hold data only (``yaml.safe_load``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from common.errors import UserError
from common.outside import load_yaml
from common.papers import PAPERS
from common.words import suggestion

PROFILES = {name: Path(__file__).resolve().parent / "profiles" / f"{name}.yaml" for name in ("smoke", "proxy", "paper")}
# The largest whole numbers, by a word of the setting's name: what no machine can hold is a slip of the finger,
# refused before memory is asked for. A setting without such a word: MOST.
MOST = 10**9
LARGEST = {
    "layers": 1_000, "cells": 10_000, "channels": 65_536, "width": 65_536, "hidden": 65_536, "embedding": 65_536,
    "pad": 10_000, "cutout": 10_000, "resolution": 10_000, "workers": 1_000, "parts": 10_000, "classes": 10_000_000,
    "population": 1_000_000, "tournament": 1_000_000, "pool": 1_000_000, "paths": 1_000_000, "candidates": 1_000_000,
    "architectures": 1_000_000, "copies": 10_000, "constraints": 10_000, "seeds": 1_000_000,
}  # fmt: skip
# Settings that cannot change a result; they may differ when a run is resumed.
NOT_RESULT_BEARING = frozenset({"workers"})

S = TypeVar("S")


def setting(
    default: Any, help: str, *, at_least: float | None = None, above: float | None = None, at_most: float | None = None,
    below: float | None = None, result: bool = True, recorded: bool = True,
) -> Any:  # fmt: skip
    """A field of a settings class: its published value, a few words with their unit, its range.

    at_least, above, at_most, below: bounds of a number, or of every number of a tuple; None has no range. A whole
    number without an upper bound has that of LARGEST.
    result: whether it can change a result; one that cannot (loader processes) may differ when a run is resumed.
    recorded: whether a run says it where it has its default; no: only where it is used.
    """
    given = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    bounds = {rule: bound for rule, bound in given.items() if bound is not None}
    shown = f"{help} ({range_of(bounds)})" if bounds else help
    return dataclasses.field(
        default=default, metadata={"help": shown, "bounds": bounds, "result": result, "recorded": recorded}
    )


def with_default(base: type, name: str, default: Any) -> Any:
    """The field ``name`` of the settings class ``base``, with its help and its range, and another published value."""
    return dataclasses.field(default=default, metadata=base.__dataclass_fields__[name].metadata)  # type: ignore[attr-defined]


def range_of(bounds: Mapping[str, float]) -> str:
    """A range in words: "at least 1", "above 0", "between 0 and 1, 1 excluded"."""
    low = next(((rule, bounds[rule]) for rule in ("at_least", "above") if rule in bounds), None)
    high = next(((rule, bounds[rule]) for rule in ("at_most", "below") if rule in bounds), None)
    if low and high:
        left_out = [_shown(bound) for rule, bound in (low, high) if rule in ("above", "below")]
        without = f", {' and '.join(left_out)} excluded" if left_out else ""
        return f"between {_shown(low[1])} and {_shown(high[1])}{without}"
    if low == ("at_least", 0):
        return "0 or more"
    return " ".join(f"{rule.replace('_', ' ')} {_shown(bound)}" for rule, bound in filter(None, (low, high)))


def _shown(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


@dataclass(frozen=True)
class Settings:
    """The settings of a stage. Their ranges hold wherever they are made, in Python or from a command line.

    Raises UserError for a value outside its range, or no finite number.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            declared, value = field.metadata.get("bounds", {}), getattr(self, field.name)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, bool) or not isinstance(number, int | float):
                    continue
                bounds = declared
                if isinstance(number, int) and _inside(number, declared) and "at_most" not in declared:
                    bounds = _ceiling(field.name)
                finite = isinstance(number, int) or math.isfinite(number)
                if not finite or not _inside(number, bounds):
                    flag = f"--{field.name.replace('_', '-')}"
                    raise UserError(f"{flag} must be {range_of(bounds) if finite else 'a finite number'}, not {number}")

    def check(self, given: frozenset[str] | None = None) -> None:
        """What holds between settings: a stage for which something does overrides this. Called before a run starts.

        given: the settings that flags or a file set, None where there was no command line (see ``refuse_idle``).
        Raises UserError for settings that exclude each other, or that do nothing beside the others.
        """


def _ceiling(name: str) -> dict[str, float]:
    """The upper bound of a whole number, by the words of its setting's name."""
    return {"at_most": min((LARGEST[word] for word in name.split("_") if word in LARGEST), default=MOST)}


def _inside(number: float, bounds: Mapping[str, float]) -> bool:
    fits = {
        "at_least": number >= bounds.get("at_least", number),
        "above": number > bounds.get("above", -math.inf),
        "at_most": number <= bounds.get("at_most", number),
        "below": number < bounds.get("below", math.inf),
    }
    return all(fits.values())


def refuse_idle(settings: Any, idle: Mapping[str, str], given: frozenset[str] | None = None) -> None:
    """Settings that do nothing beside the others are refused, not ignored.

    idle: setting -> what it would need to act, such as "--crop padded". given: the settings that flags or a file set
    (``RunOptions.given``); a profile or a variant may well hold such a setting for another choice of the user's. None
    (no command line): every setting that differs from its default counts as given. Raises UserError for the first.
    """
    defaults = {f.name: f.default for f in dataclasses.fields(settings)}
    for name, needs in idle.items():
        value = getattr(settings, name)
        if name in given if given is not None else value != defaults[name]:
            raise UserError(f"--{name.replace('_', '-')} {value} does nothing here: it acts with {needs} only")


@cache
def field_types(cls: type) -> dict[str, Any]:
    """Setting -> its type, annotations such as tyro's ``Positional`` taken off."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]


def settings_from(cls: type[S], *overrides: Mapping[str, Any], source: str = "") -> S:
    """An instance of ``cls``: its defaults, changed by each of ``overrides`` in turn.

    Raises UserError for an unknown setting (with a suggestion) or a value of the wrong type.
    """
    known: dict[str, Any] = field_types(cls)  # type: ignore[arg-type]
    merged: dict[str, Any] = {}
    where = f" in {source}" if source else ""
    for layer in overrides:
        seen: set[str] = set()
        for raw, value in (layer or {}).items():
            name = str(raw).replace("-", "_")
            if name in seen:
                raise UserError(f"{raw!r} is given twice{where}, with - and with _; keep one")
            seen.add(name)
            if name not in known:
                raise UserError(f"unknown setting {raw!r}{where}{suggestion(name, known)}")
            merged[name] = coerce(value, known[name], name, where)
    return cls(**merged)


def coerce(value: Any, kind: Any, name: str, where: str = "") -> Any:
    """``value`` as the declared type: int -> float, list -> tuple, "1e-3" -> float (YAML reads it as text)."""
    origin = typing.get_origin(kind)
    if kind is Any:
        return value
    if origin is typing.Literal:
        choices = typing.get_args(kind)
        for choice in choices:
            if value == choice and type(value) is type(choice):
                return choice
        known = [str(c) for c in choices]
        raise UserError(f"{name}{where} cannot be {value!r}{suggestion(str(value), known)} (one of {', '.join(known)})")
    if origin in (typing.Union, types.UnionType):
        members = typing.get_args(kind)
        if value is None and type(None) in members:
            return None
        failure: UserError | None = None
        for member in members:
            if member is not type(None):
                try:
                    return coerce(value, member, name, where)
                except UserError as error:
                    failure = error
        raise failure or _wrong(value, kind, name, where)
    if origin is tuple:
        return _coerce_tuple(value, kind, name, where)
    if kind is float:
        return _coerce_float(value, kind, name, where)
    if kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        raise _wrong(value, kind, name, where)
    if kind is bool or kind is str:
        if isinstance(value, kind):
            return value
        raise _wrong(value, kind, name, where)
    if isinstance(kind, type) and issubclass(kind, Path) and isinstance(value, str | Path):
        return Path(value)
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    raise _wrong(value, kind, name, where)


def _coerce_float(value: Any, kind: Any, name: str, where: str) -> float:
    number: float | None = None
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            number = float(value)
    if number is None:
        raise _wrong(value, kind, name, where)
    if not math.isfinite(number):
        raise UserError(f"{name}{where} must be a finite number, not {value!r}")
    return number


def _coerce_tuple(value: Any, kind: Any, name: str, where: str) -> tuple:
    members = typing.get_args(kind)
    if not isinstance(value, list | tuple):
        raise _wrong(value, kind, name, where)
    if len(members) == 2 and members[1] is Ellipsis:
        return tuple(coerce(v, members[0], name, where) for v in value)
    if members and len(value) != len(members):
        raise UserError(f"{name}{where} needs {len(members)} values, not {len(value)}")
    return tuple(coerce(v, member, name, where) for v, member in zip(value, members or (Any,) * len(value)))


def _wrong(value: Any, kind: Any, name: str, where: str) -> UserError:
    wanted = getattr(kind, "__name__", None) if isinstance(kind, type) else None
    return UserError(f"{name}{where} must be {wanted or str(kind).replace('typing.', '')}, not {value!r}")


def profile_section(profile: str, paper: str, section: str, sections: Iterable[str] = ()) -> dict[str, Any]:
    """What a profile says about one stage of a paper (empty where it says nothing).

    sections: the stages of the paper, where known. Raises UserError, for a mistyped stage too.
    """
    if profile not in PROFILES:
        raise UserError(f"unknown profile {profile!r}{suggestion(profile, PROFILES)}")
    path = PROFILES[profile]
    if not path.exists():
        return {}
    return _stage_of(load_yaml(path), paper, section, set(sections), path)


def file_section(path: Path, paper: str, section: str, sections: Iterable[str] = ()) -> dict[str, Any]:
    """A user's settings file: the settings themselves, or laid out like a profile. Raises UserError."""
    content = load_yaml(path)
    if isinstance(content.get(paper), dict) or (content and all(key in PAPERS for key in content)):
        found = _stage_of(content, paper, section, set(sections), path)
        if not found:
            print(f"note: {path} sets nothing of {paper} {section}", file=sys.stderr)
        return found
    return content


def _stage_of(content: dict[str, Any], paper: str, section: str, sections: set[str], path: Path) -> dict[str, Any]:
    """``<paper>: {<stage>: {<setting>: value}}``; what is no paper or no stage of the paper is refused."""
    known = {*PAPERS, paper}
    for key in content:
        if key not in known:
            raise UserError(f"{path}: {key!r} is no paper{suggestion(str(key), known)}")
    stages = _mapping(content.get(paper), paper, path)
    for key in stages:
        if sections and key not in sections:
            raise UserError(f"{path}: {paper} has no stage {key!r}{suggestion(str(key), sections)}")
    return _mapping(stages.get(section), section, path)


def _mapping(value: Any, key: str, path: Path) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise UserError(f"{path}: {key!r} must hold a mapping of settings")
    return value or {}


def to_dict(settings: Any) -> dict[str, Any]:
    """Plain values (tuples as lists, paths as text), in the order of the dataclass; see ``recorded`` of ``setting``."""
    return {
        f.name: plain(value)
        for f in dataclasses.fields(settings)
        if (value := getattr(settings, f.name)) != f.default or f.metadata.get("recorded", True)
    }


def plain(value: Any) -> Any:
    """The value as JSON would give it back."""
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    return value


def result_bearing(settings: Any) -> dict[str, Any]:
    """The settings that can change a result: all but NOT_RESULT_BEARING and fields with metadata ``result=False``."""
    free = {f.name for f in dataclasses.fields(settings) if f.metadata.get("result") is False}
    return {k: v for k, v in to_dict(settings).items() if k not in free | NOT_RESULT_BEARING}


def fingerprint(settings: Any) -> str:
    """SHA-256 (hex) of the result-bearing settings; a mapping is taken as it is."""
    values = result_bearing(settings) if dataclasses.is_dataclass(settings) else plain(settings)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
