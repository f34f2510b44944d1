"""Parts of a set: file order where the set has one, else every class in every part."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.data.nasbench201 import halves
from common.data.parts import benchmark_halves, check_classes, in_file_order, order, split, take
from common.data.pictures.batches import Pictures
from common.data.sets import Images, open_images
from common.errors import UserError


def sorted_images(counts, name="made-up"):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    pixels = torch.arange(len(labels)).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return Images(pixels, labels, tuple(f"c{i}" for i in range(len(counts))), name, False)


def sorted_pictures(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return Pictures(None, labels, np.arange(len(labels)), tuple(f"c{i}" for i in range(len(counts))), "cifar10")


def per_class(part, classes):
    return np.bincount(np.asarray(part.labels), minlength=classes).tolist()


@pytest.mark.parametrize("make", [sorted_images, sorted_pictures])
def test_a_set_sorted_by_class_is_shared_out_evenly(make):
    """Twenty classes one after the other: by index, one half has classes 0 to 9 and the other the rest."""
    whole = make([30] * 20)
    first, second = split(whole, 0.5, "--train-portion")
    assert per_class(first, 20) == per_class(second, 20) == [15] * 20
    positions = [p.positions if isinstance(p, Pictures) else p.pixels[:, 0, 0, 0] for p in (first, second)]
    if isinstance(whole, Pictures):
        assert sorted(np.concatenate(positions)) == list(range(600))  # nothing lost, nothing twice
    assert sorted(per_class(take(whole, 47, "--train-images"), 20)) == [2] * 13 + [3] * 7
    held = split(whole, -100, "--holdout")
    assert [len(part) for part in held] == [500, 100] and per_class(held[1], 20) == [5] * 20
    assert [len(part) for part in split(whole, 40, "--images")] == [40, 560]
    batches = np.asarray(first.labels)[:200].reshape(10, 20)  # classes take turns: a batch is no single class
    assert all(len(set(batch)) == 20 for batch in batches.tolist())


def test_the_rule_is_fixed_and_has_a_seed():
    whole = sorted_images([9] * 4)
    assert np.array_equal(order(whole), order(whole)) and not np.array_equal(order(whole), order(whole, seed=1))
    assert sorted(order(whole, seed=1)) == list(range(36))


def test_unequal_classes_keep_their_proportions():
    counts = [200, 100, 50, 3, 2]
    first, second = split(sorted_images(counts), 0.5, "--train-portion")
    assert per_class(first, 5) == pytest.approx([100, 50, 25, 1.5, 1], abs=1)
    assert per_class(second, 5) == pytest.approx([100, 50, 25, 1.5, 1], abs=1)
    assert min(per_class(take(sorted_images(counts), 5, "--train-images"), 5)) == 1  # as few as there are classes


def test_sets_in_file_order_are_cut_as_released():
    digits = open_images("digits", "train")
    assert in_file_order(digits) and torch.equal(take(digits, 64, "x").pixels, digits.pixels[:64])
    first, second = split(digits, 0.5, "--train-portion")
    assert torch.equal(first.pixels, digits.pixels[:2000]) and torch.equal(second.labels, digits.labels[2000:])
    cifar = sorted_images([1, 1, 1], "cifar10").subset([0, 1, 2, 0, 1, 2, 2])
    assert take(cifar, 4, "--train-images").labels.tolist() == [0, 1, 2, 0]
    assert not in_file_order(sorted_images([2], "folder cifar10")) and not in_file_order(sorted_pictures([2]))


def test_all_of_a_set_is_the_set():
    whole = sorted_images([3, 3])
    assert take(whole, 0, "x") is whole and take(whole, 6, "x") is whole and take(whole, 99, "x") is whole


def test_a_part_without_a_class_is_refused_with_the_least_size():
    for call, message in (
        (lambda: take(sorted_images([5] * 20), 19, "--train-images"), "--train-images gives a part of 19 .* least 20$"),
        (lambda: split(sorted_images([5] * 20), -7, "--holdout"), "--holdout gives a part of 7 .* least 20$"),
        (lambda: split(sorted_images([5] * 20), 0.1, "--train-portion"), "of 10 .*and 9 more; .* least 20$"),
        (lambda: split(sorted_images([9, 1]), 0.5, "--train-portion"), "class 'c1'; give that class more images$"),
        (lambda: take(sorted_images([4, 4], "cifar10"), 4, "--train-images"), "class 'c1'; it needs at least 5$"),
        (lambda: split(sorted_images([4, 4]), 1.5, "--train-portion"), "--train-portion must be a share between 0"),
        (lambda: split(sorted_images([4, 4]), 8, "--n"), "--n 8 leaves nothing of its 8 images"),
        (lambda: split(sorted_images([4, 4]), 9, "--n"), "--n 9 leaves nothing of its 8 images"),
        (lambda: split(sorted_images([4, 4]), -9, "--n"), "--n 9 leaves nothing of its 8 images"),
        (lambda: split(sorted_images([4, 4]), 0, "--n"), "--n 0 leaves nothing of its 8 images"),
        (lambda: take(sorted_images([4, 4]), -1, "--n"), r"--n must be 0 \(all images\) or more, not -1"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    whole = sorted_images([4, 4])
    check_classes(whole.subset([0, 7]), whole, "--valid-images")
    with pytest.raises(UserError, match="--valid-images gives a part of 2 images without class 'c1'; use more"):
        check_classes(whole.subset([0, 1]), whole, "--valid-images")


def test_halves_of_the_benchmark():
    digits = open_images("digits", "train")
    first, second, origin = benchmark_halves(digits, seed=3)
    old, rest, _ = halves("digits", 4000, 3)
    assert origin == "fallback" and torch.equal(first.pixels, digits.pixels[old])
    assert torch.equal(second.pixels, digits.pixels[rest])
    first, second, _ = benchmark_halves(sorted_images([7] * 20), seed=0)
    assert min(per_class(first, 20)) == 3 == min(per_class(second, 20))
    blank = torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(50_000, -1, -1, -1)
    cifar = Images(blank, torch.arange(50_000) % 10, tuple("abcdefghij"), "cifar10", True)
    assert benchmark_halves(cifar, seed=0)[2] == "official"
    with pytest.raises(UserError, match="one half gives a part of 3 images without class 'c1'"):
        benchmark_halves(sorted_images([4, 1]), seed=0)
