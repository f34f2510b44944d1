"""Words that are near each other: what a user may have meant by a name that nothing here has.

Two names are near when their letters are, or when they say the same in other words: ``flops-maximum`` is ``macs-max``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

NEAR = 0.6  # of 1, how like two names must be
# what the field, and other programs, call what has another word here; "": says nothing
SAME = {
    "flops": "macs", "mflops": "macs", "madds": "macs", "maximum": "max", "highest": "max", "minimum": "min",
    "lowest": "min", "learning": "lr", "rate": "", "number": "", "num": "", "n": "", "of": "", "the": "", "init": "",
    "ckpt": "checkpoint", "pretrained": "checkpoint", "model": "arch", "architecture": "arch", "genotype": "arch",
    "network": "arch", "gpu": "device", "gpus": "device", "cuda": "device", "output": "out", "outdir": "out",
    "folder": "out", "dir": "", "root": "", "save": "out", "length": "", "prob": "", "name": "", "pop": "population",
    "image-size": "resolution", "img-size": "resolution", "input-size": "resolution", "learningrate": "lr",
    "bs": "batch-size", "batchsize": "batch-size", "wd": "weight-decay", "grad": "", "gradient": "",
    "fp16": "precision", "dtype": "precision", "amp": "precision", "half": "precision", "dry": "plan", "run": "",
    "restart": "resume",
    "force": "resume", "overwrite": "resume", "samples": "images", "examples": "images", "corpus": "text",
    "smoothing": "label-smoothing", "seeds": "seed", "mnist": "digits", "penn": "ptb", "treebank": "ptb",
    "penntreebank": "ptb",
}  # fmt: skip


def near(word: str, known: Iterable[str]) -> str | None:
    """The known name nearest to ``word``, None where none is near."""
    names = sorted({str(name) for name in known})
    scores = {name: likeness(str(word), name) for name in names}
    best = max(names, key=scores.__getitem__, default=None)
    return best if best is not None and scores[best] >= NEAR else None


def likeness(one: str, other: str) -> float:
    """How like two names are, 0 to 1: by their letters, whatever their case, or by what their words mean."""
    letters = difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()
    bare = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in (one, other)]
    plain = difflib.SequenceMatcher(None, bare[0], bare[1]).ratio()
    if len(one) > 3 and other.lower().startswith(one.lower()):
        letters = 0.95  # the beginning of a name
    elif len(bare[0]) > 3 and bare[0] in bare[1]:
        letters = 0.9  # a part of it
    meant, said = _meaning(one), _meaning(other)
    if not meant or not said:
        return max(letters, plain)
    shared = len(meant & said)
    words = (shared / len(meant | said) + shared / min(len(meant), len(said))) / 2
    return max(letters, plain, 0.99 * words)  # letters win among equals


def _meaning(name: str) -> frozenset[str]:
    """The words of a name in this suite's terms."""
    lower = re.sub(r"[^a-z0-9]+", "-", name.lower())
    words = [lower] if lower in SAME else lower.split("-")
    meant = (SAME.get(word, word) for word in words if word)
    return frozenset(part for word in meant for part in word.split("-") if part)


def suggestion(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for a near name, else the known ones."""
    names = sorted(str(name) for name in known)
    found = near(word, names)
    if found is not None:
        return f"; did you mean {found!r}?"
    return f"; known: {', '.join(names)}" if names else ""


def hint(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for a near name, else nothing: before a list of what is known."""
    found = near(word, known)
    return f"; did you mean {found!r}?" if found is not None else ""
