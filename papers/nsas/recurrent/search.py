"""RandomNAS with the NSAS loss in the recurrent space, as the paper means it and as it was released."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from common.data.text import Corpus, batchify
from common.errors import UserError
from common.run import distributed, seeds
from common.run.device import pick_device
from common.run.folder import open_run
from common.run.keep import Values
from common.spaces.architecture import save_architecture
from common.train.batchnorm import renew
from papers.nsas.method.novelty import Archive, Cell, distance, distance_by_slot
from papers.nsas.method.sampling import sample_free
from papers.nsas.recurrent.averaging import make_sgd
from papers.nsas.recurrent.chunks import Hidden, Mean, epoch_chunks, get_batch, perplexity, scaled, text_loss
from papers.nsas.recurrent.loss import differentiate, paper_loss, released_loss
from papers.nsas.recurrent.model import LanguageModel, drops_of
from papers.nsas.recurrent.settings import SearchGdasRecurrent, SearchRecurrent
from papers.nsas.recurrent.supernet import RECURRENT_EDGES, RecurrentCode, SupernetCell, genotype, sample

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions
    from common.run.folder import Run


def search(settings: SearchRecurrent, options: RunOptions) -> dict:
    """Train the supernet with the NSAS loss, then choose a cell (Method 11 and 12).

    for each chunk of text: sample a cell a_t; update the archive with it;
        step on L(w) = (1 - eps) L(w; a_t) + (eps / M) sum_i L(w; a_i), a_i the archive's cells, same chunk
    afterwards: score random cells by validation perplexity, batch-norm values renewed for each; the best is it

    As released (``path`` "fixed") the supernet stays the mixture that it began as; the cell is the last random sample.
    """
    device = pick_device(options)
    corpus, train, valid = open_text(settings, options, device)
    sampled = settings.path == "sampled"
    archive_of, loss_of = (PaperArchive, paper_loss) if sampled else (ReleasedArchive, released_loss)
    with open_run(options, settings, data=corpus) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        supernet = build(corpus.types, settings).to(device)
        optimizer = make_sgd(supernet, settings.lr, settings.weight_decay)
        archive = archive_of(settings.constraints, settings.recent, settings.neighbours, options.seed)
        slots = 1 + settings.constraints  # of a_t and of each a_i
        hidden = Hidden(supernet, settings.batch_size, slots, distributed.per_process())
        now, mean, scores = Values(code=()), Mean(), list[float]()
        run.keeps(supernet=supernet, optimizer=optimizer, archive=archive, hidden=hidden)
        run.keeps(now=now, mean=mean, scores=scores)
        for epoch in run.epochs(settings.epochs):
            supernet.train()
            chunks = epoch_chunks(len(train), settings.bptt, seeds.numpy_rng(options.seed, "chunks", epoch), fixed=True)
            for step, (start, length) in run.each(chunks, "chunk"):
                rng = seeds.numpy_rng(options.seed, "architecture", epoch, step)
                now.code = sample(rng)
                constraints = archive.after(now.code, rng)
                dropout = partial(seeds.generator, options.seed, "dropout", epoch, step, device=device)
                words, targets = get_batch(train, start, length)
                shares, cells = hidden.shares(words, targets, dropout), (now.code, constraints)
                optimizer.param_groups[0]["lr"] = scaled(settings.lr, length, settings.bptt)
                optimizer.zero_grad()
                where = {"step": step, "architecture": now.code}
                nll = differentiate(loss_of, supernet, shares, cells, settings.mix, settings.beta, **where)
                torch.nn.utils.clip_grad_norm_(supernet.parameters(), settings.clip)
                optimizer.step()
                mean.add(nll, len(words))
            hidden.restart()
            archive.end_epoch()
            if sampled:
                set_cell(supernet, now.code, train, settings.recalibrate_chunks, settings.bptt)
            score = perplexity(text_loss(supernet, valid, settings.bptt))
            run.log(epoch=epoch, train_loss=mean.read(), valid_perplexity=score, archive=len(archive.members))
        return choose(run, supernet, (train, valid), settings, now.code, scores, options.seed)


def choose(
    run: Run, supernet: LanguageModel, texts: tuple[Tensor, Tensor], settings: SearchRecurrent, last: RecurrentCode,
    scores: list[float], seed: int, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """Score random cells by validation perplexity and write the best; in the released form ``last``, the last sample.

    texts: training and validation words in columns. scores: kept by the run. more: stands in the result, too.
    """
    sampled, (train, valid) = settings.path == "sampled", texts
    candidates = random_cells(settings.select_candidates if sampled else 0, seed)
    for _, code in run.each(candidates, "candidate"):
        set_cell(supernet, code, train, settings.recalibrate_chunks, settings.bptt)
        scores.append(perplexity(text_loss(supernet, valid, settings.bptt)))
    best = candidates[scores.index(min(scores))] if sampled else last
    architecture = {"recurrent": [list(p) for p in genotype(best)], "concat": list(range(1, len(best) + 1))}
    if run.writes:
        save_architecture(run.folder / "architecture.json", "darts-rnn", architecture, run.origin)
    metrics = {"supernet_valid_perplexity": min(scores)} if sampled else {}
    note = "" if sampled else "released form: the trained mixture never changed; the cell is the last random sample"
    return run.finish({"metrics": metrics, "architecture": architecture, "note": note, **more})


def open_text(settings: SearchRecurrent, options: RunOptions, device: torch.device) -> tuple[Corpus, Tensor, Tensor]:
    """(the text, training words in columns, the validation words that select in columns)."""
    corpus = Corpus.open(settings.text, options, settings.max_tokens, settings.max_types)
    valid = batchify(corpus.valid, settings.eval_batch_size).to(device)[: settings.select_rows or None]
    return corpus, batchify(corpus.train, settings.batch_size).to(device), valid


def build(words: int, settings: SearchRecurrent) -> LanguageModel:
    """The supernet with its initial table (1e-3 normal), which the released run keeps: a uniform mixture under the
    softmax of 2019, weights next to zero under the raw table of the head.
    """
    cell = SupernetCell(settings.width, settings.table)
    supernet = LanguageModel(words, settings.width, cell, drops_of(settings))
    cell.set_table(1e-3 * torch.randn(RECURRENT_EDGES, 5))
    return supernet


class PaperArchive(Archive[RecurrentCode]):
    """Recurrent cells, compared slot by slot; the recent ones begin with a random cell that is never trained."""

    def __init__(self, size: int, recent: int, neighbours: int, seed: int) -> None:
        super().__init__(size, recent, neighbours, measure=distance_by_slot)
        self.recent = [sample(seeds.numpy_rng(seed, "first"))]

    def after(self, code: RecurrentCode, rng: np.random.RandomState) -> list[RecurrentCode]:
        """The constraints once ``code`` has been taken in."""
        self.update(code, partial(sample, rng))
        return self.members

    def end_epoch(self) -> None:
        """The lists go on."""


class ReleasedArchive(Archive[Cell]):
    """As released it holds convolutional cells, and cuts its recent list in a variable of the epoch.

    So every epoch begins with the first random cell and the first cell of each epoch before it.
    """

    def __init__(self, size: int, recent: int, neighbours: int, seed: int) -> None:
        super().__init__(size, recent, neighbours, measure=distance)
        self.recent = [sample_free(seeds.numpy_rng(seed, "first"))]
        self.firsts, self.begun = list(self.recent), False

    def after(self, code: RecurrentCode, rng: np.random.RandomState) -> list[Cell]:
        """The constraints once a convolutional cell, drawn like all the others, has been taken in."""
        self.update(sample_free(rng), partial(sample_free, rng))
        if not self.begun:
            self.begun = True
            self.firsts.append(self.recent[-1])
        return self.members

    def end_epoch(self) -> None:
        """Back to the outer list."""
        self.recent, self.begun = list(self.firsts), False

    def state_dict(self) -> dict:
        """Both lists of the archive, and what every epoch begins with."""
        return {**super().state_dict(), "firsts": self.firsts, "begun": self.begun}

    def load_state_dict(self, state: dict) -> None:
        """Inverse of :meth:`state_dict`."""
        super().load_state_dict(state)
        self.firsts, self.begun = list(state["firsts"]), state["begun"]


def random_cells(count: int, seed: int) -> list[RecurrentCode]:
    """The candidates of the selection."""
    rng = seeds.numpy_rng(seed, "select")
    return [sample(rng) for _ in range(count)]


@torch.no_grad()
def set_cell(supernet: LanguageModel, code: RecurrentCode, train: Tensor, chunks: int, bptt: int) -> None:
    """Makes ``code`` the supernet's cell; the values of the shared batch norm become the plain average over the first
    ``chunks`` chunks of the training text, without dropout (0: they stay).
    """
    supernet.cell.set_path(code)
    if not chunks:
        return
    hidden = [supernet.start(train.shape[1])]

    def read(words: Tensor) -> None:
        hidden[0], _, _ = supernet.outputs(words, hidden[0])

    supernet.eval()
    supernet.cell.bn.train()
    starts = range(0, min(chunks, (len(train) - 1) // bptt) * bptt, bptt)
    renew([supernet.cell.bn], [get_batch(train, start, bptt)[0] for start in starts], read)


def unavailable_gdas(settings: SearchGdasRecurrent, options: RunOptions) -> dict:
    """What the authors announced but never released: a clear line instead of a missing choice. Raises UserError."""
    raise UserError("GDAS for recurrent cells was never released: there is nothing to replicate; use --method random")
