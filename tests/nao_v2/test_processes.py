"""Several processes: equal to one that computes the same shares; killed and resumed, to those that were not killed."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from common.cli.verbs import main
from common.run.files import read_json
from papers.nao_v2.__main__ import VERBS
from tests import fresh

ROOT = Path(__file__).parents[2]
IMAGENET = """
train --variant imagenet --profile paper --layers 1 --channels 4 --epochs 1 --batch-size 5 --workers 0 --device cpu
--allow-unpinned --cutout 40 --train-images 15
"""
TRAIN = """
train --train-images 70 --batch-size 33 --epochs 2 --channels 2 --layers 1 --eval-every 1 --drop-path-keep 0.6
--dropout-keep 0.5 --device cpu
"""  # the last batch has 4 images, two for each of two processes
SEARCH = """
search --valid-images 100 --train-images 97 --iterations 2 --seed-architectures 4 --new-architectures 3 --layers 1
--channels 2 --epochs 1 --batch-size 32 --score-images 20 --controller-epochs 2 --controller-mlp-layers 1
--controller-mlp-hidden 8 --generation-seeds 2 --maximum-step 2 --on-empty random --final 1 --final-epochs 1
--final-dropout-keep 0.5 --final-drop-path-keep 0.6 --dropout-keep 0.8 --device cpu
"""  # the last batch has one image: the second process has none
SMALL = """
train --channels 2 --layers 1 --epochs 1 --batch-size 5 --train-images 0 --lr 0.05 --allow-unpinned
--device cpu
"""  # no masks, since those of a share are its process's own
PROGRAM = """
import json, os, signal, sys
from common.run import distributed
from common.cli.verbs import main
from common.run.folder import Run
from papers.nao_v2.__main__ import VERBS

close, write, left = distributed.close, Run.write_state, [0]

def dying(self, state):
    left[0] -= 1
    if left[0] == 0 and self.writes:
        os.kill(os.getpid(), signal.SIGKILL)  # before the save: the work since the last one is lost
    write(self, state)

Run.write_state = dying
distributed.close = lambda: None  # several runs one after another in one process group
for left[0], argv in json.loads(sys.argv[1]):
    main("nao_v2", VERBS, argv)
close()
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.RandomState(0)
    for split, count in (("train", 8), ("valid", 4)):
        for number in range(2):
            folder = root / split / f"class{number}"
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = (rng.rand(30, 36, 3) * 120 + 100 * number).astype(np.uint8)
                Image.fromarray(pixels).resize((252, 240)).save(folder / f"{k}.png")
    return root


def two(program: Path, jobs: list[list[object]], status: int = 0) -> str:
    """What two processes of one job say; ``status``: the first one's."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NAS_SAVE_EVERY_S": "0", "NAS_DISTRIBUTED_TIMEOUT_S": "60"}
    processes = fresh.pair([str(program), json.dumps(jobs)], {**environment, "PYTHONPATH": str(ROOT)})
    said = processes[0].communicate(timeout=600)[1]
    if processes[0].returncode:
        processes[1].send_signal(signal.SIGTERM)  # as torchrun ends a job that has lost a process
    said += processes[1].communicate(timeout=600)[1]
    first, second = (process.wait() for process in processes)
    assert first == status and (second == 0) == (status == 0), said[-2000:]
    return said


def rows(folder: Path, name: str = "history.csv") -> list[dict[str, str]]:
    with open(folder / name, newline="") as file:
        return list(csv.DictReader(file))


def distance(first: Path, second: Path, statistics: bool) -> float:
    """|a - b| / |b| over all weights, or all running statistics; rounding grows over steps of so small batches."""
    a, b = load_file(first), load_file(second)
    assert a.keys() == b.keys()
    names = [k for k in a if a[k].is_floating_point() and ("running_" in k) == statistics]
    apart = sum(float((a[k].double() - b[k].double()).square().sum()) for k in names)
    return (apart / sum(float(b[k].double().square().sum()) for k in names)) ** 0.5


def test_two_processes_equal_one_with_two_parts(tree, tmp_path):
    """Weights, running statistics, test errors. Batches of 5 are shared out unevenly; the last holds one."""
    small, pictures = [*SMALL.split(), "--dataset", f"{tree}@32"], [*IMAGENET.split(), "--dataset", str(tree)]
    jobs = [[0, [*small, "--out", str(tmp_path / "s2")]], [0, [*pictures, "--out", str(tmp_path / "p2")]]]
    (tmp_path / "program.py").write_text(PROGRAM)
    two(tmp_path / "program.py", jobs)
    for words, name, steps in ((small, "s", 4), (pictures, "p", 3)):
        main("nao_v2", VERBS, [*words, "--parts", "2", "--out", str(tmp_path / f"{name}1")])
        both, one = (read_json(tmp_path / f"{name}{n}" / "result.json") for n in (2, 1))
        assert (both["processes"], one["processes"]) == (2, 1)
        assert both["metrics"] == pytest.approx(one["metrics"], abs=1e-9)
        for name_of in ("weights.safetensors", "weights_last.safetensors"):
            for statistics in (False, True):
                found = distance(tmp_path / f"{name}2" / name_of, tmp_path / f"{name}1" / name_of, statistics)
                assert found < 1e-3, (name_of, statistics, found)
        first, second = rows(tmp_path / f"{name}2")[0], rows(tmp_path / f"{name}1")[0]
        assert float(first["test_loss"]) == pytest.approx(float(second["test_loss"]), rel=1e-2)
        assert float(first["train_loss"]) == pytest.approx(float(second["train_loss"]), rel=1e-3)
        tracked = load_file(tmp_path / f"{name}2" / "weights.safetensors")
        assert {int(v) for k, v in tracked.items() if k.endswith("num_batches_tracked")} == {steps}

    weights = ["--checkpoint", str(tmp_path / "p2" / "weights.safetensors"), "--out", str(tmp_path / "test")]
    main("nao_v2", VERBS, ["evaluate", "--workers", "0", "--allow-unpinned", "--batch-size", "4", *weights])
    tested = read_json(tmp_path / "test" / "result.json")["metrics"]
    assert tested["top1_error_percent"] == read_json(tmp_path / "p2" / "result.json")["metrics"]["top1_error_percent"]
    row = rows(tmp_path / "p2")[0]
    assert tested["test_loss"] == pytest.approx(float(row["test_loss"]), rel=1e-5)  # the statistics that are saved
    assert row["test_top5_error_percent"] == ""  # two classes


def test_two_processes_killed_and_resumed(tmp_path):
    """Drop path, dropout and the predictor's dropout are on: masks after a resumption are those of the whole run."""
    (tmp_path / "program.py").write_text(PROGRAM)
    train, search = TRAIN.split(), SEARCH.split()
    whole = {name: ["--out", str(tmp_path / f"{name}-whole")] for name in ("train", "search")}
    parts = {name: ["--out", str(tmp_path / f"{name}-parts")] for name in ("train", "search")}
    jobs = [
        [[0, train + whole["train"]], [0, search + whole["search"]], [2, train + parts["train"]]],
        [[0, train + parts["train"]], [3, search + parts["search"]]],
        [[0, search + parts["search"]]],
    ]
    for number, job in enumerate(jobs):
        said = two(tmp_path / "program.py", job, status=-signal.SIGKILL if number < 2 else 0)
        assert ("resuming" in said) == (number > 0), said[-2000:]
    for name in ("train", "search"):
        first, second = tmp_path / f"{name}-whole", tmp_path / f"{name}-parts"
        files = [p.name for p in first.iterdir() if p.suffix in (".csv", ".safetensors") or p.name.startswith("arch")]
        for file in ("result.json", *files):
            assert (first / file).read_bytes() == (second / file).read_bytes(), file
    assert [int(row["epoch"]) for row in rows(tmp_path / "search-whole")] == [0, 1]


def test_the_released_rule_for_several_gpus():
    """128 images and a rate of 0.1 per GPU, batch statistics per GPU."""
    from papers.nao_v2.settings import TRAIN_VARIANTS, Train
    from papers.nao_v2.train import recipe_of

    for variant, gpus in (("imagenet", 1), ("imagenet-4gpu", 4)):
        c = Train(**TRAIN_VARIANTS[variant])
        assert c.batch_size == 128 * gpus and max(c.parts, 1) == gpus
        assert recipe_of(c, 10).rate(2) == pytest.approx(0.1 * gpus * 0.97**2)
