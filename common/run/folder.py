"""One run of one stage: its folder, lock, state, history and result.

Promises: a kill at any moment loses only the steps since the last save; a damaged newest state falls back to the one
before; a folder never mixes two runs or two writers; a finished run is recognised. Nothing but process 0 writes.

The folder:  settings.json (who the run is), env.json, history.csv, state/ (the last two states, each with its SHA-256
beside it), then result.json, timing.json and finished.json. Files of others in it are never touched, and a run's own
are deleted under --no-resume only (``common.run.outputs`` records which are its own).
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.outside import seconds_of_environment
from common.run import distributed, keep, outputs
from common.run import files as records
from common.run import state as states
from common.run.identity import data_of, difference, finished, input_files, result_of, tidy
from common.run.keep import Keeping, look_now
from common.run.progress import beginning, say, short, span
from common.run.state import UNFINISHED_STATE
from common.settings import Settings, fingerprint, plain, result_bearing, to_dict

SAVE_EVERY_S = 60.0  # NAS_SAVE_EVERY_S changes it
# What a run writes beside its results; the record of the folder (common.run.outputs) holds them too.
BOOKKEEPING = frozenset({"finished.json", "timing.json", "env.json", "settings.json"})


class Run(Keeping):
    """A run whose folder is locked; made by ``open_run``."""

    def __init__(self, options: Any, settings: Any, extra: dict[str, Any]) -> None:
        super().__init__()
        self.folder = Path(options.folder)
        outputs.leave(self.folder)  # as it stands on disk now
        self.outputs = outputs.own(self.folder)
        self.options, self.settings = options, settings
        self.writes = distributed.rank() == 0
        self.result: dict[str, Any] | None = None
        self.pins, self.pinned, extra = data_of(extra)
        self.identity = {
            "paper": options.paper,
            "stage": options.section,
            "seed": options.seed,
            "profile": options.profile,
            "variant": options.variant,
            "precision": options.precision,
            "processes": distributed.world_size(),
            "settings": tidy(to_dict(settings)),
            "data": self.pins,
            **({"compile": True} if getattr(options, "compile", False) else {}),
            **plain(extra),
        }
        if files := input_files(settings):
            self.identity["files"] = files
        self.fingerprint = fingerprint(self._result_bearing())
        self.origin = {
            "paper": options.paper, "stage": options.section, "seed": options.seed, "variant": options.variant,
            "profile": options.profile, "fingerprint": self.fingerprint,
        }  # fmt: skip
        self._said = False
        self._store = states.Store(self.folder / "state")
        self._started = self._saved_at = time.monotonic()
        self._started_cpu, self._earlier_s, self._earlier_cpu_s, self._sessions = time.process_time(), 0.0, 0.0, 1
        self._generators: dict[str, Any] = {}
        self._every = seconds_of_environment("NAS_SAVE_EVERY_S", SAVE_EVERY_S)

    def _result_bearing(self) -> dict[str, Any]:
        return {**self.identity, "settings": self._bearing()}

    def _bearing(self) -> dict[str, Any]:
        return tidy(result_bearing(self.settings))

    def starts(self) -> None:
        """Say what begins, once: when nothing more can be wrong with what was asked for."""
        if not self._said:
            self._said = True
            say(beginning(self.options, self.settings))

    # -- opening ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take the folder, unless it holds this run's result already."""
        fresh = self.recognise()
        if not self.writes:
            return
        outputs.sweep(self.folder, self.outputs.names)
        if self.result is not None:
            self._store.clear()  # a kill may have come between the last result and this
            return
        if fresh:
            self._start_over(delete=not self.options.resume)
        records.write_json(self.folder / "settings.json", self.identity)
        records.write_env(self.folder)

    def recognise(self) -> bool:
        """What the folder holds: nothing, this run unfinished or finished, or another run (refused). Whether the run
        starts from the beginning in it.
        """
        known = self.folder / "settings.json"
        fresh = not self.options.resume
        document = self._known(known) if known.exists() else None
        if document is not None and not fresh:
            if self._taken_away() or self._untouched() or self._gives_way(document):
                fresh = True  # its result was taken away (dvc does so), or there was none, or it is soon made again
            else:
                self._same_run(document)
                if (self.folder / "finished.json").exists():
                    self.result = result_of(self.folder)
                    gone = [n for n in finished(self.folder) if not (self.folder / n).exists()]
                    without = f", without {', '.join(gone)}" if gone else ""
                    say(f"{self.folder} holds this run's result already{without}; --no-resume repeats it")
        elif document is None and distributed.rank() == 0:
            if self._store.numbers():
                raise UserError(f"{self.folder} holds states but no settings.json; choose another --out")
            if strangers := outputs.strangers(self.folder, self.outputs.names):
                raise UserError(
                    f"{self.folder} holds {', '.join(strangers[:3])}{', …' if len(strangers) > 3 else ''}, which no "
                    f"run of this suite wrote; choose another --out"
                )
        return document is None or fresh

    def _known(self, known: Path) -> dict[str, Any]:
        """The settings.json of a run. Raises UserError for a file of that name that is something else."""
        document = records.read_json(known)
        if not isinstance(document, dict) or not {"paper", "stage", "seed", "settings"} <= set(document):
            raise UserError(f"{known} is not a run's: somebody else's folder; choose another --out")
        if not self.outputs.recorded:  # a run from before there was a record
            files = {n for n in finished(self.folder) if Path(n).suffix in outputs.KINDS or n.startswith("arch_pool")}
            self.outputs.adopt({*BOOKKEEPING, "history.csv", "result.json", *files})
        return document

    def _taken_away(self) -> bool:
        """Whether the run was finished and its result is gone."""
        return (self.folder / "finished.json").exists() and not (self.folder / "result.json").exists()

    def _gives_way(self, known: dict[str, Any]) -> bool:
        """Whether the folder holds a finished call of this command, with other arguments, that took no time, or that
        looked into a run which has gone on since.
        """
        same_command = (known["paper"], known["stage"]) == (self.options.paper, self.options.section)
        passing = self.options.cheap or UNFINISHED_STATE in {**known, **self.identity}
        finished = (self.folder / "finished.json").exists()
        return passing and same_command and finished and self._difference(known) is not None

    def _untouched(self) -> bool:
        """Whether the run ended before it wrote anything, so that a corrected command may use the folder."""
        written = {name for name in self.outputs.names if (self.folder / name).exists()}
        return written <= {"settings.json", "env.json"} and not self._store.numbers()

    def _start_over(self, delete: bool) -> None:
        """Nothing of the run before counts any more; ``delete`` (--no-resume only) removes its files, and no others."""
        self._store.clear()
        for name in sorted(self.outputs.names) if delete else ["finished.json"]:
            path = self.folder / name
            if path.is_file() and name in self.outputs.names:
                path.unlink()
        self.outputs.begin()

    def _same_run(self, known: dict[str, Any]) -> None:
        if (found := self._difference(known)) is not None:
            name, old, new = found
            raise UserError(
                f"{self.folder} belongs to a run with {name} = {old!r}, now it is {new!r}; set it back to go on, "
                f"choose another --out, or start over with --no-resume (this deletes the old run)"
            )

    def _difference(self, known: dict[str, Any]) -> tuple[str, Any, Any] | None:
        return difference(known, self.identity, self.settings, self._bearing())

    # -- state ------------------------------------------------------------------------------------------------------

    def restore_generators(self) -> None:
        """Put the global generators of this process back where the state that was read had them."""
        states.restore_rng(self._generators)

    def read_state(self) -> dict[str, Any] | None:
        """The newest good state, and the history cut to it; None where nothing was saved."""
        package = self._store.load()
        if package is None:
            if self.writes:
                self._restore_histories({})
            return None
        if package["fingerprint"] != self.fingerprint:
            raise UserError(f"the state in {self.folder} is of another run; delete the folder or choose another --out")
        self._generators = package["rng"][distributed.rank()]
        self._earlier_s, self._earlier_cpu_s = package["seconds"], package.get("cpu_seconds", 0.0)
        self._sessions = package["sessions"] + 1
        if self.writes:
            self._restore_histories(package["histories"])
        self._saved_at = time.monotonic()
        place = ", ".join(f"{name} {number}" for name, number in package["state"].get("position", []))
        say(f"resuming {self.folder} at {place or 'its beginning'}, after {span(package['seconds'])} of work")
        return package["state"]

    def write_state(self, state: dict[str, Any]) -> None:
        """Write the state atomically with its hash beside it, and the RNG states; the last two are kept.

        Plain values, tensors and NumPy arrays, in dicts, lists, tuples. In several processes a common act of all, at
        any step: process 0 writes its ``state`` with the generators of every process. Raises UserError where the disk
        is full (the earlier states stay), TypeError where ``state`` holds other objects.
        """
        self._saved_at = time.monotonic()
        generators = distributed.gather(states.rng())
        if not self.writes:
            return
        package = {
            "fingerprint": self.fingerprint, "state": state, "rng": generators, "histories": self._histories(),
            "seconds": self.seconds(), "cpu_seconds": self.cpu_seconds(), "sessions": self._sessions,
        }  # fmt: skip
        self._store.save(package)
        self._saved_at = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to save inside an epoch, or a process was asked to stop. All ask at the same steps."""
        return distributed.anywhere(keep.asked() or time.monotonic() - self._saved_at >= self._every)

    def seconds(self) -> float:
        """Seconds of work so far, earlier sessions included."""
        return self._earlier_s + time.monotonic() - self._started

    def cpu_seconds(self) -> float:
        """Seconds that processors gave this process (all its threads, no workers), earlier sessions included."""
        return self._earlier_cpu_s + time.process_time() - self._started_cpu

    # -- history ----------------------------------------------------------------------------------------------------

    def log(self, file: str = "history", **row: Any) -> None:
        """One row of <file>.csv (the first row fixes the columns); rows of the history are shown as well.

        Numbers may still be on the device (tensors []).
        """
        look_now()
        if not self.writes:
            return
        row = {key: value.item() if hasattr(value, "item") else value for key, value in row.items()}
        records.append_csv(self.folder / f"{file}.csv", row)
        if file == "history":
            say("  ".join(f"{key} {short(value)}" for key, value in row.items()))

    def _histories(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._own_tables()}

    def _own_tables(self) -> list[Path]:
        """The run's CSV files; those of others in the folder are left alone."""
        return [path for path in sorted(self.folder.glob("*.csv")) if path.name in self.outputs.names]

    def _restore_histories(self, saved: dict[str, bytes]) -> None:
        """As they were when the state was saved: later rows will be written again, and dvc removes its outputs."""
        for path in self._own_tables():
            if path.name not in saved:
                path.unlink()
        for name, content in saved.items():
            records.write_bytes(self.folder / name, content)

    # -- the end ----------------------------------------------------------------------------------------------------

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Write result.json (no times: two runs are byte-equal) and timing.json, drop the states, return the result.

        A top-5 error of None (fewer than six classes) is left out. Raises UserError when a metric is not finite.
        """
        look_now()
        if "metrics" in result:
            said = {k: v for k, v in result["metrics"].items() if v is not None or "top5" not in k}
            result = {**result, "metrics": said}
        for name, value in result.get("metrics", {}).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{name} is {value}: the run has diverged; lower the learning rate or set a clip")
        document = {
            **{key: self.identity[key] for key in self.identity if key not in ("processes", "data")},
            "processes": self.identity["processes"],
            "data": self.pins,
            "fingerprint": self.fingerprint,
            **plain(result),
        }
        if not self.pinned:
            document["unpinned_data"] = True
        try:  # as it will be read back
            document = json.loads(json.dumps(records.checked(document, "result"), sort_keys=True))
        except ValueError as error:
            raise UserError(f"{error}: the run has diverged; lower the learning rate or set a clip") from None
        if self.writes:
            records.write_json(self.folder / "result.json", document)
            records.write_json(self.folder / "timing.json", self._timing())
            written = sorted(self.outputs.files - BOOKKEEPING)
            records.write_json(self.folder / "finished.json", {"files": written})
            self._store.clear()
        self.result = document
        return document

    def _timing(self) -> dict[str, Any]:
        from common.run.device import peaks

        times = {"seconds": round(self.seconds(), 3), "cpu_seconds": round(self.cpu_seconds(), 3)}
        return {**times, "sessions": self._sessions, "peak_memory_bytes": peaks()}


_openers: list[Callable[[Any, Any, dict[str, Any]], Run]] = []


@contextlib.contextmanager
def opened_by(opener: Callable[[Any, Any, dict[str, Any]], Run]) -> Iterator[None]:
    """Inside, ``open_run`` gives what ``opener`` makes (options, settings, identity) of, and locks no folder."""
    _openers.append(opener)
    try:
        yield
    finally:
        _openers.remove(opener)


@contextlib.contextmanager
def open_run(options: Any, settings: Any, *, data: Any = None, **identity: Any) -> Iterator[Run]:
    """Open (or make) the folder of a run and hold its lock.

    data: a mapping file -> digest, or image sets with ``pins`` and ``pinned``; it and whatever else is given (plain
    values) tell this run from others beside its settings. Raises UserError when another process writes there, or the
    folder belongs to a run with other settings.
    """
    if isinstance(settings, Settings):
        settings.check(options.given)
    extra = {**({} if data is None else {"data": data}), **identity}
    if _openers:  # a rehearsal
        run = _openers[-1](options, settings, extra)
        run.begin()
        yield run
        return
    run = Run(options, settings, extra)
    with contextlib.ExitStack() as stack:
        stack.callback(outputs.leave, run.folder)
        if run.writes:
            stack.enter_context(records.lock(run.folder))
            run.begin()
            distributed.barrier()
        else:
            distributed.barrier()
            run.begin()
        distributed.all_see(run.folder / "settings.json")
        stack.enter_context(keep.stoppable(run))
        yield run
