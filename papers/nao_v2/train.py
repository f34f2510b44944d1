"""Training an architecture from scratch: CIFAR by default, the ImageNet script as a variant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from common.data.parts import take
from common.data.pictures.sets import Pictures, has_validation
from common.data.sets import Images
from common.errors import UserError
from common.run import distributed, seeds
from common.run.device import pick_device
from common.run.folder import Run, open_run, say
from common.run.keep import Values
from common.run.progress import shows
from common.train.compiling import compile_whole
from common.train.loop import evaluate
from common.use.finetune import Start, arch_asked, asked, read_start, settled
from common.use.names import weights_of
from common.use.settings import OfWeights
from common.weights.read import save_weights
from papers.nao_v2.data import sets as datasets
from papers.nao_v2.evaluate import build, read_checkpoint
from papers.nao_v2.method.stand_alone import Recipe, train_alone
from papers.nao_v2.networks.architectures import Architecture, Shape, as_file, load, space_of, text_of
from papers.nao_v2.networks.derived import Network
from papers.nao_v2.networks.size import size_of
from papers.nao_v2.settings import Evaluate, Train

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

LAST_WEIGHTS = "weights_last.safetensors"  # beside those of the best test epoch, weights.safetensors


def train(settings: Train, options: RunOptions) -> dict[str, Any]:
    """Train a derived network from scratch (Method 8); the best test epoch's weights are kept, and the last ones.

    The published number is of the best test epoch. A folder with a validation part of its own chooses the epoch by that
    part and is tested at the end.
    """
    device = pick_device(options)
    c, start = started(settings, options)
    kind, space = kind_of(c, options), start.shape.space if start else space_of(c.arch, c.space)
    architecture = start.architecture if start else load(c.arch, space)
    images, judge, test = sets_of(c, kind, options)
    text, word = text_of(architecture), "test" if judge is test else "valid"
    with open_run(options, c, data=(images, judge, test), architecture=text) as run:
        if run.result is not None:
            return run.result
        say(f"{kind} network ({'by the size of the images' if c.network == 'auto' else 'as asked for'})")
        batches = batches_of(c, images, options.seed, device)
        at_once = 500 if kind == "cifar" else c.batch_size
        judged = datasets.test_batches(judge, at_once, options.seed, device, c.workers)
        torch.manual_seed(seeds.integer(options.seed, "classifier bias"))
        shape = Shape(kind, c.channels, c.layers, len(images.classes), space)
        network = Network(
            architecture, shape, auxiliary=c.auxiliary, dropout_keep=c.dropout_keep, relu_in_place=c.relu_in_place,
            generator=seeds.generator(options.seed, "weights"),
        ).to(device)  # fmt: skip
        origin = {"started_from": start.weights.into(network, images.classes, c.dataset)} if start else {}
        compile_whole(network, options)
        recipe = recipe_of(c, len(batches))
        best = Values(error=float("inf"), top5=100.0, epoch=-1, weights=None, last=100.0)
        torch.manual_seed(seeds.integer(options.seed, "drop path", distributed.rank()))
        run.tells(described(c.dataset, images, as_file(architecture, space), shape), raw="network")
        run.keeps(best=best)
        for epoch, trained in train_alone(run, network, recipe, batches, device, options.seed):
            values: tuple[Any, ...] = ("", "", "")
            if (epoch + 1) % c.eval_every == 0 or epoch + 1 == c.epochs:
                tested = evaluate(network, shows(judged, "test"), device, options.precision)
                best.last = tested.top1_error
                if tested.top1_error < best.error:
                    best.error, best.top5, best.epoch = tested.top1_error, tested.top5_error, epoch
                    best.weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
                values = (tested.loss, tested.top1_error, "" if tested.top5_error is None else tested.top5_error)
            named = zip((f"{word}_loss", f"{word}_top1_error_percent", f"{word}_top5_error_percent"), values)
            run.log(
                epoch=epoch, lr=recipe.rate(epoch), train_loss=trained.loss,
                train_top1_error_percent=trained.top1_error, **dict(named),
            )  # fmt: skip
        write_weights(run, c.dataset, images, best, network, as_file(architecture, space), shape)
        if judge is test:
            errors = {"top1_error_percent": best.error, "top5_error_percent": best.top5}
            errors["last_top1_error_percent"] = best.last
        else:
            tests = datasets.test_batches(test, at_once, options.seed, device, c.workers)
            errors = tested_at_the_end(network, best, tests, device, options)
            errors["valid_top1_error_percent"] = best.error
        size = size_of(architecture, shape, 0 if isinstance(images, Pictures) else images.size)
        metrics = {**errors, "best_epoch": best.epoch, "parameters": size.parameters, "macs": size.macs}
        return run.finish({"metrics": metrics, "architecture": text, **origin})


class Started(NamedTuple):
    """Weights that a training starts from, and the network that they are of."""

    weights: Start
    architecture: Architecture
    shape: Shape


def started(settings: Train, options: RunOptions) -> tuple[Train, Started | None]:
    """The settings with what the weights of ``--checkpoint`` say of their network, and those. Raises UserError where a
    flag says something else.
    """
    if not settings.checkpoint:
        return settings, None
    named = arch_asked(settings, options.given)
    file, arch = weights_of(OfWeights(checkpoint=settings.checkpoint, arch=named))
    _, found = read_start(settings.checkpoint, "nao_v2")
    stored, space = read_checkpoint(file), settings.space if asked(settings, options.given, "space") else "small"
    _, architecture, shape = build(Evaluate(checkpoint=str(file), arch=arch or "", space=space), stored)  # type: ignore[arg-type]
    said = {"network": shape.kind, "channels": shape.channels, "layers": shape.layers}
    fixed = {"space": shape.space, "arch": text_of(architecture), "checkpoint": str(file)}
    settings = settled(settings, options.given, said, found.source, **fixed)
    start = Start(file, found, stored.weights, stored.classes)
    return settings, Started(start, architecture, shape)


def tested_at_the_end(
    network: Network, best: Values, tests: Any, device: torch.device, options: RunOptions
) -> dict[str, float | None]:
    """Test errors of the last and of the best epoch, where another part than the test part chose the epoch."""
    last = evaluate(network, shows(tests, "test"), device, options.precision)
    network.load_state_dict(best.weights)
    tested = evaluate(network, shows(tests, "test"), device, options.precision)
    return {
        "top1_error_percent": tested.top1_error, "top5_error_percent": tested.top5_error,
        "last_top1_error_percent": last.top1_error,
    }  # fmt: skip


def kind_of(c: Train, options: RunOptions) -> str:
    """The kind of network, chosen by the user or by the images' size. Raises UserError for settings that do nothing."""
    kind = datasets.kind_of(c.network, c.dataset, options)
    if kind == "imagenet" and c.autoaugment:
        raise UserError("--autoaugment is for small images only (its policy is CIFAR-10's); leave it out")
    return kind


def recipe_of(c: Train, steps: int) -> Recipe:
    """Optimiser and schedule, ``steps`` per epoch; the drop path's ramp ends with the training."""
    return Recipe(
        epochs=c.epochs, lr=c.lr, lr_min=c.lr_min, schedule=c.schedule, decay_rate=c.decay_rate,
        decay_epochs=c.decay_epochs, momentum=c.momentum, weight_decay=c.weight_decay, clip=c.clip,
        label_smoothing=c.label_smoothing, auxiliary_weight=c.auxiliary_weight, drop_path_keep=c.drop_path_keep,
        drop_path_steps=c.epochs * steps,
    )  # fmt: skip


Set = Images | Pictures


def sets_of(c: Train, kind: str, options: RunOptions) -> tuple[Set, Set, Set]:
    """(what is trained on, what chooses the epoch, what is tested on); the last two are one where there is no ``val``.

    Raises UserError where training and test images are of different classes in number.
    """
    images: Any = datasets.open_set(c.dataset, "train", kind, options)
    test = datasets.open_set(c.dataset, "test", kind, options)
    judge = datasets.open_set(c.dataset, "val", kind, options) if has_validation(c.dataset) else test
    if len(images.classes) != len(test.classes):
        raise UserError(
            f"{c.dataset}: {len(images.classes)} training and {len(test.classes)} test classes; they must agree"
        )
    images = take(images, c.train_images, "--train-images")
    datasets.refuse_few(c, images)
    return images, judge, test


def batches_of(c: Train, images: Set, seed: int, device: torch.device) -> Any:
    """Training batches, of small images on the device or of pictures read one by one."""
    if isinstance(images, Pictures):
        return datasets.picture_batches(images, c.batch_size, seed, device, c.workers, c.cutout, c.parts)
    return datasets.train_batches(
        images.to(device), c.batch_size, seed, "train", cutout=c.cutout, autoaugment=c.autoaugment, parts=c.parts
    )


def write_weights(
    run: Run, dataset: str, images: Set, best: Values, network: Network, architecture: dict[str, str], shape: Shape
) -> None:
    """weights.safetensors of the best epoch and LAST_WEIGHTS, with what they are of in their metadata."""
    if not run.writes:
        return
    about = described(dataset, images, architecture, shape)
    save_weights(best.weights, run.folder / "weights.safetensors", {**about, "epoch": best.epoch})
    save_weights(network, run.folder / LAST_WEIGHTS, {**about, "epoch": run.settings.epochs - 1})


def described(dataset: str, images: Set, architecture: dict[str, str], shape: Shape) -> dict[str, Any]:
    """What weights of this training are of."""
    return {
        "paper": "nao_v2", "stage": "train", "architecture": architecture, "space": shape.space, "dataset": dataset,
        "classes": shape.classes, "class_names": list(images.classes), "width": shape.channels, "depth": shape.layers,
        "network": shape.kind, "pixels": 224 if isinstance(images, Pictures) else images.size,
    }  # fmt: skip
