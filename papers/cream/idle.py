"""Settings that do nothing beside the others: refused by name when the user gave them, never ignored."""

from __future__ import annotations

from typing import Any

from common.cli.ranges import refuse_idle
from common.data.sets import Images
from papers.cream.settings import Recipe, SearchSettings, SelectSettings

OF_THE_BOARD = (
    "start_epoch", "update_every", "acc_gap", "meta_lr", "meta_value", "meta_gradient", "meta_weights", "step_sign",
    "pick", "stored", "choose",
)  # fmt: skip
Given = frozenset[str] | None


def _of_the_crop(settings: Any) -> dict[str, str]:
    return {"scale_min": "--crop resized"} if settings.crop == "padded" else {"pad": "--crop padded"}


def refuse_idle_search(settings: SearchSettings, given: Given) -> None:
    """Raises UserError for the first setting that the search would not look at."""
    idle = _of_the_crop(settings)
    if not settings.subset_classes:
        idle["subset_images"] = "--subset-classes"
    if settings.sampling != "weighted":
        idle["probabilities"] = "--sampling weighted"
    if settings.method != "random":
        idle["candidates"] = "--method random"
        if settings.choose == "head":
            idle |= dict.fromkeys(("recalibrate_batches", "select_images"), "--choose rescore or --method random")
    if settings.pick == "top1":
        idle["update_every"] = "--pick meta (with top1 the meta value is a constant, which has no gradient)"
    refuse_idle(settings, idle, given)
    if settings.method == "random" and given is not None:
        refuse_idle(settings, dict.fromkeys(OF_THE_BOARD, "--method cream"), given)


def refuse_idle_select(settings: SelectSettings, given: Given) -> None:
    """The same of ``select``: the head of the board is taken as it is."""
    if settings.rule == "head":
        unread = ("recalibrate_batches", "select_images", "macs_min", "macs_max")
        refuse_idle(settings, dict.fromkeys(unread, "--rule rescore"), given)


def refuse_idle_recipe(settings: Recipe, schedule: str, given: Given) -> None:
    """The same of a training with the given schedule (``cosine``, ``step`` or ``none``)."""
    idle = _of_the_crop(settings)
    if schedule != "cosine":
        idle |= dict.fromkeys(("cooldown", "min_lr"), "--schedule cosine")
    if schedule != "step":
        idle |= dict.fromkeys(("decay_epochs", "decay_rate"), "--schedule step")
    if schedule == "none":
        idle |= dict.fromkeys(("warmup_lr", "warmup_epochs"), "--schedule cosine or step")
    elif not settings.warmup_epochs:
        idle["warmup_lr"] = "--warmup-epochs"
    if not settings.randaugment:
        idle |= dict.fromkeys(("randaugment_operations", "randaugment_std"), "--randaugment")
    refuse_idle(settings, idle, given)


def refuse_idle_interpolation(settings: Any, source: Any, given: Given) -> None:
    """Images in memory are tested as they are, so no interpolation takes place."""
    if isinstance(source, Images):
        refuse_idle(settings, {"interpolation": "pictures (imagenet, tiny-imagenet-20, a folder, an .lmdb)"}, given)
