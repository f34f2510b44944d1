"""Pins: a changed file is never let through, an unchanged one is not hashed twice."""

from __future__ import annotations

import gzip
import io
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest

from common.data import digests, pins
from common.data.digests import content_sha256
from common.data.sets import open_images
from common.errors import UserError


def age(path, seconds=10):
    """Let a file look settled: the cache does not trust files that were written just now."""
    now = time.time() - seconds
    os.utime(path, (now, now))


@pytest.fixture
def count_hashing(monkeypatch):
    calls = []
    real = digests.hash_file
    monkeypatch.setattr(digests, "hash_file", lambda path, algorithm: calls.append(path.name) or real(path, algorithm))
    return calls


def test_a_flipped_byte_is_refused_with_file_hashes_and_remedy(small_root):
    path = small_root.root / "cifar-10-batches-py" / "test_batch"
    expected = digests.hash_file(path, "md5")
    assert open_images("cifar10", "test", small_root.options).pinned
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError) as caught:
        open_images("cifar10", "test", small_root.options)
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(path), expected, digests.hash_file(path, "md5"), "python -m reproductions data fetch cifar10"):
        assert part in message


def test_allow_unpinned_lets_it_through_and_marks_it(small_root):
    path = small_root.root / "cifar-10-batches-py" / "test_batch"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    options = SimpleNamespace(data=small_root.root, allow_unpinned=True)
    images = open_images("cifar10", "test", options)
    assert not images.pinned
    assert images.pins == {"cifar-10-batches-py/test_batch": "md5:" + digests.hash_file(path, "md5")}


def test_hashes_are_cached_only_for_settled_files(small_root, count_hashing, monkeypatch):
    path = small_root.root / "penn" / "train.txt"
    digests.cached_hash(path, "sha256", small_root.root)
    digests.cached_hash(path, "sha256", small_root.root)
    assert count_hashing == ["train.txt"] * 2  # written a moment ago: not cached
    monkeypatch.setattr(digests, "RACY_SECONDS", -1.0)
    digests.cached_hash(path, "sha256", small_root.root)
    digests.cached_hash(path, "sha256", small_root.root)
    assert len(count_hashing) == 3
    assert (small_root.root / digests.CACHE_NAME).is_file()


@pytest.mark.parametrize("keep_times", [False, True])
def test_a_change_of_the_same_size_is_seen_even_with_the_old_time(small_root, monkeypatch, keep_times):
    monkeypatch.setattr(digests, "RACY_SECONDS", -1.0)
    path = small_root.root / "penn" / "train.txt"
    before = path.stat()
    first = digests.cached_hash(path, "sha256", small_root.root)
    time.sleep(0.02)
    path.write_bytes(path.read_bytes().replace(b"a", b"z"))
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert digests.cached_hash(path, "sha256", small_root.root) != first


def test_a_damaged_or_unwritable_cache_is_no_obstacle(small_root, monkeypatch):
    monkeypatch.setattr(digests, "RACY_SECONDS", -1.0)
    path = small_root.root / "penn" / "train.txt"
    (small_root.root / digests.CACHE_NAME).write_text("{ not json")
    first = digests.cached_hash(path, "sha256", small_root.root)
    (small_root.root / digests.CACHE_NAME).write_text("[1]")
    assert digests.cached_hash(path, "sha256", small_root.root) == first
    blocked = small_root.root / "blocked"
    blocked.write_text("a file, so no folder can be made below it")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert digests.cached_hash(path, "sha256", blocked) == first


def test_a_file_prepared_here_must_keep_its_recorded_digest(small_root):
    path = small_root.root / "penn" / "own.npz"
    path.write_bytes(b"made here")
    record = path.with_name(path.name + pins.PREPARED_SUFFIX)
    record.write_text('{"sha256": "' + digests.hash_file(path, "sha256") + '"}')
    checked = pins.check_file(path, {"sha256": "0" * 64}, root=small_root.root, remedy="x")
    assert not checked.pinned
    path.write_bytes(b"made elsewhere")
    with pytest.raises(UserError, match="not the pinned file"):
        pins.check_file(path, {"sha256": "0" * 64}, root=small_root.root, remedy="x")


def test_missing_file_unknown_set_and_bad_pins_file(small_root, tmp_path):
    (small_root.root / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(UserError, match="data_batch_3 is missing; get it with: python -m reproductions data fetch cif"):
        open_images("cifar10", "train", small_root.options)
    with pytest.raises(UserError, match="unknown data set 'nope'"):
        pins.pins_of("nope")
    with pytest.raises(UserError, match="cannot read the data pins"):
        pins.data_pins(tmp_path / "absent.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1")
    with pytest.raises(UserError, match="not valid YAML"):
        pins.data_pins(bad)


def test_data_root_precedence(monkeypatch, tmp_path):
    monkeypatch.delenv("NAS_DATA", raising=False)
    assert str(pins.data_root()) == "data"
    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    assert pins.data_root() == tmp_path
    assert str(pins.data_root(SimpleNamespace(data="here"))) == "here"


def test_the_remedy_names_the_root_it_is_for(small_root, monkeypatch):
    (small_root.root / "penn" / "train.txt").unlink()
    with pytest.raises(UserError, match=f"data fetch ptb --data {small_root.root}"):
        pins.verified_path("ptb", "train.txt", small_root.options)
    monkeypatch.setenv("NAS_DATA", str(small_root.root))
    with pytest.raises(UserError, match=r"data fetch ptb$"):
        pins.verified_path("ptb", "train.txt", small_root.options)


def test_git_blob_digest(tmp_path):
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    assert digests.hash_file(path, "git_blob") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_embedded_files_are_checked(monkeypatch, tmp_path):
    pins.embedded_file.cache_clear()
    (tmp_path / "digits.npz").write_bytes(b"broken")
    monkeypatch.setattr(pins, "EMBEDDED", tmp_path)
    with pytest.raises(UserError, match="is damaged: sha256"):
        pins.embedded_file("digits.npz")
    with pytest.raises(UserError, match="git checkout"):
        pins.embedded_file("kjv.txt.xz")
    pins.embedded_file.cache_clear()


def test_another_packing_of_the_pinned_content_passes_and_other_content_does_not(tmp_path):
    arrays = {"a": np.arange(50.0), "b": np.array([b"x", b"yz"])}
    tables, text = tmp_path / "t.npz", tmp_path / "t.csv.gz"

    def check(path):
        return pins.check_file(path, pin[path.name], root=tmp_path, remedy="get it")

    np.savez(tables, **arrays)
    text.write_bytes(gzip.compress(b"a,b\n" * 500, 1))
    pin = {
        path.name: {"sha256": digests.hash_file(path, "sha256"), "content_sha256": content_sha256(path)}
        for path in (tables, text)
    }
    assert all(check(path).digest == f"sha256:{pin[path.name]['sha256']}" for path in (tables, text))
    np.savez_compressed(tables, **dict(reversed(arrays.items())))
    text.write_bytes(gzip.compress(b"a,b\n" * 500, 9))
    for path in (tables, text):
        found = check(path)
        assert found.pinned and found.digest == f"content_sha256:{pin[path.name]['content_sha256']}"
    np.savez(tables, **arrays)
    whole, array = tables.read_bytes(), io.BytesIO()
    np.save(array, arrays["a"])
    method = whole.index(b"PK\x01\x02")  # in the directory at the end: the first array's packing, then unknown
    changes = (
        lambda: np.savez(tables, **{**arrays, "a": arrays["a"] + 1e-12}),
        lambda: np.savez(tables, **{**arrays, "a": arrays["a"].reshape(5, 10)}),
        lambda: np.savez(tables, **{**arrays, "a": arrays["a"].astype(">f8")}),
        lambda: np.savez(tables, a=arrays["a"], c=arrays["b"]),
        lambda: np.savez(tables, **{**arrays, "b": np.array([object()])}),
        lambda: tables.write_bytes(whole[:-30]),
        lambda: tables.write_bytes(b""),
        lambda: tables.write_bytes(array.getvalue()),
        lambda: tables.write_bytes(whole.replace(b"(50,), }" + b" " * 17, b"(5" + b"0" * 18 + b",), }")),
        lambda: tables.write_bytes(whole[: method + 10] + b"\x63\0" + whole[method + 12 :]),
    )
    for change in changes:
        change()
        with pytest.raises(UserError, match="is not the pinned file"):
            check(tables)
    for content in (gzip.compress(b"a,b\n" * 499), gzip.compress(b"a,b\n" * 500)[:-3], b"a,b\n" * 500):
        text.write_bytes(content)
        with pytest.raises(UserError, match="is not the pinned file"):
            check(text)
