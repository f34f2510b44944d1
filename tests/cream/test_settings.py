"""Every setting of every stage acts or is refused by name: changed alone, it changes what the run computes.

The steps themselves are replaced by recorders of all they are given, so that a run takes no time.
"""

import dataclasses
import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from common.cli.verbs import RunOptions
from common.errors import UserError
from common.settings import NOT_RESULT_BEARING
from common.weights.read import save_weights
from papers.cream import evaluate as evaluate_stage
from papers.cream import search as search_stage
from papers.cream import select as select_stage
from papers.cream import train as train_stage
from papers.cream.describe import describe, draw
from papers.cream.method.distillation import Outcome
from papers.cream.networks.architectures import resolve
from papers.cream.networks.derived import architecture_of
from papers.cream.networks.networks import derive
from papers.cream.settings import (
    Describe,
    Draw,
    Evaluate,
    Recipe,
    Search,
    Select,
    Train,
)
from papers.cream.studies import rank_study as rank_stage
from papers.cream.studies.figures import figures
from papers.cream.studies.settings import Figures, RankStudy

PATH = "[[0],[0],[0],[0],[0],[0],[0]]"
SEARCH = Search(dataset="digits", train_images=48, holdout=16, resolution=32, workers=0, macs_max=122, epochs=2,
                        batch_size=16, parts=2, lr=0.5, start_epoch=0, slice=3, pool_size=2)  # fmt: skip
TRAIN = Train(arch=PATH, dataset="digits", train_images=32, resolution=32, workers=0, epochs=2, cooldown=1,
                      batch_size=16, parts=2, warmup_epochs=1, eval_batch_size=20)  # fmt: skip
STEP = {"schedule": "step", "cooldown": 10}
EVERY_EPOCH = {**STEP, "decay_epochs": 1.0}
RESCORE = {"choose": "rescore"}
# setting -> another value, with what must stand beside it to make it matter (in both runs)
SEARCH_CHANGES = {
    "method": "random", "dataset": "nowhere", "train_images": 64, "holdout": 20, "subset_classes": 5,
    "subset_images": 9, "resolution": 48, "apply_resolution": (True, {"macs_max": 60.0}),
    "macs_min": (1.0, RESCORE), "macs_max": 150.0,
    "enforce_window": (True, {"macs_max": 90.0}), "resunit": True, "dil_conv": True, "pool": "max",
    "sampling": "weighted", "probabilities": (0.5, 0.5, 0.0, 0.0, 0.0, 0.0), "epochs": 3, "batch_size": 12, "parts": 1,
    "lr": 0.1, "meta_lr": 0.1, "lr_rule": "released", "schedule_images": 99, "momentum": 0.5, "weight_decay": 0.1,
    "label_smoothing": 0.3, "start_epoch": -1, "update_every": 2, "pool_size": 3, "acc_gap": 1.0, "slice": 2,
    "meta_value": "argmax_positive", "meta_gradient": "all", "meta_weights": "clean", "step_sign": "minus",
    "pick": "top1", "stored": "own", "zero_grad": "none", "crop": "padded", "pad": (2, {"crop": "padded"}),
    "scale_min": 0.5, "flip": False, "jitter": 0.0, "erasing": 0.9, "choose": "rescore",
    "recalibrate_batches": (2, RESCORE), "select_images": (12, RESCORE), "candidates": (1, {"method": "random"}),
}  # fmt: skip
TRAIN_CHANGES = {
    "epochs": 3, "cooldown": 0, "batch_size": 8, "parts": 1, "schedule": "none", "lr": 0.1, "lr_min": 1e-3,
    "warmup_lr": 1e-3, "warmup_epochs": 2, "decay_epochs": (1.0, STEP), "decay_rate": (0.5, EVERY_EPOCH),
    "optimizer_eps": 0.1, "alpha": 0.5, "momentum": 0.5, "weight_decay": 0.1, "dropout": 0.5, "ema_decay": 0.5,
    "label_smoothing": 0.3, "crop": "padded", "pad": (2, {"crop": "padded"}), "scale_min": 0.5, "flip": False,
    "randaugment": 0.0, "randaugment_operations": 5, "randaugment_std": 3.0, "erasing": 0.9, "eval_batch_size": 8,
    "eval_every": 2, "interpolation": "bilinear", "checkpoint": "absent", "arch": "14", "single_block": "default",
    "repeat_stage3": (True, {"arch": "[[0],[3],[3],[3,3,3,1],[3],[3],[0]]"}), "dataset": "nowhere", "train_images": 48,
    "resolution": 48,
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

    def step(student, teacher, label_smoothing, stored, **where):
        optimizer = student.optimizer
        groups = [(len(g["params"]), g["weight_decay"]) for g in optimizer.groups]
        seen.append(digest([None if seen else student.supernet, groups, optimizer.momentum, optimizer.zero_grad,
                            optimizer.lrs, student.path, student.shares, student.images, label_smoothing, stored,
                            where]))  # fmt: skip
        kept = [x[: student.supernet.slice] for x, _ in student.shares]
        return Outcome(1.0, 1.0, None, float(where["batch"]), None, kept, [torch.full((len(x), 10), 0.1) for x in kept])

    def teach(student, board, rules):
        seen.append(digest([rules, board.size, board.gap, board.entries]))

    def update(student, board, rules, label_smoothing):
        seen.append(digest([rules, label_smoothing]))

    def scored(net, paths, space, bounds, calibration, test):
        seen.append(digest([paths, calibration, list(test.epoch(0)), bounds]))
        return [{"path": paths[0], "inside": True, "top1_error_percent": 1.0, "loss": 1.0}]

    def tested(model, batches, *_, **__):
        seen.append(digest([None if seen else model, list(batches)]))
        return SimpleNamespace(top1_error=50.0, top5_error=10.0, loss=1.0, images=40,
                               as_dict=lambda: {"top1_error_percent": 50.0})  # fmt: skip

    def trained(network, shares, label_smoothing, options, step):
        rates = [{k: v for k, v in g.items() if k != "params"} for g in network.optimizer.param_groups]
        seen.append(digest([None if seen else network.net, rates, network.ema.decay, shares, label_smoothing,
                            network.net.dropout, step]))  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_stage, "train_student", step)
        patch.setattr(search_stage, "choose_teacher", teach)
        patch.setattr(search_stage, "meta_update", update)
        patch.setattr(search_stage, "score_paths", scored)
        patch.setattr(select_stage, "score_paths", scored)
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
        assert "\n" not in str(error)
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
    assert set(SEARCH_CHANGES) == names(Search) and set(TRAIN_CHANGES) == names(Train)


@pytest.mark.parametrize("name", SEARCH_CHANGES)
def test_search(name, recorded, tmp_path_factory):
    walk(search_stage.search, SEARCH, name, SEARCH_CHANGES[name], tmp_path_factory, "search", recorded)


@pytest.mark.parametrize("name", TRAIN_CHANGES)
def test_train(name, recorded, tmp_path_factory):
    walk(train_stage.train, TRAIN, name, TRAIN_CHANGES[name], tmp_path_factory, "train", recorded)


@pytest.mark.parametrize("name", IDLE)
def test_what_does_nothing_is_refused_by_name(name, tmp_path):
    base, value = IDLE[name]
    run, section = (search_stage.search, "search") if isinstance(base, Search) else (train_stage.train, "train")
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')} .* does nothing here: it acts with "):
        run(dataclasses.replace(base, **{name: value}), options(tmp_path, section))
    if section == "search":  # of a profile: for another choice of the user's
        dataclasses.replace(base, **{name: value}).check(frozenset({"epochs"}))
    with pytest.raises(UserError, match="does nothing here"):
        run(base, options(tmp_path, section, given=frozenset({name})))


@pytest.fixture(scope="module")
def searched(recorded, tmp_path_factory):
    """The folders of two searches whose steps did nothing, with a file in the place of the supernet."""
    folders = [tmp_path_factory.mktemp("searched") for _ in range(2)]
    for more, folder in enumerate(folders):
        settings = dataclasses.replace(SEARCH, train_images=48 + 16 * more)
        search_stage.search(settings, options(folder, "search"))
        (folder / "supernet.safetensors").write_bytes(b"weights")
    return folders


def differs(run, base, changes, tmp_path_factory, section, seen):
    """Each change alone makes another outcome; changes: setting -> value."""
    before = outcome(run, base, tmp_path_factory.mktemp("base"), section, seen)
    assert not isinstance(before, str), before
    for name, value in changes.items():
        changed = dataclasses.replace(base, **{name: value})
        assert outcome(run, changed, tmp_path_factory.mktemp("x"), section, seen) != before, name


def test_select(recorded, searched, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(select_stage.FinishedSearch, "supernet", lambda *_: None)
    base = Select(search=str(searched[0]))
    changes = {"search": str(searched[1]), "rule": "head", "recalibrate_batches": 2, "select_images": 12,
               "macs_min": 9.0, "macs_max": 99.0}  # fmt: skip
    assert set(changes) == names(Select)
    differs(select_stage.select, base, changes, tmp_path_factory, "select", recorded)
    head = dataclasses.replace(base, rule="head")
    for name in ("recalibrate_batches", "select_images", "macs_min", "macs_max"):
        refused = outcome(select_stage.select, dataclasses.replace(head, **{name: changes[name]}),
                          tmp_path_factory.mktemp("x"), "select", recorded)  # fmt: skip
        assert f"--{name.replace('_', '-')} " in refused and "with --rule rescore only" in refused


def test_rank_study(recorded, searched, tmp_path_factory, monkeypatch):
    def shared(net, path, judged):
        recorded.append(digest([path, list(judged.epoch(0))]))
        return SimpleNamespace(top1_error=50.0)

    def recalibrated(net, path, batches):
        recorded.append(digest([path, batches]))
        return nullcontext()

    monkeypatch.setattr(rank_stage, "DRAWS", 2)  # the interval is not compared
    monkeypatch.setattr(rank_stage, "path_error", shared)
    monkeypatch.setattr(rank_stage, "recalibrated", recalibrated)
    monkeypatch.setattr(select_stage.FinishedSearch, "supernet", lambda *_: None)
    base = RankStudy(search=str(searched[0]), paths=1, workers=0, epochs=2, batch_size=16, parts=2, eval_batch_size=20)
    changes = {name: TRAIN_CHANGES[name] for name in names(Recipe) if not isinstance(TRAIN_CHANGES[name], tuple)}
    changes |= {"pad": 2, "decay_rate": 0.5, "decay_epochs": 1.0, "epochs": 7, "cooldown": 3, "parts": 4,
                "search": str(searched[1]), "paths": 2, "recalibrate_batches": 2, "macs_min": 200.0,
                "macs_max": 70.0}  # fmt: skip
    assert set(changes) == names(RankStudy)
    differs(rank_stage.rank_study, base, changes, tmp_path_factory, "rank_study", recorded)


def test_evaluate(recorded, tmp_path_factory):
    files = [str(tmp_path_factory.mktemp("weights") / "weights.safetensors") for _ in range(2)]
    for seed, file in enumerate(files):
        torch.manual_seed(seed)
        about = {"space": "cream", "dataset": "digits", "classes": 10, "weights": "ema",
                 "architecture": architecture_of(resolve(PATH), 32)}  # fmt: skip
        save_weights(derive(resolve(PATH).path, 10, single_block_default=False), file, about)
    base = Evaluate(checkpoint=files[0], dataset="digits", resolution=32, workers=0)
    changes = {"arch": "14", "checkpoint": files[1], "single_block": "default", "dataset": "cifar10", "resolution": 48,
               "batch_size": 7, "interpolation": "bilinear", "weights": "raw"}  # fmt: skip
    assert set(changes) == names(Evaluate) - {"repeat_stage3"}
    differs(evaluate_stage.evaluate, base, changes, tmp_path_factory, "evaluate", recorded)
    four = dataclasses.replace(base, arch="[[0],[0],[0],[0,0,0,0],[0],[0],[0]]")
    messages = [outcome(evaluate_stage.evaluate, dataclasses.replace(four, repeat_stage3=repeated),
                        tmp_path_factory.mktemp("x"), "evaluate", recorded) for repeated in (False, True)]  # fmt: skip
    assert messages[0] != messages[1]  # neither network fits; one has a block more


def test_describing_and_drawing(tmp_path):
    four = "[[0],[3],[3],[3,3,3,1],[3],[3],[0]]"
    base = Describe(arch=four)
    changes = ({}, {"arch": "14"}, {"dataset": "cifar10"}, {"single_block": "default"}, {"repeat_stage3": True},
               {"classes": 7}, {"resolution": 96})  # fmt: skip
    every = [dataclasses.replace(base, **change) for change in changes]
    described = {str(describe(c, None)) for c in every}
    assert len(described) == len(names(Describe)) + 1
    drawn = set()
    for number, change in enumerate(
        (
            {},
            {"arch": "14"},
            {"single_block": "strict"},
            {"arch": four},
            {"arch": four, "repeat_stage3": True},
            {"format": "png"},
        )
    ):
        draw(Draw(**{"arch": "43", **change}), options(tmp_path / str(number), "draw"))
        drawn |= {file.suffix.encode() + file.read_bytes() for file in (tmp_path / str(number)).glob("architecture.*")}
    assert len(drawn) == len(names(Draw)) + 2
    result = tmp_path / "results" / "paper" / "cream" / "a" / "result.json"
    result.parent.mkdir(parents=True)
    content = {"architecture": {"path": resolve("43").path}, "metrics": {"top1_error_percent": 33.0},
               "settings": {"dataset": "imagenet"}}  # fmt: skip
    result.write_text(json.dumps(content))
    seen = set()
    for where, kind in (("none", "svg"), ("results", "svg"), ("none", "png")):
        settings = Figures(results=str(tmp_path / where), format=kind)
        made = figures(settings, options(tmp_path / f"{where}-{kind}", "figures"))["figures"]
        seen.add(str([(panel["points"], panel["file"][-3:]) for panel in made.values()]))
    assert len(seen) == len(names(Figures)) + 1
