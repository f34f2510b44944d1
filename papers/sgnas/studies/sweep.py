"""Target against obtained cost over a generator's whole range, and the supernet's error where one is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from common.cli.ranges import refuse_idle
from common.run.files import write_figure
from common.run.folder import open_run, say
from common.train.device import pick_device
from papers.sgnas.data import sets as datasets
from papers.sgnas.data.split import provenance_of
from papers.sgnas.generate import LoadedGenerator, check_prior, load_generator
from papers.sgnas.method.generator_training import kendall, path_error, target_pool
from papers.sgnas.method.losses import hardware_loss
from papers.sgnas.method.sampling import trained_code
from papers.sgnas.method.scoring import judge
from papers.sgnas.network.fixed_supernet import FrozenSupernet
from papers.sgnas.network.supernet import load_supernet
from papers.sgnas.ranges import check_ranges
from papers.sgnas.settings import SweepSettings


def fit_of(loaded: LoadedGenerator, step: float = 10.0) -> dict[str, float]:
    """Total hardware loss and Kendall's tau over low, low + step, … with the published constants."""
    targets = target_pool(loaded.pool.low, loaded.pool.high, step)
    costs = [cost for _, cost in loaded.kernels(targets)]
    total = hardware_loss(torch.tensor(costs), torch.tensor(targets)).double().sum()
    return {"total_hardware_loss": float(total), "kendall_tau": kendall(targets, costs)}


def sweep(settings: SweepSettings, options: Any) -> dict[str, Any]:
    """The ``sweep`` verb: sweep.csv, sweep.png, and Kendall's tau."""
    c = settings
    check_ranges(c)
    check_prior(c, options)
    loaded = load_generator(c.generator, c.prior_pool, options)
    targets = target_pool(loaded.pool.low, loaded.pool.high, c.step)
    error_of = None
    extra: dict[str, Any] = {}
    if c.supernet:
        device = pick_device(options)
        trained = provenance_of(Path(c.supernet))
        name = c.dataset or trained.dataset
        images = datasets.open_set(name, "train", options)
        trained.check_set(name, images)
        supernet = load_supernet(Path(c.supernet), loaded.macro, len(images.classes)).to(device).eval()
        seen, held = trained.split.parts(images, c.search_images)
        batches = datasets.loader(name, held, c.batch_size, options.seed, device, "test", "sweep")
        training = datasets.loader(
            name, seen, min(c.batch_size, len(seen)), options.seed, device, "search", "recalibrate"
        )
        frozen = FrozenSupernet(supernet)
        extra = {"data": images.pins, "pinned": images.pinned, "trained_on": trained.to_json()}

        def error_of(generated: list[list[int]]) -> float:
            ops = trained_code(generated, trained.active)
            return path_error(judge(supernet, frozen, ops, training, c.recalibrate), ops, batches)[1]

    else:
        needs = dict.fromkeys(("dataset", "search_images", "batch_size", "recalibrate"), "--supernet FILE")
        refuse_idle(c, needs, options.given or frozenset())
    with open_run(options, c, extra) as run:
        if run.result is not None:
            return run.result
        run.load()
        rows = []
        for target, (ops, cost) in zip(targets, loaded.ops(targets)):
            error = error_of(ops) if error_of else None
            rows.append({"target": target, "obtained": cost, "supernet_top1_error_percent": error})
            run.log("sweep", **rows[-1])
            say(
                f"{target:8g} -> {cost:8.2f} {loaded.lookup.unit}"
                + (f"   error {error:.2f} %" if error is not None else "")
            )
        tau = kendall(targets, [row["obtained"] for row in rows])
        if run.writes:
            _plot(rows, loaded.lookup.unit, run.folder / "sweep.png")
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
