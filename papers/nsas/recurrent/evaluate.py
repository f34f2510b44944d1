"""Testing a trained recurrent network: own weights, and the released one, which is a whole pickled module."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from common.data.text import Corpus, batchify
from common.errors import UserError
from common.run.device import pick_device
from common.run.folder import open_run
from common.spaces.use import check_space
from common.weights.read import Checkpoint, load_strict, read_checkpoint
from papers.nsas.networks.weights import architecture_of, need_checkpoint, set_of, typed
from papers.nsas.recurrent.architecture import Recurrent, load_cell, recurrent_of
from papers.nsas.recurrent.chunks import perplexity, text_loss, unigram_perplexity
from papers.nsas.recurrent.model import DerivedCell, Dropouts, LanguageModel
from papers.nsas.recurrent.settings import EvaluateRecurrent

if TYPE_CHECKING:
    from torch import Tensor

    from common.cli.verbs import RunOptions

PTB_WORDS = 10_000
# what the one whole-module pickle may name; every name becomes an inert stand-in, nothing is imported for it
PICKLED_CLASSES = {
    "model.RNNModel", "model.DARTSCell", "model_search.DARTSCell", "genotypes.Genotype", "utils.LockedDropout",
    "collections.OrderedDict", "locked_dropout.LockedDropout",
    "torch.nn.modules.sparse.Embedding", "torch.nn.modules.linear.Linear", "torch.nn.modules.container.ModuleList",
    "torch.nn.modules.container.ParameterList", "torch.nn.modules.batchnorm.BatchNorm1d",
    "torch.nn.parameter.Parameter", "torch.nn.backends.thnn._get_thnn_function_backend",
    "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter",
}  # fmt: skip


class RecurrentWeights(NamedTuple):
    """Weights of a recurrent network with the settings that they call for."""

    settings: EvaluateRecurrent
    found: Checkpoint
    cell: Recurrent
    words: int


def evaluate(settings: EvaluateRecurrent, options: RunOptions) -> dict:
    """Validation (batch 10) and test (batch 1) perplexity of a recurrent network."""
    asked = settings
    settings, found, cell, words = read_recurrent(settings, options)
    corpus = Corpus.open(settings.text, options, settings.max_tokens, settings.max_types)
    if words != corpus.types:
        raise UserError(
            f"{found.source} knows {words} words, {settings.text} has {corpus.types} with --max-tokens "
            f"{settings.max_tokens} and --max-types {settings.max_types}; use the text it was trained on"
        )
    device = pick_device(options)
    with open_run(options, asked, data=corpus, **found.identity) as run:
        if run.result is not None:
            return run.result
        model = LanguageModel(
            words, settings.width, DerivedCell(settings.width, cell.recurrent, cell.concat), Dropouts()
        )
        load_strict(model, found.tensors, source=found.source)
        model.to(device)
        valid = batchify(corpus.valid, settings.batch_size).to(device)
        test = batchify(corpus.test, 1).to(device)
        valid_loss = text_loss(model, valid, settings.bptt)
        metrics = measured(model, corpus, test, settings.bptt, valid_loss)
        return run.finish({"metrics": metrics, "architecture": cell.as_names(), "width": settings.width, **found.stand})


def measured(model: LanguageModel, corpus: Corpus, test: Tensor, bptt: int, valid_loss: float) -> dict[str, Any]:
    """Perplexities of a model whose validation loss is known, and its size; test: the test words in one column."""
    return {
        "test_perplexity": perplexity(text_loss(model, test, bptt)),
        "valid_perplexity": perplexity(valid_loss),
        "unigram_perplexity": unigram_perplexity(corpus),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def read_recurrent(settings: EvaluateRecurrent, options: RunOptions) -> RecurrentWeights:
    """Raises UserError: no recurrent network, cell unknown or another, a text that is not the file's."""
    need_checkpoint(settings.checkpoint)
    found = read_checkpoint(settings.checkpoint, settings.weights, PICKLED_CLASSES)
    check_space(found, "darts-rnn")
    if "encoder.weight" not in found.tensors:
        raise UserError(f"{found.source} holds no recurrent network")
    found.tensors.setdefault("decoder.weight", found.tensors["encoder.weight"])  # tied
    words, width = (int(n) for n in found.tensors["encoder.weight"].shape)
    cell = architecture_of(settings.arch, found, "darts-rnn", recurrent_of, load_cell)
    released = "ptb" if words == PTB_WORDS else ""
    text = set_of(settings.text, "text", found.metadata, released, options, found.source)
    filled = replace(settings, text=text, width=settings.width or width)
    own = {name: int(found.metadata.get(name, 0)) for name in ("max_tokens", "max_types")}  # they make the vocabulary
    said: dict[str, Any] = {name: value for name, value in own.items() if not typed(options, name)}
    return RecurrentWeights(replace(filled, **said), found, cell, words)
