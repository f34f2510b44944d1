"""Downloading one file so that it is either right and in place, or absent.

A file is written under a temporary name beside its target (``NAME.part``), continued by HTTP ranges after an
interruption, verified, and then moved into place. Busy and failing servers are retried with growing pauses, then
the next mirror is tried. Whatever goes wrong ends in one UserError line; nothing stands under the final name.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import http.client
import json
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from common.data.digests import hash_file
from common.errors import UserError
from common.run.files import held, sync_folder

BUSY = {408, 425, 429, 500, 502, 503, 504}
AGENT = "nas-replications (python)"
BLOCK = 1 << 18
LONGEST_PAUSE = 60.0
_LFS = b"version https://git-lfs.github.com/spec/v1"


class _Retry(Exception):
    """This mirror may answer better later. ``pause``: seconds the server asked for."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class _NextMirror(Exception):
    """This mirror will not give the file."""


@dataclass(frozen=True)
class Patience:
    """How long to go on with one mirror: tries, seconds without a byte, and how to wait between two tries."""

    attempts: int = 5
    timeout: float = 30.0
    pause: Callable[[float], None] = time.sleep


def download(
    urls: Sequence[str],
    target: Path,
    *,
    digests: Mapping[str, str] | None = None,
    size: int | None = None,
    patience: Patience | None = None,
    quiet: bool = False,
    hint: str = "",
) -> str:
    """Fetch ``target`` from the first of ``urls`` that gives the right file; returns that address.

    digests: algorithm -> hex (md5, sha1, sha256, git_blob; ``sha256_prefix``: the first digits of a SHA-256); all must
    hold. size: expected bytes. hint: what to do when all mirrors fail, appended to the message.
    """
    if not urls:
        raise UserError(f"{target.name}: no address to download it from{'; ' + hint if hint else ''}")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    reasons = []
    with _one_at_a_time(part):
        if size is not None:
            _room_for(part, size)
        for url in urls:
            try:
                _from_mirror(url, part, digests or {}, size, patience or Patience(), quiet)
            except _NextMirror as error:
                reasons.append(f"{_host(url)}: {error}")
                continue
            os.replace(part, target)
            _forget(part)
            sync_folder(target.parent)
            return url
    ending = f"; {hint}" if hint else ""
    raise UserError(f"cannot download {target.name}: {'; '.join(reasons)}{ending}")


@contextlib.contextmanager
def _one_at_a_time(part: Path) -> Iterator[None]:
    path = part.with_name(part.name + ".lock")

    def busy(holder: str) -> NoReturn:
        name = part.name.removesuffix(".part")
        raise UserError(f"{name} is being downloaded by process {holder}; wait for it")

    with held(path, busy, needed=False):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows lets no file be taken away that is open
                path.unlink()


def _room_for(part: Path, size: int) -> None:
    present = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(part.parent).free
    if free < size - present:
        raise UserError(
            f"{part.name.removesuffix('.part')} needs {size - present} bytes, {part.parent} has {free} free; free space"
        )


def _from_mirror(
    url: str,
    part: Path,
    digests: Mapping[str, str],
    size: int | None,
    patience: Patience,
    quiet: bool,
) -> None:
    """Leave the complete, verified file in ``part``, or raise _NextMirror (or UserError for a full disk)."""
    reason, fresh = "", False
    for attempt in range(patience.attempts):
        try:
            resumed = _transfer(url, part, size, patience.timeout, quiet)
            wrong = _mismatch(part, digests, size)
            if not wrong:
                return
            pointer = _lfs_pointer(part)
            _discard(part)
            if pointer:
                raise _NextMirror(f"it gives a Git LFS pointer to sha256 {pointer} instead of the file")
            if resumed and not fresh:  # the beginning may have come from another version or mirror: once from scratch
                fresh = True
                raise _Retry(wrong, 0.0)
            raise _NextMirror(wrong)
        except _Retry as error:
            reason = str(error)
            if attempt + 1 < patience.attempts:
                seconds = min(LONGEST_PAUSE, error.pause if error.pause is not None else 2.0**attempt)
                if not quiet and seconds:
                    print(f"{_host(url)}: {reason}; again in {seconds:.0f} s", file=sys.stderr, flush=True)
                patience.pause(seconds)
    raise _NextMirror(f"{reason} ({patience.attempts} attempts)")


def _transfer(url: str, part: Path, size: int | None, timeout: float, quiet: bool) -> bool:
    """One request. Returns whether it continued an earlier transfer. Raises _Retry, _NextMirror, UserError."""
    offset = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        validator = _validator(part, url)
        if validator:
            headers["If-Range"] = validator
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and offset:
            if size is not None and offset == size:
                return True  # everything is here already; only the check is missing
            _discard(part)
            raise _Retry("the server refuses to continue the transfer", 0.0) from None
        if error.code in BUSY:
            raise _Retry(f"HTTP {error.code} {error.reason}", _retry_after(error.headers.get("Retry-After"))) from None
        raise _NextMirror(f"HTTP {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _Retry(f"no connection ({_words(error.reason)})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Retry(f"no connection ({_words(error)})") from None
    except ValueError as error:
        raise _NextMirror(f"bad address ({_words(error)})") from None
    with answer:
        continued = answer.status == 206 and _range_start(answer) == offset
        if not continued:
            offset = 0
        _remember(part, url, answer)
        length = answer.headers.get("Content-Length")
        expected = offset + int(length) if length and length.isdigit() else None
        if size is not None and expected is not None and expected != size and not _is_html(answer, b""):
            _discard(part)
            raise _NextMirror(f"it offers {expected} bytes, {size} are expected")
        received = _write(answer, part, offset, size, expected, quiet)
    if expected is not None and received < expected:
        raise _Retry(f"the connection ended after {received} of {expected} bytes")
    return continued


def _write(answer: Any, part: Path, offset: int, size: int | None, expected: int | None, quiet: bool) -> int:
    """Append the body to ``part`` from ``offset`` on; returns the length of the file."""
    received, shown = offset, time.monotonic()
    with part.open("r+b" if offset else "wb") as handle:
        handle.seek(offset)
        handle.truncate()
        while True:
            try:
                block = answer.read1(BLOCK)
            except TimeoutError:
                raise _Retry("no data for too long") from None
            except http.client.IncompleteRead as error:
                block = error.partial
                if not block:
                    raise _Retry(f"the connection ended after {received} bytes") from None
            except (OSError, http.client.HTTPException) as error:
                raise _Retry(f"the connection broke ({_words(error)})") from None
            if not block:
                break
            if received == 0 and _is_html(answer, block):
                handle.close()
                _discard(part)
                raise _NextMirror("it answers with an HTML page instead of the file (a proxy's, login or quota page)")
            try:
                handle.write(block)
            except OSError as error:
                _shut(handle)
                _discard(part)
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise UserError(f"the disk is full at {part.parent} after {received} bytes; free space") from None
                raise UserError(f"cannot write {part}: {error.strerror}") from None
            received += len(block)
            if size is not None and received > size:
                handle.close()
                _discard(part)
                raise _NextMirror(f"it sends more than the expected {size} bytes")
            if not quiet and time.monotonic() - shown > 5:
                shown = time.monotonic()
                total = f" of {expected / 1e6:.0f}" if expected else ""
                print(f"{part.name.removesuffix('.part')}: {received / 1e6:.0f}{total} MB", file=sys.stderr, flush=True)
        try:
            handle.flush()
            os.fsync(handle.fileno())
        except OSError as error:
            _shut(handle)
            _discard(part)
            raise UserError(f"cannot write {part}: {error.strerror}; free space") from None
    return received


# --- small things -------------------------------------------------------------------------------------------------


def _mismatch(part: Path, digests: Mapping[str, str], size: int | None) -> str:
    """What is wrong with a complete file, or an empty string."""
    if size is not None and part.stat().st_size != size:
        return f"it gave {part.stat().st_size} bytes, {size} are expected"
    for algorithm, expected in digests.items():
        prefix = algorithm.endswith("_prefix")
        found = hash_file(part, algorithm.removesuffix("_prefix"))
        if (found[: len(expected)] if prefix else found) != expected:
            return f"it gave another file: {algorithm.removesuffix('_prefix')} is {found}, expected {expected}"
    return ""


def _is_html(answer: Any, block: bytes) -> bool:
    kind = (answer.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    start = block[:512].lstrip().lower()
    return kind == "text/html" or start.startswith((b"<!doctype html", b"<html"))


def _lfs_pointer(part: Path) -> str:
    """The SHA-256 a Git LFS pointer names, when the file is one."""
    if part.stat().st_size > 1000:
        return ""
    content = part.read_bytes()
    match = re.search(rb"oid sha256:([0-9a-f]{64})", content) if content.startswith(_LFS) else None
    return match.group(1).decode() if match else ""


def _retry_after(value: str | None) -> float | None:
    if not value:
        return None
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _range_start(answer: Any) -> int:
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range") or "")
    return int(match.group(1)) if match else -1


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _remember(part: Path, url: str, answer: Any) -> None:
    """Keep the server's validator, so that a continued transfer is known to be of the same version."""
    validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    try:
        _note(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")
    except OSError as error:
        _forget(part)
        raise UserError(f"cannot write {_note(part)}: {error.strerror}; free space") from None


def _validator(part: Path, url: str) -> str:
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    validator = str(note.get("validator", "")) if note.get("url") == url else ""
    return "" if validator.startswith("W/") else validator  # weak validators may not be used with ranges


def _forget(part: Path) -> None:
    _note(part).unlink(missing_ok=True)


def _shut(handle: Any) -> None:
    """Close a file whose disk has failed: what is still to be written fails again."""
    with contextlib.suppress(OSError):
        handle.close()


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _forget(part)


def _words(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc or url
