"""The step the original lacks: choose among the board's paths by held-out images, with the supernet's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.cli.errors import UserError
from common.cli.settings import settings_from
from common.run.files import read_json
from common.run.folder import open_run
from common.spaces.architecture import save_architecture
from common.train import distributed
from common.train.device import pick_device
from common.weights.read import load_strict, load_tensors
from papers.cream.data import batches as data
from papers.cream.method.scoring import outside
from papers.cream.network.layout import network_spec, variant_of
from papers.cream.network.networks import Supernet
from papers.cream.search import rescore, resolution_of, scoring_batch, sources, space_of, table_of
from papers.cream.settings import Search, Select


def finished_search(search: str) -> tuple[Path, dict[str, Any], Search]:
    """(folder, result, settings) of the search in folder ``--search``. Raises UserError."""
    if not search:
        raise UserError("no search given; pass --search FOLDER of a finished search")
    folder = Path(search)
    found = read_json(folder / "result.json")
    if found.get("paper") != "cream" or found.get("stage") != "search":
        raise UserError(f"{folder} is not the folder of a Cream search; pass one that holds its result.json")
    return folder, found, settings_from(Search, found["settings"], source=str(folder / "result.json"))


def board_of(settings: Select, options: Any) -> tuple[Path, dict[str, Any], Search]:
    """The same, of a search that left paths on its board. Raises UserError."""
    folder, found, searched = finished_search(settings.search)
    if not found["board"]:
        raise UserError(f"the board of {folder} is empty; searches by --method random have none")
    return folder, found, searched


def select(settings: Select, options: Any) -> dict[str, Any]:
    """Re-score the last board of the search in folder ``--search``; writes architecture.json. Raises UserError."""
    folder, found, searched = board_of(settings, options)
    window, layout, _ = space_of(searched)
    table = table_of(searched, window, layout)
    resolution = resolution_of(searched, window)
    bounds = (settings.macs_min or searched.macs_min, settings.macs_max or searched.macs_max)
    device = pick_device(options)
    distributed.setup()
    source, held_out, test = sources(searched, resolution, options)
    paths = [row["path"] for row in found["board"]]

    identity = {**data.data_pins(source, test), "search_fingerprint": found["fingerprint"]}
    with open_run(options, settings, identity) as run:
        if run.result is not None:
            return run.result
        rows: list[dict[str, Any]] = []
        chosen = paths[0]
        if settings.rule == "rescore":
            net = Supernet(window.built, len(source.classes), searched.slice, layout)
            load_strict(net, load_tensors(folder / "supernet.safetensors"))
            rows = rescore(
                net.to(device), paths, table, source, held_out, settings.select_images, settings.recalibrate_batches,
                scoring_batch(searched, found["processes"]), resolution, searched.workers, bounds, device,
            )  # fmt: skip
            chosen = rows[0]["path"]
            if not rows[0]["inside"]:
                raise UserError(f"{outside(*bounds)}; widen --macs-min or --macs-max")
        spec = network_spec(chosen, len(source.classes), layout, single_block_default=False)
        architecture = {"path": chosen, "resolution": resolution, **variant_of(layout)}
        if distributed.rank() == 0:
            origin = {
                "paper": "cream",
                "search": found["fingerprint"],
                "seed": found["seed"],
                "chosen_by": settings.rule,
            }
            save_architecture(run.folder / "architecture.json", "cream", architecture, origin)
        metrics = {
            "candidates": len(paths), "mflops_search_table": table.flops(chosen),
            "parameters": spec.count("parameters"), "macs": spec.count("macs", resolution),
        }  # fmt: skip
        if rows:
            metrics["supernet_top1_error_percent"] = rows[0]["top1_error_percent"]
        return run.finish(
            {"paper": "cream", "stage": "select", "metrics": metrics, "scored": rows, "architecture": architecture,
             "held_out": held_out is not None}
        )  # fmt: skip


def plan(settings: Select, options: Any) -> list[str]:
    """What the run would do."""
    from papers.cream.planning import seconds_per_image

    _, found, searched = board_of(settings, options)
    if settings.rule == "head":
        return ["writes the head of the board; nothing is scored"]
    window, layout, _ = space_of(searched)
    resolution = resolution_of(searched, window)
    source, held_out, _ = sources(searched, resolution, options)
    paths = [row["path"] for row in found["board"]]
    images = min(settings.select_images or len(source), len(held_out if held_out is not None else source))
    calibration = settings.recalibrate_batches * scoring_batch(searched, found["processes"])
    spec = network_spec(paths[0], len(source.classes), layout, single_block_default=False)
    seconds = len(paths) * (images + calibration) * seconds_per_image(spec, resolution) / 3
    return [
        f"{len(paths)} paths: statistics from {calibration} images, errors on {images} "
        + ("held-out images" if held_out is not None else "training images (the search held none out)"),
        f"estimated time on this CPU: {seconds / 60:.1f} minutes, from one small batch timed just now",
    ]
