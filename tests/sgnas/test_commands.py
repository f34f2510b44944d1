"""The commands as a user types them: plans, mistakes (one line, status 2), latency targets, folders against LMDBs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from PIL import Image

from common.cli.verbs import main
from common.run.files import write_json
from common.weights.read import load_tensors
from papers.sgnas.__main__ import VERBS
from papers.sgnas.generate import load_generator
from papers.sgnas.method.losses import hardware_loss, margin_of
from papers.sgnas.network.architectures import MACROS, PUBLISHED
from papers.sgnas.network.derived import Network, to_published
from papers.sgnas.network.supernet import Supernet, save_supernet

DATA = ["--dataset", "digits", "--macro", "tiny", "--train-images", "32", "--search-images", "32", "--batch-size", "16"]
PHASE_1 = ["--supernet-epochs", "1", "--learning-rate", "0.01"]
PHASE_2 = [
    "--generator-epochs",
    "1",
    "--low",
    "2.5",
    "--high",
    "5",
    "--target-step",
    "0.25",
    "--target-noise",
    "0.1",
    "--validation-step",
    "0.5",
    "--alpha",
    "0.3",
    "--accept-loss",
    "99",
    "--prior-tolerance",
    "0.2",
    "--targets",
    "3",
    "4",
    "--width",
    "8",
]
SMALL = [*DATA, *PHASE_1, *PHASE_2]
RANGE = "--low 0.8 --high 1.2 --target-step 0.05 --target-noise 0.01 --validation-step 0.1 --alpha 20"
PAPER = "--profile paper --epochs 1 --batch-size 4 --workers 0 --warmup-epochs 0"


def command(*arguments: object) -> None:
    main("sgnas", VERBS, [str(a) for a in arguments])


def mistake(capsys, *arguments: object) -> str:
    """The one line that a wrong command ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        command(*arguments)
    assert left.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in last
    return last


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands") / "search"
    command("search", *SMALL, "--out", folder)
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Twelve training and six test pictures in three classes, in folders and packed by the command."""
    root, draw = tmp_path_factory.mktemp("pictures"), np.random.RandomState(0)
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(("a cat", "b dog", "c")):
            (root / "tree" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = (draw.rand(60 + 10 * number, 70, 3) * 80 + 60 * label).astype(np.uint8)
                Image.fromarray(pixels).save(root / "tree" / split / name / f"picture {number}.png")
    command("convert-lmdb", root / "tree", root / "lmdb")
    return root


def test_plans_run_nothing(searched, tree, tmp_path, capsys):
    plans = {
        "search": ["--profile", "smoke"],
        "search-supernet": [*DATA, *PHASE_1],
        "search-generator": [*DATA, *PHASE_2],
        "train": ["--dataset", "digits", "--arch", searched / "architecture.json"],
        "evaluate": ["--dataset", "digits", "--arch", searched / "architecture.json"],
        "evolve": ["--supernet", searched, "--dataset", "digits", "--targets", "3", "4"],
        "sweep": ["--generator", searched, "--supernet", searched, "--dataset", "digits"],
        "cost": [],
        "latency": [],
        "convert-lmdb": [tree / "tree", tmp_path / "packed"],
    }
    for verb, arguments in plans.items():
        command(verb, *arguments, "--plan", "--out", tmp_path / "run")
        text = capsys.readouterr().out
        assert "no estimate" not in text, verb
        assert "packed" in text if verb == "convert-lmdb" else "on one CPU core" in text, verb
    assert list(tmp_path.iterdir()) == []
    command("search-generator", *DATA, *PHASE_2, "--plan")
    assert "phase 2: 1 x 2 steps of 16 images" in (text := capsys.readouterr().out) and "phase 1" not in text
    assert "32 images for the supernet, 32 for the generator" in text


def test_plan_counts_the_work(capsys):
    for images, steps in ((2_000, 125), (20_000, 200)):  # the digits have 3,200 images for the supernet
        command("search-supernet", *DATA, "--supernet-epochs", 50, "--train-images", images, "--plan")
        assert f"phase 1: 50 x {steps} steps of 16 images, 4 paths each" in capsys.readouterr().out


def test_latency_targets_end_to_end(tmp_path):
    command("latency", "--macro", "tiny", "--repeats", 1, "--device", "cpu", "--out", tmp_path / "table")
    measured = json.loads((tmp_path / "table" / "latency.json").read_text())
    assert measured["unit"] == "ms" and measured["device"] == "cpu"
    # times of a busy machine are noisy: the search gets a table of the same form with plain numbers
    entries = {"base": 0.1, "depthwise": [[0.01, 0.02, 0.04]] * 5, "expand": [0.06] * 5, "project": [0.06] * 5}
    write_json(tmp_path / "plain.json", {**measured, **entries})
    command(
        "search", *SMALL, *RANGE.split(), "--prior-tolerance", 0.05, "--targets", 0.9, 1.0, 1.1, "--latency-table",
        tmp_path / "plain.json", "--out", tmp_path / "run",
    )  # fmt: skip
    loaded = load_generator(str(tmp_path / "run"))
    assert loaded.lookup.unit == "ms" and (loaded.pool.low, loaded.pool.high) == (0.8, 1.2)
    document = json.loads((tmp_path / "run" / "architecture-0.9.json").read_text())
    assert document["origin"]["unit"] == "ms"
    assert document["origin"]["lookup_cost"] == pytest.approx(loaded.kernels([0.9])[0][1])


def test_margin_follows_the_unit():
    assert margin_of("MFLOPs", 80, 120) == 0.1 and margin_of("ms", 0, 1.8) == pytest.approx(1e-3)
    near = torch.tensor(1.005)
    assert float(hardware_loss(near, 1.0)) == 0.0
    assert float(hardware_loss(near, 1.0, margin=1e-3)) == pytest.approx(0.0003 * 1.2 * 0.005**2, rel=1e-3)


def test_folders_equal_lmdbs(tree, tmp_path, capsys):
    common = PAPER.split()
    for kind in ("tree", "lmdb"):
        out = tmp_path / kind
        command("train", *common, "--arch", "SGNAS-C", "--dataset", tree / kind, "--train-images", 4, "--out", out)
        weights = out / "weights.safetensors"
        command(
            "evaluate", "--profile", "paper", "--arch", "SGNAS-C", "--dataset", tree / kind, "--workers", 0,
            "--checkpoint", weights, "--out", tmp_path / f"e-{kind}",
        )  # fmt: skip
    one, two = (tmp_path / kind / "weights.safetensors" for kind in ("tree", "lmdb"))
    assert all(torch.equal(tensor, load_tensors(two)[name]) for name, tensor in load_tensors(one).items())
    first, second = (json.loads((tmp_path / f"e-{k}" / "result.json").read_text())["metrics"] for k in ("tree", "lmdb"))
    assert first == second and first["images"] == 6


def test_damaged_lmdb(tree, tmp_path, capsys):
    import shutil

    shutil.copytree(tree / "lmdb", tmp_path / "lmdb")
    environment = lmdb.open(str(tmp_path / "lmdb" / "val.lmdb"))
    with environment.begin(write=True) as transaction:
        value = bytearray(transaction.get(b"00000003"))
        value[-5] ^= 1
        transaction.put(b"00000003", bytes(value))
    environment.close()
    network = Network(MACROS["imagenet"], PUBLISHED["SGNAS-C"], 3, True, "hswish")
    torch.save({"state_dict": to_published(network.state_dict(), network)}, tmp_path / "w.pth.tar")
    line = mistake(
        capsys, "evaluate", "--profile", "paper", "--arch", "SGNAS-C", "--dataset", tmp_path / "lmdb", "--workers", 0,
        "--checkpoint", tmp_path / "w.pth.tar", "--out", tmp_path / "e",
    )  # fmt: skip
    assert "record 3 is damaged" in line and "val.lmdb" in line


def test_checkpoint_with_missing_keys(searched, tmp_path, capsys):
    architecture = searched / "architecture.json"
    kernels = json.loads(architecture.read_text())["architecture"]["kernels"]
    network = Network(MACROS["tiny"], kernels, 10, False, "relu")
    tensors = to_published(network.state_dict(), network)
    del tensors["stages.2.point_wise_1.bn.weight"]
    torch.save({"state_dict_ema": tensors}, tmp_path / "w.pth.tar")
    line = mistake(
        capsys, "evaluate", "--dataset", "digits", "--no-se", "--activation", "relu", "--arch", architecture,
        "--checkpoint", tmp_path / "w.pth.tar", "--out", tmp_path / "e",
    )  # fmt: skip
    assert "stages.2.point_wise_1.bn.weight" in line


def test_target_outside_the_range(searched, tmp_path, capsys):
    line = mistake(capsys, "search", *SMALL, "--targets", 3, 7, "--out", tmp_path / "s")
    assert "target 7 is outside the range 2.5 to 5" in line and "saturates" in line
    assert "is no positive number" in mistake(
        capsys, "generate", "--generator", searched, "--target-mflops", -1, "--out", tmp_path / "g"
    )
    command("generate", "--generator", searched, "--target-mflops", 9, "--out", tmp_path / "g9")
    text = capsys.readouterr().err
    given = json.loads((tmp_path / "g9" / "architecture-9.json").read_text())["origin"]["lookup_cost"]
    assert "outside the trained range 2.5 to 5 MFLOPs" in text and f"it gives {given:.1f} MFLOPs" in text


def test_pools_and_generators_that_do_not_belong(searched, tmp_path, capsys):
    pool = searched / "prior_pool.json"
    flags = [*SMALL, "--prior-pool", pool]
    assert "--prior-tolerance 0.2 does nothing here" in mistake(capsys, "search", *flags, "--out", tmp_path / "a")
    at = flags.index("--prior-tolerance")
    flags = flags[:at] + flags[at + 2 :]
    line = mistake(capsys, "search", *flags, "--high", 5.5, "--out", tmp_path / "a")
    assert "prior pool was made for 2.5 to 5, the settings say 2.5 to 5.5" in line
    content = json.loads(pool.read_text())
    write_json(tmp_path / "p.json", {**content, "table": "0123456789abcdef"})
    line = mistake(capsys, "search", *flags, "--prior-pool", tmp_path / "p.json", "--out", tmp_path / "b")
    assert "made for another look-up table" in line
    write_json(tmp_path / "generator.json", {"space": "darts"})
    assert "is not a generator of space" in mistake(
        capsys, "generate", "--generator", tmp_path, "--out", tmp_path / "c"
    )
    about = json.loads((searched / "generator.json").read_text())
    (tmp_path / "other").mkdir()
    write_json(tmp_path / "other" / "generator.json", {**about, "macro": "cifar"})
    (tmp_path / "other" / "generator.safetensors").write_bytes((searched / "generator.safetensors").read_bytes())
    line = mistake(capsys, "generate", "--generator", tmp_path / "other", "--out", tmp_path / "d")
    assert "the prior pool has 5 layers, this space 19" in line


def test_supernets_and_times_that_do_not_belong(searched, tmp_path, capsys):
    save_supernet(tmp_path, Supernet(MACROS["tiny"], 7), "digits")
    about = json.loads((tmp_path / "supernet.json").read_text())
    trained_on = json.loads((searched / "supernet.json").read_text())["provenance"]
    write_json(tmp_path / "supernet.json", {**about, "provenance": trained_on})
    line = mistake(capsys, "search-generator", *DATA, *PHASE_2, "--supernet", tmp_path, "--out", tmp_path / "a")
    assert "is a supernet of the tiny structure at 32 pixels, 7 classes" in line
    line = mistake(capsys, "cost", "--search", searched, "--out", tmp_path / "b")
    assert "no run of search-generator" in line
    command("search-generator", *DATA, *PHASE_2, "--supernet", searched, "--out", tmp_path / "alone")
    command("cost", "--search", tmp_path / "alone", "--repeats", 1, "--macro", "tiny", "--out", tmp_path / "c")
    rows = json.loads((tmp_path / "c" / "cost.json").read_text())["rows"]
    seconds = json.loads((tmp_path / "alone" / "timing.json").read_text())["seconds"]
    assert rows[0]["generator_seconds"] == pytest.approx(seconds, abs=1.0) and (tmp_path / "c" / "cost.png").exists()
    small = ["--dataset", "digits", "--targets", 3, 4, "--population", 2, "--generations", 0, "--search-images", 32]
    command("evolve", *small, "--supernet", searched, "--tolerance", 0.3, "--out", tmp_path / "evolved")
    command("cost", "--evolved", tmp_path / "evolved", "--repeats", 1, "--macro", "tiny", "--out", tmp_path / "d")
    rows = json.loads((tmp_path / "d" / "cost.json").read_text())["rows"]
    seconds = json.loads((tmp_path / "evolved" / "timing.json").read_text())["seconds"]
    assert [row["evolution_seconds"] for row in rows] == pytest.approx([seconds / 2 * n for n in (1, 3, 10)])
    line = mistake(capsys, "cost", "--evolved", tmp_path / "alone", "--out", tmp_path / "e")
    assert "no run of evolve" in line


def test_verbs_for_one_process_refuse_torchrun(tree, tmp_path, capsys, monkeypatch):
    from common.train import distributed

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "setup", lambda: None)
    out = ("--out", tmp_path / "out")
    for verb, *arguments in (["convert-lmdb", tree / "tree", tmp_path / "out"], ["cost", *out], ["latency", *out]):
        assert f"{verb} runs in one process" in mistake(capsys, verb, *arguments)
    assert not (tmp_path / "out").exists()


def test_mistakes_before_a_result(searched, tmp_path, capsys):
    """Weights of another network are one line, and the folder serves the corrected command."""
    architecture = searched / "architecture.json"
    flags = ("--dataset", "digits", "--no-se", "--activation", "relu", "--out", tmp_path / "e")
    own = Network(MACROS["tiny"], json.loads(architecture.read_text())["architecture"]["kernels"], 10, False, "relu")
    torch.save(to_published(own.state_dict(), own), tmp_path / "w.pth")
    line = mistake(capsys, "evaluate", "--arch", "SGNAS-A", "--checkpoint", tmp_path / "w.pth", *flags)
    assert "does not fit this architecture" in line
    command("evaluate", "--arch", architecture, "--checkpoint", tmp_path / "w.pth", *flags)
    assert (tmp_path / "e" / "result.json").exists()
    for verb in ("cost", "latency"):
        assert "at least 1" in mistake(capsys, verb, "--repeats", 0, "--out", tmp_path / "c")


@pytest.mark.parametrize(
    ("verb", "flag", "value", "message"),
    [
        ("search", "--paths", 0, "--paths must be at least 1"),
        ("search", "--target-step", 0, "--target-step must be above 0"),
        ("search", "--validation-step", "nan", "--validation-step must be a finite number, not nan"),
        ("search", "--generator-epochs", 0, "no generator epoch is wanted"),
        ("search-supernet", "--supernet-epochs", 0, "no supernet epoch is wanted"),
        ("search", "--tau", 0, "--tau must be above 0"),
        ("search", "--targets-per-step", 0, "--targets-per-step must be at least 1"),
        ("evolve", "--parents", 0, "--parents must be at least 1"),
        ("evolve", "--targets", None, "no targets"),
        ("sweep", "--step", 0, "--step must be above 0"),
        ("train", "--epochs", 0, "--epochs must be at least 1"),
        ("train", "--dropout", 1, "--dropout must be between 0 and 1"),
    ],
)
def test_settings_out_of_range(searched, tmp_path, capsys, verb, flag, value, message):
    own = {"evolve": ["--supernet", searched], "sweep": ["--generator", searched]}.get(verb, [])
    values = [] if value is None else [value]
    assert message in mistake(capsys, verb, *own, flag, *values, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_json_is_alone_on_the_output(searched, tmp_path, capsys):
    calls = {
        "generate": ["--generator", searched, "--target-mflops", 3, 9],
        "sweep": ["--generator", searched],
        "describe": [searched / "architecture.json"],
    }
    for verb, arguments in calls.items():
        capsys.readouterr()
        command(verb, *arguments, "--json", "--out", tmp_path / verb)
        assert isinstance(json.loads(capsys.readouterr().out), dict), verb
    command("generate", *calls["generate"], "--out", tmp_path / "generate")  # the finished run: its table again
    text = capsys.readouterr().out
    assert "kernels per layer" in text and "1000 classes, with squeeze-excite" in text


def test_sets_at_a_fraction_of_their_size(capsys):
    from common.cli.verbs import RunOptions
    from papers.sgnas.data.sets import open_set

    if not (Path(os.environ.get("NAS_DATA", "data")) / "cifar-10-batches-py").is_dir():
        pytest.skip("CIFAR-10 is not under the data root (NAS_DATA)")
    whole, half = (open_set(name, "test", RunOptions()) for name in ("cifar10", "cifar10@16"))
    blocks = whole.pixels[:5].float().unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)).round().byte()
    assert half.size == 16 and torch.equal(half.pixels[:5], blocks) and torch.equal(half.labels, whole.labels)
    assert "a size that divides 32" in mistake(capsys, "search", *SMALL, "--dataset", "cifar10@5")
