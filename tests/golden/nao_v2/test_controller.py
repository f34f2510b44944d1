"""Controller against golden values: encoder, teacher forcing, gradients, free decoding, latent steps, Adam."""

from __future__ import annotations

import pytest
import torch

from papers.nao_v2.method.controller import Controller
from papers.nao_v2.method.controller_training import controller_step
from papers.nao_v2.networks.architectures import parse, to_tokens


@pytest.mark.parametrize("case", ["controller_full", "controller_tiny"])
def test_controller(golden, case):
    meta = golden.json("meta.json")["controller"][case]
    arrays = golden.npz(f"{case}.npz")

    def fresh():
        module = Controller(meta["vocab"], meta["embedding"], meta["hidden"], meta["mlp_layers"], meta["mlp_hidden"])
        golden.load(module, golden.part(arrays, "sd/"))
        for part in module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        return module

    module, tokens = fresh(), arrays["in/seq"].long()
    assert sum(p.numel() for p in module.parameters()) == meta["params"]
    assert tokens.tolist() == [to_tokens(parse(a)) for a in meta["archs"]]
    target = arrays["in/target"]
    with torch.no_grad():
        outputs = module.encoder.outputs(tokens)
        golden.close(outputs, arrays["enc/outputs"], what="E")
        golden.close(module.encoder.embed(outputs), arrays["enc/arch_emb"], what="e")
        golden.close(module.encoder.predict(outputs), arrays["enc/predict"], what="predictor")
        _, (h, c) = module.encoder.rnn(module.encoder.embedding(tokens).view(len(tokens), 20, -1))
        golden.close(h, arrays["enc/h"], what="h")
        golden.close(c, arrays["enc/c"], what="c")

    _, log_probabilities = module(tokens)
    golden.close(log_probabilities, arrays["teacher/log_prob"], what="log-probabilities")
    if "teacher/argmax_tokens" in arrays:
        assert arrays["teacher/argmax_tokens"].shape == tokens.shape
    loss, mse, nll = module.losses(tokens, target)
    for name, value in (("loss", loss), ("mse", mse), ("nll", nll)):
        golden.close(value, arrays[f"teacher/{name}"], what=name)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
    golden.close(norm, arrays["teacher/grad_norm"], 1e-3, "norm")
    gradients = {name: p.grad for name, p in module.named_parameters()}
    for name, value in golden.part(arrays, "teacher/grad/").items():
        golden.close(gradients[name], value, 1e-3, name)

    module = fresh().eval()
    with torch.no_grad():
        outputs = module.encoder.outputs(tokens)
        found, log_probabilities = module.decoder.free(module.encoder.embed(outputs), outputs, 5)
    assert found.tolist() == arrays["free/tokens"].tolist()
    golden.close(log_probabilities, arrays["free/log_prob"], what="free")
    outputs, gradient = module.gradient(tokens)
    golden.close(gradient, arrays["infer/grad_of_predict_wrt_outputs"], 1e-3, "gradient")
    for step in (1, 5, 20, 51):
        found, moved, e = module.improved(outputs, gradient, step)
        golden.close(moved, arrays[f"infer_{step}/new_outputs"], what=f"E' {step}")
        golden.close(e, arrays[f"infer_{step}/new_arch_emb"], what=f"e' {step}")
        assert found.tolist() == arrays[f"infer_{step}/tokens"].tolist()
        assert module.infer(tokens, step).tolist() == found.tolist()
    golden.close(module.improved(outputs, gradient, -3)[2], arrays["infer_minus_3/new_arch_emb"], what="downwards")

    module = fresh().train()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.001, foreach=True)
    for index, expected in zip(arrays["adam/order"].long(), arrays["adam/losses"]):
        losses = controller_step(module, tokens[index], target[index], optimizer, 5.0, 0.8)
        golden.close(torch.stack(losses), expected, what="Adam losses")
    parameters = dict(module.named_parameters())
    for name, value in golden.part(arrays, "adam/final/").items():
        golden.close(parameters[name], value, what=name)
    total = sum(float((p.detach().double() ** 2).sum()) for p in module.parameters()) ** 0.5
    assert total == pytest.approx(float(arrays["adam/final_l2"]), rel=1e-5)


def test_timing_names_the_benchmarks(golden):
    """The workloads of the benchmarks are those of the file."""
    rows = {row["workload"] for row in golden.json("timing.json")["rows"]}
    assert rows == {
        "search_step", "candidate_eval", "train_step", "eval_pass", "controller_step", "controller_generate",
        "parameter_count_of_one_architecture",
    }  # fmt: skip
