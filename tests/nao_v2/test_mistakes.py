"""What a user can get wrong: one clear line on standard error, exit code 2."""

from __future__ import annotations

import argparse
import shutil

import pytest
import torch
from PIL import Image

from common.cli.verbs import main
from common.errors import UserError
from papers.nao_v2.__main__ import VERBS
from papers.nao_v2.method import pool
from papers.nao_v2.method.controller import Controller
from papers.nao_v2.method.stand_alone import Recipe
from papers.nao_v2.networks.architectures import PUBLISHED_TEXT, Shape, check, load, parse
from papers.nao_v2.networks.derived import Network

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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PUBLISHED[:-2], "39 integers"),
        (PUBLISHED + " 0", "41 integers"),
        ("1 9" + PUBLISHED[3:], "position 2 .*operation 9"),
        ("2 1" + PUBLISHED[3:], "position 1 .*reads state 2"),
        ("x 1" + PUBLISHED[3:], "'x' at position 1"),
        ("-1 1" + PUBLISHED[3:], "reads state -1"),
    ],
)
def test_bad_architecture(text, words):
    with pytest.raises(UserError, match=words) as error:
        parse(text)
    assert "\n" not in str(error.value)


def test_forward_reference_in_the_reduction_cell_is_named():
    numbers = [int(v) for v in PUBLISHED.split()]
    numbers[24] = 4
    with pytest.raises(UserError, match=r"position 25 \(reduction cell, node 3\)"):
        check(numbers)


def test_unknown_name():
    with pytest.raises(UserError, match="no architecture"):
        load("NAONet_V9")


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


def test_bad_pools(tmp_path):
    file = tmp_path / "p"
    file.write_text(PUBLISHED + "\n" + PUBLISHED + "\n")
    with pytest.raises(UserError, match="line 2 repeats line 1"):
        pool.read_pool(file)
    file.write_text(PUBLISHED + "\n" + PUBLISHED[:2] + "9" + PUBLISHED[3:] + "\n")
    with pytest.raises(UserError, match="line 2 is of space 'middle'"):
        pool.read_pool(file)
    file.write_text("\n")
    with pytest.raises(UserError, match="holds no architecture"):
        pool.read_pool(file)


def test_controller_sizes_must_agree():
    with pytest.raises(UserError, match="twice the embedding"):
        Controller(embedding=32, hidden=100)


def test_a_ramp_that_would_drop_everything_is_refused():
    Recipe(epochs=10, drop_path_keep=0.8, drop_path_steps=35_200).check_ramp(704)
    with pytest.raises(UserError, match="ramp ends after 100 steps, but the training takes 500"):
        Recipe(epochs=10, drop_path_keep=0.8, drop_path_steps=100).check_ramp(50)


def test_checkpoint_of_another_architecture(capsys, tmp_path):
    path = tmp_path / "bare.pt"
    torch.save(Network(parse(PUBLISHED_TEXT["NAONet_B"]), Shape(channels=4, layers=1)).state_dict(), path)
    line = refused(capsys, "evaluate", "--arch", "NAONet_V2", "--checkpoint", str(path), "--out", str(tmp_path / "r"))
    assert "does not fit" in line and "bare.pt" in line

    held = argparse.Namespace(arch=PUBLISHED_TEXT["NAONet_B"], channels=4, layers=1)
    torch.save({"args": held, "model": torch.load(path)}, path)
    line = refused(capsys, "evaluate", "--arch", "NAONet_V2", "--checkpoint", str(path), "--out", str(tmp_path / "r"))
    assert "is of architecture" in line and "NAONet_V2" in line


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("search --dataset {} --valid-images 61", "use --valid-images 12"),
        ("search --dataset {} --valid-images 2 --train-images 32", "use --valid-images 12"),
        ("random-search --dataset {} --valid-images 20 --train-images 2", "use --train-images 0"),
        ("rank-study --dataset {} --valid-images 20 --batch-size 41", "use --batch-size 16"),
        ("train --dataset {} --train-images 2", "--train-images gives a part of 2 images without"),
        ("train --dataset {} --batch-size 61", "use --batch-size 16"),
        ("train --dataset digits --batch-size 3 --parts 4", "cannot be cut into 4 parts"),
        ("random-search --dataset {}@64", "64 x 64 images"),
        ("search --dataset digits --final-batch-size 900", "use --final-batch-size 256"),
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
