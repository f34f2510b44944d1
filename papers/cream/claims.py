"""Claims that code decides: sizes, the FLOPs window and its table, the steps and rates of search and training."""

from __future__ import annotations

from typing import Any

from common.errors import UserError
from papers.cream.method import window as window_rule
from papers.cream.method.window import supernet_window


def published_millions(name: str | int) -> float:
    """The count behind a network's name, in millions."""
    return described(name)["macs_published"] / 1e6


def parameters_millions(name: str | int) -> float:
    """Parameters in millions, classifier included."""
    return described(name)["parameters"] / 1e6


def described(name: str | int) -> dict[str, Any]:
    """What ``describe`` says of a network."""
    from papers.cream.describe import describe
    from papers.cream.settings import Describe

    return describe(Describe(arch=str(name)))


def supernet_parameters(minimum: float, maximum: float, classes: int = 1000, slice_: int = 4) -> int:
    """Parameters of the supernet built for a window, meta layer included."""
    from papers.cream.networks.layout import FlopsTable

    table = FlopsTable(supernet_window(float(minimum), float(maximum)).built)
    blocks = sum(round(v * 1e6) for stage in table.params for position in stage for v in position)
    outer = round(table.params_fixed * 1e6) + 2 * 16 + (1280 + 1) * classes + slice_ * classes + 1
    return blocks + outer


def window(minimum: float, maximum: float) -> str:
    """Blocks of stages 1 to 5 and the resolution of a FLOPs window, or ``invalid``."""
    try:
        found = supernet_window(float(minimum), float(maximum))
    except UserError:
        return "invalid"
    return f"{','.join(map(str, found.sampled))} at {found.resolution}"


def fixed_mflops() -> float:
    """Stem convolution, global pool and head convolution by the search's table."""
    return _table().fixed


def stage_mflops(stage: int) -> float:
    """The one block of stage 0 or 6 by the search's table."""
    return _table().mflops[stage][0][0]


def one_block_mflops(end: int) -> float:
    """Stages 1 to 5 with one block each by the search's table, 0: the cheapest, 1: the dearest."""
    return window_rule.one_block_mflops()[end]


def path_mflops(choice: int) -> float:
    """The path that takes one choice at every position of the supernet for 0 to 600 MFLOPs, the search's table."""
    built = supernet_window(0.0, 600.0).built
    return _table().flops([[0], *([choice] * count for count in built), [0]])


def state_entries() -> int:
    """Tensors in the state of the supernet for 0 to 600 MFLOPs and 1000 classes."""
    from papers.cream.networks.networks import Supernet

    return len(Supernet(supernet_window(0.0, 600.0).built, 1000).state_dict())


def search_steps(what: str) -> float:
    """Of the published search on ImageNet: ``horizon`` of the rate, steps per ``epoch``, ``total``, and ``idle`` ones
    of the last epoch, at rate 0.
    """
    from papers.cream.method.schedules import IMAGENET, pace_of
    from papers.cream.settings import Search

    c = Search()
    if what == "horizon":
        return pace_of(c, IMAGENET).total
    epoch = len(_batches(c))
    if what == "idle":
        return sum(search_rate(step) == 0 for step in range((c.epochs - 1) * epoch, c.epochs * epoch))
    return {"epoch": epoch, "total": c.epochs * epoch}[what]


def search_rate(step: int, group: int = 0) -> float:
    """Learning rate of the published search; group 0: network, 3: meta layer. A negative step counts from the end."""
    from papers.cream.method.schedules import search_lrs
    from papers.cream.settings import Search

    at = step if step >= 0 else int(search_steps("total")) + step
    return search_lrs(Search(), at, search_steps("horizon"))[group]


def training_rate(name: str | int, epoch: int) -> float:
    """Learning rate of the published training of a network; a negative epoch counts from the end."""
    rate, epochs = _training(name)
    return rate(epoch if epoch >= 0 else epochs + epoch)


def training_epochs(name: str | int) -> int:
    """Epochs of the published training of a network, cool-down included."""
    return _training(name)[1]


def _training(name: str | int) -> Any:
    from papers.cream.method.schedules import training_lr
    from papers.cream.settings import Train

    return training_lr(Train(arch=str(name)), str(name))


def _table() -> Any:
    from papers.cream.networks.layout import FlopsTable

    return FlopsTable(supernet_window(0.0, 600.0).built)


def _batches(c: Any) -> Any:
    """The search's batches over a stand-in of as many pictures as ImageNet has; none is ever read."""
    import torch

    from common.data.pictures.sets import IMAGENET_COUNTS, blank_pictures
    from papers.cream.data.batches import train_batches

    classes, images = IMAGENET_COUNTS["train"]
    return train_batches(blank_pictures("imagenet", images, classes), c, c.resolution, 0, torch.device("cpu"), c.jitter)
