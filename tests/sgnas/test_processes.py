"""Two gloo processes equal one process that accumulates the same two batches (normalisation is per part), exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from common import seeds
from common.checkpoints import load_tensors
from common.cli import RunOptions
from common.losses import label_smoothing_cross_entropy
from common.schedules import cosine
from papers.sgnas import datasets
from papers.sgnas.architectures import MACROS
from papers.sgnas.frozen import FrozenSupernet
from papers.sgnas.generator import Generator, gumbel_noise
from papers.sgnas.generator_training import build_optimizer, generator_loss, targets_of_step
from papers.sgnas.lookup import macs_table
from papers.sgnas.network import Network, to_published
from papers.sgnas.prior import read_pool
from papers.sgnas.sampling import sample_paths
from papers.sgnas.supernet import Supernet, load_supernet
from papers.sgnas.supernet_training import PathSGD, supernet_gradients

ROOT = Path(__file__).resolve().parents[2]
SEED, BATCH, IMAGES = 5, 16, 64
SEARCH = (
    f"--dataset digits --macro tiny --train-images {IMAGES} --search-images {IMAGES} --batch-size {BATCH} "
    "--supernet-epochs 1 --cosine-epochs 1 --generator-epochs 1 --learning-rate 0.01 --low 2.5 --high 5 "
    "--target-step 0.25 --target-noise 0.1 --validation-step 0.5 --alpha 0.3 --accept-loss 99 --prior-tolerance 0.2 "
    "--targets 3 4 --width 8"
)
KERNELS = [[3, 5], [7, 3, 3], [5], [3, 3], [5, 7]]
TRAIN = (
    f"--dataset digits --macro tiny --train-images {IMAGES} --no-se --activation relu --bn-momentum 0.1 --epochs 1 "
    f"--batch-size {BATCH} --optimizer sgd --learning-rate 0.05 --weight-decay 4e-4 --schedule cosine --ema 0 "
    "--warmup-epochs 0 --dropout 0"
)


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Every test here."""


@pytest.fixture(scope="module")
def launch(two_processes):
    """Run a command of this paper in two processes; the standard errors."""

    def run(arguments: list[str]) -> list[str]:
        return two_processes(["-m", "papers.sgnas", *arguments, "--device", "cpu", "--seed", str(SEED)])

    return run


def parts(images, kind: str, stream: str) -> list[list]:
    """The batches of each of two processes."""
    augmentation = datasets.augmentation("digits", images.size)
    share = {"augment": True, "world": 2}
    loaders = [
        datasets.Batches(images, BATCH // 2, augmentation, SEED, True, False, "cpu", stream, rank=rank, **share)
        for rank in range(2)
    ]
    return [list(batches.epoch(0)) for batches in loaders]


def averaged(tensors: list[list[torch.Tensor]]) -> list[torch.Tensor]:
    return [(first + second) / 2 for first, second in zip(*tensors)]


@pytest.fixture(scope="module")
def searched(tmp_path_factory, launch):
    folder = tmp_path_factory.mktemp("two") / "search"
    launch(["search", *SEARCH.split(), "--out", str(folder)])
    return folder


@pytest.fixture(scope="module")
def sets():
    options = RunOptions(seed=SEED)
    images, test = datasets.open_set("digits", "train", options), datasets.open_set("digits", "test", options)
    train, held = datasets.split_indices("digits", len(images), 0.8, IMAGES, IMAGES, SEED)
    return images, images.subset(train), images.subset(held), test


def test_supernet_phase(searched, sets):
    copies = [Supernet(MACROS["tiny"], 10, 0.1, seeds.generator(SEED, "supernet weights")).train() for _ in range(2)]
    optimizers = [PathSGD(copy, 0.9, 4e-4) for copy in copies]
    steps = list(zip(*parts(sets[1], "search", "supernet")))
    assert len(steps) == IMAGES // BATCH
    for step, batches in enumerate(steps):
        paths = sample_paths(seeds.numpy_rng(SEED, "paths", 0, step), 5, 4)
        gradients = []
        for copy, (x, y) in zip(copies, batches):
            supernet_gradients(copy, x, y, paths)
            gradients.append([p.grad.clone() for p in copy.parameters()])
        for copy, optimizer in zip(copies, optimizers):
            for parameter, gradient in zip(copy.parameters(), averaged(gradients)):
                parameter.grad.copy_(gradient)
            optimizer.step(cosine(0.01, 0.0, step, len(steps)), paths)
    expected = {name: t.clone() for name, t in copies[0].state_dict().items()}
    for (name, _), mean in zip(copies[0].named_buffers(), averaged([list(c.buffers()) for c in copies])):
        if mean.is_floating_point() and "num_batches" not in name:
            expected[name] = mean
    found = load_tensors(searched / "supernet.safetensors")
    assert json.loads((searched / "result.json").read_text())["processes"] == 2
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


def test_generator_phase(searched, sets):
    frozen = FrozenSupernet(load_supernet(searched).eval())
    lookup, pool = macs_table(MACROS["tiny"]), read_pool(searched / "prior_pool.json")
    generator = Generator(10, 8, 5, seeds.generator(SEED, "generator weights"))
    adam = build_optimizer(generator)
    for step, batches in enumerate(zip(*parts(sets[2], "validation", "generator"))):
        targets = targets_of_step(2.5, 5.0, 0.25, 0.1, 1, SEED, step)
        noise = gumbel_noise((1, 5, 6, 4), seeds.generator(SEED, "gumbel", step))
        gradients = []
        for x, y in batches:
            adam.zero_grad()
            generator_loss(frozen, generator, lookup, pool, x, y, targets, 5.0, noise, 0.3, 1.2).total.backward()
            gradients.append([p.grad.clone() for p in generator.parameters()])
        for parameter, gradient in zip(generator.parameters(), averaged(gradients)):
            parameter.grad.copy_(gradient)
        adam.step()
    found = load_tensors(searched / "generator.safetensors")
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, found[name]), name


def test_training_and_evaluation(sets, tmp_path, launch):
    from common.architecture import save_architecture

    save_architecture(tmp_path / "a.json", "sgnas", {"kernels": KERNELS, "macro": "tiny"})
    launch(["train", *TRAIN.split(), "--arch", str(tmp_path / "a.json"), "--out", str(tmp_path / "train")])
    build = (MACROS["tiny"], KERNELS, 10, False, "relu", 0.1, 0.0)
    copies = [Network(*build, seeds.generator(SEED, "weights")).train() for _ in range(2)]
    rule = {"momentum": 0.9, "weight_decay": 4e-4, "foreach": True}
    optimizers = [torch.optim.SGD(copy.parameters(), 0.05, **rule) for copy in copies]
    steps = list(zip(*parts(sets[0].subset(range(IMAGES)), "scratch", "train")))
    for step, batches in enumerate(steps):
        gradients = []
        for copy, (x, y) in zip(copies, batches):
            copy.zero_grad()
            label_smoothing_cross_entropy(copy(x), y, 0.1).backward()
            gradients.append([p.grad.clone() for p in copy.parameters()])
        for copy, optimizer in zip(copies, optimizers):
            for parameter, gradient in zip(copy.parameters(), averaged(gradients)):
                parameter.grad.copy_(gradient)
            optimizer.param_groups[0]["lr"] = cosine(0.05, 0.0, step, len(steps))
            optimizer.step()
    state = copies[0].state_dict()
    for name, other in copies[1].state_dict().items():
        if ".running_" in name:
            state[name] = (state[name] + other) / 2
    expected = to_published(state, copies[0])
    for name, tensor in load_tensors(tmp_path / "train" / "weights.safetensors").items():
        assert torch.equal(tensor, expected[name]), name

    weights = str(tmp_path / "train" / "weights.safetensors")
    arguments = ["evaluate", "--dataset", "digits", "--no-se", "--activation", "relu"]
    launch([*arguments, "--arch", str(tmp_path / "a.json"), "--checkpoint", weights, "--out", str(tmp_path / "e")])
    trained, evaluated = (json.loads((tmp_path / n / "result.json").read_text())["metrics"] for n in ("train", "e"))
    assert evaluated["images"] == len(sets[3])  # every image once, whatever the number of processes
    assert evaluated["top1_error_percent"] == trained["top1_error_percent"]


def test_batch_that_cannot_be_shared(monkeypatch):
    from common.errors import UserError

    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="batch size 16 is not divisible by 3 processes"):
        datasets.per_process(16)
