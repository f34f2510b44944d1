"""What a user can get wrong, through the command line: one clear line on standard error, exit code 2."""

from __future__ import annotations

import shutil

import pytest
import torch
from PIL import Image

from common.cli.verbs import main
from papers.nao_v2.__main__ import VERBS
from papers.nao_v2.network.architectures import PUBLISHED_TEXT, parse
from papers.nao_v2.network.network import Network

PUBLISHED = PUBLISHED_TEXT["NAONet_V2"]
MIDDLE = PUBLISHED[:2] + "9" + PUBLISHED[3:]
FORWARD = " ".join("5" if k == 12 else word for k, word in enumerate(PUBLISHED.split()))  # node 5 reads itself


def refused(capsys, *argv: str) -> str:
    """The one line that a refused command leaves."""
    with pytest.raises(SystemExit) as leaving:
        main("nao_v2", VERBS, list(argv))
    assert leaving.value.code not in (0, None)
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("verb", ["train", "describe"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PUBLISHED[:-2], ("39 integers", "40")),
        (PUBLISHED + " 0 0", ("42 integers", "40")),
        ("1 7" + PUBLISHED[3:], ("position 2", "operation 7", "0 to 4")),
        (FORWARD, ("position 13", "node 5", "state 5")),
    ],
)
def test_architecture_text(capsys, tmp_path, verb, text, words):
    arch = ["--arch", text] if verb == "train" else [text]
    line = refused(capsys, verb, *arch, "--out", str(tmp_path / "r"))
    assert all(word in line for word in words), line


@pytest.mark.parametrize("verb", ["search", "rank-study"])
@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((PUBLISHED, PUBLISHED), "line 2 repeats line 1"),
        ((PUBLISHED, MIDDLE), "line 2 is of space 'middle'"),
        ((PUBLISHED, "1 2 3"), "line 2"),
        ((), "holds no architecture"),
    ],
)
def test_pool_file(capsys, tmp_path, verb, lines, words):
    pool = tmp_path / "pool"
    pool.write_text("".join(line + "\n" for line in lines))
    line = refused(capsys, verb, "--pool-file", str(pool), "--out", str(tmp_path / "r"))
    assert words in line, line


def test_absent_pool_file(capsys, tmp_path):
    line = refused(capsys, "search", "--pool-file", str(tmp_path / "none"), "--out", str(tmp_path / "r"))
    assert "none" in line


def test_checkpoint_of_another_architecture(capsys, tmp_path):
    path = tmp_path / "bare.pt"
    torch.save(Network(parse(PUBLISHED_TEXT["NAONet_B"]), channels=4, layers=1).state_dict(), path)
    line = refused(capsys, "evaluate", "--arch", "NAONet_V2", "--checkpoint", str(path), "--out", str(tmp_path / "r"))
    assert "does not fit" in line and "bare.pt" in line
    import argparse

    held = argparse.Namespace(arch=PUBLISHED_TEXT["NAONet_B"], channels=4, layers=1)
    torch.save({"args": held, "model": torch.load(path)}, path)
    line = refused(capsys, "evaluate", "--arch", "NAONet_V2", "--checkpoint", str(path), "--out", str(tmp_path / "r"))
    assert "is of architecture" in line and "NAONet_V2" in line


def test_plan_states_the_controllers_share(capsys):
    main("nao_v2", VERBS, ["search", "--profile", "paper", "--plan"])
    text = capsys.readouterr().out
    assert "140800 steps" in text and "5800 scores" in text and "351000 controller steps" in text
    assert "controller 3.5 %" in text


def test_draw(capsys, tmp_path):
    main("nao_v2", VERBS, ["draw", "NAONet_V2_2019_09_23", "--format", "dot", "--out", str(tmp_path)])
    text = (tmp_path / "normal.dot").read_text()
    assert text.count('label="sep3"') == 5 and '"c_{k-1}" -> "c_{k}"' in text  # a loose input leads to the output
    assert (tmp_path / "reduction.dot").exists()


def test_plan_of_an_evaluation(capsys, tmp_path):
    path = tmp_path / "bare.pt"
    torch.save(Network(parse(PUBLISHED), channels=4, layers=1).state_dict(), path)
    flags = ["--arch", "NAONet_V2", "--dataset", "digits", "--checkpoint", str(path), "--out", str(tmp_path / "run")]
    main("nao_v2", VERBS, ["evaluate", *flags, "--plan"])
    text = capsys.readouterr().out
    assert "1,000 images" in text and "multiply-adds per image" in text and "on one CPU thread" in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("search --dataset {} --valid-images 61", "leave nothing after 61 for validation"),
        ("search --dataset {} --valid-images 2 --train-images 32", "--valid-images gives a part of 2 images without"),
        ("random-search --dataset {} --valid-images 20 --train-images 2", "--train-images gives a part of 2 images"),
        ("rank-study --dataset {} --valid-images 20 --batch-size 41", "too few for a batch of 41"),
        ("train --dataset {} --train-images 2", "--train-images gives a part of 2 images without"),
        ("train --dataset {} --batch-size 61", "too few for a batch of 61"),
        ("train --dataset digits --batch-size 3 --parts 4", "cannot be cut into 4 parts"),
        ("random-search --dataset {}@64", "64 x 64 images"),
        ("search --dataset digits --final-batch-size 900", "too few for a batch of 900"),
    ],
)
def test_a_plan_refuses_what_the_run_refuses(capsys, tmp_path, command, words):
    """Sets too small for their parts and batches, found without reading pictures."""
    for name in ("a", "b", "c"):
        for number in range(20):
            path = tmp_path / "set" / "train" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    shutil.copytree(tmp_path / "set" / "train", tmp_path / "set" / "test")
    argv = [*command.format(tmp_path / "set").split(), "--out", str(tmp_path / "run"), "--allow-unpinned"]
    for more in (["--plan"], []):
        with pytest.raises(SystemExit):
            main("nao_v2", VERBS, [*argv, *more])
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("error: ") and words in line, (more, line)
