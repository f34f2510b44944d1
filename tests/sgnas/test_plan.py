"""``--plan``: says what a command would do and does nothing."""

from __future__ import annotations

from tests.sgnas.small import DATA, PHASE_1, PHASE_2, command


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
