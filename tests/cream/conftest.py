"""Tiny runs on the embedded digits: a small test set, and the same verb in two gloo processes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from papers.cream.search import search
from papers.cream.studies.rank_study import rank_study
from papers.cream.train import train
from tests.cream.tools import RANDOM, SEARCH, STUDY, TESTED, TRAIN, few_test_images, options

ROOT = Path(__file__).resolve().parents[2]

LAUNCH = f"""
import sys
stage, folder, root, settings, seed, stop = sys.argv[1:]
sys.path.insert(0, root)
import torch
torch.set_num_threads(1)
from importlib import import_module
from pathlib import Path
import papers.cream.data.sets as data
from papers.cream.settings import Evaluate, Search, Train
original = data.open_source
def opened(dataset, split, resolution, options):
    source = original(dataset, split, resolution, options)
    return source if split == "train" else source.subset(range({TESTED}))
data.open_source = opened
from common.cli.verbs import RunOptions
from common.run import distributed
options = RunOptions(out=Path(folder), device="cpu", paper="cream", section=stage, seed=int(seed))
module = import_module("papers.cream." + stage)
run = lambda: getattr(module, stage)(eval(settings), options)
run()
if int(stop):  # the same again, stopped in the middle of an epoch, then resumed with other generators
    import os
    from dataclasses import replace
    os.environ["NAS_SAVE_EVERY_S"] = "0"
    step, calls = {{"search": "train_student", "train": "train_step"}}[stage], []
    real = getattr(module, step)
    def stops(*args, **where):
        calls.append(1)
        if len(calls) == int(stop):
            raise KeyboardInterrupt
        return real(*args, **where)
    setattr(module, step, stops)
    options = replace(options, out=Path(folder + "-resumed"))
    try:
        run()
        raise SystemExit("it did not stop")
    except KeyboardInterrupt:
        torch.manual_seed(1000 + distributed.rank())
    run()
distributed.close()
"""


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Every test here."""


@pytest.fixture(autouse=True, scope="module")
def small_test_set():
    """Few test images, in every test here."""
    with few_test_images():
        yield


@pytest.fixture(scope="session")
def searched(tmp_path_factory):
    """(folder, result) of a search."""
    folder = tmp_path_factory.mktemp("search")
    with few_test_images():
        return folder, search(SEARCH, options(folder, "search"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """(folder, result) of a training."""
    folder = tmp_path_factory.mktemp("train")
    with few_test_images():
        return folder, train(TRAIN, options(folder, "train"))


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """The settings of a rank study of a search by ``--method random``."""
    folder = tmp_path_factory.mktemp("random")
    with few_test_images():
        search(RANDOM, options(folder, "search"))
    return replace(STUDY, search=str(folder))


@pytest.fixture(scope="session")
def studied(tmp_path_factory, study):
    """(folder, result) of that study."""
    folder = tmp_path_factory.mktemp("study")
    with few_test_images():
        return folder, rank_study(study, options(folder, "rank_study"))


@pytest.fixture(scope="session")
def in_two_processes(two_processes):
    """Runs a stage with given settings as two processes of one gloo job.

    stop: run it once more, in ``<folder>-resumed``, stopped at that step and resumed.
    """

    def run(stage, settings, folder, seed, stop=0):
        two_processes(["-c", LAUNCH, stage, str(folder), str(ROOT), repr(settings), str(seed), str(stop)])

    return run


@pytest.fixture
def class_folders(tmp_path):
    """Two classes of random pictures: six for training and four for validation each."""
    rng = np.random.RandomState(0)
    for split, count in (("train", 6), ("val", 4)):
        for label in "ab":
            folder = tmp_path / "set" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.randint(0, 255, (40, 44, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "set"
