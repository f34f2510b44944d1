"""Running one thing in a process of its own, within memory and time: a line, or what else came of it."""

from __future__ import annotations

import os
import resource
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.errors import UserError

SECONDS, BYTES = 60, 3 * 2**30  # that a refusal may take at most, beyond what the process holds already


def outcome(function: Callable[[], Any], seconds: int = SECONDS, room: int = BYTES) -> str:
    """``line: …`` of a UserError, ``ok`` of a value, else what went wrong: a traceback's last line, or the signal.

    The function runs in a fork whose address space and time are limited, so that nothing it does can harm the tests.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + room
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        try:
            function()
            said = "ok"
        except UserError as error:
            said = f"line: {error}"
        except BaseException:
            said = f"not a line: {traceback.format_exc().strip().splitlines()[-1]}"
        os.write(writer, said.encode(errors="replace")[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else said


def refused(function: Callable[[], Any], naming: str = "") -> bool:
    """Whether it ends in one line that names ``naming``."""
    said = outcome(function)
    return said.startswith("line: ") and "\n" not in said and naming in said
