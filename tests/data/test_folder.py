"""Pictures through PIL: independent of the number of workers, resumable; LMDB files with damage."""

from __future__ import annotations

import os
import pickle
import random
import time
from types import SimpleNamespace

import lmdb
import numpy as np
import pytest
import torch
from PIL import Image

from common.data import digests
from common.data.augment import Normalisation
from common.data.batches import Order, as_they_stand
from common.data.pictures import batches as folder_module
from common.data.pictures import sets as pictures_module
from common.data.pictures.batches import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EvalPictures,
    FolderBatches,
    TrainPictures,
    open_pictures,
)
from common.data.pictures.lmdb import LmdbStore, write_lmdb
from common.data.pictures.sets import content_digest
from common.errors import UserError
from common.run.distributed import Sharing

ALONE = Sharing()
JITTERED = TrainPictures(size=16, scale=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.2), interpolation="random")


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 9), ("val", 4)):
        for label in ("ant", "bee"):
            folder = tmp_path / "own" / part / label
            folder.mkdir(parents=True)
            for i in range(count):
                picture = Image.fromarray(rng.integers(0, 256, (20 + i, 24, 3)).astype(np.uint8))
                picture.save(folder / f"{i}.jpg", quality=95)
    return tmp_path / "own"


def pack(root, path, part="train"):
    pictures = open_pictures(str(root), part)
    records = ((pictures.store.name(i), int(label), pictures.store.read(i)) for i, label in enumerate(pictures.labels))
    return write_lmdb(path, records, pictures.classes)


def batches(pictures, workers=0, transform=JITTERED, sharing=ALONE, erase=None):
    constants = Normalisation(IMAGENET_MEAN, IMAGENET_STD, erase=erase)
    return FolderBatches(pictures, 4, transform, Order(3), sharing, workers=workers, constants=constants)


def same(first, second):
    return len(first) == len(second) and all(
        torch.equal(a, b) and torch.equal(x, y) for (a, x), (b, y) in zip(first, second, strict=True)
    )


def test_workers_and_resumption_change_nothing(root):
    pictures = open_pictures(str(root), "train")
    before = torch.get_rng_state()
    alone = list(batches(pictures).epoch(2))
    assert torch.equal(before, torch.get_rng_state())
    assert [x.shape for x, _ in alone] == [(4, 3, 16, 16)] * 4 + [(2, 3, 16, 16)]
    assert same(alone, list(batches(pictures, workers=2).epoch(2)))
    assert same(alone[3:], list(batches(pictures, workers=1).epoch(2, start=3)))
    assert not same(alone, list(batches(pictures).epoch(1)))
    assert sorted(torch.cat([y for _, y in alone]).tolist()) == [0] * 9 + [1] * 9


@pytest.mark.parametrize("workers", [0, 1])
def test_processes_see_the_batches_of_one_process(root, workers):
    """18 pictures in batches of 4 leave two: the third process's share of the last batch is empty."""

    def erase(batch, generator):
        return batch * torch.rand((), generator=generator)

    pictures = open_pictures(str(root), "train")
    one = list(batches(pictures, erase=erase).epoch(0, start=2))
    ranks = [batches(pictures, workers, erase=erase, sharing=Sharing(r, 3)) for r in range(3)]
    shares = [list(b.epoch(0, start=2)) for b in ranks]
    assert [len(b) for b in ranks] == [5] * 3 and [len(y) for _, y in (s[-1] for s in shares)] == [1, 1, 0]
    assert same(one, [tuple(map(torch.cat, zip(*step, strict=True))) for step in zip(*shares, strict=True)])
    in_parts = list(batches(pictures, workers, erase=erase, sharing=Sharing(parts=3)).shares(0, start=2))
    for step, parts in enumerate(in_parts):
        assert same(parts, [s[step] for s in shares])


def test_evaluation_transform_equals_torchvision(root):
    transforms = folder_module.vision.transforms()
    pictures = open_pictures(str(root), "val")
    reference = transforms.Compose([
        transforms.Resize(18), transforms.CenterCrop(16), transforms.ToTensor(),
        transforms.Normalize(folder_module.IMAGENET_MEAN, folder_module.IMAGENET_STD),
    ])  # fmt: skip
    inputs, labels = next(iter(FolderBatches(pictures, 4, EvalPictures(18, 16), as_they_stand(3)).epoch(0)))
    assert labels.tolist() == [0] * 4
    for i in range(4):
        assert torch.equal(inputs[i], reference(pictures.picture(i)))


def test_random_resized_crop_covers_the_published_range():
    """Areas of the crop are uniform on 0.08..1 and ratios log-uniform on 3/4..4/3, as in torchvision's transform."""
    from scipy import stats

    transforms = folder_module.vision.transforms()
    torch.manual_seed(0)
    picture = Image.new("RGB", (400, 400))
    draw = transforms.RandomResizedCrop.get_params
    boxes = np.array([draw(picture, [0.08, 1.0], [0.75, 4 / 3]) for _ in range(1500)])
    small = boxes[boxes[:, 2] * boxes[:, 3] < 0.5 * 160_000]
    areas = small[:, 2] * small[:, 3] / 160_000
    assert stats.kstest(areas, stats.uniform(0.08, 0.42).cdf).pvalue > 1e-4
    ratios = np.log(small[:, 3] / small[:, 2])
    assert stats.kstest(ratios, stats.uniform(np.log(0.75), np.log(16 / 9)).cdf).pvalue > 1e-4


def test_options_of_the_training_transform(root):
    pictures = open_pictures(str(root), "train")

    def paint(picture, rng: random.Random):
        return Image.new("RGB", picture.size, (rng.randrange(256),) * 3)

    transform = TrainPictures(size=8, resize=12, extra=paint)
    inputs, _ = next(iter(batches(pictures, transform=transform).epoch(0)))
    again, _ = next(iter(batches(pictures, transform=transform).epoch(0)))
    assert inputs.shape == (4, 3, 8, 8) and torch.equal(inputs, again)

    def erase(batch, generator):
        return batch * torch.rand((), generator=generator)

    first = next(iter(batches(pictures, erase=erase).epoch(0)))[0]
    assert torch.equal(first, next(iter(batches(pictures, erase=erase).epoch(0)))[0])
    assert not torch.equal(first, next(iter(batches(pictures).epoch(0)))[0])


def test_lmdb_gives_the_same_batches(root, tmp_path):
    meta = pack(root, tmp_path / "train.lmdb")
    assert meta["count"] == 18 and meta["per_class"] == [9, 9] and meta["classes"] == ["ant", "bee"]
    packed = open_pictures(str(tmp_path / "train.lmdb"), "train")
    expected = list(batches(open_pictures(str(root), "train")).epoch(0))
    packed.store.read(0)  # open in this process before workers are forked
    assert same(expected, list(batches(packed, workers=2).epoch(0)))
    assert same(expected, list(batches(packed).epoch(0)))
    packed.store.verify()
    assert pickle.loads(pickle.dumps(packed.store)).record(3)[1] == 0
    pack(root, root / "train.lmdb")
    assert isinstance(open_pictures(str(root), "train").store, LmdbStore)


def test_damaged_lmdb_records(root, tmp_path):
    path = tmp_path / "train.lmdb"
    pack(root, path)
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as transaction:
        value = bytearray(transaction.get(b"00000005"))
        value[-3] ^= 1
        transaction.put(b"00000005", bytes(value))
        transaction.delete(b"00000007")
    with pytest.raises(UserError, match="record 5 is damaged"):
        open_pictures(str(path), "train")
    pictures = open_pictures(str(path), "train", hashed=False)
    for index, reason in ((5, "record 5 is damaged"), (7, "record 7 is missing")):
        with pytest.raises(UserError, match=reason):
            pictures.picture(index)
    with pytest.raises(UserError, match="record 5"):
        pictures.store.verify()
    with pytest.raises(UserError) as caught:  # in a worker, too, it is one line
        list(batches(pictures, workers=1).epoch(0))
    assert "\n" not in str(caught.value) and "record" in str(caught.value)


def test_damaged_lmdb_meta(root, tmp_path):
    path = tmp_path / "train.lmdb"
    pack(root, path)
    from common.data.pictures import lmdb as lmdb_images

    for key, value, reason in (
        (b"__meta__", b"{", "meta entry is damaged"),
        (b"__meta__", b'{"schema": 9}', "has schema 9"),
        (b"__meta__", None, "meta entry is missing"),
    ):
        lmdb_images._close_all()
        with lmdb.open(str(path)) as environment, environment.begin(write=True) as transaction:
            transaction.put(key, value) if value else transaction.delete(key)
        with pytest.raises(UserError, match=reason):
            open_pictures(str(path), "train")
    (tmp_path / "no.lmdb").mkdir()
    (tmp_path / "no.lmdb" / "data.mdb").write_bytes(b"x" * 9000)
    with pytest.raises(UserError, match="no readable LMDB"):
        open_pictures(str(tmp_path / "no.lmdb"), "train")


def test_a_failing_write_leaves_nothing(root, tmp_path):
    with pytest.raises(UserError, match="label 7"):
        write_lmdb(tmp_path / "x.lmdb", [("a", 0, b"1"), ("b", 7, b"2")], ("only",))
    with pytest.raises(UserError, match="no pictures"):
        write_lmdb(tmp_path / "x.lmdb", [], ("only",))

    def full():
        yield "a", 0, b"1"
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left on device; free space"):
        write_lmdb(tmp_path / "x.lmdb", full(), ("only",))
    assert [entry.name for entry in tmp_path.iterdir()] == ["own"]
    pack(root, tmp_path / "x.lmdb")
    with pytest.raises(UserError, match="exists already"):
        pack(root, tmp_path / "x.lmdb")


def test_mistakes(root, tmp_path):
    options = SimpleNamespace(data=tmp_path, allow_unpinned=False)
    with pytest.raises(UserError, match="data prepare imagenet"):
        open_pictures("imagenet", "train", options)
    with pytest.raises(UserError, match="cifar10 holds small images, and this network takes pictures"):
        open_pictures("cifar10", "train", options)
    root.rename(tmp_path / "imagenet")
    with pytest.raises(UserError, match="has 2 classes and 18 pictures, ImageNet has 1000 and 1281167"):
        open_pictures("imagenet", "train", options)
    pictures = open_pictures("imagenet", "train", SimpleNamespace(data=tmp_path, allow_unpinned=True))
    assert not pictures.pinned and len(pictures.subset([1, 2])) == 2
    with pytest.raises(UserError, match="18 images are too few for a batch of 4000"):
        FolderBatches(pictures, 4000, JITTERED, Order(0))
    with pytest.raises(UserError, match="unknown split"):
        open_pictures("imagenet", "all", options)
    damaged = next((tmp_path / "imagenet" / "train" / "bee").iterdir())
    damaged.write_bytes(b"\xff\xd8 cut")
    with pytest.raises(UserError, match="cannot be decoded"):
        list(batches(pictures, workers=2).epoch(0))


def test_the_tiny_imagenet_subset_reports_its_pins(root, tmp_path, monkeypatch):
    tree = {part: content_digest(open_pictures(str(root), part, hashed=False)) for part in ("train", "val")}
    monkeypatch.setattr(pictures_module, "pins_of", lambda name: {"folder": name, "tree": tree})
    (tmp_path / "tiny-imagenet-20").symlink_to(root)
    options = SimpleNamespace(data=tmp_path, allow_unpinned=False)
    for split, part in (("train", "train"), ("test", "val")):
        pictures = open_pictures("tiny-imagenet-20", split, options)
        assert pictures.pinned and pictures.pins == {f"tiny-imagenet-20/{part}": f"sha256:{tree[part]}"}
    for path in (root / "train").rglob("*.jpg"):
        os.utime(path, (1e9, 1e9))
    settled = time.time() + 10  # an age at which digests may be kept
    monkeypatch.setattr(digests.time, "time", lambda: settled)
    assert open_pictures("tiny-imagenet-20", "train", options).pinned
    with monkeypatch.context() as patch:  # unchanged files are not read again
        patch.setattr(pictures_module, "content_digest", lambda listed: pytest.fail("hashed again"))
        assert open_pictures("tiny-imagenet-20", "train", options).pinned
    victim = root / "train" / "ant" / "0.jpg"
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"is not the pinned set: .* reproductions data fetch tiny-imagenet-20"):
        open_pictures("tiny-imagenet-20", "train", options)
    options.allow_unpinned = True
    assert not open_pictures("tiny-imagenet-20", "train", options).pinned
    victim.unlink()
    options.allow_unpinned = False
    with pytest.raises(UserError, match="is not the pinned set"):
        open_pictures("tiny-imagenet-20", "train", options)
