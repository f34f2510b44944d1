"""Bad input: one clear line each."""

from __future__ import annotations

import pytest
import torch

from common.architecture import save_architecture
from common.data.text import batchify
from common.errors import UserError
from papers.nsas.architectures import CNN
from papers.nsas.evaluate import load_recurrent, need_checkpoint
from papers.nsas.networks import load_cnn, names_of
from papers.nsas.recurrent import Cell, Dropouts, LanguageModel
from papers.nsas.search_nb201 import constraint_maker
from papers.nsas.train_recurrent import load_cell
from papers.nsas.unavailable import recurrent_gdas

GOOD = [["tanh", 0]] * 8


def written(tmp_path, space, architecture):
    path = tmp_path / "a.json"
    save_architecture(path, space, architecture)
    return str(path)


def test_cells(tmp_path):
    names = names_of(CNN["Random_NSAS"])
    assert load_cnn(written(tmp_path, "darts", names)) == CNN["Random_NSAS"]
    with pytest.raises(UserError, match="needs 8"):
        load_cnn(written(tmp_path, "darts", {**names, "normal": names["normal"][:7]}))
    forward = [["skip_connect", 3], *names["normal"][1:]]
    with pytest.raises(UserError, match="comes later"):
        load_cnn(written(tmp_path, "darts", {**names, "normal": forward}))
    with pytest.raises(UserError, match="unknown architecture"):
        load_cnn("Random")


@pytest.mark.parametrize(
    "recurrent, words",
    [
        (GOOD[:7], "needs 8"),
        ([["swish", 0], *GOOD[1:]], "unknown activation"),
        ([["tanh", 1], *GOOD[1:]], "can read states"),
    ],
)
def test_recurrent_cells(tmp_path, recurrent, words):
    path = written(tmp_path, "darts-rnn", {"recurrent": recurrent, "concat": list(range(1, 9))})
    with pytest.raises(UserError, match=words):
        load_cell(path)


def test_streams_and_checkpoints(tmp_path):
    with pytest.raises(UserError, match="too few"):
        batchify(torch.arange(10), 64)
    with pytest.raises(UserError, match="--checkpoint"):
        need_checkpoint("")
    cell = load_cell("Random_NSAS")
    model = LanguageModel(10, 4, Cell(4, cell.recurrent, cell.concat), Dropouts())
    bad = tmp_path / "bad.pt"
    torch.save(Evil(), bad)
    with pytest.raises(UserError) as caught:
        load_recurrent(model, str(bad))
    assert "\n" not in str(caught.value)
    good = tmp_path / "good.pt"
    torch.save({f"module.{k}": v for k, v in model.state_dict().items()}, good)
    load_recurrent(model, str(good))


class Evil:
    """Would run code on a full unpickle."""

    def __reduce__(self):
        return (print, ("unpickled",))


def test_constraint_numbers_and_absent_code():
    with pytest.raises(UserError, match="2 to 5"):
        constraint_maker("nsas", 8, True)
    with pytest.raises(UserError, match="never released"):
        recurrent_gdas(None, None)
