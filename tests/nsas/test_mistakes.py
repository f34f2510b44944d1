"""Bad input: one clear line each."""

from __future__ import annotations

import pytest
import torch

from common.cli.verbs import main
from common.data.text import batchify
from common.errors import UserError
from common.spaces.architecture import save_architecture
from papers.nsas.__main__ import VERBS
from papers.nsas.describe import described
from papers.nsas.nasbench201.settings import SearchNb201Random
from papers.nsas.networks.architectures import CNN, load_genotype
from papers.nsas.networks.weights import need_checkpoint
from papers.nsas.recurrent.architecture import load_cell
from papers.nsas.recurrent.model import DerivedCell, Dropouts, LanguageModel
from papers.nsas.recurrent.search import unavailable_gdas
from tests.nsas.small import load_recurrent

GOOD = [["tanh", 0]] * 8


def written(tmp_path, space, architecture):
    path = tmp_path / "a.json"
    save_architecture(path, space, architecture)
    return str(path)


def test_cells(tmp_path):
    names = CNN["Random_NSAS"].as_dict()
    assert load_genotype(written(tmp_path, "darts", names)) == CNN["Random_NSAS"]
    with pytest.raises(UserError, match="needs 8"):
        load_genotype(written(tmp_path, "darts", {**names, "normal": names["normal"][:7]}))
    forward = [["skip_connect", 3], *names["normal"][1:]]
    with pytest.raises(UserError, match="comes later"):
        load_genotype(written(tmp_path, "darts", {**names, "normal": forward}))
    with pytest.raises(UserError, match="unknown architecture"):
        load_genotype("Random")


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
    model = LanguageModel(10, 4, DerivedCell(4, cell.recurrent, cell.concat), Dropouts())
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
        SearchNb201Random(constraints=8).check()
    with pytest.raises(UserError, match="never released"):
        unavailable_gdas(None, None)


def mistake(capsys, *arguments) -> str:
    """The one line on standard error of a command that a user has typed wrongly."""
    with pytest.raises(SystemExit) as left:
        main("nsas", VERBS, [str(a) for a in arguments])
    lines = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


PAIRS = [["skip_connect", 0]] * 8
COMMANDS = [
    ("train", "darts", {"normal": PAIRS[:7], "reduce": PAIRS}, "7 pairs; it needs 8"),
    ("draw", "darts", {"normal": PAIRS, "reduce": [["skip_connect", 3], *PAIRS[1:]]}, "comes later"),
    ("describe", "darts", {"normal": [["conv", 0], *PAIRS[1:]], "reduce": PAIRS}, "unknown operation 'conv'"),
    ("train", "darts-rnn", {"recurrent": [["swish", 0], *GOOD[1:]], "concat": [1]}, "unknown activation 'swish'"),
    ("draw", "darts-rnn", {"recurrent": [["tanh", 1], *GOOD[1:]], "concat": [1]}, "can read states"),
    ("train", "darts-rnn", {"recurrent": GOOD[:7], "concat": [1]}, "7 pairs; it needs 8"),
]


@pytest.mark.parametrize("verb, space, architecture, words", COMMANDS)
def test_commands_with_a_wrong_cell(verb, space, architecture, words, tmp_path, capsys):
    path, recurrent = written(tmp_path, space, architecture), space == "darts-rnn"
    flags = {"train": ["--space", "ptb"] if recurrent else [], "draw": ["--recurrent"] if recurrent else []}.get(
        verb, []
    )
    given = [path] if verb != "train" else ["--arch", path]
    assert words in mistake(capsys, verb, *flags, *given, "--out", tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize("verb", ["train", "search", "evaluate"])
def test_commands_with_a_text_of_another_vocabulary(verb, tmp_path, capsys):
    (tmp_path / "penn").mkdir()
    for part in ("train", "valid", "test"):
        (tmp_path / "penn" / f"{part}.txt").write_text("a b c d\n" * 50)
    weights = tmp_path / "w.pt"
    torch.save({"encoder.weight": torch.zeros(10_000, 4)}, weights)
    more = ["--checkpoint", weights, "--arch", "Random_NSAS"] if verb == "evaluate" else []
    command = [verb, "--space", "ptb", "--text", "ptb", "--max-tokens", 0, "--max-types", 0, *more]
    command += ["--data", tmp_path, "--out", tmp_path / "run"]
    assert "is not the pinned file" in mistake(capsys, *command)
    assert "ptb has 5 words, 10000 expected" in mistake(capsys, *command, "--allow-unpinned")


@pytest.mark.parametrize("verb", ["train", "search"])
def test_commands_with_too_large_a_batch(verb, tmp_path, capsys):
    command = [verb, "--space", "ptb", "--batch-size", 20_000, "--out", tmp_path / "run"]
    assert "too few for 20000 columns; lower the batch size" in mistake(capsys, *command)


@pytest.mark.parametrize("space", ["darts", "ptb"])
@pytest.mark.parametrize("zipped", [True, False])
def test_commands_with_a_checkpoint_that_would_run_code(space, zipped, tmp_path, capsys):
    bad = tmp_path / "bad.pt"
    torch.save(Evil(), bad, _use_new_zipfile_serialization=zipped)
    sizes = ["--width", 8] if space == "ptb" else ["--channels", 2, "--layers", 3]
    line = mistake(capsys, "evaluate", "--space", space, *sizes, "--checkpoint", bad, "--out", tmp_path / "run")
    assert "cannot be read safely" in line and "print" in line


@pytest.mark.parametrize(
    "command",
    [
        "search --select-candidates 0", "search --select-rounds 0", "search --epochs 0", "search --constraints -1",
        "search --mix 1.5", "search --method gdas --batch-size 0", "search --space nb201 --cells 0",
        "search --space nb201 --method gdas --penalty 2", "search --space ptb --drop-hidden 1",
        "train --eval-every 0", "train --drop-path 1", "train --space ptb --bptt 0", "experiments --probe-every 0",
        "experiments --rank-cells 0", "search --momentum -1", "search --clip 0", "search --clip -1",
        "train --momentum 1.5",
        "train --space ptb --nonmono -1", "train --lr-min -1",
        "search --method gdas --arch-lr -1",
        "evaluate --channels -3", "evaluate --space ptb --bptt 0", "evaluate --space ptb --width -1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("plan", [[], ["--plan"]])
def test_settings_out_of_range(command, plan, tmp_path, capsys):
    line = mistake(capsys, *command.split(), *plan, "--out", tmp_path / "run")
    flag, value = command.split()[-2:]
    assert f"{flag} must be" in line and f"not {value}" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("plan", [[], ["--plan"]])
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train --layers 1 --auxiliary", "--layers 1 has one reduction"),
        ("train --auxiliary --train-images 97 --batch-size 96", "97 images leave a last batch of one"),
        ("train --schedule linear --epochs 5", "--epochs 5 is too few"),
        ("train --dataset imagenet", "choose --variant imagenet-step or imagenet-linear"),
        ("train --space ptb --arch foo", "unknown recurrent cell 'foo'"),
        ("search --precision bf16", "computes in fp32 only"),
    ],
)
def test_what_does_not_fit_together(command, words, plan, tmp_path, capsys):
    assert words in mistake(capsys, *command.split(), *plan, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "pixels", "words"),
    [
        ("train --no-auxiliary", 30, "images of 30 pixels; the network needs a multiple of 4"),
        ("train --auxiliary", 24, "the auxiliary classifier takes 32 to 40"),
        ("search", 33, "multiple of 4"),
        ("search --space nb201", 34, "multiple of 4"),
    ],
)
def test_pictures_of_a_wrong_size(command, pixels, words, tmp_path, capsys):
    from PIL import Image

    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for number in range(2):
                picture = Image.new("RGB", (40, 40), (number, 0, 0))
                picture.save(tmp_path / "set" / part / name / f"{number}.png")
    line = mistake(capsys, *command.split(), "--dataset", f"{tmp_path / 'set'}@{pixels}", "--out", tmp_path / "run")
    assert words in line and f"{tmp_path / 'set'}@32" in line


def test_a_truncated_file(tmp_path, capsys):
    """What is wrong with the file is said, not that it is no pickle."""
    broken = tmp_path / "w.safetensors"
    broken.write_bytes(b"\x00" * 20)
    for space in ("ptb", "darts"):
        line = mistake(capsys, "evaluate", "--space", space, "--checkpoint", broken, "--out", tmp_path / "run")
        assert "is not a whole safetensors file" in line


def test_describe_reads_files_of_all_three_spaces(tmp_path, capsys):
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|nor_conv_3x3~0|nor_conv_1x1~1|nor_conv_1x1~2|"
    found = described(written(tmp_path, "nasbench201", cell))
    assert found["parameters"] == described("GDAS_NSAS")["parameters"] and found["architecture"] == cell
    assert described("330322", "cifar100")["parameters"] > found["parameters"]  # more classes
    published = load_cell("Random_NSAS")
    recurrent = {"recurrent": [list(p) for p in published.recurrent], "concat": list(published.concat)}
    assert described(written(tmp_path, "darts-rnn", recurrent))["parameters"] == 22_960_000
    names = CNN["Random_NSAS"].as_dict()
    assert described(written(tmp_path, "darts", names))["parameters"] == 3_083_014
    assert "no counts of NAS-Bench-201 cells" in mistake(capsys, "describe", "330322", "--dataset", "imagenet")
