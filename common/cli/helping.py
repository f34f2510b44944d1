"""Help: first the flags that people use, ``--help-all`` for the rest; what selectors, variants and profiles select."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.cli.stages import COMPUTES, CommonFlags, FileFlags, Stage, Verb

PROFILES_ARE = {
    "smoke": "embedded digits and text, seconds to minutes on two cores",
    "proxy": "real data sets at a reduced budget",
    "paper": "the paper's data and budget",
}
USUAL = (
    "images", "arch", "checkpoint", "search", "supernet", "generator", "top", "format", "dataset", "text",
    "train_images", "epochs", "generations", "iterations", "supernet_epochs", "batch_size", "channels", "lr",
)  # fmt: skip
MOST = 5  # settings of a stage in its short help, where the paper does not choose them
EVERYWHERE = ("out", "seed", "data", "plan")  # common flags in every short help, unless they do nothing there
COLUMN = 24


def overview(paper: str, verbs: Mapping[str, Verb]) -> str:
    """The verbs, what each is for, and its selectors."""
    width = max(len(name) for name in verbs)
    lines = [f"usage: python -m papers.{paper} VERB [flags]   (python -m papers.{paper} VERB --help lists them)", ""]
    for name, verb in verbs.items():
        lines.append(f"  {name:<{width}}  {verb.about}")
        for flag, choices in verb.selectors.items():
            lines.append(f"  {'':<{width}}  --{flag} {'|'.join(choices)}")
    return "\n".join(lines)


def short_help(program: str, verb: Verb, stage: Stage, selected: Mapping[str, str], layers: Any) -> str:
    """The help of one stage: its selectors, then about ten flags with a sentence and their present value each.

    layers: profile, variant and the settings that both give (``parsing``).
    """
    lines = [f"usage: {program} [flags]", "", *_wrapped(stage.about, "", "")]
    for flag, value in selected.items():
        choices = verb.selectors[flag]
        lines += ["", f"  --{flag} {'|'.join(choices)}", *_meanings(choices, value)]
    if not set(COMPUTES) <= set(stage.ignores):
        lines += ["", f"  --profile {'|'.join(PROFILES_ARE)}", *_meanings(PROFILES_ARE, layers.profile)]
    if stage.variants:
        lines += ["", f"  --variant {'|'.join(layers.variants)}", *_meanings(variants_are(stage), layers.variant)]
    rest = len(dataclasses.fields(stage.settings)) + len(dataclasses.fields(CommonFlags))
    lines += ["", *_flags(stage, layers.settings), "", f"All {rest} flags: {program} --help-all"]
    return "\n".join(lines)


def variants_are(stage: Stage) -> dict[str, str]:
    """What each variant sets, as flags."""
    said = {"authors": "what made the published numbers (the settings' defaults)"}
    for name, overrides in stage.variants.items():
        said[name] = " ".join(as_flag(key, value) for key, value in overrides.items()) or "the same as authors"
    return said


def as_flag(name: str, value: Any) -> str:
    """A setting as it would be given: ``--epochs 4``, ``--no-flip``."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    shown = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"--{flag} {shown}" if shown else f'--{flag} ""'


def _flags(stage: Stage, settings: Any) -> Iterator[str]:
    """The lines of the flags that people use."""
    fields, types = {f.name: f for f in dataclasses.fields(stage.settings)}, _hints(stage.settings)
    chosen = stage.usual or tuple(name for name in USUAL if name in fields)[:MOST]
    for name in chosen:
        default = getattr(settings, name)
        usual = f"; now {default}" if default not in ("", None, ()) else ""
        yield from _flag(name, types[name], fields[name].metadata.get("help", "") + usual)
    shared = FileFlags if stage.file else CommonFlags
    common, kinds = {f.name: f for f in dataclasses.fields(shared)}, _hints(shared)
    for name in EVERYWHERE:
        if name not in stage.ignores and not (name == "plan" and set(COMPUTES) <= set(stage.ignores)):
            yield from _flag(name, kinds[name], common[name].metadata["help"])


def _hints(cls: type) -> dict[str, Any]:
    """Types with tyro's marks of positional arguments."""
    return typing.get_type_hints(cls, include_extras=True)


def _flag(name: str, kind: Any, about: str) -> list[str]:
    left = f"  {_placeholder(name, kind)}"
    lines = _wrapped(about, " " * COLUMN, " " * COLUMN)
    if len(left) < COLUMN - 1:
        return [left.ljust(COLUMN) + lines[0].strip(), *lines[1:]]
    return [left, *lines]


def _placeholder(name: str, kind: Any) -> str:
    """``--epochs INT``; a positional argument by its name alone."""
    flag, origin, members = f"--{name.replace('_', '-')}", typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return name.upper()
    if kind is bool:
        return flag if name in ("plan", "json") else f"{flag}, --no-{name.replace('_', '-')}"
    if origin is typing.Literal:
        return f"{flag} {'|'.join(map(str, members))}"
    if origin is tuple:
        return f"{flag} {_word(members[0])} …"
    optional = [member for member in members if member is not type(None)]
    return f"{flag} {_word(optional[0] if optional else kind)}"


def _word(kind: Any) -> str:
    return {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}.get(kind, "VALUE")


def _meanings(choices: Mapping[str, str], chosen: str) -> list[str]:
    width = max(len(name) for name in choices)
    lines: list[str] = []
    for name, about in choices.items():
        mark = "*" if name == chosen else " "
        lines += _wrapped(about, f"    {mark} {name:<{width}}  ", " " * (width + 8))
    return lines


def _wrapped(text: str, first: str, then: str) -> list[str]:
    width = min(110, max(60, shutil.get_terminal_size((100, 20)).columns))
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=then) or [first.rstrip()]
