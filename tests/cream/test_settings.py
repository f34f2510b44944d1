"""Every setting of every stage acts or is refused by name: changed alone, it changes what the run computes.

The steps themselves are replaced by recorders of all they are given, so that a run takes no time.
"""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from common.cli import RunOptions
from common.errors import UserError
from common.settings import NOT_RESULT_BEARING
from papers.cream import evaluate as evaluate_stage
from papers.cream import search as search_stage
from papers.cream import train as train_stage
from papers.cream.board import Entry
from papers.cream.iteration import StepReport
from papers.cream.settings import (
    SearchSettings,
    TrainSettings,
)

PATH = "[[0],[0],[0],[0],[0],[0],[0]]"
SEARCH = SearchSettings(dataset="digits", train_images=48, holdout=16, resolution=32, workers=0, macs_max=122, epochs=2,
                        batch_size=16, parts=2, lr=0.5, start_epoch=0, slice=3, pool_size=2)  # fmt: skip
TRAIN = TrainSettings(arch=PATH, dataset="digits", train_images=32, resolution=32, workers=0, epochs=2, cooldown=1,
                      batch_size=16, parts=2, warmup_epochs=1, eval_batch_size=20)  # fmt: skip
STEP = {"schedule": "step", "cooldown": 10}
EVERY_EPOCH = {**STEP, "decay_epochs": 1.0}
RESCORE = {"choose": "rescore"}
# setting -> another value, with what must stand beside it to make it matter (in both runs)
SEARCH_CHANGES = {
    "method": "random", "dataset": "nowhere", "train_images": 64, "holdout": 20, "subset_classes": 5,
    "subset_images": 9, "resolution": 48, "apply_resolution": (True, {"macs_max": 60.0}),
    "macs_min": (1.0, RESCORE), "macs_max": 600.0,
    "enforce_window": (True, {"macs_max": 90.0}), "resunit": True, "dil_conv": True, "pool": "max",
    "sampling": "weighted", "probabilities": (0.5, 0.5, 0.0, 0.0, 0.0, 0.0), "epochs": 3, "batch_size": 12, "parts": 1,
    "lr": 0.1, "meta_lr": 0.1, "lr_rule": "released", "schedule_images": 99, "momentum": 0.5, "weight_decay": 0.1,
    "smoothing": 0.3, "start_epoch": -1, "update_every": 2, "pool_size": 3, "acc_gap": 1.0, "slice": 2,
    "meta_value": "argmax_positive", "meta_gradient": "all", "meta_weights": "clean", "step_sign": "minus",
    "pick": "top1", "stored": "own", "idle": "freeze", "crop": "padded", "pad": (2, {"crop": "padded"}),
    "scale_min": 0.5, "flip": False, "jitter": 0.0, "erasing": 0.9, "choose": "rescore",
    "recalibrate_batches": (2, RESCORE), "select_images": (12, RESCORE), "candidates": (1, {"method": "random"}),
}  # fmt: skip
TRAIN_CHANGES = {
    "epochs": 3, "cooldown": 0, "batch_size": 8, "parts": 1, "schedule": "none", "lr": 0.1, "min_lr": 1e-3,
    "warmup_lr": 1e-3, "warmup_epochs": 2, "decay_epochs": (1.0, STEP), "decay_rate": (0.5, EVERY_EPOCH),
    "optimizer_eps": 0.1, "alpha": 0.5, "momentum": 0.5, "weight_decay": 0.1, "dropout": 0.5, "ema_decay": 0.5,
    "smoothing": 0.3, "crop": "padded", "pad": (2, {"crop": "padded"}), "scale_min": 0.5, "flip": False,
    "randaugment": 0.0, "randaugment_operations": 5, "randaugment_std": 3.0, "erasing": 0.9, "eval_batch_size": 8,
    "eval_every": 2, "interpolation": "bilinear", "arch": "14", "single_block": "default", "repeat_stage3":
    (True, {"arch": "[[0],[3],[3],[3,3,3,1],[3],[3],[0]]"}), "dataset": "nowhere", "train_images": 48, "resolution": 48,
}  # fmt: skip
IDLE = {
    "subset_images": (SEARCH, 9), "probabilities": (SEARCH, (0.0, 0.5, 0.5, 0.0, 0.0, 0.0)), "candidates": (SEARCH, 3),
    "recalibrate_batches": (SEARCH, 2), "select_images": (SEARCH, 12), "pad": (SEARCH, 2),
    "scale_min": (dataclasses.replace(SEARCH, crop="padded"), 0.5), "decay_rate": (TRAIN, 0.5),
    "decay_epochs": (TRAIN, 1.0), "cooldown": (dataclasses.replace(TRAIN, schedule="none"), 1),
    "warmup_epochs": (dataclasses.replace(TRAIN, schedule="none", cooldown=10), 1),
    "interpolation": (TRAIN, "bilinear"),
    "randaugment_std": (dataclasses.replace(TRAIN, randaugment=0.0), 3.0),
}  # fmt: skip


def options(folder, section, **changes):
    return RunOptions(**{"out": folder, "device": "cpu", "paper": "cream", "section": section, "seed": 3, **changes})


def digest(value):
    """Plain text of anything a step is given."""
    if isinstance(value, torch.Tensor):
        return f"{list(value.shape)} {float(value.double().sum()):.9e} {float(value.double().abs().sum()):.9e}"
    if isinstance(value, torch.nn.Module):
        return digest([*value.state_dict().values(), getattr(value, "dropout", None), getattr(value, "layout", None)])
    if isinstance(value, dict):
        return str({key: digest(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return str([digest(item) for item in value])
    return repr(value)


@pytest.fixture(scope="module")
def recorded():
    """What the steps were given, in order; the steps do nothing else."""
    seen = []

    def step(net, optimizer, board, table, path, epoch, j, group, lrs, rules, reduce, images):
        groups = [(len(g["params"]), g["weight_decay"]) for g in optimizer.groups]
        seen.append(digest([net, groups, optimizer.momentum, optimizer.idle, board.size, board.gap, board.start_epoch,
                            path, table.flops(path), epoch, j, group, lrs, rules, images]))  # fmt: skip
        if board.admits(epoch, float(j), 1.0):
            kept = [x[: rules.slice_].clone() for x, _ in group]
            board.add(Entry(float(j), 1.0, path, kept, [torch.full((len(x), 10), 0.1) for x in kept]))
        return StepReport(path, 1.0, 1.0, 1.0, None, float(j), False)

    def scored(net, paths, table, calibration, test, device, window):
        seen.append(digest([paths, calibration, list(test.epoch(0)), window]))
        return [{"path": paths[0], "inside": True, "top1_error_percent": 1.0, "loss": 1.0}]

    def tested(model, batches, *_, **__):
        seen.append(digest([model, list(batches)]))
        return SimpleNamespace(top1_error=50.0, top5_error=10.0, loss=1.0, images=40,
                               as_dict=lambda: {"top1_error_percent": 50.0})  # fmt: skip

    def trained(net, optimizer, ema, group, counter, settings, options, device, step):
        rates = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        seen.append(digest([net, rates, ema.decay, group, settings.smoothing, settings.dropout, step]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_stage, "search_step", step)
        patch.setattr(search_stage, "score_paths", scored)
        patch.setattr(search_stage, "path_error", lambda *_: SimpleNamespace(top1_error=90.0))
        patch.setattr(train_stage, "train_step", trained)
        patch.setattr(train_stage, "evaluate", tested)
        patch.setattr(evaluate_stage, "test_error", tested)
        for stage in (search_stage, train_stage):
            patch.setattr(stage, "save_weights", lambda *_: None)
        yield seen


def outcome(run, settings, folder, section, seen):
    """What the steps saw, or the refusal."""
    seen.clear()
    try:
        run(settings, options(folder, section))
    except UserError as error:
        assert "--" in str(error) or "is missing" in str(error), error
        return f"refused: {error}"
    return list(seen)


BASES = {}


def walk(run, base, name, change, tmp_path_factory, section, seen):
    value, beside = change if isinstance(change, tuple) and isinstance(change[-1], dict) else (change, {})
    base = dataclasses.replace(base, **beside)
    assert getattr(base, name) != value
    key = (section, str(beside))
    if key not in BASES:
        BASES[key] = outcome(run, base, tmp_path_factory.mktemp("base"), section, seen)
        assert not isinstance(BASES[key], str) or "apply_resolution" in name, BASES[key]
    changed = outcome(run, dataclasses.replace(base, **{name: value}), tmp_path_factory.mktemp("x"), section, seen)
    assert changed != BASES[key], f"{section}: {name} = {value!r} does nothing"


def names(cls):
    return {f.name for f in dataclasses.fields(cls)} - NOT_RESULT_BEARING


def test_the_tables_are_complete():
    assert set(SEARCH_CHANGES) == names(SearchSettings) and set(TRAIN_CHANGES) == names(TrainSettings)


@pytest.mark.parametrize("name", SEARCH_CHANGES)
def test_search(name, recorded, tmp_path_factory):
    walk(search_stage.search, SEARCH, name, SEARCH_CHANGES[name], tmp_path_factory, "search", recorded)


@pytest.mark.parametrize("name", TRAIN_CHANGES)
def test_train(name, recorded, tmp_path_factory):
    walk(train_stage.train, TRAIN, name, TRAIN_CHANGES[name], tmp_path_factory, "train", recorded)


@pytest.mark.parametrize("name", IDLE)
def test_what_does_nothing_is_refused_by_name(name, tmp_path):
    base, value = IDLE[name]
    run, section = (search_stage.search, "search") if isinstance(base, SearchSettings) else (train_stage.train, "train")
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')} .* does nothing here: it acts with "):
        run(dataclasses.replace(base, **{name: value}), options(tmp_path, section))
    allowed = options(tmp_path, section, given=frozenset({"epochs"}))  # of a profile: for another choice of the user's
    if name != "cooldown":
        run_plan = search_stage.plan if section == "search" else train_stage.plan
        assert run_plan(dataclasses.replace(base, **{name: value}), allowed)
    with pytest.raises(UserError, match="does nothing here"):
        run(base, options(tmp_path, section, given=frozenset({name})))
