"""The one exception for what a user can get wrong."""

from __future__ import annotations

import errno

FULL = {getattr(errno, name, -1) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS")}  # what disks answer

# what is wrong with a path, or with how many files are open
PATHS = {
    getattr(errno, name, -1) for name in ("ENAMETOOLONG", "EACCES", "EPERM", "ENOTDIR", "EISDIR", "ELOOP", "EMFILE")
}


class UserError(Exception):
    """One line: the cause; the remedy. The command line prints it and exits with status 2, without a traceback."""


class Stopped(BaseException):
    """SIGTERM arrived: a scheduler, dvc or torchrun ends the job."""


def of_disk(error: OSError) -> str:
    """The line for a disk that is full, broken or read-only, or for a path that cannot be. Raises the error again where
    it is something else.
    """
    if error.errno in PATHS:
        return f"{str(error.filename or 'a file')[:200]}: {error.strerror}; give another path, or the rights to it"
    if error.errno not in FULL:
        raise error
    where = error.filename or "a file"
    return f"the disk fails at {where}: {error.strerror}; free space (or choose another place) and start it again"
