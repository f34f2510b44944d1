"""Training an architecture from scratch (sheet, section 6): CIFAR by default, the ImageNet script as preset."""

from __future__ import annotations

from typing import Any

import torch

from common import distributed, seeds
from common.checkpoints import save_weights
from common.data.folder import Pictures
from common.device import pick_device
from common.errors import UserError
from common.runs import open_run
from common.training import evaluate
from papers.nao_v2 import cost, datasets
from papers.nao_v2.architectures import load, space_of, text_of
from papers.nao_v2.network import Network
from papers.nao_v2.ranges import check_ranges
from papers.nao_v2.scratch import Recipe, Trainer
from papers.nao_v2.settings import TrainSettings
from papers.nao_v2.size import size_of


def recipe_of(c: TrainSettings, world: int, steps_per_epoch: int) -> Recipe:
    """Optimiser and schedule; the rate grows with the number of processes where the settings say so."""
    return Recipe(
        epochs=c.epochs,
        learning_rate=c.learning_rate * (world if c.scale_with_processes else 1),
        minimum_learning_rate=c.minimum_learning_rate,
        schedule=c.schedule,
        decay=c.decay,
        momentum=c.optimizer_momentum,
        weight_decay=c.weight_decay,
        clip=c.clip,
        label_smoothing=c.label_smoothing,
        auxiliary_weight=c.auxiliary_weight,
        drop_path_keep=c.drop_path_keep,
        drop_path_steps=max(c.epochs * steps_per_epoch, 1),
    )


def per_process_batch(c: TrainSettings, world: int) -> int:
    """Images per step and process. Raises UserError when the batch cannot be shared evenly."""
    if c.scale_with_processes:
        return c.batch_size
    if c.batch_size % world:
        raise UserError(f"batch size {c.batch_size} is not divisible by {world} processes")
    return c.batch_size // world


def train(settings: TrainSettings, options: Any) -> dict[str, Any]:
    """The ``train`` verb. Tests after every epoch; keeps the best test epoch's weights, as the published number."""
    c = settings
    check_ranges(c)
    space = space_of(c.arch, c.space)
    architecture = load(c.arch, space)
    world, device = distributed.world_size(), pick_device(options)
    images = datasets.open_set(c.dataset, "train", c.network, options)
    test = datasets.open_set(c.dataset, "test", c.network, options)
    if len(images.classes) != len(test.classes):
        raise UserError(
            f"{c.dataset}: {len(images.classes)} training and {len(test.classes)} test classes; they must agree"
        )
    if c.train_images:
        images = images.subset(range(min(c.train_images, len(images))))
    classes, text = len(images.classes), text_of(architecture)
    extra = {"data": {**images.pins, **test.pins}, "pinned": images.pinned and test.pinned, "architecture": text}
    with open_run(options, c, extra) as run:
        if run.result is not None:
            return run.result
        batch = per_process_batch(c, world)
        if isinstance(images, Pictures):
            batches: Any = datasets.picture_batches(images, batch, options.seed, device, c.workers)
        else:
            batches = datasets.train_batches(
                images, c.dataset, batch, options.seed, device, "train", c.cutout, c.autoaugment, share=True
            )
        tests = datasets.test_batches(
            test, c.dataset, 500 if c.network == "cifar" else batch, options.seed, device, c.workers
        )
        torch.manual_seed(seeds.integer(options.seed, "classifier bias"))
        shape: dict[str, Any] = {
            "kind": c.network, "channels": c.channels, "layers": c.layers, "classes": classes, "space": space,
        }  # fmt: skip
        network = Network(
            architecture,
            **shape,
            auxiliary=c.auxiliary,
            keep=c.keep,
            relu_in_place=c.relu_in_place,
            generator=seeds.generator(options.seed, "weights"),
        ).to(device)
        trainer = Trainer(network, recipe_of(c, world, len(batches)), device, options.precision)
        best: dict[str, Any] = {"error": float("inf"), "top5": 100.0, "epoch": -1, "weights": None, "last": 100.0}
        if state := run.load():
            trainer.restore(state["trainer"])
            best = state["best"]
        else:
            torch.manual_seed(seeds.integer(options.seed, "drop path", distributed.rank()))

        def snapshot() -> dict[str, Any]:
            return {"trainer": trainer.state(), "best": best}

        def at_step() -> None:
            if run.due():
                run.save(snapshot())

        while trainer.epoch < c.epochs:
            epoch = trainer.epoch
            trained = trainer.train_epoch(batches, at_step, lambda b, e=epoch: run.progress(b, f"epoch {e}"))
            row = {
                "epoch": epoch,
                "lr": trainer.recipe.rate(epoch),
                "train_loss": trained.loss,
                "train_top1_error_percent": trained.top1_error,
            }
            if (epoch + 1) % c.evaluate_every == 0 or epoch + 1 == c.epochs:
                distributed.broadcast(network.buffers())  # BN statistics are per process; process 0's are the network's
                tested = evaluate(network, tests.epoch(0), device, options.precision)
                best = {**best, "last": tested.top1_error}
                if tested.top1_error < best["error"]:
                    weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
                    best = {
                        "error": tested.top1_error,
                        "top5": tested.top5_error,
                        "epoch": epoch,
                        "weights": weights,
                        "last": tested.top1_error,
                    }
                row |= {
                    "test_loss": tested.loss,
                    "test_top1_error_percent": tested.top1_error,
                    "test_top5_error_percent": tested.top5_error,
                }
            else:
                row |= {"test_loss": "", "test_top1_error_percent": "", "test_top5_error_percent": ""}
            run.log(**row)
            run.save(snapshot())
        network.load_state_dict(best["weights"])
        if run.writes:
            save_weights(network, run.folder / "weights.safetensors")
        image = 0 if isinstance(images, Pictures) else images.size
        size = size_of(architecture, **shape, image=image)
        metrics = {
            "top1_error_percent": best["error"],
            "top5_error_percent": best["top5"],
            "last_top1_error_percent": best["last"],
            "best_epoch": best["epoch"],
            "parameters": size.parameters,
            "macs": size.macs,
        }
        return run.finish({"metrics": metrics, "architecture": text})


def plan(settings: TrainSettings, options: Any) -> list[str]:
    """What a training would do."""
    c, world = settings, distributed.world_size()
    images = cost.IMAGES.get(c.dataset, 0)
    images = min(images, c.train_images) if c.train_images else images
    steps = -(-images // (per_process_batch(c, world) * world))
    size = size_of(
        load(c.arch, space_of(c.arch, c.space)),
        kind=c.network,
        channels=c.channels,
        layers=c.layers,
        classes=datasets.CLASSES.get(c.dataset, 10),
        space=space_of(c.arch, c.space),
    )
    work = 6 * size.macs * c.epochs * images
    lines = []
    if c.network == "cifar":  # the estimate is for 32x32 images
        seconds = cost.train_seconds(c.epochs * images, c.channels, c.layers)
        lines = [f"about {cost.duration(seconds)} on one CPU thread, tests aside"]
    return [
        f"{c.epochs} epochs x {steps} steps of {per_process_batch(c, world) * world} images",
        f"{size.parameters:,} parameters, {size.macs:,} multiply-adds per image: {work / 1e15:.3g} x 10^15 operations",
        *lines,
    ]
