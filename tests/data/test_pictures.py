"""Picture folders as people have them: what lies in them, what their parts are called, what identifies them."""

from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from common.data import digests
from common.data.names import canonical, in_memory, other_set, parse
from common.data.pictures import sets as pictures_module
from common.data.pictures.decoding import decode
from common.data.pictures.folders import picture_files
from common.data.pictures.lmdb import write_lmdb
from common.data.pictures.sets import has_validation, open_pictures
from common.data.pictures.sizes import image_size
from common.data.sets import open_images
from common.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache folder, and a clock by which every file is old enough for its digest to be kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    later = time.time() + 10
    monkeypatch.setattr(digests.time, "time", lambda: later)
    return tmp_path / "cache"


def fill(folder, classes=("ant", "bee"), count=5, shade=0, size=(8, 8)):
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", size, (label * 100, i, shade)).save(folder / name / f"{i}.png")
    return folder


def shades(images):
    return set(images.pixels[:, 2].unique().tolist())


def pack(folder, path):
    opened = open_pictures(str(folder), "train")
    records = (
        (opened.store.item(i)[0], int(label), opened.store.read(i))
        for i, label in zip(opened.positions.tolist(), opened.labels)
    )
    write_lmdb(path, records, opened.classes)
    return path


# --- decoding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff", "pgm"])
def test_grey_pictures_of_16_bits_are_scaled(tmp_path, suffix):
    values = np.array([[0, 255, 256], [32896, 65279, 65535]], dtype=np.uint16)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(values).save(path)
    picture = np.asarray(decode(path.read_bytes(), path))
    assert picture.shape == (2, 3, 3) and picture[..., 0].tolist() == [[0, 0, 1], [128, 254, 255]]
    assert (picture[..., 0] == picture[..., 2]).all()


@pytest.mark.parametrize("values", [np.ones((4, 4), np.float32) / 3, np.full((4, 4), 70_000, np.int32)])
def test_grey_values_without_a_known_white_are_refused(tmp_path, values):
    path = tmp_path / "a.tiff"
    Image.fromarray(values).save(path)
    with pytest.raises(UserError, match=r"a\.tiff holds grey values .* save 8 or 16 bits"):
        decode(path.read_bytes(), path)


def test_tiff_and_gif_are_read(tmp_path):
    for label in ("ant", "bee"):
        (tmp_path / "own" / label).mkdir(parents=True)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "own" / "ant" / "1.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "own" / "ant" / "2.tif", save_all=True, append_images=frames[1:])
    frames[1].save(tmp_path / "own" / "bee" / "1.TIFF")
    images = open_images(str(tmp_path / "own"), "train")
    assert images.pixels[:, :, 0, 0].tolist() == [[255, 0, 0], [255, 0, 0], [0, 255, 0]]


@pytest.mark.parametrize("cut", [1, 30, 60])
@pytest.mark.parametrize("kind", ["gif", "tiff", "png", "webp", "jpeg"])
def test_a_cut_file_is_one_line(tmp_path, kind, cut):
    path = tmp_path / f"a.{kind}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(path)
    with pytest.raises(UserError, match="cannot be decoded") as caught:
        decode(path.read_bytes()[:cut], path)
    assert "\n" not in str(caught.value)


# --- listing -------------------------------------------------------------------------------------------------------


def test_what_archives_and_editors_leave_behind_is_passed_over(tmp_path):
    folder = fill(tmp_path / "own")
    (folder / "ant" / "._0.png").write_bytes(b"\0\5\x16\7 Mac OS X")
    for stray in ("__MACOSX", ".ipynb_checkpoints", ".git"):
        for place in (folder / stray, folder / stray / "ant", folder / "bee" / stray):
            place.mkdir(exist_ok=True)
            (place / "x-checkpoint.png").write_bytes(b"no picture")
    for opened in (open_images(str(folder), "train"), open_pictures(str(folder), "train")):
        assert len(opened) == 8 and opened.classes == ("ant", "bee")


def test_which_part_is_which(tmp_path):
    folder = tmp_path / "own"
    for shade, part in enumerate(("train", "val", "test")):
        fill(folder / part, shade=shade)
    for split, shade in (("train", 0), ("val", 1), ("valid", 1), ("validation", 1), ("test", 2)):
        assert shades(open_images(str(folder), split)) == {shade}
        assert open_pictures(str(folder), split).picture(0).getpixel((0, 0))[2] == shade
    assert has_validation(str(folder)) and has_validation(f"{folder}@4")
    (folder / "val").rename(folder / "x")
    assert shades(open_images(str(folder), "val")) == {2} and not has_validation(str(folder))
    (folder / "test").rename(folder / "validation")
    assert shades(open_images(str(folder), "test")) == {2}
    (folder / "validation").rename(folder / "y")
    with pytest.raises(UserError, match="none of test, val, valid, validation"):
        open_images(str(folder), "test")


def test_test_pictures_without_classes_are_no_test_set(tmp_path):
    """ImageNet's test pictures lie flat, Tiny-ImageNet's in one folder ``images``: nobody knows their classes."""
    for part in ("train", "val"):
        fill(tmp_path / "own" / part, shade=len(part))
    (tmp_path / "own" / "test").mkdir()
    assert shades(open_images(str(tmp_path / "own"), "test")) == {3}
    fill(tmp_path / "own" / "test", classes=("images",))
    assert shades(open_images(str(tmp_path / "own"), "test")) == {3}
    fill(tmp_path / "own" / "test")
    with pytest.raises(UserError, match=r"images is a class that .*train lacks"):
        open_images(str(tmp_path / "own"), "test")


def test_parts_of_lmdb_files(tmp_path):
    folder = tmp_path / "own"
    for shade, part in enumerate(("train", "val", "test")):
        folder.mkdir(exist_ok=True)
        pack(fill(tmp_path / f"only-{part}" / "train", shade=shade), folder / f"{part}.lmdb")
    for name in (folder, folder / "train.lmdb"):
        assert has_validation(str(name))
        for shade, split in enumerate(("train", "val", "test")):
            assert shades(open_images(f"{name}@8", split)) == {shade}
    assert shades(open_images(f"{folder / 'val.lmdb'}@8", "test")) == {1}  # the user says which
    (folder / "test.lmdb").rename(folder / "x")
    assert shades(open_images(f"{folder}@8", "test")) == {1}
    (folder / "val.lmdb").rename(folder / "y")
    for name, message in ((folder, "train.lmdb but none of"), (folder / "train.lmdb", "is no test set")):
        with pytest.raises(UserError, match=message):
            open_pictures(str(name), "test")
    pack(fill(tmp_path / "other" / "train", classes=("bee", "cat")), folder / "val.lmdb")
    with pytest.raises(UserError, match=r"val\.lmdb and train\.lmdb beside it have other classes"):
        open_pictures(str(folder), "test")


def test_one_lmdb_is_cut_like_a_plain_folder(tmp_path):
    plain = fill(tmp_path / "plain", count=10)
    path = pack(fill(tmp_path / "own" / "train", count=10).parent, tmp_path / "own.lmdb")
    for split, count in (("train", 16), ("test", 4), ("val", 4)):
        packed = open_images(f"{path}@8", split)
        assert not has_validation(str(path)) and not has_validation(str(plain))
        assert len(packed) == count and torch.equal(packed.pixels, open_images(str(plain), split).pixels)


# --- names ---------------------------------------------------------------------------------------------------------


def test_names_in_any_case_and_folders_with_an_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert canonical("ImageNet16-120") == "imagenet16-120" and canonical("CIFAR10@16") == "cifar10@16"
    assert canonical("ImageNet") == "imagenet" and canonical("Own") == "Own" and canonical("/x/CIFAR10") == "/x/CIFAR10"
    fill(tmp_path / "CIFAR10")
    assert canonical("CIFAR10") == "CIFAR10" and open_images("CIFAR10", "train").name == "folder CIFAR10"
    fill(tmp_path / "me@home")
    assert parse("me@home") == ("me@home", 0) and parse("me@home@4") == ("me@home", 4)
    assert not in_memory("me@home") and in_memory("me@home@4") and in_memory("Digits")
    assert open_images("me@home", "train").size == 8 and open_images("me@home@4", "train").size == 4
    assert len(open_pictures("me@home", "train")) == 8
    fill(tmp_path / "own@4", size=(12, 12))
    assert open_images("own@4", "train").size == 12  # a folder that is called so is meant whole
    for name in ("none@x", "none@-1", "none@0", "none@"):
        with pytest.raises(UserError, match="the part after @ must be an image size"):
            parse(name)


def test_the_command_line_makes_names_canonical():
    from common.cli.parsing import parse
    from papers.evnas.__main__ import VERBS

    _, settings, _ = parse("evnas", VERBS, ["evaluate", "--dataset", "CIFAR10"])
    assert settings.dataset == "cifar10"


@pytest.mark.parametrize("name", ["cifar10", "digits", "tiny-imagenet-20", "imagenet", "none"])
def test_published_sets_have_no_validation_part(name):
    assert not has_validation(name)


def test_size_of_a_set_without_decoding(tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    absent = SimpleNamespace(data=tmp_path / "absent", allow_unpinned=False)
    for name, size in (
        ("digits", 32),
        ("ImageNet16-120", 16),
        ("imagenet", 224),
        ("tiny-imagenet-20", 64),
        ("a@40", 40),
    ):
        assert image_size(name, absent) == size
    for i, side in enumerate((90, 100, 110, 120, 130, 140)):
        (tmp_path / "own" / "ant").mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / "ant" / f"{i}.ppm").write_bytes(b"P6 %d %d 255\n" % (2 * side, side))
    assert image_size(str(tmp_path / "own")) == 110  # of 90, 100, 110, 120, 140: every fifth is the test set's
    with pytest.raises(UserError, match="missing"):
        image_size(str(tmp_path / "none"))
    (tmp_path / "own" / "ant" / "0.ppm").write_bytes(b"P")
    with pytest.raises(UserError, match=r"0\.ppm cannot be decoded"):
        image_size(str(tmp_path / "own"))


# --- identity ------------------------------------------------------------------------------------------------------


def replaced(path):
    """Another picture of the same name, size and times."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("how", ["replaced", "renamed", "moved"])
def test_a_set_is_what_it_holds(tmp_path, how):
    folder = fill(tmp_path / "own" / "train").parent
    before = open_pictures(str(folder), "train").pins
    assert before == open_pictures(str(folder), "train").pins and list(before) == ["own/train"]
    assert before["own/train"].startswith("sha256:")
    assert before == open_images(str(folder), "train").pins
    picture = folder / "train" / "ant" / "0.png"
    if how == "replaced":
        replaced(picture)
    else:
        picture.rename(folder / "train" / ("ant" if how == "renamed" else "bee") / "9.png")
    assert open_pictures(str(folder), "train").pins["own/train"] != before["own/train"]


def test_an_lmdb_is_what_it_holds(tmp_path):
    folder = fill(tmp_path / "own" / "train").parent
    first = pack(folder, tmp_path / "a" / "train.lmdb")
    digest = open_pictures(str(folder), "train").pins["own/train"]
    assert open_pictures(str(first), "train").pins == {"train.lmdb/train": digest}
    picture = folder / "train" / "ant" / "0.png"
    replaced(picture)
    second = pack(folder, tmp_path / "b" / "train.lmdb")
    assert open_pictures(str(second), "train").pins != {"train.lmdb/train": digest}


def test_digests_are_kept_and_nothing_is_written_among_the_pictures(tmp_path, monkeypatch, cache):
    folder = fill(tmp_path / "own" / "train").parent
    first = open_pictures(str(folder), "train").pins
    assert (cache / "nas-replication" / digests.CACHE_NAME).is_file() and [p.name for p in folder.iterdir()] == [
        "train"
    ]
    with monkeypatch.context() as patch:
        patch.setattr(pictures_module, "content_digest", lambda opened: pytest.fail("hashed again"))
        assert open_pictures(str(folder), "train").pins == first


def test_digests_that_cannot_be_kept_are_no_fault(tmp_path, monkeypatch, cache):
    cache.write_text("a file where the cache folder would be")
    folder = fill(tmp_path / "own" / "train").parent
    assert open_pictures(str(folder), "train").pins == open_pictures(str(folder), "train").pins
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(digests.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    open_pictures(str(folder), "train")


def test_a_word_before_a_long_hashing_and_on_the_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(digests, "LARGE", 10)
    monkeypatch.setattr(pictures_module, "SAID_EVERY_S", 0.0)
    open_pictures(str(fill(tmp_path / "own" / "train").parent), "train")
    said = capsys.readouterr().err
    assert "own: hashing 10 pictures (" in said and "about 1 minute on a good disk" in said
    assert "own: 100% hashed, about 1 minute left" in said
    open_pictures(str(tmp_path / "own"), "train")
    assert not capsys.readouterr().err


def test_of_a_large_set_one_process_makes_the_digest_and_the_others_wait(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(digests, "LARGE", 10)
    folder = fill(tmp_path / "own" / "train").parent
    begun, go_on = threading.Event(), threading.Event()
    real, calls, found = pictures_module.content_digest, [], []

    def slow(*arguments):
        calls.append(1)
        begun.set()
        assert go_on.wait(30)
        return real(*arguments)

    monkeypatch.setattr(pictures_module, "content_digest", slow)
    workers = [threading.Thread(target=lambda: found.append(open_pictures(str(folder), "train").pins)) for _ in "ab"]
    workers[0].start()
    assert begun.wait(30)
    workers[1].start()  # locks on two handles of one file exclude each other, in one process too
    said = ""
    for _ in range(300):
        said += capsys.readouterr().err
        if "another process is hashing it" in said:
            break
        time.sleep(0.1)
    go_on.set()
    for worker in workers:
        worker.join(30)
    assert "another process is hashing it; waiting" in said
    assert len(calls) == 1 and len(found) == 2 and found[0] == found[1]


def test_a_large_set_without_a_place_for_its_digest(tmp_path, monkeypatch, cache, capsys):
    monkeypatch.setattr(digests, "LARGE", 10)
    cache.write_text("a file where the cache folder would be")
    open_pictures(str(fill(tmp_path / "own" / "train").parent), "train")
    assert "let XDG_CACHE_HOME name one" in capsys.readouterr().err


def test_which_names_mean_different_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    different = [("digits", "cifar10"), ("CIFAR10", "cifar100"), ("imagenet", "tiny-imagenet-20"), ("ptb", "kjv")]
    alike = [("cifar10", "CIFAR10"), ("own@32", "./own@32"), ("gone@32", "own@32"), ("digits", "own"), ("own", "kjv")]
    assert all(other_set(*pair) for pair in different) and not any(other_set(*pair) for pair in alike)


# --- what is no set of classes -------------------------------------------------------------------------------------


def test_a_packed_part_alone_is_tested_on(tmp_path):
    pack(fill(tmp_path / "own" / "train").parent, tmp_path / "packed" / "val.lmdb")
    assert len(open_pictures(str(tmp_path / "packed"), "test")) == 10
    with pytest.raises(UserError, match=r"has val\.lmdb but no train\.lmdb"):
        open_pictures(str(tmp_path / "packed"), "train")


@pytest.mark.parametrize("part", ["val", "test", "valid"])
def test_a_part_alone_is_tested_on_and_never_taken_for_a_class(tmp_path, part):
    fill(tmp_path / "own" / part)
    for split in ("test", "val"):
        opened = open_pictures(str(tmp_path / "own"), split)
        assert opened.classes == ("ant", "bee") and len(opened) == 10
    assert not has_validation(str(tmp_path / "own"))
    with pytest.raises(UserError, match=f"has a {part} folder but no train folder"):
        open_pictures(str(tmp_path / "own"), "train")


def test_parts_are_known_in_any_case(tmp_path):
    for count, part in ((5, "Train"), (6, "VAL"), (7, "Test")):
        fill(tmp_path / "own" / part, count=count)
    sizes = [len(open_pictures(str(tmp_path / "own"), split)) for split in ("train", "val", "test")]
    assert sizes == [10, 12, 14] and has_validation(str(tmp_path / "own"))


def test_parts_under_other_names_are_no_classes(tmp_path):
    for part in ("training", "testing"):
        fill(tmp_path / "own" / part)
    with pytest.raises(UserError, match="call the parts of a set train, val and test"):
        open_pictures(str(tmp_path / "own"), "train")
    fill(tmp_path / "nested" / "ant" / "images"), fill(tmp_path / "nested" / "bee" / "images")
    assert open_pictures(str(tmp_path / "nested"), "train").classes == ("ant", "bee")


def test_one_class_alone_is_refused(tmp_path):
    fill(tmp_path / "own" / "train", classes=("ant",))
    with pytest.raises(UserError, match="holds the one class 'ant': nothing to tell apart"):
        open_pictures(str(tmp_path / "own"), "train")


@pytest.mark.parametrize("packed", [False, True])
def test_a_class_that_is_too_small_for_the_rule_of_plain_folders(tmp_path, packed):
    folder = fill(tmp_path / "own", count=5)
    fill(folder, classes=("cow",), count=4)
    if packed:
        pictures = sorted(folder.rglob("*.png"))
        classes = ("ant", "bee", "cow")
        records = ((f"{p.parent.name}/{p.name}", classes.index(p.parent.name), p.read_bytes()) for p in pictures)
        write_lmdb(tmp_path / "own.lmdb", records, classes)
        folder = tmp_path / "own.lmdb"
    assert len(open_pictures(str(folder), "train")) == 12
    with pytest.raises(UserError, match="cow"):
        open_pictures(str(folder), "test")


def test_a_link_to_nothing_is_said(tmp_path):
    folder = fill(tmp_path / "own")
    (folder / "ant" / "9.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"9\.png is a link to a file that is not there"):
        open_pictures(str(folder), "train")
    (folder / "ant" / "9.png").unlink()
    (folder / "ant" / "9.png").symlink_to(folder / "bee" / "0.png")
    (tmp_path / "link").symlink_to(folder)
    assert len(open_pictures(str(tmp_path / "link"), "train")) == 9


def test_links_to_folders_are_followed(tmp_path):
    """Classes that lie elsewhere, and folders inside a class; a link back to a folder above is the same pictures."""
    store, folder = fill(tmp_path / "store"), tmp_path / "own"
    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True)
        (folder / name / "more").symlink_to(store / name)
        (folder / name / "self").symlink_to(folder / name)
    (folder / "cow").symlink_to(store / "ant")
    opened = open_pictures(str(folder), "train")
    assert len(opened) == 12 and opened.classes == ("ant", "bee", "cow")
    assert opened.store.pictures.samples[0][0] == "ant/more/0.png"
    assert len(picture_files(folder)) == 15  # what ``predict`` sees


def test_names_that_are_no_text_and_empty_files_are_one_line(tmp_path):
    folder = fill(tmp_path / "own")
    (folder / "ant" / "0.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"ant/0\.png is an empty file; replace or remove it"):
        open_images(str(folder), "train")
    (folder / "ant" / "0.png").write_bytes(b"no picture")
    for reader in (lambda: open_images(str(folder), "train"), lambda: image_size(str(folder))):
        with pytest.raises(UserError, match=r"0\.png cannot be decoded: its content is no picture of a known kind; "):
            reader()
    for place in ("ant/0.png", "ant"):
        strange = os.fsencode(folder / place).removesuffix(b"t") + b"\xff" + b".png" * place.endswith("g")
        os.rename(folder / place, strange)
        with pytest.raises(UserError, match=r"own(/ant)? holds b'.*\\xff.*', a name that is not UTF-8; rename it"):
            open_pictures(str(folder), "train")
        os.rename(strange, folder / place)
