"""The recurrent model, search cell and training rules against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.data.text import Corpus, batchify
from papers.nsas.recurrent import averaging, chunks
from papers.nsas.recurrent.model import DerivedCell, Dropouts, LanguageModel, Masks, activation_penalty, nll
from papers.nsas.recurrent.supernet import SupernetCell, encode

NO_DROP = Dropouts(0, 0, 0, 0, 0)


@pytest.fixture
def derived(golden):
    arrays = golden.npz("rnn_model.npz")
    words, width = int(arrays["meta_V_H_T_B"][0]), int(arrays["meta_V_H_T_B"][1])
    recurrent = tuple((str(f), int(p)) for f, p in zip(arrays["genotype_ops"], arrays["genotype_prev"]))
    model = LanguageModel(words, width, DerivedCell(width, recurrent, tuple(range(1, 9))), Dropouts())
    return golden.load(model, arrays), {k: torch.from_numpy(v) for k, v in arrays.items() if v.dtype.kind in "fiu"}


def test_eval_forward(golden, derived):
    model, a = derived
    model.eval()
    logits, hidden, _, _ = model(a["x"], a["h0"])
    golden.close(logits.log_softmax(-1), a["eval_logprob"], 1e-5)
    golden.close(hidden, a["eval_hidden"], 1e-5)
    golden.close(nll(logits, a["y"]), a["eval_nll"], 1e-5)


def test_train_forward_and_gradients(golden, derived):
    model, a = derived
    masks = Masks(
        embedding=a["mask/embedding_keep"] / 0.9,
        inputs=a["mask/locked_0"] / 0.8,
        x=a["mask/cell_0"],
        hidden=a["mask/cell_1"],
        output=a["mask/locked_1"] / 0.25,
    )
    logits, hidden, raw, dropped = model(a["x"], a["h0"], masks)
    golden.close(logits.log_softmax(-1), a["train_logprob"], 1e-5)
    golden.close(hidden, a["train_hidden"], 1e-5)
    golden.close(raw, a["raw_output"], 1e-5)
    golden.close(dropped, a["dropped_output"], 1e-5)
    golden.close(nll(logits, a["y"]), a["train_nll"], 1e-5)
    golden.close(activation_penalty(raw, dropped, 0.0, 1e-3), a["train_tar_beta1e-3"], 1e-4)
    golden.close(activation_penalty(raw, dropped, 0.5, 0.0), a["train_ar_alpha0.5"], 1e-4)
    loss = nll(logits, a["y"]) + activation_penalty(raw, dropped, 0.0, 1e-3)
    golden.close(loss, a["train_loss"], 1e-5)
    loss.backward()
    for name, parameter in model.named_parameters():
        golden.close(parameter.grad, a[f"grad/{name}"], 1e-4)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    golden.close(norm, a["gradnorm_before_clip"], 1e-5)


@pytest.mark.parametrize("mixing", ["raw", "softmax"])
@pytest.mark.parametrize("name", ["free", "onehot5"])
def test_search_cell(golden, mixing, name):
    arrays = golden.npz("rnn_search_cell.npz")
    words, width = int(arrays["meta_V_H_T_B"][0]), int(arrays["meta_V_H_T_B"][1])
    x, y, h0 = (torch.from_numpy(arrays[k]) for k in ("x", "y", "h0"))
    prefix = f"{mixing}_{name}_"
    table = torch.from_numpy(arrays["weights" if name == "free" else "onehot5"]).requires_grad_()
    tolerance = 2e-4 if mixing == "raw" else 1e-5
    for mode in ("eval", "train"):
        model = golden.load(LanguageModel(words, width, SupernetCell(width, mixing), NO_DROP), arrays)
        model.rnns[0].set_table(table)
        model.train(mode == "train")
        # the stored statistics are those of a train pass that follows the eval pass on the same weights
        logits, hidden, _, _ = model(x, h0)
        loss = nll(logits, y)
        bound = tolerance if mode == "eval" else 2e-4
        golden.close(loss, arrays[f"{prefix}{mode}_nll"], bound)
        golden.close(hidden, arrays[f"{prefix}{mode}_hidden"], bound)
    loss.backward()
    golden.close(table.grad, arrays[prefix + "grad_weights"], 1e-3)
    golden.close(model.rnns[0]._W0.grad, arrays[prefix + "grad_W0"], 1e-3)
    bn = model.rnns[0].bn
    golden.close(bn.running_mean, arrays[prefix + "bn_running_mean_after"], 2e-4)
    golden.close(bn.running_var, arrays[prefix + "bn_running_var_after"], 2e-4)
    assert int(bn.num_batches_tracked) == int(arrays[prefix + "bn_batches"])


def test_onehot_table(golden):
    arrays = golden.npz("rnn_search_cell.npz")
    code = tuple((int(a), int(b)) for a, b in arrays["gene"])
    for candidate in (code, tuple((o, s) for s, o in code)):
        try:
            if torch.equal(encode(candidate), torch.from_numpy(arrays["onehot5"])):
                return
        except IndexError:
            continue
    raise AssertionError("encode disagrees with the stored table")


def test_optimisers(golden):
    case = golden.json("rnn_rules.json")
    asgd = case["asgd"]
    for kind in ("asgd", "sgd"):
        parameter = torch.nn.Parameter(torch.tensor(asgd["p0"]))
        holder = torch.nn.ParameterList([parameter])
        make = averaging.make_asgd if kind == "asgd" else averaging.make_sgd
        optimizer = make(holder, asgd["lr"], asgd["wdecay"])
        for gradient, length, want in zip(asgd["grads"], asgd["seq_len"], case[kind]["trace"]):
            optimizer.param_groups[0]["lr"] = chunks.scaled(asgd["lr"], length, asgd["bptt"])
            parameter.grad = torch.tensor(gradient)
            optimizer.step()
            if kind == "sgd":
                golden.close(parameter, want, 1e-5)
                continue
            state = optimizer.state[parameter]
            golden.close(parameter, want["param"], 1e-5)
            golden.close(state["ax"], want["ax"], 1e-5)
            assert float(state["eta"]) == pytest.approx(want["eta"], rel=1e-6)
            assert float(state["mu"]) == pytest.approx(want["mu"], rel=1e-6)


def test_switch_rule(golden):
    for case in golden.json("rnn_rules.json")["asgd_trigger"]:
        earlier, switched = [], None
        for epoch, loss in enumerate(case["valid_losses"], start=1):
            if averaging.switches_to_averaging(earlier, loss, case["nonmono"]):
                switched = epoch
                break
            earlier.append(loss)
        assert switched == case["switch_after_epoch"]


def test_chunk_lengths_and_batches(golden):
    case = golden.json("rnn_rules.json")
    for row in case["seq_len_rule"]:
        assert chunks.chunk_length(row["u"], lambda *_, n=row["n"]: n) == row["seq_len"]
    assert [chunks.search_chunk_length(u) for u in (0.1, 0.97)] == [35, 17]
    corpus = case["corpus"]
    stream = torch.tensor(corpus["batchify_train_2"])
    for row in corpus["get_batch"]:
        data, target = chunks.get_batch(stream, row["i"], row["seq_len"] or 35 if row["seq_len"] else 3)
        assert data.tolist() == row["data"] and target.tolist() == row["target"]
    assert case["evaluation_rule"]["rows_test"] == 82430


def test_vocabulary(golden, tmp_path):
    """Words in order of first appearance over train, valid, test; every line, an empty one too, ends with <eos>."""
    case = golden.json("rnn_rules.json")["corpus"]
    for part, text in case["text"].items():
        (tmp_path / f"{part}.txt").write_text(text)
    corpus = Corpus.open(str(tmp_path))
    assert list(corpus.vocabulary) == case["vocab"]
    for part in ("train", "valid", "test"):
        assert getattr(corpus, part).tolist() == case[part]
    assert batchify(corpus.train, 2).tolist() == case["batchify_train_2"]


def test_evaluation_divides_by_rows(derived):
    model, _ = derived
    stream = torch.randint(0, 29, (11, 3), generator=torch.Generator().manual_seed(0))
    loss = chunks.text_loss(model, stream, bptt=4)
    logits, *_ = model(stream[:-1], model.start(3))
    assert loss == pytest.approx(nll(logits, stream[1:]).item() * 10 / 11, rel=1e-5)


def test_published_sizes(golden):
    sizes = golden.json("rnn_params.json")
    keys = golden.json("keys_rnn_ptb.json.gz")
    recurrent = tuple((f, p) for f, p in golden.json("genotypes.json")["rnn"]["Random_NSAS"]["recurrent"])
    model = LanguageModel(10_000, 850, DerivedCell(850, recurrent, tuple(range(1, 9))), Dropouts())
    assert [[k, list(v.shape)] for k, v in model.state_dict().items()] == keys["state_dict"]
    parts = {name: p.numel() for name, p in model.named_parameters()}
    assert parts == sizes["eval_by_part"]
    assert sum(parts.values()) == sizes["eval_ptb"] == keys["params"] == 22_960_000
    search = LanguageModel(10_000, 300, SupernetCell(300), NO_DROP)
    assert sum(p.numel() for p in search.parameters()) == sizes["search_ptb"]


def test_numpy_chunking_covers_the_stream():
    drawn = chunks.epoch_chunks(200, 35, np.random.RandomState(0))
    starts = [s for s, _ in drawn]
    assert starts[0] == 0 and all(a + n == b for (a, n), b in zip(drawn, starts[1:]))
