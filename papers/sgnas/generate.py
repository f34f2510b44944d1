"""The paper's deployment step (Method 8): architectures for any number of constraints in one pass of the generator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.errors import UserError
from common.run.folder import open_run, say
from common.spaces.architecture import save_architecture
from papers.sgnas.describe import counts
from papers.sgnas.method.lookup import cost_range
from papers.sgnas.method.trained_generator import TrainedGenerator, load_generator, range_warning
from papers.sgnas.networks.architectures import SPACE, Kernels, Macro
from papers.sgnas.settings import Generate

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

Found = tuple[float, Kernels, float]  # target, kernel lists, cost by the look-up table


def generate(settings: Generate, options: RunOptions) -> dict[str, Any]:
    """The ``generate`` verb: print MACs, parameters and kernels for each target and write architecture files."""
    settings.check(options.given)
    trained = load_generator(settings.generator, settings.prior_pool, options)
    targets = [float(target) for target in settings.target_mflops]
    check_targets(targets, trained)
    with open_run(options, settings) as run:
        if run.result is None:
            answers = [trained.hit(t) for t in targets] if settings.hit else trained.kernels(targets)
            found = [(target, kernels, cost) for target, (kernels, cost) in zip(targets, answers)]
            if run.writes:
                origin = {"generator": settings.generator}
                write_architectures(run.folder, trained.macro, trained.lookup.unit, found, origin)
            rows = rows_of(found, trained.macro, settings.classes, settings.se)
            run.finish({"metrics": {"targets": len(rows)}, "architectures": rows})
        assert run.result is not None
        if run.writes and not options.json:
            print(as_text(run.result["architectures"], trained.lookup.unit))
            squeeze = "with" if settings.se else "without"
            print(f"MACs and params: {settings.classes} classes, {squeeze} squeeze-excite (--classes, --no-se)")
        return run.result


def check_targets(targets: list[float], trained: TrainedGenerator) -> None:
    """Raises UserError where there is no target, or one that is no positive number; warns of those out of range."""
    if not targets:
        raise UserError("no targets; give at least one, such as --target-mflops 320")
    lowest, highest = cost_range(trained.lookup)
    for target in targets:
        if not (target > 0 and np.isfinite(target)):
            raise UserError(
                f"target {target:g} is no positive number; the space reaches from {lowest:.0f} to {highest:.0f}"
            )
        if warning := range_warning(trained, target):
            say(f"warning: {warning}")


def write_architectures(folder: Path, macro: Macro, unit: str, found: list[Found], origin: dict[str, Any]) -> None:
    """Write architecture-<target>.json (as architecture-5.5.json) for each, architecture.json for the middle one."""
    ordered = sorted(found, key=lambda row: row[0])
    middle = ordered[len(ordered) // 2]
    for target, kernels, cost in ordered:
        content = {"kernels": kernels, "macro": macro.name}
        about = {**origin, "target": target, "lookup_cost": cost, "unit": unit, "input_size": macro.input_size}
        save_architecture(folder / f"architecture-{target:g}.json", SPACE, content, about)
        if target == middle[0]:
            save_architecture(folder / "architecture.json", SPACE, content, about)


def rows_of(found: list[Found], macro: Macro, classes: int, se: bool) -> list[dict[str, Any]]:
    """What results say of every generated architecture."""
    return [
        {"target": target, "lookup_cost": cost, **counts(kernels, macro, classes, se), "kernels": kernels}
        for target, kernels, cost in found
    ]


def as_text(rows: list[dict[str, Any]], unit: str) -> str:
    """The rows as a text table."""
    lines = [f"{'target':>8} {unit:>9} {'MACs (M)':>9} {'params':>10}  kernels per layer"]
    for row in rows:
        kernels = " ".join("".join(map(str, layer)) for layer in row["kernels"])
        lines.append(
            f"{row['target']:8g} {row['lookup_cost']:9.2f} {row['macs_published'] / 1e6:9.2f} "
            f"{row['parameters']:10,d}  {kernels}"
        )
    return "\n".join(lines)
