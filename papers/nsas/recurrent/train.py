"""Training a recurrent cell from scratch: SGD, then averaged SGD once validation stalls, back to the best on NaN."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from common.cli.errors import UserError
from common.data.text import Corpus, batchify
from common.run import seeds
from common.run.folder import open_run
from common.spaces.architecture import load_architecture
from common.train.device import pick_device
from common.weights.read import save_weights
from papers.nsas.network.architectures import RECURRENT, Recurrent
from papers.nsas.processes import one_process
from papers.nsas.recurrent.model import ACTIVATIONS, Cell, Dropouts, LanguageModel, activation_penalty
from papers.nsas.recurrent.rules import (
    averaged,
    epoch_chunks,
    evaluate,
    get_batch,
    make_asgd,
    make_sgd,
    perplexity,
    scaled,
    switches_to_averaging,
)
from papers.nsas.recurrent.settings import TrainRecurrent

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def load_cell(name: str) -> Recurrent:
    """A published recurrent cell by name, or an architecture file of space "darts-rnn".  UserError when malformed."""
    if name in RECURRENT:
        return RECURRENT[name]
    if not name.endswith(".json"):
        raise UserError(f"unknown recurrent cell {name!r}; use a file or one of {', '.join(RECURRENT)}")
    return recurrent_of(load_architecture(name, "darts-rnn"), name)


def recurrent_of(found, name: str) -> Recurrent:
    """The cell of a file's record; ``name`` is the file's, for messages. UserError when malformed."""
    try:
        nodes = tuple((str(f), int(p)) for f, p in found["recurrent"])
        concat = tuple(int(i) for i in found["concat"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{name}: a recurrent cell has 'recurrent' (activation, input) pairs and 'concat'") from None
    check_cell(name, nodes, concat)
    return Recurrent(nodes, concat)


def check_cell(name: str, nodes: tuple[tuple[str, int], ...], concat: tuple[int, ...]) -> None:
    """Eight nodes, known activations, inputs that exist already."""
    if len(nodes) != 8:
        raise UserError(f"{name}: the recurrent cell has {len(nodes)} pairs; it needs 8")
    for node, (function, source) in enumerate(nodes):
        if function not in ACTIVATIONS:
            raise UserError(
                f"{name}: unknown activation {function!r} in node {node + 1}; use one of {', '.join(ACTIVATIONS)}"
            )
        if not 0 <= source <= node:
            raise UserError(f"{name}: node {node + 1} reads state {source}; it can read states 0 to {node}")
    if not concat or any(not 0 < i <= len(nodes) for i in concat):
        raise UserError(f"{name}: concat must name states between 1 and {len(nodes)}")


def build(words: int, cell: Recurrent, settings: TrainRecurrent) -> LanguageModel:
    """The derived network: 22,960,000 parameters with 850 units on PTB."""
    drops = Dropouts(
        settings.drop_output, settings.drop_hidden, settings.drop_x, settings.drop_input, settings.drop_embedding
    )
    return LanguageModel(words, settings.width, Cell(settings.width, cell.recurrent, cell.concat), drops)


def train(settings: TrainRecurrent, options: RunOptions) -> dict:
    """Train, keep the best validation model, test it at the end."""
    one_process("recurrent training")
    corpus = Corpus.open(settings.text, options, settings.max_tokens, settings.max_types)
    cell, device = load_cell(settings.arch), pick_device(options)
    stream = batchify(corpus.train, settings.batch_size).to(device)
    valid = batchify(corpus.valid, settings.eval_batch_size).to(device)
    test = batchify(corpus.test, 1).to(device)
    with open_run(options, settings, {"data": corpus.pins}) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = build(corpus.types, cell, settings).to(device)
        optimizer, averaging = make_sgd(model, settings.lr, settings.weight_decay), False
        hidden, losses, rollbacks, epoch, position, total, count = model.start(settings.batch_size), [], 0, 0, 0, 0.0, 0
        best: dict = {"loss": math.inf}  # nothing saved yet
        if state := run.load():
            model.load_state_dict(state["model"])
            averaging = state["averaging"]
            if averaging:
                optimizer = make_asgd(model, settings.lr, settings.weight_decay)
            optimizer.load_state_dict(state["optimizer"])
            hidden, losses, rollbacks = state["hidden"], state["losses"], state["rollbacks"]
            epoch, position, best = state["epoch"], state["position"], state["best"]
            total, count = state["total"], state["count"]

        def snapshot(epoch: int, position: int) -> dict:
            return {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "averaging": averaging,
                "hidden": hidden, "losses": losses, "rollbacks": rollbacks, "epoch": epoch, "position": position,
                "best": best, "total": total, "count": count,
            }  # fmt: skip

        while epoch < settings.epochs:
            model.train()
            if position == 0:
                hidden, total, count = model.start(settings.batch_size), 0.0, 0
            chunks = epoch_chunks(len(stream), settings.bptt, seeds.numpy_rng(options.seed, "chunks", epoch))
            broken = False
            for step in range(position, len(chunks)):
                start, length = chunks[step]
                optimizer.param_groups[0]["lr"] = scaled(settings.lr, length, settings.bptt)
                words, targets = get_batch(stream, start, length)
                generator = seeds.generator(options.seed, "dropout", epoch, step, device=device)
                loss, hidden = train_step(model, optimizer, words, targets, hidden, generator, settings)
                if math.isnan(loss):  # looked for after the step, as released; infinity goes on
                    broken = True
                    break
                total, count = total + loss * len(words), count + len(words)
                if run.due():
                    run.save(snapshot(epoch, step + 1))
            position = 0
            if broken:  # back to the best model; the epoch then ends like any other
                rollbacks += 1
                if rollbacks > settings.rollbacks or "weights" not in best:
                    back = "and no model was saved yet to go back to" if "weights" not in best else ""
                    raise UserError(f"the loss was not a number {rollbacks} times {back}; lower --lr {settings.lr}")
                model.load_state_dict(best["weights"])
                averaging = best["averaging"]
                make = make_asgd if averaging else make_sgd
                optimizer = make(model, settings.lr, settings.weight_decay)
                optimizer.load_state_dict(copy.deepcopy(best["optimizer"]))
            with averaged(model, optimizer):
                valid_loss = evaluate(model, valid, settings.bptt)
                if valid_loss < best["loss"]:
                    weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
                    best = {
                        "loss": valid_loss, "weights": weights, "averaging": averaging,
                        "optimizer": copy.deepcopy(optimizer.state_dict()),
                    }  # fmt: skip
            if not averaging:
                if switches_to_averaging(losses, valid_loss, settings.nonmono):
                    optimizer, averaging = make_asgd(model, settings.lr, settings.weight_decay), True
                losses.append(valid_loss)
            epoch += 1
            run.log(
                epoch=epoch,
                train_loss=total / max(1, count),
                valid_perplexity=perplexity(valid_loss),
                averaging=averaging,
                rolled_back=broken,
            )
            run.save(snapshot(epoch, 0))
        if "weights" not in best:
            raise UserError("the validation loss was never finite; lower --lr or --clip")
        model.load_state_dict(best["weights"])
        architecture = {"recurrent": [list(p) for p in cell.recurrent], "concat": list(cell.concat)}
        record = {
            "architecture": architecture, "space": "darts-rnn", "dataset": settings.text, "classes": corpus.types,
            "width": settings.width, "depth": 1, "stage": "train_ptb", "paper": "nsas",
            "max_tokens": settings.max_tokens, "max_types": settings.max_types,
        }  # fmt: skip
        save_weights(model, run.folder / "weights.safetensors", metadata=record)
        metrics = {
            "test_perplexity": perplexity(evaluate(model, test, settings.bptt)),
            "valid_perplexity": perplexity(best["loss"]),
            "unigram_perplexity": unigram_perplexity(corpus),
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        return run.finish({"metrics": metrics, "architecture": architecture})


def train_step(
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    words: Tensor,
    targets: Tensor,
    hidden: Tensor,
    generator: torch.Generator,
    settings: TrainRecurrent,
) -> tuple[float, Tensor]:
    """One chunk: NLL + alpha and beta penalties, clip, step. Returns the NLL, NaN where it or a penalty is that."""
    masks = model.masks(words.shape[1], generator)
    hidden, raw, dropped = model.outputs(words, hidden, masks)
    value = model.loss(dropped, targets)
    loss = value + activation_penalty(raw, dropped, settings.alpha, settings.beta)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    optimizer.step()
    return math.nan if math.isnan(loss.item()) else value.item(), hidden.detach()


def unigram_perplexity(corpus: Corpus) -> float:
    """Test perplexity of word frequencies counted on the training text (one added to each count): the bar to beat."""
    counts = torch.bincount(corpus.train, minlength=corpus.types).double() + 1
    logs = (counts / counts.sum()).log()
    return perplexity(-logs[corpus.test].mean().item())
