"""Batches: order and augmentation depend on (seed, stream, epoch, number) alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from common.data.augment import Augmentation, plain
from common.data.batches import Batches, Order, as_they_stand
from common.data.sets import Images
from common.errors import UserError
from common.run.distributed import Sharing

AUGMENTATION = Augmentation((0.5,) * 3, (0.25,) * 3, pad=2, flip=True, cutout=4)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return Images(pixels, torch.arange(50), tuple(map(str, range(50))), "made-up", True)


def test_every_image_once_per_epoch_in_a_new_order(images):
    batches = Batches(images, 8, AUGMENTATION, Order(1))
    assert len(batches) == 7
    first = torch.cat([labels for _, labels in batches.epoch(0)])
    second = torch.cat([labels for _, labels in batches.epoch(1)])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(50))
    assert not torch.equal(first, second)
    assert len(Batches(images, 8, AUGMENTATION, Order(1, drop_last=True))) == 6


def test_an_epoch_can_be_entered_anywhere(images):
    batches = Batches(images, 8, AUGMENTATION, Order(1))
    whole = list(batches.epoch(3))
    torch.manual_seed(99)  # the global stream plays no part
    rest = list(Batches(images, 8, AUGMENTATION, Order(1)).epoch(3, start=4))
    assert len(rest) == 3
    for (inputs, labels), (again, same) in zip(whole[4:], rest, strict=True):
        assert torch.equal(inputs, again) and torch.equal(labels, same)


def test_seed_and_stream_matter(images):
    def first(**changes):
        order = Order(**{"seed": 1, "stream": "train", **changes})
        return next(iter(Batches(images, 50, AUGMENTATION, order).epoch(0)))[0]

    assert torch.equal(first(), first())
    assert not torch.equal(first(), first(seed=2)) and not torch.equal(first(), first(stream="valid"))


def test_without_shuffling(images):
    inputs, labels = next(iter(Batches(images, 20, AUGMENTATION, as_they_stand(1)).epoch(0)))
    assert labels.tolist() == list(range(20))
    assert torch.equal(inputs, plain(images.pixels[:20], AUGMENTATION))
    augmented, labels = next(iter(Batches(images, 20, AUGMENTATION, as_they_stand(1), augment=True).epoch(0)))
    assert labels.tolist() == list(range(20)) and not torch.equal(augmented, inputs)


@pytest.mark.parametrize("world", [2, 3, 5])
def test_processes_see_the_batches_of_one_process(images, world):
    """Joined, the processes' shares are the one process's batches, bit by bit; 50 images in batches of 8 leave two."""
    one = Batches(images, 8, AUGMENTATION, Order(1))
    ranks = [Batches(images, 8, AUGMENTATION, Order(1), Sharing(rank=rank, world=world)) for rank in range(world)]
    assert [len(batches) for batches in ranks] == [len(one)] * world == [7] * world
    for step, (whole, *shares) in enumerate(zip(one.epoch(2), *(b.epoch(2) for b in ranks), strict=True)):
        assert torch.equal(whole[0], torch.cat([x for x, _ in shares]))
        assert torch.equal(whole[1], torch.cat([y for _, y in shares]))
        expected = [len(part) for part in torch.tensor_split(whole[1], world)]
        assert [len(y) for _, y in shares] == expected == [b.share_sizes(step)[0] for b in ranks]
        assert {b.size(step) for b in ranks} == {len(whole[1])}
        assert all(x.shape[1:] == (3, 8, 8) for x, _ in shares)  # an empty share has its images' shape
    assert one.size(6) == 2


def test_one_process_in_parts_sees_what_processes_see(images):
    two = [Batches(images, 8, AUGMENTATION, Order(1), Sharing(rank=rank, world=2, parts=6)) for rank in range(2)]
    apart = list(Batches(images, 8, AUGMENTATION, Order(1), Sharing(parts=6)).shares(0, start=2))
    in_shares = Batches(images, 8, AUGMENTATION, Order(1), Sharing(parts=6)).in_shares()
    assert len(in_shares) == 7 and len(list(in_shares.epoch(0, start=2))) == len(apart)
    assert [len(step) for step in apart] == [6] * 5 and [len(y) for _, y in apart[-1]] == [1, 1, 0, 0, 0, 0]
    joined = [first + second for first, second in zip(*(b.shares(0, start=2) for b in two), strict=True)]
    for here, there in zip(apart, joined, strict=True):
        assert all(torch.equal(x, y) for a, b in zip(here, there, strict=True) for x, y in zip(a, b, strict=True))
    with pytest.raises(UserError, match="3 parts cannot be shared by 2 processes; use a multiple of 2"):
        Batches(images, 8, AUGMENTATION, Order(1), Sharing(world=2, parts=3))
    with pytest.raises(UserError, match="a batch of 8 images cannot be cut into 9 parts"):
        Batches(images, 8, AUGMENTATION, Order(1), Sharing(parts=9))


def test_erasing_does_not_depend_on_the_share(images):
    def erase(batch, generator):
        assert len(batch) == 1
        return batch * torch.rand((), generator=generator)

    whole = next(Batches(images, 8, replace(AUGMENTATION, erase=erase), Order(1)).epoch(0))[0]
    parts = next(Batches(images, 8, replace(AUGMENTATION, erase=erase), Order(1), Sharing(parts=3)).shares(0))
    assert torch.equal(whole, torch.cat([x for x, _ in parts]))
    assert not torch.equal(whole, next(Batches(images, 8, AUGMENTATION, Order(1)).epoch(0))[0])


def test_too_few_images(images):
    with pytest.raises(UserError, match="made-up: 50 images are too few for a batch of 64"):
        Batches(images, 64, AUGMENTATION, Order(1))
    assert len(Batches(images, 64, AUGMENTATION, as_they_stand(1))) == 1  # an evaluation batch may be smaller
    with pytest.raises(UserError, match="a batch of 8 images cannot be cut into 9 parts"):
        Batches(images, 8, AUGMENTATION, Order(1), Sharing(world=9))
    with pytest.raises(UserError, match="holds nothing; use a batch size of 1 or more"):
        Batches(images, 0, AUGMENTATION, Order(1))


def test_images_drawn_with_replacement(images):
    batches = Batches(images, 10, Augmentation((0.5,) * 3, (0.5,) * 3), Order(3, "held"))
    x, y = batches.drawn(4, 400)
    assert len(y) == 400 and len(x) == 400  # more than there are images
    again = Batches(images, 10, Augmentation((0.5,) * 3, (0.5,) * 3), Order(3, "held")).drawn(4, 400)
    assert torch.equal(x, again[0]) and torch.equal(y, again[1])
    assert not torch.equal(y, batches.drawn(5, 400)[1])
