"""Which results are of one kind: runs are told apart by what they are, never by the folder they lie in.

Two runs are of one kind when paper, stage, profile, variant, precision, number of processes, data and every
result-bearing setting are equal (an architecture or a checkpoint is a setting). The seed is free, also where a path
names it: the architecture of ``search-0`` for seed 0 and that of ``search-1`` for seed 1 are one kind. One seed twice
is one value only where the files it read are equal as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from common.settings import NOT_RESULT_BEARING
from reproductions.results import Result, same_path

SHOWN = 4  # differing settings named in a label


def without_seed(value: Any, seed: int) -> Any:
    """``same_path`` with the run's own seed in a folder's name (``search-0``, ``search-seed0``) as ``*``."""
    value = same_path(value)
    if not isinstance(value, str) or "/" not in value:
        return value
    return re.sub(rf"-(?:seed)?{seed}(?=/)", "-*", value)


def settings_of(result: Result) -> dict[str, Any]:
    """The result-bearing settings, paths in one spelling and without the seed."""
    return {
        name: without_seed(value, result.seed)
        for name, value in result.settings.items()
        if name not in NOT_RESULT_BEARING
    }


def kind(result: Result) -> dict[str, Any]:
    """What a run is, without its seed."""
    return {
        "profile": result.profile, "paper": result.paper, "stage": result.stage, "variant": result.variant or "authors",
        "precision": result.raw.get("precision") or "fp32", "processes": result.raw.get("processes") or 1,
        "compile": bool(result.raw.get("compile")), "data": result.raw.get("data") or {},
        "unpinned": result.unpinned, "settings": settings_of(result),
    }  # fmt: skip


def of_pipeline(result: Result) -> bool:
    """Whether the folder is one that a pipeline names: ``<stage>-<seed>``."""
    stages = {result.stage, str(result.raw.get("stage", result.stage))}  # its name today, and when the run was made
    return result.path.parent.name in {f"{stage}-{result.seed}" for stage in stages}


def groups(results: list[Result]) -> dict[str, list[Result]]:
    """Results of one kind together, by ``profile/paper/stage``.

    Where a stage has several kinds the pipeline's own (else the most frequent) has that name; the others say in
    brackets what is different.
    """
    kinds: dict[str, list[list[Result]]] = {}
    for result in results:
        sharing = kinds.setdefault(json.dumps(kind(result), sort_keys=True, default=str), [])
        for group in sharing:  # the same seed from other files is another run
            if all(r.seed != result.seed or r.raw.get("files") == result.raw.get("files") for r in group):
                group.append(result)
                break
        else:
            sharing.append([result])
    stages: dict[str, list[list[Result]]] = {}
    for sharing in kinds.values():
        for group in sharing:
            first = group[0]
            stages.setdefault(f"{first.profile}/{first.paper}/{first.stage}", []).append(group)
    found: dict[str, list[Result]] = {}
    for name, several in stages.items():
        several.sort(key=lambda g: (-sum(map(of_pipeline, g)), -len(g), str(g[0].path)))
        for group in several:
            label = name if group is several[0] else f"{name} [{difference(several[0][0], group[0])}]"
            while label in found:
                label = f"{label} ({group[0].path.parent.name})"
            found[label] = group
    return dict(sorted(found.items()))


def difference(usual: Result, other: Result) -> str:
    """How ``other`` differs in kind from ``usual``, in a few words."""
    a, b = kind(usual), kind(other)
    words = [f"{key} {b[key]}" for key in ("variant", "precision", "compile", "processes") if a[key] != b[key]]
    names = [n for n in sorted({*a["settings"], *b["settings"]}) if a["settings"].get(n) != b["settings"].get(n)]
    words += [f"{n} {_short(b['settings'].get(n))}" for n in names[:SHOWN]]
    words += [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
    if not words:
        words = ["other data" if a["data"] != b["data"] or a["unpinned"] != b["unpinned"] else other.path.parent.name]
    return ", ".join(words)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    text = json.dumps(value) if isinstance(value, (list, Mapping)) else str(value)
    return text if len(text) <= 40 else "…" + text[-39:]
