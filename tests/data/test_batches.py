"""Batches: order and augmentation depend on (seed, stream, epoch, number) alone."""

from __future__ import annotations

import pytest
import torch

from common.data.augment import Augmentation, plain
from common.data.batches import Batches
from common.data.sources import Images
from common.errors import UserError

AUGMENTATION = Augmentation((0.5,) * 3, (0.25,) * 3, pad=2, flip=True, cutout=4)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return Images(pixels, torch.arange(50), tuple(map(str, range(50))), "made-up", True)


def test_every_image_once_per_epoch_in_a_new_order(images):
    batches = Batches(images, 8, AUGMENTATION, seed=1)
    assert len(batches) == 7
    first = torch.cat([labels for _, labels in batches.epoch(0)])
    second = torch.cat([labels for _, labels in batches.epoch(1)])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(50))
    assert not torch.equal(first, second)
    assert len(Batches(images, 8, AUGMENTATION, seed=1, drop_last=True)) == 6


def test_an_epoch_can_be_entered_anywhere(images):
    batches = Batches(images, 8, AUGMENTATION, seed=1)
    whole = list(batches.epoch(3))
    torch.manual_seed(99)  # the global stream plays no part
    rest = list(Batches(images, 8, AUGMENTATION, seed=1).epoch(3, start=4))
    assert len(rest) == 3
    for (inputs, labels), (again, same) in zip(whole[4:], rest, strict=True):
        assert torch.equal(inputs, again) and torch.equal(labels, same)


def test_seed_and_stream_matter(images):
    def first(**changes):
        settings = {"seed": 1, "stream": "train", **changes}
        return next(iter(Batches(images, 50, AUGMENTATION, **settings).epoch(0)))[0]

    assert torch.equal(first(), first())
    assert not torch.equal(first(), first(seed=2)) and not torch.equal(first(), first(stream="valid"))


def test_without_shuffling(images):
    inputs, labels = next(iter(Batches(images, 20, AUGMENTATION, seed=1, shuffle=False).epoch(0)))
    assert labels.tolist() == list(range(20))
    assert torch.equal(inputs, plain(images.pixels[:20], AUGMENTATION))
    augmented, labels = next(iter(Batches(images, 20, AUGMENTATION, seed=1, shuffle=False, augment=True).epoch(0)))
    assert labels.tolist() == list(range(20)) and not torch.equal(augmented, inputs)


def test_ranks_share_the_batches_of_one_process(images):
    one = list(Batches(images, 8, AUGMENTATION, seed=1).epoch(0))
    ranks = [list(Batches(images, 8, AUGMENTATION, seed=1, rank=rank, world=2).epoch(0)) for rank in range(2)]
    assert [len(part) for part in ranks] == [3, 3]
    for step in range(3):
        for rank in range(2):
            assert torch.equal(ranks[rank][step][0], one[2 * step + rank][0])


def test_too_few_images(images):
    with pytest.raises(UserError, match="made-up: 50 images are too few for a batch of 64"):
        Batches(images, 64, AUGMENTATION, seed=1)
    assert len(Batches(images, 64, AUGMENTATION, seed=1, shuffle=False)) == 1  # an evaluation batch may be smaller
    with pytest.raises(UserError, match="too few for 8 processes"):
        Batches(images, 8, AUGMENTATION, seed=1, world=8)
    with pytest.raises(UserError, match="holds nothing; use a batch size of 1 or more"):
        Batches(images, 0, AUGMENTATION, seed=1)


def test_images_drawn_with_replacement(images):
    batches = Batches(images, 10, Augmentation((0.5,) * 3, (0.5,) * 3), seed=3, stream="held")
    x, y = batches.drawn(4, 400)
    assert len(y) == 400 and len(x) == 400  # more than there are images
    again = Batches(images, 10, Augmentation((0.5,) * 3, (0.5,) * 3), seed=3, stream="held").drawn(4, 400)
    assert torch.equal(x, again[0]) and torch.equal(y, again[1])
    assert not torch.equal(y, batches.drawn(5, 400)[1])
