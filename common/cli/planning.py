"""What ``--plan`` prints: every setting and where it is from, and what a rehearsal of the run found."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from common.cli.stages import Stage
from common.run import distributed
from common.run.device import device_name
from common.run.progress import short, span
from common.settings import NOT_RESULT_BEARING, plain

if TYPE_CHECKING:
    from common.run.rehearsal import Timing

RANGE = (0.6, 1.7)  # of an estimated time; more where little could be timed
BUSY = 0.6  # of a core, less than which means that the machine has other work


def plan_of(stage: Stage, function: Callable[[Any, Any], Any], settings: Any, options: Any) -> dict[str, Any]:
    """The plan as JSON holds it. Raises UserError where the run would."""
    writes = (stage.writes or options.out is not None) and not stage.file
    found: dict[str, Any] = {
        "paper": options.paper, "stage": options.section, "profile": options.profile, "variant": options.variant,
        "seed": options.seed, "folder": str(options.folder) if writes else None,
        "settings": settings_rows(settings, options),
    }  # fmt: skip
    if "resume" in stage.ignores or stage.file:
        return {**found, "notes": ["it answers at once, or says itself how far it is: nothing was timed"]}
    from common.data.absent import ABSENT
    from common.run.rehearsal import rehearse

    ABSENT.clear()
    if getattr(settings, "workers", 0):  # starting them would take longer than the steps
        settings = dataclasses.replace(settings, workers=0)
    return {**found, **rehearsed(rehearse(function, settings, options), options)}


def settings_rows(settings: Any, options: Any) -> list[dict[str, Any]]:
    """Every setting that bears on the result: its value, where it is from, and the published one where they differ."""
    rows = []
    for field in dataclasses.fields(settings):
        if field.metadata.get("result") is False or field.name in NOT_RESULT_BEARING:
            continue
        value = plain(getattr(settings, field.name))
        row = {"name": field.name, "value": value, "from": options.sources.get(field.name, "published")}
        if value != plain(field.default):
            row["published"] = plain(field.default)
        rows.append(row)
    return rows


def rehearsed(timing: Timing, options: Any) -> dict[str, Any]:
    """Loops, time and memory, as timed on this device."""
    from common.data.absent import ABSENT

    cost = timing.loops[0].done[0]
    loops: list[dict[str, Any]] = []
    for path, turns in cost.turns.items():
        images = {"images": round(cost.images[path])} if path in cost.images else {}
        loops.append({"loop": list(path), "turns": round(turns), **images})
    notes, low, high = list(timing.notes), *RANGE
    for path, (part, whole) in timing.scaled.items():
        notes.append(f"{' '.join(path)}: timed with {part} of {whole} images; time and memory are scaled up")
        low, high = 0.4, 2.0
    if timing.slowest > 20:
        notes.append(f"one turn took {span(timing.slowest)}, so that hardly more than the first could be timed")
        low, high = 0.4, 2.5
    device = device_name(options)
    if device.startswith("CPU") and timing.share < BUSY:
        notes.append(f"other programs left this one {timing.share:.0%} of a core: on a quiet machine it is faster")
    for name in ABSENT:
        notes.append(f"{name} is not here: counted with its official numbers and timed on blank pictures or words")
    return {
        "loops": loops, "device": device, "processes": distributed.world_size(),
        "seconds": round(cost.seconds, 1), "seconds_range": [round(cost.seconds * low), round(cost.seconds * high)],
        "memory_bytes": round(timing.memory.peak), "missing": dict(ABSENT), "notes": notes,
    }  # fmt: skip


def show_plan(found: dict[str, Any], as_json: bool) -> None:
    """Print a plan."""
    if as_json:
        print(json.dumps(found, indent=1, sort_keys=True))
        return
    where = f"would write {found['folder']}" if found["folder"] else "writes no folder"
    stage = found["stage"].replace("_", " ")
    lines = [f"{found['paper']} {stage} ({found['profile']}, {found['variant']}, seed {found['seed']}) {where}", ""]
    lines += _settings(found["settings"])
    if "loops" in found:
        lines += ["", *_loops(found["loops"], found["processes"])]
        low, high = (span(seconds) for seconds in found["seconds_range"])
        world = f", {found['processes']} processes" if found["processes"] > 1 else ""
        lines += [
            "", f"time: about {span(found['seconds'])} ({low} to {high}) on this {found['device']}{world}, from steps "
            f"timed just now", f"memory: {found['memory_bytes'] / 2**30:.2g} GiB a process",
        ]  # fmt: skip
        lines += [f"missing: {name}; get it with: {command}" for name, command in found["missing"].items()]
    print("\n".join([*lines, *(f"note: {note}" for note in found["notes"])]))


def _settings(rows: list[dict[str, Any]]) -> list[str]:
    """One line a setting; * marks what differs from the published run."""
    if not rows:
        return []
    width = max(len(row["name"]) for row in rows)
    shown = [_value(row["value"]) for row in rows]
    wide = min(40, max(map(len, shown)))
    lines = ["settings (* differs from the published run)"]
    for row, value in zip(rows, shown, strict=True):
        differs = "published" in row
        published = f"published: {_value(row['published'])}" if differs else ""
        line = f"{'*' if differs else ' '} {row['name']:<{width}}  {value:<{wide}}  {row['from']:<9}  {published}"
        lines.append(line.rstrip())
    return lines


def _value(value: Any) -> str:
    return short(value) if value not in ("", []) else "-"


def _loops(loops: list[dict[str, Any]], processes: int) -> list[str]:
    """One line a loop: its turns in all, and the images of those over batches (of a process: its shares)."""
    lines, each = ["in all"], " a process" if processes > 1 else ""
    for loop in loops:
        name = " / ".join(loop["loop"])
        images = f", up to {loop['images']:,} images{each}" if "images" in loop else ""
        lines.append(f"  {name}: {loop['turns']:,}{images}")
    return lines
