"""A run that ends by something which no code of ours catches, just after it saved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from common.run.folder import Run


class Killed(BaseException):
    """Nothing catches it."""


@contextlib.contextmanager
def killed_at_save(monkeypatch: pytest.MonkeyPatch, state: int) -> Iterator[None]:
    """What runs inside must end after its ``state``-th save."""
    saved, write = [], Run.write_state

    def counted(run, content):
        write(run, content)
        saved.append(1)
        if len(saved) == state:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, "write_state", counted)
        yield
