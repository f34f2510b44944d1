"""The step the original lacks: choose among the board's paths by held-out images, with the supernet's weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from common.errors import UserError
from common.run import distributed
from common.run.device import pick_device
from common.run.files import read_json
from common.run.folder import open_run, say
from common.run.state import UNFINISHED_STATE, LastState, is_finished, last_state, wrong_run
from common.settings import settings_from
from common.spaces.architecture import save_architecture
from common.weights.read import load_strict, load_tensors
from papers.cream.data import sets
from papers.cream.method.scoring import outside, score_paths, scoring_batches, share_size
from papers.cream.method.space import Space, space_of
from papers.cream.networks.architectures import ChoicePath
from papers.cream.networks.networks import Supernet
from papers.cream.settings import Search, Select

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


@dataclass(frozen=True)
class FinishedSearch:
    """A search that has run: its folder, result.json, settings and space; of one that has not ended its last state."""

    folder: Path
    result: dict[str, Any]
    settings: Search
    space: Space
    state: LastState | None = None

    @property
    def stand(self) -> dict[str, Any]:
        """For the result of who looked into a search that has not ended."""
        return self.state.stand if self.state else {}

    @property
    def identity(self) -> dict[str, str]:
        """Which search, and which state of it."""
        found = {"search_fingerprint": self.result["fingerprint"]}
        return {**found, **({UNFINISHED_STATE: self.state.digest} if self.state else {})}

    @property
    def share(self) -> int:
        """Images of a share of its batch."""
        return share_size(self.settings, self.result["processes"])

    @property
    def weights(self) -> Path:
        """The supernet's file."""
        return self.folder / "supernet.safetensors"

    def board(self) -> list[ChoicePath]:
        """The paths on its last board, best first. Raises UserError where there is none."""
        if not self.result["board"]:
            later = "; paths are admitted later" if self.state else "; searches by --method random have none"
            raise UserError(f"the board of {self.folder} is empty{later}")
        return [row["path"] for row in self.result["board"]]

    def supernet(self, classes: int, device: torch.device) -> Supernet:
        """The trained supernet."""
        net = Supernet(self.space.window.built, classes, self.settings.slice, self.space.layout)
        load_strict(net, self.state.kept["supernet"] if self.state else load_tensors(self.weights))
        return net.to(device)


def any_search(search: str) -> FinishedSearch:
    """The search in folder ``--search``; one that has not ended as its last state has it. Raises UserError."""
    state = last_state(Path(search)) if search else None
    if state is None:
        return finished_search(search)
    if (state.identity["paper"], state.identity["stage"]) != ("cream", "search"):
        raise wrong_run(state, "pass the folder of a Cream search")
    say(state.says())
    board = [{"score": e["score"], "mflops": e["flops"], "path": e["path"]} for e in state.kept["board"]["entries"]]
    result = {"board": board, "fingerprint": state.fingerprint, **{k: state.identity[k] for k in ("processes", "seed")}}
    settings = settings_from(Search, state.identity["settings"], source=str(state.folder / "settings.json"))
    return FinishedSearch(state.folder, result, settings, space_of(settings), state)


def finished_search(search: str) -> FinishedSearch:
    """The search in folder ``--search``. Raises UserError."""
    if not search:
        raise UserError("no search given; pass --search FOLDER of a finished search")
    folder = Path(search)
    if not is_finished(folder):
        raise UserError(f"the search in {folder} is unfinished; finish it (the same command goes on) first")
    found = read_json(folder / "result.json")
    if found.get("paper") != "cream" or found.get("stage") != "search":
        raise UserError(f"{folder} is not the folder of a Cream search; pass one that holds its result.json")
    settings = settings_from(Search, found["settings"], source=str(folder / "result.json"))
    return FinishedSearch(folder, found, settings, space_of(settings))


def select(settings: Select, options: RunOptions) -> dict[str, Any]:
    """Re-score the last board of the search in folder ``--search``; writes architecture.json. Raises UserError."""
    searched = any_search(settings.search)
    space, paths = searched.space, searched.board()
    bounds = (settings.macs_min or space.macs_min, settings.macs_max or space.macs_max)
    device = pick_device(options)
    distributed.setup()
    parts = sets.search_parts(searched.settings, space.resolution, options)
    classes = len(parts.train.classes)
    with open_run(options, settings, data=[parts.train, parts.test], **searched.identity) as run:
        if run.result is not None:
            return run.result
        rows: list[dict[str, Any]] = []
        if settings.rule == "rescore":
            workers = searched.settings.workers
            images = scoring_batches(parts, settings, searched.share, space.resolution, device, workers)
            rows = score_paths(searched.supernet(classes, device), paths, space, bounds, *images)
            if not rows[0]["inside"]:
                raise UserError(f"{outside(bounds)}; widen --macs-min or --macs-max")
        chosen = rows[0]["path"] if rows else paths[0]
        architecture = space.architecture(chosen)
        if run.writes:
            origin = {"paper": "cream", "search": searched.result["fingerprint"], "seed": searched.result["seed"],
                      "chosen_by": settings.rule}  # fmt: skip
            save_architecture(run.folder / "architecture.json", "cream", architecture, origin)
        metrics = {"candidates": len(paths), **space.sizes(chosen, classes)}
        if rows:
            metrics["supernet_top1_error_percent"] = rows[0]["top1_error_percent"]
        return run.finish(
            {"paper": "cream", "stage": "select", "metrics": metrics, "scored": rows, "architecture": architecture,
             "held_out": parts.held_out is not None, **searched.stand}
        )  # fmt: skip
