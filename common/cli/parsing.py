"""The words of a command line: looking ahead, unknown flags, and tyro's messages in one line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any

import tyro

from common.cli.errors import UserError
from common.cli.settings import suggestion


def peek(arguments: Sequence[str], flag: str) -> str | None:
    """The last value given to a flag, before the real parsing."""
    found = None
    for position, word in enumerate(arguments):
        if word == f"--{flag}" and position + 1 < len(arguments):
            found = arguments[position + 1]
        elif word.startswith(f"--{flag}="):
            found = word.partition("=")[2]
    return found


def check_flags(verb: str, known: list[str], arguments: list[str]) -> None:
    flags = {n.replace("_", "-") for n in known}
    for word in arguments:
        if word.startswith("--") and len(word) > 2:
            flag = word[2:].partition("=")[0].replace("_", "-")
            if flag not in flags and flag.removeprefix("no-") not in flags and flag != "help":
                near = suggestion(flag, flags) if suggestion(flag, flags).startswith("; did") else ""
                near = re.sub(r"'(.*)'", r"'--\1'", near)
                raise UserError(f"unknown flag --{flag} of {verb}{near} (--help lists all)")


def parsed_by_tyro(top: type, program: str, about: str, arguments: list[str], types: dict[str, Any]) -> Any:
    """tyro's parsing, with its boxed messages turned into one line."""
    wants_help = any(word in ("--help", "-h") for word in arguments)
    caught = io.StringIO()
    try:
        if wants_help:
            return tyro.cli(top, prog=program, description=about, args=arguments)
        with contextlib.redirect_stderr(caught), contextlib.redirect_stdout(caught):
            return tyro.cli(top, prog=program, description=about, args=arguments)
    except SystemExit as leaving:
        if wants_help or not leaving.code:
            raise
        raise UserError(_flatten(caught.getvalue(), types) or "the flags could not be read; see --help") from None


def _flatten(boxed: str, types: dict[str, Any]) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", boxed)
    lines = [re.sub(r"[│┃╭╮╰╯─━┌┐└┘|]+", " ", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line and set(line) != {"-"}]
    words = re.sub(r"\s*(Argument helptext|For full helptext|Perhaps you meant).*", "", " ".join(lines))
    words = re.sub(r"^(Value error|Invalid choice|Missing argument|Unrecognized options|Parsing error)\s*", "", words)
    words = re.sub(r"(\s|-{3,})+", " ", words).strip()
    if extra := re.fullmatch(r"Unrecognized options?: (.*)", words):
        return f"{extra[1]!r} follows no flag; give every value as --FLAG VALUE (--help lists the flags)"
    if bad := re.match(r"Error parsing --([\w-]+):.*?('[^']*'|\[.*\])", words):
        kind = types.get(bad[1].replace("-", "_"))
        name = kind.__name__ if isinstance(kind, type) and not getattr(kind, "__args__", None) else str(kind)
        return f"--{bad[1]} must be {name}, not {bad[2]}"
    return words
