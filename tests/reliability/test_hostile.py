"""Hostile files and environments, damaged files and words at random: a line or a right result, never anything else."""

from pathlib import Path

import pytest
import torch
from torch import nn

from common.cli.verbs import main
from common.errors import UserError
from common.outside import seconds_of_environment
from common.train.loop import evaluate, train_step
from common.weights.read import read_checkpoint
from papers.evnas.__main__ import VERBS
from tests.reliability.hostile import corruption, files, fuzz
from tests.reliability.hostile.limits import outcome


def test_hostile_files_are_refused_in_one_line_within_limits(tmp_path):
    wrong = []
    for case, reading, naming in files.hostile(tmp_path):
        said = outcome(reading)
        if not said.startswith("line: ") or naming not in said or "\n" in said:
            wrong.append(f"{case} ({naming}): {said[:200]}")
    assert not wrong, "\n".join(wrong)


def test_damaged_files_are_named_and_states_fall_back():
    assert not [count for count in corruption.counted(1) if count.survived < count.injected]


def test_any_byte_of_the_list_of_members_of_a_zip_may_be_damaged(tmp_path):
    torch.save({"state_dict": {"weight": torch.ones(4, 4)}}, path := tmp_path / "w.pt")
    content = path.read_bytes()
    for place in range(content.index(b"PK\x01\x02"), len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1 :])
        try:
            assert torch.equal(read_checkpoint(path).tensors["weight"], torch.ones(4, 4))
        except UserError as error:
            assert "w.pt" in str(error)


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_words_and_files_at_random_are_a_right_result_or_a_line(kind):
    tally = fuzz.tried(kind, 10 if "flags" in kind else 30)
    assert tally.tried and not tally.wrong, "\n".join(tally.wrong[:5])


def test_a_pasted_architecture_may_be_longer_than_any_path():
    from papers.cream.networks.architectures import resolve
    from papers.nao_v2.networks.architectures import PUBLISHED_TEXT, load
    from papers.sgnas.networks.architectures import PUBLISHED, read

    assert read(repr(PUBLISHED["SGNAS-A"])).kernels == PUBLISHED["SGNAS-A"] and len(repr(PUBLISHED["SGNAS-A"])) > 255
    assert load(f"[{', '.join(PUBLISHED_TEXT['NAONet_V2'].split())}{' ' * 300}]") == load("NAONet_V2")
    for reader in (resolve, read, load):
        with pytest.raises(UserError):
            reader("x" * 300)


def test_what_the_system_refuses_is_a_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main("evnas", VERBS, ["search", "--space", "nb201", "--out", str(tmp_path / ("x" * 300))])
    error = capsys.readouterr().err
    assert left.value.code == 2 and "too long" in error and "Traceback" not in error


@pytest.mark.parametrize(
    "variables",
    [
        {"WORLD_SIZE": "two"}, {"WORLD_SIZE": "0"}, {"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "0"},
        {"RANK": "x"}, {"RANK": "5"}, {"NAS_SAVE_EVERY_S": "abc"}, {"NAS_SAVE_EVERY_S": "nan"},
        {"NAS_SAVE_EVERY_S": "-1"},
        {"NAS_DATA": "/nonexistent"},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_variables_of_the_environment_are_a_line(variables, monkeypatch, capsys, tmp_path):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as left:
        root = [] if "NAS_DATA" in variables else ["--data", str(tmp_path)]
        main("evnas", VERBS, ["search", "--dataset", "cifar10", *root, "--out", str(tmp_path / "run")])
    error = capsys.readouterr().err
    assert left.value.code == 2 and error.count("error: ") == 1 and "Traceback" not in error
    if "NAS_SAVE_EVERY_S" in variables:
        with pytest.raises(UserError, match="NAS_SAVE_EVERY_S"):
            seconds_of_environment("NAS_SAVE_EVERY_S", 60)
    else:
        assert any(name in error for name in variables) or "/nonexistent" in error


@pytest.mark.parametrize("flag", ["--out", "--data", "--settings", "--dataset", "--device"])
@pytest.mark.parametrize("form", [lambda flag: [flag, ""], lambda flag: [f"{flag}="]])
def test_an_empty_text_where_one_is_needed_is_a_line(flag, form, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main("evnas", VERBS, ["train", *form(flag)])
    assert left.value.code == 2 and f"{flag} " in capsys.readouterr().err and not list(Path(tmp_path).iterdir())


class Spoiled(torch.autograd.Function):
    """Passes values on, and infinite gradients back."""

    @staticmethod
    def forward(context, values):
        return values.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * float("inf")


@pytest.mark.parametrize("clip_norm", [0.0, 5.0])
def test_a_gradient_that_is_not_finite_stops_before_the_update(clip_norm):
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    before = [p.detach().clone() for p in net.parameters()]
    batch = torch.randn(4, 3), torch.tensor([0, 1, 0, 1])
    with pytest.raises(UserError, match=r"at step 7, architecture 12 .*a gradient of it is not finite"):
        train_step(
            net, batch, optimizer, lambda out, target: nn.functional.cross_entropy(Spoiled.apply(out), target),
            clip_norm=clip_norm, step=7, architecture=12,
        )  # fmt: skip
    assert all(torch.equal(old, new) for old, new in zip(before, net.parameters())) and not optimizer.state


def test_a_buffer_that_is_not_finite_gives_no_score():
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3), nn.Linear(3, 2))
    net[1].running_mean.fill_(float("nan"))
    with pytest.raises(UserError, match="the loss on 4 tested images is nan"):
        evaluate(net, [(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))])
