"""The search: train the supernet in proportion to size, score, train the controller, generate."""

from __future__ import annotations

import time
from typing import Any

from common.run import files as records
from common.run import seeds
from common.run.folder import open_run
from common.spaces.architecture import save_architecture
from common.train import distributed
from common.train.device import pick_device
from papers.nao_v2.data.sets import open_set, split
from papers.nao_v2.method import balanced, pool
from papers.nao_v2.method.controller_training import controller_epoch, controller_quality, training_data
from papers.nao_v2.method.search_state import (
    SearchState,
    nothing_new,
    score_architecture,
    train_finalist,
    write_iteration,
)
from papers.nao_v2.method.supernet_training import learning_rate, supernet_step
from papers.nao_v2.network.architectures import SPACE, as_file, from_tokens, text_of, to_tokens
from papers.nao_v2.network.size import size_of
from papers.nao_v2.settings import Search


def search(settings: Search, options: Any) -> dict[str, Any]:
    """The ``search`` verb. Pool P = {}, candidates S = random architectures, supernet W, controller."""
    c = settings
    device = pick_device(options)
    images = open_set(c.dataset, "train", "cifar", options)
    with open_run(options, c, {"data": images.pins, "pinned": images.pinned}) as run:
        if run.result is not None:
            return run.result
        s = SearchState(c, options, run, device)
        s.train, s.valid = split(s.rng, images.to(device), c.train_images, c.valid_images, s.seed)
        s.begin(len(images.classes))
        for i in range(s.iteration, c.iterations):
            s.enter_iteration(i)
            if s.stage == "supernet":
                train_supernet(s)  # 1, 2: n(a) -> p(a); W along a ~ p
            if s.stage == "score":
                score_pool(s)  # 3, 4: P = P + S, fresh scores for all of P, sort
            if i == c.iterations - 1:
                break  # 5
            if s.stage == "controller":
                train_controller(s)  # 6, 7
            if s.stage == "generate":
                generate(s)  # 8: S = what latent steps of growing size yield
        if s.stage != "final":
            s.advance("final")
        train_final(s)
        return finish(s)


def train_supernet(s: SearchState) -> None:
    """Each step: a ~ p, forward along a, cross entropy, clip, SGD. Only the candidates S are sampled."""
    c = s.c
    sizes = balanced.sizes(s.candidates, c.channels, c.layers, s.classes, c.space)
    p = balanced.sampler(c.sampling, sizes)
    batches = s.supernet_batches()
    for epoch in range(s.epoch, c.epochs):
        rate = learning_rate(c.restart, s.iteration, epoch, c.epochs, c.lr, c.lr_min)
        for group in s.optimizer.param_groups:
            group["lr"] = rate
        s.supernet.train()
        work = batches.epoch(s.iteration * c.epochs + epoch, s.step)
        for x, y in s.run.progress(work, f"iteration {s.iteration} epoch {epoch}"):
            seeds.step_chance(s.seed, s.iteration * c.epochs + epoch, s.step)
            architecture = s.candidates[balanced.draw(s.rng, len(s.candidates), p)]
            s.drop.step = epoch * len(batches) + s.step
            loss, logits = supernet_step(
                s.supernet, architecture, x, y, s.optimizer, c.clip, c.zero_grad, s.precision,
                batches.share_sizes(s.step),
            )  # fmt: skip
            s.counter.add(logits, y, loss)
            s.step += 1
            s.save_if_due()
        s.log_epoch(epoch, rate)
        s.epoch, s.step = epoch + 1, 0
        s.save()
    s.advance("score")


def score_pool(s: SearchState) -> None:
    """Accuracy of every architecture of P, each on a validation batch of its own; sorted, best first."""
    if s.step == 0 and not s.scores:
        s.pool = s.pool + s.candidates
    for number in s.run.progress(range(len(s.scores), len(s.pool)), f"iteration {s.iteration} scores"):
        s.scores.append(score_architecture(s, number))
        s.save_if_due()
    ranking = pool.order(s.scores)
    s.pool, s.accuracies = [s.pool[k] for k in ranking], [s.scores[k] for k in ranking]
    write_iteration(s)
    s.advance("controller")


def train_controller(s: SearchState) -> None:
    """Predict scaled accuracies and rebuild sequences; ten copies of the pool, nine with swapped operands."""
    c, started = s.c, time.perf_counter()
    if s.controller_data is None:
        s.new_controller_optimizer()
        sequences, targets = [to_tokens(a) for a in s.pool], pool.scaled(s.accuracies)
        s.controller_data = tuple(t.to(s.device) for t in training_data(s.rng, sequences, targets, c.controller_copies))
    tokens, targets, valid_tokens, valid_targets = s.controller_data
    for epoch in s.run.progress(range(s.epoch, c.controller_epochs), f"iteration {s.iteration} controller"):
        losses = controller_epoch(
            s.controller, tokens, targets, s.controller_optimizer, c.controller_batch_size, c.controller_clip,
            c.trade_off, s.seed, s.iteration, epoch,
        )  # fmt: skip
        s.epoch = epoch + 1
        if s.epoch % 100 == 0 or s.epoch == c.controller_epochs:
            s.log_controller(epoch, losses, controller_quality(s.controller, valid_tokens, valid_targets))
        if s.run.due():
            s.controller_seconds += time.perf_counter() - started
            started = time.perf_counter()
            s.save()
    s.controller_seconds += time.perf_counter() - started
    s.controller_data = None
    s.advance("generate")


def generate(s: SearchState) -> None:
    """lambda = 1, 2, 3, …: one latent step of that size for the best architectures at once; keep what is new."""
    c, started = s.c, time.perf_counter()
    s.controller.eval()
    distributed.broadcast(p.data for p in s.controller.parameters())
    known = {tuple(to_tokens(a)) for a in s.pool}
    outputs, gradient = s.controller.gradient(s.best_tokens())
    for step in range(s.step + 1, c.maximum_step + 1):
        if len(s.kept) >= c.new_architectures:
            break
        decoded = s.controller.improved(outputs, gradient, step)[0].tolist()
        pool.select_new(decoded, known, s.kept, c.new_architectures, c.canonical)
        s.step = step
        s.save_if_due()
    s.controller_seconds += time.perf_counter() - started
    s.candidates = [from_tokens(tokens) for tokens in s.kept] or nothing_new(s)
    s.log_generation()
    s.advance("supernet", s.iteration + 1)


def train_final(s: SearchState) -> None:
    """The best architectures of the last iteration, each trained from scratch; accuracy on all validation images."""
    for number in range(len(s.final_scores), min(s.c.final, len(s.pool))):
        s.final_scores.append(train_finalist(s, number))
        s.finalist = None
        s.save()


def finish(s: SearchState) -> dict[str, Any]:
    """Files, architecture.json and the result; the controller's share of the time goes to timing.json only."""
    c, run = s.c, s.run
    best = pool.order(s.final_scores)
    ranked = [s.pool[k] for k in best]
    if run.writes:
        origin = {**run.origin, "dataset": c.dataset, "classes": s.classes, "pixels": s.train.size}
        pool.write_pool(run.folder / "arch_pool.final", ranked)
        pool.write_scores(run.folder / "arch_pool.perf.final", [s.final_scores[k] for k in best])
        save_architecture(run.folder / "architecture.json", SPACE, as_file(ranked[0], c.space), origin)
    size = size_of(ranked[0], channels=c.channels, layers=c.layers, classes=s.classes, space=c.space)
    metrics = {
        "valid_accuracy_percent": s.final_scores[best[0]],
        "supernet_accuracy": s.accuracies[best[0]],
        "parameters": size.parameters,
        "macs": size.macs,
        "pool": len(s.pool),
        "supernet_steps": s.supernet_steps,
        "new_architectures": s.generated,
        **s.last_quality,
    }
    seconds = run.seconds()
    result = run.finish({"metrics": metrics, "architecture": text_of(ranked[0])})
    if run.writes:
        timing = records.read_json(run.folder / "timing.json")
        timing["controller_seconds"] = round(s.controller_seconds, 3)
        timing["controller_share"] = round(s.controller_seconds / seconds, 4) if seconds else 0.0
        records.write_json(run.folder / "timing.json", timing)
    return result
