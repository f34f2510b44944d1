"""The command line of a paper: ``python -m papers.<paper> VERB [flags]``, from its table of verbs and settings.

What a user can get wrong ends with one line on standard error and status 2; torch is imported only when a stage really
runs.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from common.cli.ending import paragraph
from common.cli.helping import overview
from common.cli.parsing import parse
from common.cli.planning import plan_of, show_plan
from common.cli.showing import show, values
from common.cli.signals import INTERRUPTED, STOPPED, begins, heard
from common.cli.stages import COMPUTES, NO_RUN, CommonFlags, RunOptions, Stage, Verb, alone
from common.errors import Stopped, UserError, of_disk
from common.run import distributed, outputs
from common.run import files as records
from common.run.progress import say
from common.settings import field_types, plain

__all__ = ["COMPUTES", "NO_RUN", "CommonFlags", "RunOptions", "Stage", "Verb", "alone", "main", "parse"]

# What torch says where a size cannot be had.
SHORT_OF_MEMORY = (
    "can't allocate memory", "MPS backend out of memory", "Storage size calculation overflowed", "bad_alloc",
    "not enough memory", "Overflow when unpacking", "numel: integer multiplication overflow",
)  # fmt: skip


def main(paper: str, verbs: dict[str, Verb], argv: Sequence[str] | None = None) -> None:
    """The whole behaviour of ``python -m papers.<paper>``; leaves by SystemExit unless all went well."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with heard(starting=True):
            _run(paper, verbs, arguments)
        sys.stdout.flush()
    except UserError as error:
        _leave(str(error), 2)
    except KeyboardInterrupt:
        _leave("interrupted; the same command goes on from the last saved state", INTERRUPTED)
    except Stopped:
        by = "the launcher, another process of the job has ended" if "LOCAL_RANK" in os.environ else "SIGTERM"
        _leave(f"stopped by {by}; the same command goes on from the last saved state", STOPPED)
    except BrokenPipeError:  # the reader of our output went away (… | head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        _leave(of_disk(error), 2)


def _leave(message: str, status: int) -> NoReturn:
    try:
        sys.stdout.flush()
    except OSError:  # the disk that it is written to is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    raise SystemExit(status)


def _run(paper: str, verbs: dict[str, Verb], arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("--help", "-h", "help", "--help-all"):
        print(overview(paper, verbs))
        return
    stage, settings, options = parse(paper, verbs, arguments)
    function = _target(stage.run)
    begins()
    distributed.check_job()
    if options.plan:
        found = _execute(partial(plan_of, stage, function), settings, options)
        if distributed.rank() == 0:
            show_plan(found, options.json)
        return
    first = distributed.rank() == 0
    folder = options.out.parent if stage.file and options.out is not None else options.folder
    outputs.own(folder)  # files of others in it are not written over
    try:
        result = _execute(function, settings, options)
        if not stage.writes and not stage.file and options.out is not None and first:
            records.write_json(options.out / f"{stage.section}.json", plain(values(result)))
    finally:
        outputs.leave(folder)
    if first:
        show(result, options)
        measured = isinstance(result, dict) and "metrics" in result  # of counts and pictures there is nothing to add
        told = _target(stage.ending)(result, settings, options) if stage.ending and measured else None
        if told is not None:
            say(paragraph(told, options))


def _target(name: str) -> Any:
    """The function "module:function", or None where the module has none of that name. Raises UserError."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        raise UserError(f"module {error.name!r} is missing; install the locked requirements (make venv)") from error


def _execute(function: Any, settings: Any, options: RunOptions) -> Any:
    """Run a stage inside its process group, with failures that have a remedy put into words."""
    try:
        distributed.setup()
        result = function(settings, options)
        distributed.close()
        return result
    except MemoryError as error:
        raise UserError(_out_of_memory("memory", settings, options)) from error
    except RuntimeError as error:
        text = str(error)
        short = any(words in text for words in SHORT_OF_MEMORY)
        if short or type(error).__name__ == "OutOfMemoryError":
            device = "GPU memory" if "CUDA" in text or "MPS" in text else "memory"
            raise UserError(_out_of_memory(device, settings, options)) from error
        if distributed.world_size() > 1 and _lost_peer(error):
            raise UserError(
                f"process {distributed.rank()} lost another process of the job, which must have ended; look for the "
                f"first error above, then start the same command again: it goes on from the last saved state"
            ) from error
        raise


def _lost_peer(error: RuntimeError) -> bool:
    text = f"{type(error).__name__} {error}".lower()
    return any(
        word in text for word in ("gloo", "connection closed", "connection reset", "nccl", "distbackend", "timed out")
    )


def _out_of_memory(what: str, settings: Any, options: RunOptions) -> str:
    """Names the batch sizes, and the sizes that the user gave."""
    given = {n for n in options.given or () if type(getattr(settings, n, None)) is int}
    sizes = {n: getattr(settings, n) for n in field_types(settings.__class__) if "batch" in n or n in given}
    listed = ", ".join(f"{name} {value}" for name, value in sizes.items())
    peak = ""
    torch = sys.modules.get("torch")
    if torch is not None and what == "GPU memory" and torch.cuda.is_available():
        peak = f" (peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB)"
    first = next(iter(sorted(given, key=lambda n: -getattr(settings, n)) or sizes), "")
    lower = "--" + first.replace("_", "-") if first else "the size of the network"
    return f"out of {what}{peak} with {listed or 'these settings'}; lower {lower}: the last saved state is intact"
