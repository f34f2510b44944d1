"""Looking into a run that has not ended: the weights of its last state, and the epoch they are from.

Only reads, so the run may be going on meanwhile: states are replaced whole, and the newest stays for two more saves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.run.files import read_json
from common.run.state import Store

UNFINISHED_STATE = "unfinished_state"  # in the identity of a run that looked into another: which state it saw
TRIES = 3  # a state may go while it is read


@dataclass(frozen=True)
class LastState:
    """The newest whole state of an unfinished run.

    kept: what the run keeps, by name. position: the loops it is inside, [name, number] each, outermost first. about,
    places: what the run told of its weights (``run.tells``). identity: its settings.json. fingerprint: the run's.
    digest: which state it is.
    """

    folder: Path
    kept: dict[str, Any]
    position: list[list[Any]]
    about: dict[str, Any]
    places: dict[str, list[str]]
    identity: dict[str, Any]
    fingerprint: str
    digest: str

    @property
    def epochs(self) -> int | None:
        """How many the run has in all, where its settings say it."""
        count = self.identity["settings"].get("epochs")
        return count if isinstance(count, int) else None

    @property
    def stand(self) -> dict[str, Any]:
        """For a result: ``epoch`` counts from 0, as in histories: the last whole one, or the one under way, whose loops
        then stand beside it (``step``: batches done).
        """
        place = {str(name): int(number) for name, number in self.position}
        under_way = {name: number for name, number in place.items() if name != "epoch" and number}
        epoch = place.get("epoch")
        if epoch is None:  # past the last epoch, in another loop
            return {"unfinished": True, "epoch": (self.epochs or 0) - 1, **under_way}
        return {"unfinished": True, "epoch": epoch if under_way else epoch - 1, **under_way}

    def says(self) -> str:
        """One line for the reader."""
        stand = {k: v for k, v in self.stand.items() if k not in ("unfinished", "epoch")}
        inside = "".join(f", {name} {number}" for name, number in stand.items())
        epoch = self.stand["epoch"]
        where = f"after epoch {epoch}" if not stand else f"in epoch {epoch}{inside}"
        where = "before the first epoch" if epoch < 0 else where
        of = f"; the last is {self.epochs - 1}" if self.epochs else ""
        return f"{self.folder} is unfinished: its last state is taken, {where} (epochs count from 0{of})"

    def weights(self, kind: str) -> dict[str, Any]:
        """The state dict of a kind of weights, on the CPU."""
        found: Any = self.kept
        for name in self.places[kind]:
            found = found[name]
        return {name: value.cpu() if hasattr(value, "cpu") else value for name, value in found.items()}


def is_finished(folder: Path) -> bool:
    """Whether a folder's run has ended; so has whatever is no run."""
    return (folder / "finished.json").exists() or not (folder / "settings.json").exists()


def last_state(folder: Path) -> LastState | None:
    """The last state of an unfinished run; None where the folder holds a finished run, or none at all.

    Raises UserError: somebody else's folder, a run that has saved nothing yet, damaged states.
    """
    store = Store(folder / "state")
    for left in reversed(range(TRIES)):
        if is_finished(folder):
            return None
        identity = read_json(folder / "settings.json")
        if not isinstance(identity, Mapping) or not {"paper", "stage", "seed", "settings"} <= set(identity):
            raise UserError(f"{folder / 'settings.json'} is not a run's; give a run's folder, or a file of weights")
        if not store.numbers():
            raise UserError(
                f"{folder} holds no state yet: its run ({identity['paper']} {identity['stage']}) has not saved one; "
                f"look again later, or start it again"
            )
        try:
            package = store.load()
            if package is not None:
                return _of(folder, package, dict(identity))
        except UserError:
            if not left:
                raise
    raise UserError(f"{folder} changes while it is read; try again")


def _of(folder: Path, package: dict[str, Any], identity: dict[str, Any]) -> LastState:
    state = package["state"]
    told = state.get("tells") or {}
    content = repr((package["fingerprint"], state["position"], package["seconds"]))  # seconds differ by save
    return LastState(
        folder, state["kept"], state["position"], told.get("about", {}), told.get("places", {}), identity,
        package["fingerprint"], hashlib.sha256(content.encode()).hexdigest(),
    )  # fmt: skip


def wrong_run(state: LastState, wanted: str) -> UserError:
    """One line for a folder of another kind of run."""
    return UserError(
        f"{state.folder} is an unfinished run of {state.identity['paper']} {state.identity['stage']}; {wanted}"
    )
