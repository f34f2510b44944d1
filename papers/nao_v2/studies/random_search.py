"""Baseline: random architectures trained from scratch with the budget of a search; the best on validation wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from common.data.batches import Batches
from common.data.sets import Images
from common.run import seeds
from common.run.folder import Run, open_run
from common.spaces.architecture import save_architecture
from common.train.device import pick_device
from common.train.loop import evaluate
from papers.nao_v2 import cost
from papers.nao_v2.data.sets import all_batches, open_set, outline, split, steps_of, train_batches
from papers.nao_v2.method import pool
from papers.nao_v2.network.architectures import SPACE, SPACES, Architecture, as_file, text_of
from papers.nao_v2.network.network import Network
from papers.nao_v2.network.size import size_of
from papers.nao_v2.scratch import Recipe, Trainer
from papers.nao_v2.settings import RandomSearch


def count_of(c: RandomSearch) -> int:
    """Architectures that a search would pay for: supernet epochs / epochs per architecture, and its finalists."""
    return c.architectures or max(1, c.search_epochs // c.epochs) + c.search_final


def supernet_epochs(c: RandomSearch) -> int:
    """Epochs of one supernet training of the search that it is compared with: they set the drop path's ramp."""
    return max(1, c.search_epochs // c.search_iterations)


@dataclass(frozen=True)
class Alone:
    """Stand-alone training: recipe, network (all but its architecture), data and machine; the same for every one."""

    run: Run
    recipe: Recipe
    network: dict[str, Any]
    sets: tuple[Images, Images]
    dataset: str
    batch_size: int
    parts: int
    seed: int
    device: torch.device
    precision: str

    def batches(self, name: str) -> Batches:
        """The training images in the order of ``name``."""
        return train_batches(
            self.sets[0], self.dataset, self.batch_size, self.seed, self.device, f"alone-{name}",
            shares=self.parts,
        )  # fmt: skip

    def score(self, architecture: Architecture, name: str) -> float:
        """Accuracy (percent) on the validation images after training from scratch; depends on (seed, name) only."""
        torch.manual_seed(seeds.integer(self.seed, "alone", name))
        generator = seeds.generator(self.seed, "alone", name)
        built = Network(architecture, generator=generator, **self.network).to(self.device)
        chance = seeds.integer(self.seed, "alone chance", name)
        trainer, batches = Trainer(built, self.recipe, self.device, self.precision, chance), self.batches(name)
        for _ in range(self.recipe.epochs):
            trainer.train_epoch(batches, desc=lambda b: self.run.progress(b, name))
        return 100.0 - evaluate(built, all_batches(self.sets[1]), self.device, self.precision).top1_error


def random_search(settings: RandomSearch, options: Any) -> dict[str, Any]:
    """The ``random-search`` verb; resumable between architectures."""
    c, seed = settings, int(options.seed)
    device = pick_device(options)
    images = open_set(c.dataset, "train", "cifar", options)
    with open_run(options, c, {"data": images.pins, "pinned": images.pinned}) as run:
        if run.result is not None:
            return run.result
        rng = seeds.numpy_rng(seed, "random search")
        parts = split(rng, images.to(device), c.train_images, c.valid_images, seed)
        candidates = pool.random_pool(rng, count_of(c), len(SPACES[c.space]))
        per_epoch = -(-len(parts[0]) // c.batch_size)
        recipe = Recipe(
            epochs=c.epochs, lr=c.lr, lr_min=c.lr_min,
            drop_path_keep=c.drop_path_keep, drop_path_steps=c.drop_path_steps or supernet_epochs(c) * per_epoch,
        )  # fmt: skip
        recipe.check_ramp(per_epoch)
        size = {"channels": c.channels, "layers": c.layers, "classes": len(images.classes), "space": c.space}
        network = {**size, "auxiliary": c.auxiliary, "dropout_keep": c.dropout_keep, "relu_in_place": c.relu_in_place}
        alone = Alone(run, recipe, network, parts, c.dataset, c.batch_size, c.parts, seed, device, options.precision)
        scores: list[float] = (run.load() or {"scores": []})["scores"]
        for number in range(len(scores), len(candidates)):
            scores.append(alone.score(candidates[number], str(number)))
            run.log(number=number, valid_accuracy_percent=scores[-1], best=max(scores))
            run.save({"scores": scores})
        best = candidates[pool.order(scores)[0]]
        if run.writes:
            origin = {**run.origin, "dataset": c.dataset, "classes": len(images.classes), "pixels": images.size}
            save_architecture(run.folder / "architecture.json", SPACE, as_file(best, c.space), origin)
        counts = size_of(best, **size)
        metrics = {
            "valid_accuracy_percent": max(scores),
            "architectures": len(scores),
            "parameters": counts.parameters,
            "macs": counts.macs,
        }
        return run.finish({"metrics": metrics, "architecture": text_of(best)})


def plan(settings: RandomSearch, options: Any) -> list[str]:
    """What a random search would do."""
    c, count = settings, count_of(settings)
    images, rng = outline(c.dataset, "cifar", options), seeds.numpy_rng(options.seed, "random search")
    train, valid = split(rng, images, c.train_images, c.valid_images, options.seed)
    rest, steps = len(train), steps_of(train, c.batch_size, c.parts)
    seconds = cost.train_seconds(count * c.epochs * rest, c.channels, c.layers)
    seconds += cost.score_seconds(count * len(valid), c.channels, c.layers)
    return [
        f"{count} random architectures x {c.epochs} epochs x {steps} steps of {c.batch_size} images",
        f"about {cost.duration(seconds)} on one CPU thread",
    ]
