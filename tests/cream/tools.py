"""Tiny runs of every stage, and what tests of several stages need."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

import papers.cream.data.sets as sets
from common.cli.verbs import RunOptions
from common.weights.read import load_tensors
from papers.cream.describe import describe
from papers.cream.method.board import Entry
from papers.cream.method.distillation import train_student
from papers.cream.method.meta import MetaRules, choose_teacher, meta_update
from papers.cream.method.student import Student
from papers.cream.settings import Describe, Search, Train
from papers.cream.studies.settings import RankStudy

TESTED = 40  # images of the digits' test set that are looked at
PATH = "[[0],[0],[0],[0],[0],[0],[0]]"
SEARCH = Search(
    dataset="digits", train_images=80, holdout=16, resolution=32, workers=0, macs_max=122, epochs=2, batch_size=16,
    parts=2, lr=0.02, meta_lr=0.01, start_epoch=0, update_every=2, pool_size=2, slice=3, crop="padded", pad=2,
    flip=False, jitter=0.0, erasing=0.2,
)  # fmt: skip
SCORED = {"recalibrate_batches": 1, "select_images": 16}
TRAIN = Train(
    arch=PATH, dataset="digits", train_images=32, resolution=32, workers=0, epochs=2, cooldown=0, batch_size=16,
    parts=2, lr=0.004, warmup_epochs=1, ema_decay=0.9, crop="padded", pad=2, flip=False, randaugment=0.0,
    eval_batch_size=20,
)  # fmt: skip
RANDOM = Search(
    method="random", dataset="digits", train_images=80, holdout=20, resolution=32, workers=0, macs_max=122, epochs=1,
    batch_size=8, parts=1, lr=0.02, slice=3, crop="padded", pad=2, flip=False, jitter=0.0,
    erasing=0.0, recalibrate_batches=1, select_images=20, candidates=2,
)  # fmt: skip
STUDY = RankStudy(
    paths=3, recalibrate_batches=2, workers=0, epochs=2, cooldown=0, batch_size=20, parts=1, lr=0.004, warmup_epochs=0,
    ema_decay=0.9, crop="padded", pad=2, flip=False, randaugment=0.0, erasing=0.0, eval_batch_size=20,
)  # fmt: skip


def options(folder, section, **changes):
    """Of a stage that writes into a folder."""
    return RunOptions(**{"out": folder, "device": "cpu", "paper": "cream", "section": section, "seed": 3, **changes})


def described(arch, dataset="", **more):
    """What ``describe`` says of a network."""
    return describe(Describe(arch=arch, dataset=dataset, **more), None)


def weights(folder):
    """The supernet of a search."""
    return load_tensors(folder / "supernet.safetensors")


@contextmanager
def few_test_images():
    """Inside, the digits have fewer test images; the numbers themselves are not what is looked at."""
    original = sets.open_source

    def opened(dataset, split, resolution, options):
        source = original(dataset, split, resolution, options)
        return source.subset(range(TESTED)) if split != "train" and dataset == "digits" else source

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sets, "open_source", opened)
        yield


@contextmanager
def stopped_at(module, step, *numbers):
    """Inside, a run saves at every step, and the calls with these numbers of ``module.step`` are interrupted."""
    real, calls = getattr(module, step), []

    def stops(*args, **where):
        calls.append(1)
        if len(calls) in numbers:
            raise KeyboardInterrupt
        return real(*args, **where)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_SAVE_EVERY_S", "0")
        patch.setattr(module, step, stops)
        yield calls


def iterate(
    net, optimizer, board, path, flops, shares, lrs, rules=None, update_due=False, board_is_open=True, stored="teacher"
):
    """One iteration of the search, put together as ``papers.cream.search`` does, with what it measured."""
    rules = rules or MetaRules()
    optimizer.lrs = lrs
    student = Student(net, optimizer, path, shares)
    report = meta_update(student, board, rules) if len(board) and update_due else None
    teacher = choose_teacher(student, board, rules) if len(board) else None
    outcome = train_student(student, teacher, stored=stored)
    entry = Entry(outcome.score, flops, path, outcome.images, outcome.probabilities)
    return SimpleNamespace(
        meta=report, teacher=teacher and teacher.path, outcome=outcome, accepted=board_is_open and board.offer(entry)
    )
