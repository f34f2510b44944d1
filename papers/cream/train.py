"""Training a derived network from scratch (section 4): RMSpropTF, EMA, RandAugment, random erasing, label smoothing."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch

from common import distributed, seeds
from common.checkpoints import save_weights
from common.device import autocast, pick_device
from common.losses import TopK, label_smoothing_cross_entropy
from common.optim import EMA, RMSpropTF, without_decay
from common.runs import check_finite, open_run
from common.training import evaluate, read
from papers.cream import data
from papers.cream.describe import spec_of
from papers.cream.networks import DerivedNetwork
from papers.cream.planning import due_everywhere
from papers.cream.randaugment import RandAugment
from papers.cream.ranges import check_ranges
from papers.cream.recipe import learning_rate
from papers.cream.settings import TrainSettings

TESTED = ("top1_error_percent", "top5_error_percent", "loss", "raw_top1_error_percent", "raw_top5_error_percent")


def train(settings: TrainSettings, options: Any) -> dict[str, Any]:
    """Train, testing raw and EMA weights after every epoch; the reported numbers are the EMA's last.

    Writes weights.safetensors (EMA), weights_raw.safetensors and result.json. Raises UserError.
    """
    check_ranges(settings)
    _, _, size, _ = spec_of(settings.arch, 1000, settings.resolution, dataset=settings.dataset)
    source = data.limited(data.open_source(settings.dataset, "train", size, options), settings.train_images)
    test = data.open_source(settings.dataset, "test", size, options)
    return train_on(source, test, settings, options)


def train_on(source: data.Source, test: data.Source, settings: TrainSettings, options: Any) -> dict[str, Any]:
    """``train`` with the given images, whatever set and part of it the settings name."""
    name, _, size, path = spec_of(settings.arch, 1000, settings.resolution, dataset=settings.dataset)
    device = pick_device(options)
    distributed.setup()
    parts = data.parts_here(settings.parts)
    classes = len(source.classes)
    _, spec, _, _ = spec_of(
        settings.arch, classes, settings.resolution, settings.single_block, settings.repeat_stage3, settings.dataset
    )
    augment = None
    if settings.randaugment:
        augment = RandAugment(settings.randaugment, settings.randaugment_operations, settings.randaugment_std)
    batches = data.train_batches(source, settings, size, options.seed, device, settings.parts, randaugment=augment)
    tested = data.test_batches(test, settings.eval_batch_size, size, device, settings.workers, settings.interpolation)
    rate, epochs = learning_rate(settings, name)
    iterations = len(batches) // parts

    with open_run(options, settings, {**data.data_pins(source, test), "path": path}) as run:
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
        metrics: dict[str, Any] = dict.fromkeys(TESTED)
        state = run.load()
        if state is not None:
            net.load_state_dict(state["net"])
            optimizer.load_state_dict(state["optimizer"])
            ema.load_state_dict(state["ema"])
            counter.restore(state["counter"])
            epoch, start, metrics = state["epoch"], state["batch"], state["metrics"]

        def save() -> None:
            run.save(
                {"net": net.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict(),
                 "counter": counter.state(), "epoch": epoch, "batch": start, "metrics": metrics}
            )  # fmt: skip

        while epoch < epochs:
            for group in optimizer.param_groups:
                group["lr"] = rate(epoch)
            net.train()
            stream = batches.epoch(epoch, start * parts)
            for step in run.progress(range(start, iterations), f"epoch {epoch}"):
                train_step(net, optimizer, ema, list(islice(stream, parts)), counter, settings, options, device,
                            epoch * iterations + step)  # fmt: skip
                start = step + 1
                if due_everywhere(run, step):
                    save()
            average_statistics(net, ema)
            training = read(counter)
            row = {
                "epoch": epoch, "lr": rate(epoch), "train_loss": training.loss,
                "train_top1_error_percent": training.top1_error,
            }  # fmt: skip
            epoch, start, counter = epoch + 1, 0, TopK(device)
            tested_now = epoch % settings.eval_every == 0 or epoch == epochs
            if tested_now:
                raw = evaluate(net, tested.epoch(0), device, options.precision)
                ema.copy_to(averaged)
                smooth = evaluate(averaged, tested.epoch(0), device, options.precision)
                metrics = {
                    "top1_error_percent": smooth.top1_error, "top5_error_percent": smooth.top5_error,
                    "loss": smooth.loss,
                    "raw_top1_error_percent": raw.top1_error, "raw_top5_error_percent": raw.top5_error,
                }  # fmt: skip
            run.log(**row, **(metrics if tested_now else dict.fromkeys(TESTED)))
            save()

        ema.copy_to(averaged)
        if distributed.rank() == 0:
            save_weights(averaged, run.folder / "weights.safetensors")
            save_weights(net, run.folder / "weights_raw.safetensors")
        sizes = {
            "parameters": spec.count("parameters"), "macs": spec.count("macs", size),
            "macs_published": spec.count("thop2020", size), "epochs": epochs, "steps": epochs * iterations,
        }  # fmt: skip
        architecture = {"path": path, "resolution": size}
        return run.finish(
            {"paper": "cream", "stage": "train", "metrics": {**metrics, **sizes}, "architecture": architecture}
        )


def train_step(
    net: DerivedNetwork, optimizer: RMSpropTF, ema: EMA, group: list[tuple[torch.Tensor, torch.Tensor]], counter: TopK,
    settings: TrainSettings, options: Any, device: torch.device, step: int,
) -> None:  # fmt: skip
    """One update from the parts this process holds; gradients are means over all parts of all processes."""
    optimizer.zero_grad(set_to_none=True)
    for place, (x, y) in enumerate(group):
        if settings.dropout:  # the mask is a function of step and part, however the parts are shared out
            number = place * distributed.world_size() + distributed.rank()
            torch.manual_seed(seeds.integer(options.seed, "dropout", step, number))
        with autocast(device, options.precision):
            logits = net(x)
        loss = label_smoothing_cross_entropy(logits.float(), y, settings.smoothing)
        check_finite(loss.detach(), step=step)
        (loss / len(group)).backward()
        counter.add(logits, y, loss)
    distributed.all_reduce_mean([p.grad for p in net.parameters() if p.grad is not None])
    optimizer.step()
    ema.update(net)


def average_statistics(net: DerivedNetwork, ema: EMA) -> None:
    """Every process has seen its own batches; afterwards all have the mean running statistics."""
    names = [name for name, buffer in net.named_buffers() if buffer.is_floating_point()]
    buffers = dict(net.named_buffers())
    distributed.all_reduce_mean([buffers[name] for name in names])
    distributed.all_reduce_mean([ema.values[name] for name in names])


def plan(settings: TrainSettings, options: Any) -> list[str]:
    """What the run would do."""
    from papers.cream.planning import plan_lines

    check_ranges(settings)
    name, spec, size, _ = spec_of(settings.arch, 1000, settings.resolution, dataset=settings.dataset)
    source = data.limited(data.open_source(settings.dataset, "train", size, options), settings.train_images)
    _, epochs = learning_rate(settings, name)
    return plan_lines(spec, size, epochs, len(source), settings.batch_size, settings.parts, 1.0, 4.0)
