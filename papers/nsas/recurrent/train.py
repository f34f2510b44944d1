"""Training of a derived recurrent cell: SGD, averaged SGD once validation stalls, back to the best on NaN."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from common.data.text import Corpus, batchify
from common.errors import UserError
from common.run import distributed, seeds
from common.run.device import pick_device
from common.run.folder import open_run, say
from common.spaces.use import check_space
from common.use.finetune import arch_asked, read_start, settled
from common.weights.read import Checkpoint, load_strict, save_weights
from papers.nsas.networks.weights import architecture_of
from papers.nsas.recurrent.architecture import Recurrent, load_cell, recurrent_of
from papers.nsas.recurrent.averaging import Descent, averaged, switches_to_averaging
from papers.nsas.recurrent.chunks import (
    Hidden,
    Mean,
    epoch_chunks,
    get_batch,
    perplexity,
    scaled,
    text_loss,
)
from papers.nsas.recurrent.evaluate import PICKLED_CLASSES, PTB_WORDS, measured
from papers.nsas.recurrent.loss import Chunk
from papers.nsas.recurrent.model import DerivedCell, LanguageModel, activation_penalty, drops_of
from papers.nsas.recurrent.settings import TrainRecurrent

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


WORDS = ("encoder.weight", "decoder.weight", "decoder.bias")  # parameters that belong to a vocabulary


def build(words: int, cell: Recurrent, settings: TrainRecurrent) -> LanguageModel:
    """The derived network: 22,960,000 parameters with 850 units on PTB."""
    derived = DerivedCell(settings.width, cell.recurrent, cell.concat)
    return LanguageModel(words, settings.width, derived, drops_of(settings))


def train(settings: TrainRecurrent, options: RunOptions) -> dict:
    """Train a derived cell on the text and test the model of the best validation loss (Method 13).

    for each chunk of text: step on NLL + alpha and beta penalties; lr in proportion to the chunk's length
    after each epoch: keep the model if its validation loss is the best; once it stalls, SGD becomes averaged SGD
    a loss that is not a number ends the epoch and brings back the best model
    """
    settings, start = started(settings, options)
    corpus = Corpus.open(settings.text, options, settings.max_tokens, settings.max_types)
    cell, device = start.cell if start else load_cell(settings.arch), pick_device(options)
    stream = batchify(corpus.train, settings.batch_size).to(device)
    valid = batchify(corpus.valid, settings.eval_batch_size).to(device)
    test = batchify(corpus.test, 1).to(device)
    with open_run(options, settings, data=corpus) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = build(corpus.types, cell, settings).to(device)
        origin = {"started_from": start.into(model, settings)} if start else {}
        descent = Descent(model, settings.lr, settings.weight_decay)
        hidden = Hidden(model, settings.batch_size, sharing=distributed.per_process())
        best, mean, losses = Best(model, descent), Mean(), list[float]()  # of validation, while SGD is not averaged
        about = about_trained(cell, settings, corpus.types)
        run.tells(about, raw="model")
        run.keeps(model=model, descent=descent, best=best, hidden=hidden, mean=mean, losses=losses)
        for epoch in run.epochs(settings.epochs):
            model.train()
            broken = False
            chunks = epoch_chunks(len(stream), settings.bptt, seeds.numpy_rng(options.seed, "chunks", epoch))
            for step, (start, length) in run.each(chunks, "chunk"):
                dropout = partial(seeds.generator, options.seed, "dropout", epoch, step, device=device)
                words, targets = get_batch(stream, start, length)
                (((chunk, states), _),) = hidden.shares(words, targets, dropout)
                descent.optimizer.param_groups[0]["lr"] = scaled(settings.lr, length, settings.bptt)
                nll, states[0] = train_step(model, descent.optimizer, chunk, states[0], settings)
                if broken := math.isnan(nll):  # looked for after the step, as released; infinity goes on
                    break
                mean.add(nll, len(words))
            if broken:
                best.bring_back(settings.rollbacks)  # the epoch then ends like any other
            with averaged(model, descent.optimizer):
                valid_loss = text_loss(model, valid, settings.bptt)
                best.take(valid_loss)
            if not descent.averaging:
                if switches_to_averaging(losses, valid_loss, settings.nonmono):
                    descent.average()
                losses.append(valid_loss)
            hidden.restart()
            run.log(
                epoch=epoch, train_loss=mean.read(), valid_perplexity=perplexity(valid_loss),
                averaging=descent.averaging, rolled_back=broken,
            )  # fmt: skip
        best.load()
        if run.writes:
            save_weights(model, run.folder / "weights.safetensors", about)
        metrics = measured(model, corpus, test, settings.bptt, best.loss)
        return run.finish({"metrics": metrics, "architecture": cell.as_names(), **origin})


class TextStart(NamedTuple):
    """Weights that a training starts from, and their cell."""

    found: Checkpoint
    cell: Recurrent

    def into(self, model: LanguageModel, settings: TrainRecurrent) -> dict[str, Any]:
        """Load them, and say what starts anew: the words, where the vocabulary is not the file's own.

        What result.json says of it. Raises UserError where anything else does not fit; the model is then untouched.
        """
        said, own, held = self.found.metadata, model.state_dict(), dict(self.found.tensors)
        rows, names = len(held["encoder.weight"]), ("text", "max_tokens", "max_types")
        mine = tuple(getattr(settings, name) for name in names)
        theirs = (said.get("dataset", "ptb" if rows == PTB_WORDS else ""), *(said.get(n, 0) for n in names[1:]))
        anew = () if mine == theirs and rows == len(own["encoder.weight"]) else WORDS
        held.setdefault("decoder.weight", held["encoder.weight"])  # tied
        load_strict(model, held | {name: own[name] for name in anew}, drop=(), source=self.found.source)
        if anew:
            say(
                f"{self.found.source} knows the {rows} words of {theirs[0] or 'another text'}, {settings.text} has "
                f"{len(own['encoder.weight'])} others: embedding and decoder start anew, the cell is taken"
            )
        else:
            say(f"{self.found.source}: all weights are taken, those of the words too")
        return {"classes": rows, "weights": self.found.weights or "as they are", "starts_anew": list(anew)}


def started(settings: TrainRecurrent, options: RunOptions) -> tuple[TrainRecurrent, TextStart | None]:
    """The weights of ``--checkpoint``, and the settings with what they settle: cell and width. Raises UserError."""
    if not settings.checkpoint:
        return settings, None
    file, found = read_start(settings.checkpoint, "nsas", PICKLED_CLASSES)
    check_space(found, "darts-rnn")
    if "encoder.weight" not in found.tensors:
        raise UserError(f"{found.source} holds no recurrent network")
    named = arch_asked(settings, options.given)
    cell = architecture_of(named, found, "darts-rnn", recurrent_of, load_cell)
    width = {"width": int(found.tensors["encoder.weight"].shape[1])}
    arch = "" if found.metadata.get("architecture") else named
    settings = settled(settings, options.given, width, found.source, arch=arch, checkpoint=str(file))
    return settings, TextStart(found, cell)


def train_step(
    model: LanguageModel, optimizer: torch.optim.Optimizer, chunk: Chunk, hidden: Tensor, settings: TrainRecurrent
) -> tuple[float, Tensor]:
    """One chunk from ``hidden`` [1, B, H]: NLL + alpha and beta penalties, clip, step.

    Returns the NLL, NaN where it or a penalty is that, and the hidden state after the chunk. Several processes have
    columns of their own, maybe none; NLL and gradient are the means over all columns.
    """
    optimizer.zero_grad()
    columns, told = chunk.words.shape[1], torch.zeros(2, dtype=torch.float64)
    if columns:
        hidden, raw, dropped = model.outputs(chunk.words, hidden, chunk.masks(model))
        nll = model.loss(dropped, chunk.targets)
        loss = nll + activation_penalty(raw, dropped, settings.alpha, settings.beta)
        loss.backward()
        told = torch.stack([loss.detach(), nll.detach()]).cpu().double()
    distributed.all_reduce_mean([told], weight=columns)
    distributed.reduce_gradients(model.parameters(), columns)
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    optimizer.step()
    loss_value, nll_value = told.tolist()
    return math.nan if math.isnan(loss_value) else nll_value, hidden.detach()


class Best:
    """The model of the lowest validation loss so far, with its optimiser, to go back to and to test."""

    def __init__(self, model: LanguageModel, descent: Descent) -> None:
        self.model, self.descent = model, descent
        self.loss, self.returns = math.inf, 0
        self.saved: dict[str, Any] | None = None

    def take(self, loss: float) -> None:
        """Keep copies of the weights (those that the model holds now) if ``loss`` is the lowest."""
        if loss < self.loss:
            self.loss = loss
            weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            self.saved = {"weights": weights, "descent": copy.deepcopy(self.descent.state_dict())}

    def load(self) -> None:
        """Its weights into the model. Raises UserError where there are none."""
        if self.saved is None:
            raise UserError("the validation loss was never finite; lower --lr or --clip")
        self.model.load_state_dict(self.saved["weights"])

    def bring_back(self, at_most: int) -> None:
        """Model and optimiser as they were. Raises UserError after ``at_most`` returns, or where nothing was kept."""
        self.returns += 1
        if self.returns > at_most or self.saved is None:
            back = "and no model was saved yet to go back to" if self.saved is None else ""
            raise UserError(f"the loss was not a number {self.returns} times {back}; lower --lr {self.descent.lr}")
        self.load()
        self.descent.load_state_dict(copy.deepcopy(self.saved["descent"]))

    def state_dict(self) -> dict[str, Any]:
        """What was kept, and how often it was needed."""
        return {"loss": self.loss, "returns": self.returns, "saved": self.saved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.loss, self.returns, self.saved = state["loss"], state["returns"], state["saved"]


def about_trained(cell: Recurrent, settings: TrainRecurrent, types: int) -> dict[str, Any]:
    """What the weights are of; the vocabulary is that of the text and its limits."""
    return {
        "architecture": cell.as_names(), "space": "darts-rnn", "dataset": settings.text, "classes": types,
        "width": settings.width, "depth": 1, "stage": "train_ptb", "paper": "nsas",
        "max_tokens": settings.max_tokens, "max_types": settings.max_types,
    }  # fmt: skip
