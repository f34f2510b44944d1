"""The one exception for what a user can get wrong."""

from __future__ import annotations


class UserError(Exception):
    """One line: the cause; the remedy. The command line prints it and exits with status 2, without a traceback."""


class Stopped(BaseException):
    """SIGTERM arrived: a scheduler, dvc or torchrun ends the job."""
