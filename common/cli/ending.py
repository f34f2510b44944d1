"""The paragraph at the end of a run: what was found, how good, beside what the paper has, the files, what next."""

from __future__ import annotations

import json
import shlex
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from common.run.progress import span


class Ending(NamedTuple):
    """What a paper says of a finished stage. Sentences without a full stop; "": nothing to say.

    found: what came out, with its unit. published: what the paper (or its repository) has for it. verb, flags: the
    command that a person runs next.
    """

    found: str
    published: str = ""
    verb: str = ""
    flags: tuple[str, ...] = ()


def paragraph(ending: Ending, options: Any) -> str:
    """One paragraph for the reader; the next command stands alone in its last line, to be copied."""
    folder = Path(options.folder)
    sentences = [ending.found]
    if ending.published:
        reduced = f"; this run of profile {options.profile} is no replication of that" * (options.profile != "paper")
        sentences.append(f"published: {ending.published}{reduced}")
    names = sorted(path.name for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))
    kept = [name for name in names if name not in ("settings.json", "env.json", "timing.json", "finished.json")]
    sentences.append(f"files in {folder}: {', '.join(kept[:6])}{', …' if len(kept) > 6 else ''}")
    head = f"{options.paper} {options.section.replace('_', ' ')} is done{_after(folder)}"
    said = f"{head}: {'. '.join(map(_begun, sentences))}."
    text = textwrap.fill(said, 110, break_long_words=False, break_on_hyphens=False)
    return f"{text}\nNext: {command(ending, options)}" if ending.verb else text


def command(ending: Ending, options: Any) -> str:
    """The next command as the shell reads it, with this run's profile, seed and data root."""
    words = ["python", "-m", f"papers.{options.paper}", ending.verb, *ending.flags]
    for flag, value, usual in (
        ("--profile", options.profile, "smoke"), ("--seed", options.seed, 0), ("--data", options.data, None)
    ):  # fmt: skip
        if value != usual and flag not in ending.flags:
            words += [flag, str(value)]
    return shlex.join(words)


def _begun(sentence: str) -> str:
    """With a capital, unless a name stands first (a file, a cell): names keep their case."""
    return sentence[0].upper() + sentence[1:] if sentence.split()[0].strip(",:").isalpha() else sentence


def _after(folder: Path) -> str:
    """ " after 12 min", from the run's own record."""
    try:
        return f" after {span(json.loads((folder / 'timing.json').read_text(encoding='utf-8'))['seconds'])}"
    except (OSError, ValueError, KeyError):
        return ""
