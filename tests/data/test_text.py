"""Text corpora: ids, vocabulary, limits, and mistakes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from common.data.text import Corpus, batchify
from common.errors import UserError


def write(folder, **parts):
    folder.mkdir()
    for part, text in parts.items():
        (folder / f"{part}.txt").write_text(text)
    return str(folder)


def test_order_of_first_appearance_and_blank_lines(tmp_path):
    corpus = Corpus.open(write(tmp_path / "own", train="a b\n\nb c\n", valid="d a\n", test="e\n"))
    assert corpus.vocabulary == ("a", "b", "<eos>", "c", "d", "e")
    assert corpus.train.tolist() == [0, 1, 2, 2, 1, 3, 2]
    assert corpus.valid.tolist() == [4, 0, 2] and corpus.test.tolist() == [5, 2]
    assert not corpus.pinned and len(corpus.pins) == 3 and corpus.name == "own"


def test_limits(tmp_path):
    name = write(tmp_path / "own", train="b a\na c\nc b a\n" * 4, valid="a z\n", test="b\n")
    corpus = Corpus.open(name, max_types=4)  # a (12), then b and c tie at 8: b is kept
    assert set(corpus.vocabulary) == {"a", "b", "<unk>", "<eos>"}
    assert corpus.valid.tolist() == [corpus.vocabulary.index(word) for word in ("a", "<unk>", "<eos>")]
    short = Corpus.open(name, max_tokens=30)
    assert len(short.train) == 30 and short.valid.numel() == 3
    with pytest.raises(UserError, match="leaves no word"):
        Corpus.open(name, max_types=2)
    with pytest.raises(UserError, match="holds no words"):
        Corpus.open(name, max_tokens=10)


def test_kjv_for_smoke():
    corpus = Corpus.open("kjv", max_tokens=30_000, max_types=1000)
    assert corpus.types == 1000 and 29_900 < len(corpus.train) <= 30_000
    assert 2_900 < len(corpus.test) <= 3_000


def test_batchify():
    table = batchify(torch.arange(23), 4)
    assert table.shape == (5, 4)
    assert table[:, 0].tolist() == [0, 1, 2, 3, 4] and table[0].tolist() == [0, 5, 10, 15]
    with pytest.raises(UserError, match="too few for 16 columns"):
        batchify(torch.arange(31), 16)


def test_mistakes(tmp_path, small_root):
    with pytest.raises(UserError, match="unknown text or missing folder"):
        Corpus.open("ptd")
    with pytest.raises(UserError, match=r"test\.txt is missing"):
        Corpus.open(write(tmp_path / "own", train="a\n", valid="a\n"))
    with pytest.raises(UserError, match="words, 10000 expected"):
        Corpus.open("ptb", small_root.options)
    with pytest.raises(UserError, match="its own vocabulary"):
        Corpus.open("ptb", small_root.options, max_types=100)
    (small_root.root / "penn" / "valid.txt").write_text("changed\n")
    with pytest.raises(UserError, match="not the pinned file"):
        Corpus.open("ptb", small_root.options)
    folder = tmp_path / "latin"
    write(folder, train="a\n", valid="a\n", test="a\n")
    (folder / "valid.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(UserError, match="not UTF-8"):
        Corpus.open(str(folder))


@pytest.mark.real_data
def test_penn_treebank(real_root):
    corpus = Corpus.open("ptb", SimpleNamespace(data=real_root, allow_unpinned=False))
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (929_589, 73_760, 82_430)
    assert corpus.types == 10_000 and corpus.pinned
    assert corpus.vocabulary[0] == "aer" and corpus.vocabulary[24] == "<eos>"


def test_names_in_any_case():
    assert Corpus.open("KJV", max_tokens=2000).name == "kjv"
