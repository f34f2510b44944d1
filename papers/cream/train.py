"""Training a derived network from scratch: RMSpropTF, EMA, RandAugment, random erasing, label smoothing."""

from __future__ import annotations

from typing import Any

import torch

from common.data.batches import Epochs
from common.data.parts import take
from common.data.pictures.sets import has_validation
from common.run import seeds
from common.run.folder import check_finite, open_run, say
from common.train import distributed
from common.train.batchnorm import PartStatistics
from common.train.device import autocast, pick_device
from common.train.loop import evaluate, read
from common.train.losses import TopK, label_smoothing_cross_entropy
from common.train.optim import EMA, RMSpropTF, without_decay
from common.weights.read import save_weights
from papers.cream.data import batches as data
from papers.cream.data.randaugment import RandAugment
from papers.cream.describe import architecture_of, spec_of
from papers.cream.network.architectures import Named, resolve
from papers.cream.network.networks import DerivedNetwork
from papers.cream.schedules import initial_share, learning_rate
from papers.cream.settings import Train

TESTED = ("top1_error_percent", "top5_error_percent", "loss", "raw_top1_error_percent", "raw_top5_error_percent")


def train(settings: Train, options: Any) -> dict[str, Any]:
    """Train, testing raw and EMA weights after every epoch; the reported numbers are the EMA's last, its best beside.

    A folder with ``val`` beside ``test`` is watched on ``val`` and tested once, at the end. Writes weights.safetensors
    (EMA), weights_raw.safetensors and result.json. Raises UserError.
    """
    _, _, size, _ = spec_of(settings.arch, 1000, settings.resolution, dataset=settings.dataset)
    source = take(data.open_source(settings.dataset, "train", size, options), settings.train_images, "--train-images")
    test = data.open_source(settings.dataset, "test", size, options)
    validation = data.open_source(settings.dataset, "val", size, options) if has_validation(settings.dataset) else None
    return train_on(source, test, settings, options, validation=validation)


def train_on(
    source: data.Source, test: data.Source, settings: Train, options: Any, arch: Named | None = None,
    validation: data.Source | None = None,
) -> dict[str, Any]:  # fmt: skip
    """``train`` with the given images, whatever set and part of it the settings name, and the architecture if given."""
    arch = arch or resolve(settings.arch)
    name, _, size, path = spec_of(arch, 1000, settings.resolution, dataset=settings.dataset)
    data.refuse_interpolation(settings, test, options.given)
    device = pick_device(options)
    distributed.setup()
    classes = len(source.classes)
    _, spec, _, _ = spec_of(
        arch, classes, settings.resolution, settings.single_block, settings.repeat_stage3, settings.dataset
    )
    augment = None
    if settings.randaugment:
        augment = RandAugment(settings.randaugment, settings.randaugment_operations, settings.randaugment_std)
    batches = data.train_batches(source, settings, size, options.seed, device, randaugment=augment)
    judge = test if validation is None else validation
    tested, watched = (
        data.test_batches(part, settings.eval_batch_size, size, device, settings.workers, settings.interpolation)
        for part in (test, judge)
    )
    prefix = "" if validation is None else "valid_"  # of what is measured after an epoch
    rate, epochs = learning_rate(settings, name)
    iterations = len(batches)
    if line := initial_share(settings, epochs * iterations):
        say(line)

    with open_run(options, settings, {**data.data_pins(source, test, validation), "path": path}) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        net = DerivedNetwork(spec, settings.dropout).to(device, memory_format=torch.channels_last)
        distributed.broadcast(net.state_dict().values())
        optimizer = RMSpropTF(
            without_decay(net, settings.weight_decay), settings.lr, settings.alpha, settings.optimizer_eps,
            momentum=settings.momentum,
        )  # fmt: skip
        ema = EMA(net, settings.ema_decay)
        averaged = DerivedNetwork(spec).to(device, memory_format=torch.channels_last)
        counter, epoch, start = TopK(device), 0, 0
        unmeasured = {prefix + name: None for name in TESTED}
        metrics: dict[str, Any] = dict(unmeasured)
        best: dict[str, Any] = {}
        state = run.load()
        if state is not None:
            net.load_state_dict(state["net"])
            optimizer.load_state_dict(state["optimizer"])
            ema.load_state_dict(state["ema"])
            counter.restore(state["counter"])
            epoch, start, metrics, best = state["epoch"], state["batch"], state["metrics"], state["best"]

        def save() -> None:
            run.save(
                {"net": net.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict(),
                 "counter": counter.state(), "epoch": epoch, "batch": start, "metrics": metrics,
                 "best": best}
            )  # fmt: skip

        while epoch < epochs:
            for group in optimizer.param_groups:
                group["lr"] = rate(epoch)
            net.train()
            stream = batches.shares(epoch, start)
            for step in run.progress(range(start, iterations), f"epoch {epoch}"):
                seeds.step_chance(options.seed, epoch, step)
                train_step(net, optimizer, ema, next(stream), counter, settings, options, device,
                           epoch * iterations + step)  # fmt: skip
                start = step + 1
                if run.due():
                    save()
            training = read(counter)
            row = {
                "epoch": epoch, "lr": rate(epoch), "train_loss": training.loss,
                "train_top1_error_percent": training.top1_error,
            }  # fmt: skip
            epoch, start, counter = epoch + 1, 0, TopK(device)
            tested_now = epoch % settings.eval_every == 0 or epoch == epochs
            if tested_now:
                ema.copy_to(averaged)
                metrics = errors(averaged, net, watched, device, options.precision, prefix)
                if not best or metrics[prefix + TESTED[0]] < best[f"best_{prefix}{TESTED[0]}"]:
                    best = {f"best_{prefix}{TESTED[0]}": metrics[prefix + TESTED[0]], "best_epoch": row["epoch"]}
            run.log(**row, **(metrics if tested_now else unmeasured))
            save()

        ema.copy_to(averaged)
        if validation is not None:
            metrics |= errors(averaged, net, tested, device, options.precision)
        if distributed.rank() == 0:
            about = {
                "paper": "cream", "stage": "train", "space": "cream", "dataset": settings.dataset, "classes": classes,
                "architecture": architecture_of(
                    arch, size, settings.single_block, settings.repeat_stage3, settings.dataset),
            }  # fmt: skip
            save_weights(averaged, run.folder / "weights.safetensors", {**about, "weights": "ema"})
            save_weights(net, run.folder / "weights_raw.safetensors", {**about, "weights": "raw"})
        sizes = {
            "parameters": spec.count("parameters"), "macs": spec.count("macs", size),
            "macs_published": spec.count("thop2020", size), "epochs": epochs, "steps": epochs * iterations,
        }  # fmt: skip
        architecture = {"path": path, "resolution": size}
        return run.finish(
            {"paper": "cream", "stage": "train", "metrics": {**metrics, **best, **sizes}, "architecture": architecture}
        )


def errors(
    averaged: DerivedNetwork, raw: DerivedNetwork, batches: Epochs, device: torch.device, precision: str,
    prefix: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Loss and errors of the averaged weights and errors of the raw ones, under the names TESTED with a prefix."""
    plain, smooth = (evaluate(net, batches.epoch(0), device, precision) for net in (raw, averaged))
    values = (smooth.top1_error, smooth.top5_error, smooth.loss, plain.top1_error, plain.top5_error)
    return {prefix + name: value for name, value in zip(TESTED, values, strict=True)}


def train_step(
    net: DerivedNetwork, optimizer: RMSpropTF, ema: EMA, group: list[tuple[torch.Tensor, torch.Tensor]], counter: TopK,
    settings: Train, options: Any, device: torch.device, step: int,
) -> None:  # fmt: skip
    """One update from this process's shares of a batch: the gradient is the mean over the images of the whole batch.

    Running statistics become the mean over all shares of what each made of those before the step (``PartStatistics``).
    Raises UserError when the mean loss is not finite, before the update, in all processes or in none.
    """
    optimizer.zero_grad(set_to_none=True)
    images = sum(len(y) for _, y in group)
    several = len(group) > 1 or distributed.world_size() > 1
    statistics = PartStatistics(net) if several else None
    total = torch.zeros((), device=device)
    for place, (x, y) in enumerate(group):
        if settings.dropout:  # the mask is a function of step and share, however the shares are shared out
            number = distributed.rank() * len(group) + place
            torch.manual_seed(seeds.integer(options.seed, "dropout", step, number))
        with autocast(device, options.precision):
            logits = net(x)
        loss = label_smoothing_cross_entropy(logits.float(), y, settings.label_smoothing)
        share = loss * (len(y) / images)
        share.backward()
        total += share.detach()
        counter.add(logits, y, loss)
        if statistics is not None:
            statistics.collect(len(y))
    check_finite(total, weight=images, step=step)
    if statistics is not None:
        statistics.finish()
    distributed.reduce_gradients(net.parameters(), images)
    optimizer.step()
    ema.update(net)


def plan(settings: Train, options: Any) -> list[str]:
    """What the run would do."""
    from papers.cream.planning import plan_lines

    name, _, size, _ = spec_of(settings.arch, 1000, settings.resolution, dataset=settings.dataset)
    source = take(data.open_source(settings.dataset, "train", size, options), settings.train_images, "--train-images")
    data.refuse_interpolation(settings, source, options.given)
    data.check_batch(source, settings.batch_size)
    _, spec, _, _ = spec_of(
        settings.arch, len(source.classes), settings.resolution, settings.single_block, settings.repeat_stage3,
        settings.dataset,
    )  # fmt: skip
    rate, epochs = learning_rate(settings, name)
    lines = plan_lines(spec, size, epochs, len(source), settings.batch_size, data.shares_of(settings), 1.0, 4.0)
    lines.append(
        f"schedule {settings.schedule_of(name)}: rate {rate(0):g} in epoch 0, {rate(epochs - 1):g} in the last"
    )
    note = initial_share(settings, epochs * (len(source) // settings.batch_size))
    return [*lines, note] if note else lines
