"""Opening image sets: embedded, official layouts, folders; and everything a user can get wrong with them."""

from __future__ import annotations

import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from common.data import digests, names, pickles, pins
from common.data import sets as sources
from common.data.pictures import decoding
from common.data.sets import open_images
from common.errors import UserError


def make_pictures(root, classes=("ant", "bee"), count=10, size=8, parts=("",)):
    for part in parts:
        for label, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (size, size), (label * 100, i, 7)).save(folder / f"{i:03d}.png")
    return root


def test_cifar_layout_keeps_order_and_channels(small_root):
    images = open_images("cifar10", "train", small_root.options)
    assert images.pixels.shape == (100, 3, 32, 32)
    assert images.pixels.dtype == torch.uint8 and images.labels.dtype == torch.int64
    with (small_root.root / "cifar-10-batches-py" / "data_batch_2").open("rb") as handle:
        raw = pickle.load(handle, encoding="bytes")
    assert torch.equal(images.pixels[20], torch.from_numpy(raw[b"data"][0].reshape(3, 32, 32)))
    assert images.labels[20:40].tolist() == raw[b"labels"]
    assert len(images.pins) == 5 and images.pinned and images.classes[3] == "cat"


def test_subset_and_device(small_root):
    images = open_images("cifar10", "test", small_root.options)
    part = images.subset([3, 1])
    assert len(part) == 2 and part.size == 32
    assert torch.equal(part.pixels[0], images.pixels[3])
    assert part.to("cpu").name == "cifar10"


class Evil:
    def __reduce__(self):
        return (os.system, ("touch executed",))


def test_a_malicious_pickle_does_not_run(small_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = small_root.root / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(pickle.dumps({"data": Evil(), "labels": []}))
    options = SimpleNamespace(data=small_root.root, allow_unpinned=True)
    with pytest.raises(UserError, match=r"asks for (posix|nt|os)\.system"):
        open_images("cifar10", "test", options)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", pickle.dumps([1, 2]), pickle.dumps({"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]})],
)
def test_damaged_pickles_give_one_line(small_root, content):
    path = small_root.root / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_images("cifar10", "test", SimpleNamespace(data=small_root.root, allow_unpinned=True))
    assert "\n" not in str(caught.value) and "data fetch cifar10" in str(caught.value)


def test_truncated_pickle(small_root):
    path = small_root.root / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="not a readable data pickle"):
        pickles.load_arrays(path, "remedy")


def test_labels_outside_the_classes(small_root):
    path = small_root.root / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}, protocol=2))
    with pytest.raises(UserError, match="labels from 0 to 10, but 10 classes"):
        open_images("cifar10", "test", SimpleNamespace(data=small_root.root, allow_unpinned=True))


def test_imagenet16_keeps_labels_1_to_120(tmp_path, monkeypatch):
    pins_file = tmp_path / "data.yaml"
    pins_file.write_text("imagenet16-120: {folder: ImageNet16, files: {val_data: {md5: '0'}}}")
    monkeypatch.setattr(pins, "PINS_FILE", pins_file)
    folder = tmp_path / "ImageNet16"
    folder.mkdir()
    labels = [1, 121, 120, 1000, 5]
    data = np.arange(5, dtype=np.uint8)[:, None] * np.ones((1, 768), np.uint8)
    (folder / "val_data").write_bytes(pickle.dumps({"data": data, "labels": labels}))
    images = open_images("imagenet16-120", "test", SimpleNamespace(data=tmp_path, allow_unpinned=True))
    assert images.labels.tolist() == [0, 119, 4]
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 2, 4]
    assert images.pixels.shape == (3, 3, 16, 16) and len(images.classes) == 120


def test_plain_folder_is_split_by_rule(tmp_path):
    root = make_pictures(tmp_path / "own")
    train, test = open_images(str(root), "train"), open_images(str(root), "test")
    assert (len(train), len(test)) == (16, 4)
    assert test.pixels[:, 1, 0, 0].tolist() == [4, 9, 4, 9]
    assert train.classes == ("ant", "bee") and not train.pinned
    assert next(iter(train.pins.values())).startswith("sha256:")


def test_a_folder_named_like_a_known_set_is_not_that_set(tmp_path):
    root = make_pictures(tmp_path / "cifar100")
    assert open_images(str(root), "train").name == "folder cifar100"


def test_divided_folder_and_resizing(tmp_path):
    root = make_pictures(tmp_path / "own", parts=("train", "val"))
    images = open_images(f"{root}@4", "val")
    assert images.pixels.shape == (20, 3, 4, 4)
    assert images.pixels[10].flatten(1)[:, 0].tolist() == [100, 0, 7]


def test_resizing_by_blocks_is_their_average():
    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    small = np.asarray(decoding.resize_square(Image.fromarray(pixels), 4)).astype(float)
    exact = pixels.reshape(4, 4, 4, 4, 3).mean((1, 3))
    assert np.abs(small - exact).max() <= 1


def test_grey_pictures_become_rgb(tmp_path):
    for name in ("dark", "light"):
        folder = tmp_path / "own" / name
        folder.mkdir(parents=True)
        for i in range(5):
            Image.new("L", (4, 4), i).save(folder / f"{i}.png")
    assert open_images(str(tmp_path / "own"), "train").pixels.shape == (8, 3, 4, 4)


def test_mistakes_with_folders(tmp_path):
    with pytest.raises(UserError, match="unknown data set or missing folder 'cifra10'"):
        open_images("cifra10", "train")
    with pytest.raises(UserError, match="unknown split"):
        open_images("digits", "training")
    with pytest.raises(UserError, match="must be an image size"):
        open_images("digits@big", "train")
    with pytest.raises(UserError, match="has one size"):
        open_images("digits@16", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no class folders"):
        open_images(str(tmp_path / "empty"), "train")
    root = make_pictures(tmp_path / "own", parts=("train",))
    with pytest.raises(UserError, match="none of test, val, valid"):
        open_images(str(root), "test")
    (root / "train" / "cat").mkdir()
    with pytest.raises(UserError, match="holds no picture"):
        open_images(str(root), "train")
    (root / "train" / "cat" / "a.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match="cannot be decoded"):
        open_images(str(root), "train")
    Image.new("RGB", (5, 5)).save(root / "train" / "cat" / "a.png")
    with pytest.raises(UserError, match="append @SIZE"):
        open_images(str(root), "train")
    make_pictures(root, classes=("dog",), parts=("val",))
    with pytest.raises(UserError, match="is a class that"):
        open_images(str(root), "test")


def test_tiny_imagenet_pins(tmp_path):
    make_pictures(tmp_path / "tiny-imagenet-20", parts=("train", "val"), count=3)
    options = SimpleNamespace(data=tmp_path, allow_unpinned=False)
    with pytest.raises(UserError, match="not the pinned set"):
        open_images("tiny-imagenet-20", "train", options)
    assert not open_images("tiny-imagenet-20", "train", SimpleNamespace(data=tmp_path, allow_unpinned=True)).pinned
    with pytest.raises(UserError, match="data fetch tiny-imagenet-20"):
        open_images("tiny-imagenet-20", "train", SimpleNamespace(data=tmp_path / "x", allow_unpinned=False))


@pytest.mark.real_data
def test_real_cifar10(real_root):
    images = open_images("cifar10", "train", SimpleNamespace(data=real_root, allow_unpinned=False))
    assert images.pinned and images.labels.bincount().tolist() == [5000] * 10
    mean = images.pixels[:5000].double().mean((0, 2, 3)) / 255
    assert (mean - torch.tensor([0.4914, 0.4822, 0.4465], dtype=torch.float64)).abs().max() < 0.01
    assert len(open_images("cifar10", "test", SimpleNamespace(data=real_root, allow_unpinned=False))) == 10000


@pytest.mark.real_data
def test_real_cifar100_is_refused_unless_allowed(real_root):
    """The CIFAR-100 laid out for tests has lossy pixels, so its md5 is not the official one."""
    path = real_root / "cifar-100-python" / "test"
    if digests.hash_file(path, "md5") == pins.pins_of("cifar100")["files"]["test"]["md5"]:
        pytest.skip("the official CIFAR-100 is here")
    with pytest.raises(UserError, match="not the pinned file"):
        open_images("cifar100", "test", SimpleNamespace(data=real_root, allow_unpinned=False))
    images = open_images("cifar100", "test", SimpleNamespace(data=real_root, allow_unpinned=True))
    assert images.labels.bincount().tolist() == [100] * 100 and not images.pinned


@pytest.mark.real_data
def test_real_tiny_imagenet(real_root):
    images = open_images("tiny-imagenet-20@16", "test", SimpleNamespace(data=real_root, allow_unpinned=False))
    assert images.pinned and images.pixels.shape == (1000, 3, 16, 16)
    assert images.labels.bincount().tolist() == [50] * 20


def test_names_are_listed():
    assert set(sources._OPENERS) == set(names.SMALL_SETS) and {"tiny-imagenet-20", *names.SMALL_SETS} == set(
        names.IMAGE_SETS
    )
