"""RandomNAS-NSAS in the recurrent space: the paper's form, and the released run, which never changed cell.

``path="sampled"`` (variant paper): each step trains one sampled cell a_t and, as a penalty, the cells of the archive:
    L(w) = (1 - eps) L(w; a_t) + (eps / M) sum_i L(w; a_i),  L = NLL + beta * temporal activation penalty,
with gradient through every term and a hidden state of its own for each constraint.
``path="fixed"`` (variant authors): the sampled table never reaches the cell, so one random mixture is trained;
constraint passes run the live model over the same chunk and advance the same hidden state, which is detached before
each of them, and only the last loss counts, times 2 / M.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from common.data.text import Corpus, batchify
from common.run import seeds
from common.run.folder import check_finite, open_run
from common.spaces.architecture import save_architecture
from common.train.device import pick_device
from papers.nsas.method.novelty import Archive, distance_by_slot
from papers.nsas.method.sampling import sample_free
from papers.nsas.processes import one_process
from papers.nsas.recurrent.model import Dropouts, LanguageModel, activation_penalty
from papers.nsas.recurrent.rules import epoch_chunks, evaluate, get_batch, make_sgd, perplexity, scaled
from papers.nsas.recurrent.settings import SearchRecurrent
from papers.nsas.recurrent.supernet import EDGES, RecurrentCode, SearchCell, genotype, sample

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


@dataclass
class Step:
    """What the loss of one step needs."""

    model: LanguageModel
    words: Tensor
    targets: Tensor
    hidden: list[Tensor]  # of the current cell, then one of each constraint
    generator: torch.Generator
    beta: float
    mix: float


def search(settings: SearchRecurrent, options: RunOptions) -> dict:
    """Run the search; returns the result (``metrics``, ``architecture``)."""
    one_process("this search")
    corpus = Corpus.open(settings.text, options, settings.max_tokens, settings.max_types)
    device = pick_device(options)
    train = batchify(corpus.train, settings.batch_size).to(device)
    valid = batchify(corpus.valid, settings.eval_batch_size).to(device)
    sampled = settings.path == "sampled"
    loss_of = paper_loss if sampled else released_loss
    with open_run(options, settings, {"data": corpus.pins}) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = build(corpus.types, settings).to(device)
        optimizer = make_sgd(model, settings.lr, settings.weight_decay)
        archive = Archive(
            settings.constraints, settings.recent, settings.neighbours, measure=distance_by_slot if sampled else _pairs
        )
        draw_cell = sample if sampled else sample_free  # the released archive holds convolutional cells
        archive.recent.append(draw_cell(seeds.numpy_rng(options.seed, "first")))
        outer = list(archive.recent)  # released: the list that every epoch starts from
        hidden = [model.start(settings.batch_size) for _ in range(settings.constraints + 1)]
        total, count = 0.0, 0
        epoch, position, code = 0, 0, sample(seeds.numpy_rng(options.seed, "architecture", 0, 0))
        if state := run.load():
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            model.rnns[0].table = state["table"]
            archive.restore(state["archive"])
            hidden, epoch, position = state["hidden"], state["epoch"], state["position"]
            total, count = state["total"], state["count"]
            outer = [tuple((int(o), int(s)) for o, s in cell) for cell in state["outer"]]
            code = tuple((int(o), int(s)) for o, s in state["code"])

        def snapshot(epoch: int, position: int) -> dict:
            return {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "archive": archive.state(),
                "hidden": hidden, "epoch": epoch, "position": position, "code": [list(p) for p in code],
                "table": model.rnns[0].table, "total": total, "count": count,
                "outer": [[list(p) for p in cell] for cell in outer],
            }  # fmt: skip

        while epoch < settings.epochs:
            model.train()
            chunks = epoch_chunks(len(train), settings.bptt, seeds.numpy_rng(options.seed, "chunks", epoch), fixed=True)
            if position == 0:
                total, count = 0.0, 0
                hidden = [model.start(settings.batch_size) for _ in range(settings.constraints + 1)]
                if not sampled:
                    archive.recent = list(outer)  # the list cut to C was a local variable of the epoch …
            for step in range(position, len(chunks)):
                start, length = chunks[step]
                rng = seeds.numpy_rng(options.seed, "architecture", epoch, step)
                code = sample(rng)
                archive.update(code if sampled else sample_free(rng), lambda: draw_cell(rng))  # noqa: B023
                if step == 0 and not sampled:
                    outer.append(archive.recent[-1])  # … so only the first cell of an epoch reached the outer one
                optimizer.param_groups[0]["lr"] = scaled(settings.lr, length, settings.bptt)
                words, targets = get_batch(train, start, length)
                generator = seeds.generator(options.seed, "dropout", epoch, step, device=device)
                optimizer.zero_grad()
                work = Step(model, words, targets, hidden, generator, settings.beta, settings.mix)
                loss, current = loss_of(work, code, archive)
                check_finite(loss, step=step, architecture=code)
                torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
                optimizer.step()
                hidden = [h.detach() for h in work.hidden]
                total, count = total + current * len(words), count + len(words)
                if run.due():
                    run.save(snapshot(epoch, step + 1))
            if sampled:
                model.rnns[0].set_path(code)
                renew_statistics(model, train, settings.recalibrate_chunks, settings.bptt)
            valid_loss = evaluate(model, valid[: settings.select_rows or None], settings.bptt)
            epoch, position = epoch + 1, 0
            run.log(
                epoch=epoch, train_loss=total / max(1, count), valid_perplexity=perplexity(valid_loss),
                archive=len(archive.members),
            )  # fmt: skip
            run.save(snapshot(epoch, 0))
        metrics = {}
        if sampled:
            code, best = select(model, train, valid, settings, options.seed)
            metrics["supernet_valid_perplexity"] = best
        architecture = {"recurrent": [list(p) for p in genotype(code)], "concat": list(range(1, len(code) + 1))}
        note = "" if sampled else "released form: the trained mixture never changed; the cell is the last random sample"
        save_architecture(run.folder / "architecture.json", "darts-rnn", architecture, run.origin)
        return run.finish({"metrics": metrics, "architecture": architecture, "note": note})


def build(words: int, settings: SearchRecurrent) -> LanguageModel:
    """Search network with its initial table (1e-3 normal), which the released run keeps: a uniform mixture under the
    softmax of 2019, weights next to zero under the raw table of the head.
    """
    drops = Dropouts(
        settings.drop_output, settings.drop_hidden, settings.drop_x, settings.drop_input, settings.drop_embedding
    )
    cell = SearchCell(settings.width, settings.table)
    model = LanguageModel(words, settings.width, cell, drops)
    cell.set_table(1e-3 * torch.randn(EDGES, 5))
    return model


def pass_loss(work: Step, slot: int) -> tuple[Tensor, Tensor | float]:
    """NLL and beta penalty of the model's present cell on the chunk; advances hidden state ``slot``, detached first."""
    masks = work.model.masks(work.words.shape[1], work.generator)
    # no gradient crosses a pass, neither between chunks nor between the constraints of one chunk
    work.hidden[slot], raw, dropped = work.model.outputs(work.words, work.hidden[slot].detach(), masks)
    return work.model.loss(dropped, work.targets), activation_penalty(raw, dropped, 0.0, work.beta)


def paper_loss(work: Step, code: RecurrentCode, archive: Archive) -> tuple[Tensor, float]:
    """(1 - eps) L(a_t) + (eps / M) sum L(a_i); each term is differentiated at once, so one graph lives at a time."""
    cell, members = work.model.rnns[0], archive.members
    cell.set_path(code)
    value, penalty = pass_loss(work, 0)
    share = 1 - work.mix if members else 1.0
    total = share * (value + penalty)
    total.backward()
    for i, member in enumerate(members):
        cell.set_path(member)
        constraint, extra = pass_loss(work, i + 1)
        term = work.mix / len(members) * (constraint + extra)
        term.backward()
        total = total.detach() + term.detach()
    return total.detach(), value.item()


def released_loss(work: Step, code: RecurrentCode, archive: Archive) -> tuple[Tensor, float]:
    """0.5 L + 0.5 * 2 L_last / M, one mixture throughout, one hidden state advanced by every pass.

    The passes between the first and the last move only the hidden state and the batch-norm values.
    """
    value, penalty = pass_loss(work, 0)
    total = (1 - work.mix) * (value + penalty)
    total.backward()
    members = len(archive.members)
    for number in range(members):
        last = number == members - 1
        with torch.set_grad_enabled(last):
            constraint, extra = pass_loss(work, 0)
        if last:
            term = work.mix * 2 * (constraint + extra) / members
            term.backward()
            total = total.detach() + term.detach()
    return total.detach(), value.item()


def _pairs(x, y) -> float:
    """Section 3.2 on convolutional cells, as the released loop used it."""
    from papers.nsas.method.novelty import distance

    return distance(x, y)


@torch.no_grad()
def select(
    model: LanguageModel, train: Tensor, valid: Tensor, settings: SearchRecurrent, seed: int
) -> tuple[RecurrentCode, float]:
    """The best of N fresh cells by validation perplexity,
    batch-norm statistics renewed for each (no code was released).
    """
    rng = seeds.numpy_rng(seed, "select")
    valid = valid[: settings.select_rows or None]
    best: tuple[float, RecurrentCode] | None = None
    for _ in range(settings.select_candidates):
        code = sample(rng)
        model.rnns[0].set_path(code)
        renew_statistics(model, train, settings.recalibrate_chunks, settings.bptt)
        score = perplexity(evaluate(model, valid, settings.bptt))
        if best is None or score < best[0]:
            best = (score, code)
    return best[1], best[0]


@torch.no_grad()
def renew_statistics(model: LanguageModel, train: Tensor, chunks: int, bptt: int) -> None:
    """Running values of the shared batch norm = plain average over the first ``chunks`` chunks, no dropout."""
    if not chunks:
        return
    bn = model.rnns[0].bn
    momentum = bn.momentum
    bn.reset_running_stats()
    bn.momentum = None
    model.eval()
    bn.train()
    hidden = model.start(train.shape[1])
    for i in range(min(chunks, (len(train) - 1) // bptt)):
        words, _ = get_batch(train, i * bptt, bptt)
        hidden, _, _ = model.outputs(words, hidden)
    bn.momentum = momentum
