"""Training an architecture from scratch: CIFAR by default, the ImageNet script as preset."""

from __future__ import annotations

from typing import Any

import torch

from common.cli.errors import UserError
from common.data.parts import take
from common.data.pictures.sets import Pictures, has_validation
from common.run import seeds
from common.run.folder import open_run, say
from common.train import distributed
from common.train.device import pick_device
from common.train.loop import evaluate
from common.weights.read import save_weights
from papers.nao_v2 import cost
from papers.nao_v2.data import sets as datasets
from papers.nao_v2.network.architectures import as_file, load, space_of, text_of
from papers.nao_v2.network.network import Network
from papers.nao_v2.network.size import size_of
from papers.nao_v2.scratch import Recipe, Trainer
from papers.nao_v2.settings import Train

LAST_WEIGHTS = "weights_last.safetensors"  # beside those of the best test epoch, weights.safetensors


def recipe_of(c: Train, steps_per_epoch: int) -> Recipe:
    """Optimiser and schedule; the drop path's ramp ends with the training."""
    return Recipe(
        epochs=c.epochs,
        lr=c.lr,
        lr_min=c.lr_min,
        schedule=c.schedule,
        decay_rate=c.decay_rate,
        decay_epochs=c.decay_epochs,
        momentum=c.momentum,
        weight_decay=c.weight_decay,
        clip=c.clip,
        label_smoothing=c.label_smoothing,
        auxiliary_weight=c.auxiliary_weight,
        drop_path_keep=c.drop_path_keep,
        drop_path_steps=max(c.epochs * steps_per_epoch, 1),
    )


def network_of(c: Train, options: Any) -> str:
    """The kind of network, chosen by the user or by the images' size. Raises UserError for settings that do nothing."""
    kind = datasets.kind_of(c.network, c.dataset, options)
    if kind == "imagenet" and c.autoaugment:
        raise UserError("--autoaugment is for small images only (its policy is CIFAR-10's); leave it out")
    return kind


def train(settings: Train, options: Any) -> dict[str, Any]:
    """The ``train`` verb. Tests after every epoch; keeps the best test epoch's weights (the published number is of
    these) and the last ones.
    """
    c = settings
    kind, space = network_of(c, options), space_of(c.arch, c.space)
    architecture, device = load(c.arch, space), pick_device(options)
    images = datasets.open_set(c.dataset, "train", kind, options)
    test = datasets.open_set(c.dataset, "test", kind, options)
    judge = datasets.open_set(c.dataset, "val", kind, options) if has_validation(c.dataset) else test
    if len(images.classes) != len(test.classes):
        raise UserError(
            f"{c.dataset}: {len(images.classes)} training and {len(test.classes)} test classes; they must agree"
        )
    images = take(images, c.train_images, "--train-images")
    classes, text = len(images.classes), text_of(architecture)
    extra = {
        "data": {**images.pins, **judge.pins, **test.pins},
        "pinned": images.pinned and test.pinned,
        "architecture": text,
    }
    with open_run(options, c, extra) as run:
        if run.result is not None:
            return run.result
        say(f"{kind} network ({'by the size of the images' if c.network == 'auto' else 'as asked for'})")
        if isinstance(images, Pictures):
            batches: Any = datasets.picture_batches(
                images, c.batch_size, options.seed, device, c.workers, c.cutout, c.parts
            )
        else:
            batches = datasets.train_batches(
                images, c.dataset, c.batch_size, options.seed, device, "train", c.cutout, c.autoaugment, c.parts
            )
        at_once = 500 if kind == "cifar" else c.batch_size
        judged, tests = (
            datasets.test_batches(part, c.dataset, at_once, options.seed, device, c.workers) for part in (judge, test)
        )
        word = "test" if judge is test else "valid"  # what chooses the epoch; the published sets have no part for it
        torch.manual_seed(seeds.integer(options.seed, "classifier bias"))
        shape: dict[str, Any] = {
            "kind": kind, "channels": c.channels, "layers": c.layers, "classes": classes, "space": space,
        }  # fmt: skip
        network = Network(
            architecture,
            **shape,
            auxiliary=c.auxiliary,
            dropout_keep=c.dropout_keep,
            relu_in_place=c.relu_in_place,
            generator=seeds.generator(options.seed, "weights"),
        ).to(device)
        trainer = Trainer(network, recipe_of(c, len(batches)), device, options.precision, options.seed)
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
            if (epoch + 1) % c.eval_every == 0 or epoch + 1 == c.epochs:
                tested = evaluate(network, judged.epoch(0), device, options.precision)
                best = {**best, "last": tested.top1_error}
                if tested.top1_error < best["error"]:
                    weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
                    best |= {"error": tested.top1_error, "top5": tested.top5_error, "epoch": epoch, "weights": weights}
                top5 = "" if tested.top5_error is None else tested.top5_error
                values: tuple[Any, ...] = (tested.loss, tested.top1_error, top5)
            else:
                values = ("", "", "")
            row |= dict(zip((f"{word}_loss", f"{word}_top1_error_percent", f"{word}_top5_error_percent"), values))
            run.log(**row)
            run.save(snapshot())
        if run.writes:
            described = {
                "paper": "nao_v2", "stage": "train", "architecture": as_file(architecture, space), "space": space,
                "dataset": c.dataset, "classes": classes, "class_names": list(images.classes), "width": c.channels,
                "depth": c.layers, "network": kind, "pixels": 224 if isinstance(images, Pictures) else images.size,
            }  # fmt: skip
            best_weights = best["weights"]
            save_weights(best_weights, run.folder / "weights.safetensors", {**described, "epoch": best["epoch"]})
            save_weights(network, run.folder / LAST_WEIGHTS, {**described, "epoch": c.epochs - 1})
        image = 0 if isinstance(images, Pictures) else images.size
        size = size_of(architecture, **shape, image=image)
        errors = {"top1": best["error"], "top5": best["top5"], "last": best["last"]}
        if judge is not test:
            errors["last"] = evaluate(network, tests.epoch(0), device, options.precision).top1_error
            network.load_state_dict(best["weights"])
            tested = evaluate(network, tests.epoch(0), device, options.precision)
            errors |= {"top1": tested.top1_error, "top5": tested.top5_error}
        metrics = {
            "top1_error_percent": errors["top1"],
            "top5_error_percent": errors["top5"],
            "last_top1_error_percent": errors["last"],
            **({} if judge is test else {"valid_top1_error_percent": best["error"]}),
            "best_epoch": best["epoch"],
            "parameters": size.parameters,
            "macs": size.macs,
        }
        return run.finish({"metrics": metrics, "architecture": text})


def plan(settings: Train, options: Any) -> list[str]:
    """What a training would do."""
    c = settings
    kind, space = network_of(c, options), space_of(c.arch, c.space)
    images = take(datasets.outline(c.dataset, kind, options), c.train_images, "--train-images")
    count, classes, steps = len(images), len(images.classes), datasets.steps_of(images, c.batch_size, c.parts)
    size = size_of(load(c.arch, space), kind=kind, channels=c.channels, layers=c.layers, classes=classes, space=space)
    recipe, work = recipe_of(c, steps), 6 * size.macs * c.epochs * count
    lines = []
    if kind == "cifar":  # the estimate is for 32x32 images
        seconds = cost.train_seconds(c.epochs * count, c.channels, c.layers)
        lines = [f"about {cost.duration(seconds)} on one CPU thread, tests aside"]
    return [
        f"{kind} network, {c.epochs} epochs x {steps} steps of {c.batch_size} images = {c.epochs * steps} steps",
        f"learning rate {recipe.rate(0):.6g} in the first epoch, {recipe.rate(c.epochs - 1):.6g} in the last",
        f"{size.parameters:,} parameters, {size.macs:,} multiply-adds per image: {work / 1e15:.3g} x 10^15 operations",
        *lines,
    ]
