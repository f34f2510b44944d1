"""Target against obtained cost over a generator's whole range, and the supernet's error where one is given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.run.files import write_figure
from common.run.folder import open_run, say
from common.train.metrics import kendall_tau
from papers.sgnas.method.generator_training import target_pool
from papers.sgnas.method.trained_generator import load_generator
from papers.sgnas.studies.scored import open_scored
from papers.sgnas.studies.settings import Sweep

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def sweep(settings: Sweep, options: RunOptions) -> dict[str, Any]:
    """The ``sweep`` verb: sweep.csv, sweep.png, and Kendall's tau."""
    c = settings
    c.check(options.given)
    trained = load_generator(c.generator, c.prior_pool, options)
    targets = target_pool(trained.pool.low, trained.pool.high, c.step_mflops)
    scored = open_scored(c, options, "test", "sweep", trained.macro) if c.supernet else None
    identity: dict[str, Any] = {"data": scored.images, "trained_on": scored.provenance.to_json()} if scored else {}
    with open_run(options, c, **identity) as run:
        if run.result is not None:
            return run.result
        rows: list[dict[str, Any]] = []
        run.keeps(rows=rows)
        for _, (target, (ops, cost)) in run.each(list(zip(targets, trained.ops(targets))), "target"):
            error = scored.error(ops) if scored else None
            rows.append({"target": target, "obtained": cost, "supernet_top1_error_percent": error})
            run.log("sweep", **rows[-1])
            ending = f"   error {error:.2f} %" if error is not None else ""
            say(f"{target:8g} -> {cost:8.2f} {trained.lookup.unit}{ending}")
        tau = kendall_tau(targets, [row["obtained"] for row in rows])
        if run.writes:
            _plot(rows, trained.lookup.unit, run.folder / "sweep.png")
            say(f"Kendall's tau {tau:.3f}; {run.folder / 'sweep.png'}")
        return run.finish({"metrics": {"kendall_tau": tau}, "rows": rows})


def _plot(rows: list[dict[str, Any]], unit: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    targets, obtained = [r["target"] for r in rows], [r["obtained"] for r in rows]
    errors = [r["supernet_top1_error_percent"] for r in rows]
    scored = errors[0] is not None
    figure, axes = pyplot.subplots(1, 2 if scored else 1, figsize=(9 if scored else 4.5, 3.6), squeeze=False)
    axes[0][0].plot(targets, targets, color="grey", lw=0.8, label="target")
    axes[0][0].plot(targets, obtained, "o-", ms=3, label="obtained")
    axes[0][0].set(xlabel=f"target ({unit})", ylabel=f"obtained ({unit})")
    axes[0][0].legend()
    if scored:
        axes[0][1].plot(obtained, errors, "o", ms=4)
        axes[0][1].set(xlabel=f"obtained ({unit})", ylabel="supernet top-1 error (%)")
    write_figure(figure, path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
