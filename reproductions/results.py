"""What runs wrote: every ``result.json`` below ``results/``, and which of them answer a claim's command."""

from __future__ import annotations

import csv
import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError
from reproductions.claims import ROOT, Claim

RESULTS = ROOT / "results"
# Flags that say where and how a command runs, not what it computes.
WHERE = {"profile", "settings", "seed", "out", "device", "precision", "data", "resume", "no_resume", "plan", "json"}


@dataclass(frozen=True)
class Result:
    """One finished run."""

    path: Path  # of result.json
    paper: str
    stage: str
    profile: str
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def unpinned(self) -> bool:
        """Made from data whose pins were not met (--allow-unpinned) or that has none."""
        return "unpinned data" in json.dumps(self.raw) or self.raw.get("unpinned") is True

    @property
    def variant(self) -> str:
        return str(self.raw.get("variant", ""))

    @property
    def name(self) -> str:
        return f"{self.paper}/{self.path.parent.name}"

    def history(self) -> list[dict[str, str]]:
        """Rows of history.csv beside the result; [] when there is none."""
        path = self.path.parent / "history.csv"
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as lines:
            return list(csv.DictReader(lines))

    def environment(self) -> dict[str, Any]:
        """env.json beside the result; {} when there is none."""
        path = self.path.parent / "env.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read(path: Path) -> Result:
    """One result.json. Raises UserError naming the file when it is not what a run writes."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a result ({error}); run that stage again") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("metrics", {}), dict):
        raise UserError(f"{path}: not a result of this suite; run that stage again")
    parts = path.parts
    return Result(
        path=path,
        paper=str(raw.get("paper", parts[-3] if len(parts) > 2 else "")),
        stage=str(raw.get("stage", path.parent.name.rsplit("-", 1)[0])),
        profile=str(raw.get("profile", parts[-4] if len(parts) > 3 else "")),
        seed=int(raw.get("seed") or 0),
        settings=raw.get("settings") or {},
        metrics=raw.get("metrics") or {},
        raw=raw,
    )


def load(folder: Path = RESULTS, profile: str | None = None, paper: str | None = None) -> list[Result]:
    """All results below ``folder``/<profile>/<paper>/…, by path."""
    pattern = f"{profile or '*'}/{paper or '*'}/**/result.json"
    return [read(path) for path in sorted(folder.glob(pattern))]


def flags_of(command: str) -> tuple[str, dict[str, str]]:
    """(verb, flags) of ``python -m papers.X VERB [NAME] --flag value --switch``; the positional NAME is ``arch``."""
    words = shlex.split(command)
    words = words[words.index("-m") + 2 :]
    verb, flags, i = words[0], {}, 1
    while i < len(words):
        word = words[i]
        if not word.startswith("--"):
            flags["arch"] = word
            i += 1
            continue
        name, equals, value = word[2:].partition("=")
        if not equals and i + 1 < len(words) and not words[i + 1].startswith("--"):
            i, value = i + 1, words[i + 1]
        elif not equals:
            name, value = (name[3:], "False") if name.startswith("no-") else (name, "True")
        flags[name.replace("-", "_")] = value
        i += 1
    return verb, flags


def matching(claim: Claim, results: list[Result]) -> list[Result]:
    """Results that answer the claim's command (see claims/README.md), whatever their profile."""
    if claim.result:
        return [r for r in results if r.path.match(claim.result)]
    if not claim.command or f"papers.{claim.paper} " not in claim.command:
        return []
    verb, flags = flags_of(claim.command)
    wanted = {need.removeprefix("checkpoint:") for need in claim.needs if need.startswith("checkpoint:")}
    return [r for r in results if r.paper == claim.paper and _answers(r, verb, flags, wanted)]


def _answers(result: Result, verb: str, flags: dict[str, str], checkpoints: set[str]) -> bool:
    if result.stage.split("_")[0] != verb:
        return False
    settings = {**result.settings, "variant": result.variant or "authors"}
    for selector in ("space", "method"):
        if selector in result.raw:
            settings.setdefault(selector, result.raw[selector])
    for name, value in flags.items():
        if name in WHERE:
            continue
        if name == "checkpoint":
            if checkpoints and not any(
                c in str(settings.get("checkpoint", "")) + str(result.path) for c in checkpoints
            ):
                return False
            continue
        if name not in settings:
            # selectors (--space, --method) choose the section, so the stage's name or the folder carries them
            if value not in result.stage and value not in result.path.parent.name:
                return False
        elif not _same(settings[name], value):
            return False
    return True


def _same(setting: Any, flag: str) -> bool:
    if isinstance(setting, (int, float)) and not isinstance(setting, bool):
        try:
            return float(setting) == float(flag)
        except ValueError:
            return False
    return str(setting).lower() == flag.lower()
