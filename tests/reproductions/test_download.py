"""Downloads against a real server: right and in place, or absent with one clear line."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os

import pytest

from common.errors import UserError
from reproductions.data import download as module
from reproductions.data.download import Patience, download

BODY = os.urandom(300_000)
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def get(site, tmp_path):
    """Download /file; ``get.pauses`` are the pauses it made."""
    site.files["/file"] = BODY

    def run(*paths, **more):
        patience = Patience(more.pop("attempts", 5), more.pop("timeout", 5), made.append)
        options = {"digests": {"sha256": SHA}, "size": len(BODY), "quiet": True, "patience": patience}
        urls = [site.url + path for path in (paths or ("/file",))]
        return download(urls, run.target, **{**options, **more})

    made: list[float] = []
    run.pauses, run.target = made, tmp_path / "folder" / "weights.pt"
    return run


def leftovers(get):
    return sorted(entry.name for entry in get.target.parent.iterdir())


def test_good(get, site):
    assert get() == site.url + "/file"
    assert get.target.read_bytes() == BODY
    assert leftovers(get) == ["weights.pt"]


def test_git_blob_and_hash_prefix(get):
    blob = hashlib.sha1(b"blob %d\0" % len(BODY) + BODY).hexdigest()
    get(digests={"git_blob": blob, "sha256_prefix": SHA[:8], "md5": hashlib.md5(BODY).hexdigest()}, size=None)
    assert get.target.read_bytes() == BODY


def test_truncated_is_continued_by_range(get, site):
    site.script["/file"] = ["truncated", "truncated", "good"]
    get()
    assert get.target.read_bytes() == BODY
    ranges = [wanted for _, wanted in site.requests]
    assert ranges == [None, "bytes=150000-", "bytes=225000-"]
    assert get.pauses == [1.0, 2.0]


def test_an_interrupted_download_is_continued_later(get, site):
    site.script["/file"] = ["truncated"]
    with pytest.raises(UserError, match=r"the connection ended after .* attempts"):
        get(attempts=2)
    assert not get.target.exists() and get.target.with_name("weights.pt.part").stat().st_size == 225_000
    site.script["/file"] = ["good"]
    get()
    assert get.target.read_bytes() == BODY and site.requests[-1][1] == "bytes=225000-"


def test_a_server_without_ranges_starts_over(get, site):
    site.script["/file"] = ["truncated", "no-ranges"]
    get()
    assert get.target.read_bytes() == BODY


def test_a_refused_range_starts_over(get, site):
    site.script["/file"] = ["truncated", "refuse-range", "good"]
    get()
    assert get.target.read_bytes() == BODY and site.requests[-1][1] is None


def test_a_complete_part_only_needs_the_check(get, site):
    part = get.target.with_name("weights.pt.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY)
    get()
    assert get.target.read_bytes() == BODY and len(site.requests) == 1


def test_a_wrong_beginning_is_fetched_anew(get, site):
    part = get.target.with_name("weights.pt.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    get()
    assert get.target.read_bytes() == BODY
    assert [wanted for _, wanted in site.requests] == ["bytes=1000-", None]


def test_altered_is_refused_and_the_next_mirror_is_tried(get, site):
    site.files["/other"] = BODY
    site.script["/file"] = ["altered"]
    assert get("/file", "/other") == site.url + "/other"
    get.target.unlink()
    with pytest.raises(UserError) as caught:
        get()
    message = str(caught.value)
    assert SHA in message and "another file" in message and "\n" not in message
    assert leftovers(get) == []


def test_busy_servers_are_waited_for_as_they_ask(get, site):
    site.script["/file"] = ["busy", "broken", "good"]
    get()
    assert get.pauses == [7.0, 2.0] and get.target.exists()


def test_failing_for_good(get, site):
    site.script["/file"] = ["broken"]
    with pytest.raises(UserError, match=r"HTTP 503 Service Unavailable \(3 attempts\); try by hand"):
        get(attempts=3, hint="try by hand")
    assert get.pauses == [1.0, 2.0] and leftovers(get) == []


def test_missing_goes_to_the_next_mirror_at_once(get, site):
    get("/absent", "/file")
    assert get.target.exists() and get.pauses == []


def test_slow_server(get, site):
    site.script["/file"] = ["slow", "good"]
    get(timeout=0.3)
    assert get.target.read_bytes() == BODY and site.requests[1][1] == "bytes=1000-"


def test_html_instead_of_the_file(get, site):
    site.script["/file"] = ["html"]
    with pytest.raises(UserError, match="HTML page instead of the file"):
        get()
    with pytest.raises(UserError, match="HTML page instead of the file"):
        get(size=None, digests={})  # not even a file without a pin may be an error page
    assert leftovers(get) == []


def test_longer_than_pinned(get, site):
    site.script["/file"] = ["longer"]
    with pytest.raises(UserError, match=f"offers {len(BODY) + 4} bytes, {len(BODY)} are expected"):
        get()
    assert leftovers(get) == []


def test_git_lfs_pointer(get, site):
    site.files["/file"] = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + SHA.encode() + b"\nsize 300000\n"
    with pytest.raises(UserError, match=f"Git LFS pointer to sha256 {SHA}"):
        get(size=None)
    assert leftovers(get) == []


def test_no_connection_and_bad_address(get, tmp_path):
    with pytest.raises(UserError, match="no connection"):
        download(["http://127.0.0.1:9/file"], tmp_path / "x", patience=Patience(2, pause=lambda s: None), quiet=True)
    with pytest.raises(UserError, match="bad address"):
        download(["nonsense"], tmp_path / "x", quiet=True)
    with pytest.raises(UserError, match="no address to download it from; ask"):
        download([], tmp_path / "x", hint="ask")


def test_disk_full(get, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: os.statvfs_result and type("U", (), {"free": 10})())
    with pytest.raises(UserError, match="needs 300000 bytes"):
        get()

    class Full:
        def __init__(self, handle):
            self.handle = handle

        def __getattr__(self, name):
            return getattr(self.handle, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.handle.close()

        def write(self, block):
            raise OSError(errno.ENOSPC, "No space left on device")

    real = module.Path.open

    def opened(path, mode="r", *more, **options):
        handle = real(path, mode, *more, **options)
        return Full(handle) if path.suffix == ".part" and "b" in mode and "r" not in mode else handle

    monkeypatch.setattr(module.Path, "open", opened)
    with pytest.raises(UserError, match="the disk is full"):
        get(size=None)
    assert leftovers(get) == []


def test_two_downloads_of_one_file(get):
    lock = get.target.with_name("weights.pt.part.lock")
    lock.parent.mkdir(parents=True)
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="being downloaded by process"):
            get()
    get()


def test_validator_guards_a_continued_transfer(get, site):
    site.headers["ETag"] = '"v1"'
    site.script["/file"] = ["truncated", "good"]
    get()
    assert get.target.read_bytes() == BODY
    assert module._validator(get.target, "x") == ""


def test_retry_after_forms():
    assert module._retry_after("12") == 12.0 and module._retry_after(None) is None
    assert module._retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0 and module._retry_after("soon") is None
