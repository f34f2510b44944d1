"""Two gloo processes equal one process that takes the same batches in two parts: weights, statistics, tested errors.

A batch that does not divide is shared out unevenly, the last, smaller one too; killed and resumed runs end alike.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from common.cli.verbs import main
from common.spaces.architecture import save_architecture
from common.weights.read import load_tensors
from papers.sgnas.__main__ import VERBS
from papers.sgnas.method.supernet_training import supernet_gradients
from papers.sgnas.networks.architectures import MACROS
from papers.sgnas.networks.supernet import Supernet

SEED, IMAGES = 5, 44  # batches of 29 and 15 images, of which one process has 15 and 8, the other 14 and 7
SEARCH = (
    f"--dataset digits --macro tiny --train-images {IMAGES} --search-images {IMAGES} --batch-size 29 "
    "--supernet-epochs 1 --cosine-epochs 1 --generator-epochs 1 --lr 0.01 --low-mflops 2.5 --high-mflops 5 "
    "--target-step 0.25 --target-noise 0.1 --validation-step 0.5 --alpha 0.3 --accept-loss 99 --prior-tolerance 0.2 "
    "--targets 3 4 --width 8"
)
KERNELS = [[3, 5], [7, 3, 3], [5], [3, 3], [5, 7]]
TRAIN = (
    f"--dataset digits --macro tiny --train-images {IMAGES} --no-se --activation relu --bn-momentum 0.1 --epochs 2 "
    "--batch-size 29 --optimizer sgd --lr 0.05 --weight-decay 4e-4 --schedule cosine --ema-decay 0.5 "
    "--warmup-epochs 0"
)


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Every test here."""


@pytest.fixture(scope="module")
def launch(two_processes):
    """Run a command of this paper in two processes; the standard errors."""

    def run(arguments: list[str], **more) -> list[str]:
        return two_processes(["-m", "papers.sgnas", *arguments, "--device", "cpu", "--seed", str(SEED)], **more)

    return run


def alone(*arguments: object) -> None:
    main("sgnas", VERBS, [str(a) for a in (*arguments, "--device", "cpu", "--seed", SEED)])


@pytest.fixture(scope="module")
def architecture(tmp_path_factory):
    path = tmp_path_factory.mktemp("two") / "a.json"
    save_architecture(path, "sgnas", {"kernels": KERNELS, "macro": "tiny"})
    return str(path)


def equal_weights(one: Path, two: Path) -> None:
    first, second = load_tensors(one), load_tensors(two)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        if name == "tail.0.bias":  # of the generator: its gradient is rounding noise, which Adam turns into steps
            continue
        torch.testing.assert_close(tensor, second[name], rtol=1e-3, atol=1e-4, msg=name)


def equal_histories(one: Path, two: Path) -> None:
    rows = [list(csv.DictReader((folder / "history.csv").open())) for folder in (one, two)]
    assert len(rows[0]) == len(rows[1])
    for first, second in zip(*rows):
        for column, value in first.items():
            if column == "phase" or not value:
                assert value == second[column]
            else:
                assert float(value) == pytest.approx(float(second[column]), rel=1e-3, abs=1e-3), column


def test_search(tmp_path, launch):
    launch(["search", *SEARCH.split(), "--out", str(tmp_path / "two")])
    alone("search", *SEARCH.split(), "--parts", 2, "--out", tmp_path / "one")
    for name in ("supernet.safetensors", "generator.safetensors"):
        equal_weights(tmp_path / "one" / name, tmp_path / "two" / name)
    equal_histories(tmp_path / "one", tmp_path / "two")
    assert json.loads((tmp_path / "two" / "result.json").read_text())["processes"] == 2
    alone("search-supernet", *SEARCH.partition("--generator-epochs")[0].split(), "--out", tmp_path / "whole")
    weights = [load_tensors(tmp_path / n / "supernet.safetensors")["first.bn.running_var"] for n in ("one", "whole")]
    assert not torch.allclose(*weights)  # parts are normalised apart


def test_training_and_evaluation(architecture, tmp_path, launch):
    flags = [*TRAIN.split(), "--dropout", "0", "--arch", architecture]
    launch(["train", *flags, "--out", str(tmp_path / "two")])
    alone("train", *flags, "--parts", 2, "--out", tmp_path / "one")
    equal_weights(tmp_path / "one" / "weights.safetensors", tmp_path / "two" / "weights.safetensors")
    equal_histories(tmp_path / "one", tmp_path / "two")
    weights = str(tmp_path / "two" / "weights.safetensors")
    launch(
        [
            "evaluate",
            "--dataset",
            "digits",
            "--arch",
            architecture,
            "--checkpoint",
            weights,
            "--out",
            str(tmp_path / "e"),
        ]
    )
    trained, evaluated = (json.loads((tmp_path / n / "result.json").read_text())["metrics"] for n in ("two", "e"))
    assert evaluated["images"] == 1000  # every image once, whatever the number of processes
    assert evaluated["top1_error_percent"] == trained["top1_error_percent"]


def test_killed_and_resumed_with_dropout(architecture, tmp_path, launch, two_processes):
    """The state is saved after every step; the run ends inside the second epoch and goes on."""
    flags = [*TRAIN.split(), "--dropout", "0.5", "--arch", architecture]
    launch(["train", *flags, "--out", str(tmp_path / "whole")])
    broken = [
        "-c",
        "import os, sys\nfrom common.run.folder import Run\nsave, count = Run.write_state, []\n"
        "def stop(self, state):\n    save(self, state); count.append(1)\n    if len(count) == 4: os._exit(9)\n"
        "Run.write_state = stop\nfrom common.cli.verbs import main\nfrom papers.sgnas.__main__ import VERBS\n"
        "main('sgnas', VERBS, sys.argv[1:])",
    ]
    command = ["train", *flags, "--out", str(tmp_path / "run"), "--device", "cpu", "--seed", str(SEED)]
    with pytest.raises(AssertionError):  # they end with status 9
        two_processes([*broken, *command], NAS_SAVE_EVERY_S="0")
    assert list((tmp_path / "run" / "state").glob("*.pt")) and not (tmp_path / "run" / "finished.json").exists()
    launch(command[:-4])
    for name in ("weights.safetensors", "history.csv", "result.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_shares_of_one_batch():
    """The gradient is the mean over images and the statistics the mean over shares, whatever the shares' sizes."""
    x, y = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    paths = [[[0, 1, 3, 3, 3, 3]] * 5, [[2, 3, 3, 0, 3, 1]] * 5]

    def fresh() -> Supernet:
        return Supernet(MACROS["tiny"], 10, 0.1, torch.Generator().manual_seed(1)).train()

    together = fresh()
    losses = supernet_gradients(together, x, y, paths, sizes=(3, 2, 0))
    parts = [fresh(), fresh()]
    alone = [supernet_gradients(p, x[s], y[s], paths) for p, s in zip(parts, (slice(0, 3), slice(3, 5)))]
    for number, loss in enumerate(losses):
        torch.testing.assert_close(loss, 0.6 * alone[0][number] + 0.4 * alone[1][number])
    for whole, first, second in zip(together.parameters(), *(p.parameters() for p in parts)):
        torch.testing.assert_close(whole.grad, 0.6 * first.grad + 0.4 * second.grad, rtol=1e-4, atol=1e-6)
    for (name, whole), first, second in zip(together.named_buffers(), *(p.buffers() for p in parts)):
        if "running" in name:
            torch.testing.assert_close(whole, 0.6 * first + 0.4 * second, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("verb", ["search-supernet", "train"])
def test_parts_that_cannot_be_shared(architecture, tmp_path, monkeypatch, capsys, verb):
    from common.run import distributed

    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "setup", lambda: None)
    monkeypatch.setattr(distributed, "barrier", lambda: None)
    monkeypatch.setattr(distributed, "all_see", lambda path: None)
    flags = TRAIN.split() + ["--arch", architecture] if verb == "train" else SEARCH.partition("--generator")[0].split()
    with pytest.raises(SystemExit):
        alone(verb, *flags, "--parts", 3, "--out", tmp_path / "run")
    assert "3 parts cannot be shared by 2 processes" in capsys.readouterr().err
