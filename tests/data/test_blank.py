"""Sets that are numbers only: what claims and plans count on."""

from common.data.augment import Augmentation
from common.data.batches import Batches, Order
from common.data.parts import split
from common.data.pictures.sets import blank_pictures
from common.data.sets import blank


def test_a_blank_set_can_be_split_and_counted():
    images = blank("cifar10", 50_000)
    first, second = split(images, 0.5, "--train-portion")
    assert len(first) == len(second) == 25_000 and len(set(first.labels.tolist())) == 10
    assert len(Batches(images, 96, Augmentation((0.5,) * 3, (0.5,) * 3), Order(0))) == 521


def test_blank_pictures_have_classes_and_numbers():
    pictures = blank_pictures("imagenet", 1_281_167, 1000)
    assert len(pictures) == 1_281_167 and len(pictures.classes) == 1000 and pictures.pinned
    assert len(split(pictures, 50_000, "--holdout")[0]) == 50_000
