"""``--plan`` of training and evaluation. Data are opened as the run opens them, so its mistakes are found."""

from __future__ import annotations

from typing import Any

import torch

from common.spaces.cost import plan_testing, plan_training
from papers.evnas.evaluate import check_classes, genotype_of, of_imagenet, open_test, read, resolved, shape_of
from papers.evnas.networks import build, load_genotype
from papers.evnas.ranges import check_ranges, check_training
from papers.evnas.settings_train import EvaluateSettings, TrainImageNetSettings, TrainSettings
from papers.evnas.train import open_cifar, open_imagenet

CPU = torch.device("cpu")


def plan_train(settings: TrainSettings | TrainImageNetSettings, options: Any) -> list[str]:
    """Both recipes."""
    check_training(settings, options)
    c, imagenet = settings, isinstance(settings, TrainImageNetSettings)
    open_data: Any = open_imagenet if imagenet else open_cifar
    batches, judged, classes, _ = open_data(c, options, CPU)
    tests = next(iter(judged.values()))  # what is looked at after an epoch
    with torch.device("meta"):  # only shapes are counted
        network = build(load_genotype(c.arch), imagenet, len(classes), c.channels, c.layers)
    return plan_training(c, network, 224 if imagenet else tests.images.size, batches, tests)


def plan_evaluate(settings: EvaluateSettings, options: Any) -> list[str]:
    """One pass over the test set."""
    check_ranges(settings, defaults=("channels", "layers"))
    found = read(settings)
    c, genotype, tensors = resolved(settings, options, found), genotype_of(settings, found), found.tensors
    imagenet = of_imagenet(tensors)
    channels, layers = shape_of(tensors, imagenet)
    channels = c.channels or channels or (48 if imagenet else 36)
    test, tests = open_test(c, imagenet, options, CPU)
    check_classes(found, test.classes, c.dataset)
    with torch.device("meta"):
        network = build(genotype, imagenet, len(test.classes), channels, c.layers or layers)
    return plan_testing(
        c.arch or "the file's architecture",
        network,
        channels,
        224 if imagenet else test.size,
        len(test),
        tests.batch_size,
    )
