"""Settings of the recurrent wing; the defaults are those of the published run. No torch here: ``--help`` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.settings import Settings, refuse_idle, setting
from common.train.settings import checkpoint_setting
from papers.nsas.settings import Constraints


@dataclass(frozen=True)
class Text(Settings):
    """The text, and how much of it."""

    text: str = setting("ptb", "text by name, or a folder with train.txt, valid.txt, test.txt")
    max_tokens: int = setting(0, "words of the training text that are used, 0: all", at_least=0)
    max_types: int = setting(0, "size of the vocabulary, rarer words become <unk>, 0: all words", at_least=0)
    bptt: int = setting(35, "time steps of a chunk, through which gradients flow", at_least=1)


@dataclass(frozen=True)
class Training(Text):
    """What the search and the training of a derived cell share: SGD on chunks of the text, five dropouts."""

    width: int = setting(850, "units of the cell and of the embedding", at_least=1)
    epochs: int = setting(3600, "epochs", at_least=1)
    batch_size: int = setting(64, "columns that the training text is cut into", at_least=1)
    eval_batch_size: int = setting(10, "columns of the validation text", at_least=1)
    lr: float = setting(20.0, "learning rate of a chunk of --bptt time steps; others in proportion", at_least=0)
    clip: float = setting(0.25, "largest norm of the gradient", above=0)
    weight_decay: float = setting(8e-7, "weight decay", at_least=0)
    drop_output: float = setting(0.75, "dropout of the cell's output", at_least=0, below=1)
    drop_hidden: float = setting(0.25, "dropout of the hidden state in the cell", at_least=0, below=1)
    drop_x: float = setting(0.75, "dropout of the input in the cell", at_least=0, below=1)
    drop_input: float = setting(0.2, "dropout of the embedded word", at_least=0, below=1)
    drop_embedding: float = setting(0.1, "dropout of whole words", at_least=0, below=1)
    beta: float = setting(1e-3, "penalty of the output's change from one time step to the next", at_least=0)


@dataclass(frozen=True)
class SearchRecurrent(Training, Constraints):
    """RandomNAS-NSAS in the recurrent space (October 2019 log; its architecture never changed: ``path`` "fixed")."""

    path: Literal["fixed", "sampled"] = setting(
        "fixed", "fixed: the released run, which only ever trains the first mixture; sampled: one cell a step"
    )
    table: Literal["softmax", "raw"] = setting(
        "softmax", "mixture of the fixed path: softmax of the table (2019), or the table itself (head)"
    )
    constraints: int = setting(8, "M, constraint architectures; 0: none", at_least=0)
    recent: int = setting(20, "C, recently trained architectures that may enter the archive", at_least=1)
    width: int = setting(300, "units of the cell and of the embedding", at_least=1)
    epochs: int = setting(300, "epochs of the supernet", at_least=1)
    weight_decay: float = setting(5e-7, "weight decay", at_least=0)
    drop_embedding: float = setting(0.0, "dropout of whole words", at_least=0, below=1)
    select_candidates: int = setting(100, "cells that the search chooses among", at_least=1)
    select_rows: int = setting(0, "time steps of the validation text that are used, 0: all", at_least=0)
    recalibrate_chunks: int = setting(
        10, "chunks that renew the batch norm's values before a cell is scored", at_least=0
    )

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError for settings without effect."""
        if self.path == "fixed":  # the archive only counts its members there
            idle = dict.fromkeys(("select_candidates", "recalibrate_chunks", "recent", "neighbours"), "--path sampled")
        else:
            idle = {"table": "--path fixed"}
        if not self.constraints:
            idle |= dict.fromkeys(("recent", "neighbours", "mix"), "--constraints above 0")
        refuse_idle(self, idle, given)


@dataclass(frozen=True)
class TrainRecurrent(Training):
    """The derived recurrent cell from scratch, or from weights."""

    arch: str = setting("Random_NSAS", "published recurrent cell by name, or an architecture file")
    checkpoint: str = checkpoint_setting()
    alpha: float = setting(0.0, "penalty of the dropped output's square", at_least=0)
    nonmono: int = setting(5, "epochs without a better validation loss before averaging begins", at_least=1)
    rollbacks: int = setting(20, "returns to the best saved model before the run gives up", at_least=0)


@dataclass(frozen=True)
class EvaluateRecurrent(Text):
    """A trained recurrent network: validation (batch 10) and test (batch 1) perplexity."""

    text: str = setting("ptb", "text; unless given the file's own, or ptb for a file with its 10,000 words")
    arch: str = setting("", "recurrent cell by name or file; default: that of the weights, if they say so")
    checkpoint: str = setting("", "file of weights")
    weights: Literal["auto", "ema", "raw"] = setting("auto", "which of a file's weights")
    width: int = setting(0, "units, 0: as in the file", at_least=0)
    batch_size: int = setting(10, "columns of the validation text", at_least=1)


@dataclass(frozen=True)
class SearchGdasRecurrent(Settings):
    """GDAS for recurrent cells: a combination that the authors never released."""
