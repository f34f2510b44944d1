"""What runs wrote: every ``result.json`` below ``results/``, and which of them answer a claim's command."""

from __future__ import annotations

import csv
import importlib
import json
import os
import re
import shlex
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from common.errors import UserError
from common.run.files import read_json
from common.settings import plain, result_bearing
from reproductions.claims import ROOT, Claim
from reproductions.compare.renamed import settings_today, stage_today

RESULTS = (ROOT if (ROOT / "results").is_dir() else Path.cwd()) / "results"  # an installed package has none of its own


SUBJECT = ("dataset", "text", "arch")
"""Settings that say what was measured; the others say at which scale."""


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
        """Made from data whose pins were not met (--allow-unpinned)."""
        return self.raw.get("unpinned_data") is True

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
        try:
            with path.open(newline="", encoding="utf-8") as lines:
                rows = list(csv.DictReader(lines))
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(f"{path}: not what a run writes ({error}); run that stage again") from None
        if any(None in row or None in row.values() for row in rows):
            raise UserError(f"{path}: not what a run writes (a row of another length); run that stage again")
        return rows

    def environment(self) -> dict[str, Any]:
        """env.json beside the result; {} when there is none."""
        path = self.path.parent / "env.json"
        content = read_json(path) if path.exists() else {}
        kinds = {"packages": dict, "git": dict, "command": list, "gpus": list}
        if not isinstance(content, dict) or any(
            not isinstance(content.get(name) or kind(), kind) for name, kind in kinds.items()
        ):
            raise UserError(f"{path}: not what a run writes; run that stage again")
        return content


def read(path: Path) -> Result:
    """One result.json. Raises UserError naming the file when it is not what a run writes."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as a result ({error}); run that stage again") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("metrics", {}), dict):
        raise UserError(f"{path}: not a result of this suite; run that stage again")
    if type(raw.get("seed", 0)) is not int or not isinstance(raw.get("settings", {}), dict):
        raise UserError(f"{path}: its seed or its settings are not what a run writes; run that stage again")
    parts = path.parts
    paper = str(raw.get("paper", parts[-3] if len(parts) > 2 else ""))
    stage = str(raw.get("stage", path.parent.name.rsplit("-", 1)[0]))
    return Result(
        path=path,
        paper=paper,
        stage=stage_today(paper, stage),
        profile=str(raw.get("profile", parts[-4] if len(parts) > 3 else "")),
        seed=raw.get("seed", 0),
        settings=settings_today(paper, stage, raw.get("settings", {})),
        metrics=raw.get("metrics", {}),
        raw=raw,
    )


def load(folder: Path = RESULTS, profile: str | None = None, paper: str | None = None) -> list[Result]:
    """All results below ``folder``/<profile>/<paper>/…, by path."""
    pattern = f"{profile or '*'}/{paper or '*'}/**/result.json"
    return [read(path) for path in sorted(folder.glob(pattern))]


def by_seed(results: list[Result], key: str) -> dict[int, float]:
    """Metric ``key`` of each seed of one kind of run (``groups``); repetitions of a seed are one value, their mean."""
    found: dict[int, list[float]] = {}
    for r in results:
        if isinstance(r.metrics.get(key), (int, float)):
            found.setdefault(r.seed, []).append(float(r.metrics[key]))
    return {seed: fmean(values) for seed, values in sorted(found.items())}


def same_path(value: Any) -> Any:
    """A text that may be a path in one spelling: ``./x``, ``x/../x`` and the checkout's ``/…/x`` are ``x``."""
    if not isinstance(value, str) or "/" not in value or "://" in value:
        return value
    if re.search(r"[\s|~]", value) and not re.match(r"\.{0,2}/", value):
        return value  # an architecture in words, or a path that has one spelling already
    path = os.path.normpath(value)
    return os.path.relpath(path, ROOT) if Path(path).is_relative_to(ROOT) else path


def matching(claim: Claim, results: list[Result]) -> list[Result]:
    """Results that answer the claim's command (see claims/README.md).

    Of the paper profile only runs whose every result-bearing setting is what the command means count, in its precision
    and compiled or not as it says; smaller runs never count, and are named where stage, data set, architecture,
    whatever a variant can change and whatever the command says by a flag are the claim's.
    """
    if not claim.command or f"papers.{claim.paper} " not in claim.command:
        return [r for r in results if claim.result and r.path.match(claim.result)]
    mine = [r for r in results if r.paper == claim.paper]
    if claim.result:
        mine = [r for r in mine if r.path.match(claim.result)]
    if not mine:
        return []
    settings, options = resolve(claim.command)
    wanted = {name: same_path(value) for name, value in plain(result_bearing(settings)).items()}
    wanted.pop("checkpoint", None)
    pinned = {need.removeprefix("checkpoint:") for need in claim.needs if need.startswith("checkpoint:")}
    variants = varied(claim.command) | (options.given or frozenset())

    def answers(result: Result) -> bool:
        if result.stage != options.section or (result.variant or "authors") != options.variant:
            return False
        if (result.raw.get("precision") or "fp32") != options.precision:
            return False
        if bool(result.raw.get("compile")) != options.compile:
            return False
        if claim.result:
            return True
        if pinned:
            # one file, one test: its flags stand in checkpoints.yaml, so folder and data set say enough
            named = {
                *Path(str(result.settings.get("checkpoint", ""))).parts,
                result.path.parent.name.removeprefix("evaluate-"),
            }
            return bool(pinned & named) and result.settings.get("dataset") == wanted.get("dataset")
        names = wanted if result.profile == "paper" else [n for n in wanted if n in SUBJECT or n in variants]
        return all(same_path(result.settings.get(name)) == wanted[name] for name in names)

    return [r for r in mine if answers(r)]


def varied(command: str) -> frozenset[str]:
    """The switches and choices between methods (texts and booleans) that a variant of the command's stage can set."""
    from common.cli.parsing import select  # its parser takes half a second to import

    words = shlex.split(command)
    words = words[words.index("-m") + 1 :]
    stage, _ = select(importlib.import_module(f"{words[0]}.__main__").VERBS, words[1:])
    changed = [preset.items() for preset in stage.variants.values()]
    return frozenset(name for items in changed for name, value in items if isinstance(value, (str, bool)))


@cache
def resolve(command: str) -> tuple[Any, Any]:
    """(settings, options) that ``python -m papers.X VERB …`` runs with under the paper profile. Raises UserError."""
    from common.cli.parsing import parse

    words = shlex.split(command)
    words = words[words.index("-m") + 1 :]
    verbs = importlib.import_module(f"{words[0]}.__main__").VERBS
    # a later flag wins, so a command without --profile is read at the papers' own scale
    _, settings, options = parse(words[0].removeprefix("papers."), verbs, [*words[1:], "--profile", "paper"])
    return settings, options
