"""A run killed at any moment and started again ends as if nothing had happened."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEEP = ("result.json", "history.csv")


def outputs(folder):
    return {name: (folder / name).read_bytes() for name in KEEP}


def test_kill_at_random_moments_then_resume_is_bit_exact(tiny, tmp_path):
    flags = ("--epochs", 12, "--steps", 8, "--pause", 0.012)
    done = tiny(tmp_path / "whole", *flags)
    assert done.returncode == 0, done.stderr
    moments, broken, kills, saved = random.Random(5), tmp_path / "broken", 0, 0
    for _ in range(8):
        process = tiny.start(broken, *flags)
        started = time.monotonic()
        while not (broken / "settings.json").exists() and process.poll() is None and time.monotonic() - started < 300:
            time.sleep(0.01)
        while not list((broken / "state").glob("*.pt")) and process.poll() is None and kills > 1:
            time.sleep(0.005)
        try:
            process.wait(timeout=moments.uniform(0.0, 0.6))
        except Exception:
            process.kill()  # SIGKILL: nothing of ours runs any more
            kills += 1
        process.communicate()
        saved += any(broken.glob("state/*.pt"))
        if (broken / "result.json").exists():
            break
    done = tiny(broken, *flags)
    assert done.returncode == 0, done.stderr
    assert kills >= 3 and saved >= 1
    assert outputs(broken) == outputs(tmp_path / "whole")
    assert not (broken / "state").exists()
    timing = json.loads((broken / "timing.json").read_text())
    assert timing["sessions"] > 1 and timing["cpu_seconds"] > 0


def test_two_runs_are_byte_equal_and_another_seed_is_not(here, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert here(tmp_path / name, "--seed", seed).returncode == 0
    assert outputs(tmp_path / "a") == outputs(tmp_path / "b")
    assert outputs(tmp_path / "a") != outputs(tmp_path / "c")


def test_a_finished_run_is_recognised_and_repeated_on_request(here, tmp_path):
    first = here(tmp_path, "--json")
    before = (tmp_path / "result.json").stat().st_mtime_ns
    again = here(tmp_path, "--json")
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert "result already" in again.stderr
    assert (tmp_path / "result.json").stat().st_mtime_ns == before
    assert here(tmp_path, "--no-resume").returncode == 0
    assert (tmp_path / "result.json").stat().st_mtime_ns != before


def test_outputs_taken_away_start_the_run_anew_even_with_other_settings(here, tmp_path):
    """dvc removes a stage's outputs before it runs it again; settings.json and the like stay behind."""
    here(tmp_path)
    for name in ("result.json", "history.csv"):
        (tmp_path / name).unlink()
    assert here(tmp_path, "--epochs", 2).returncode == 0
    assert json.loads((tmp_path / "result.json").read_text())["settings"]["epochs"] == 2
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_being_stopped_is_one_line_and_resumable(name, status, tiny, one_line, here, tmp_path):
    # a suite started in the background of a shell ignores SIGINT, and so would its children
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = tiny.start(tmp_path, "--pause", 0.05, NAS_SAVE_EVERY_S="3600")  # at the end of an epoch only
    signal.signal(signal.SIGINT, before)
    while not list((tmp_path / "state").glob("*.pt")):
        time.sleep(0.02)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    done = subprocess.CompletedProcess([], process.returncode, out, err)
    assert "saved state" in one_line(done, status)
    assert "as soon as this step is done and saved" in err
    again = here(tmp_path, "--pause", 0.05)
    assert again.returncode == 0 and "resuming" in again.stderr


@pytest.mark.parametrize(("name", "status", "module"), [
    ("SIGINT", 130, "common.settings"), ("SIGTERM", 143, "torch.nn.modules.conv"),
])  # fmt: skip
def test_a_signal_while_modules_are_imported_is_one_line(name, status, module, tmp_path):
    words = ["-X", "importtime", "-m", "papers.evnas", "search", "--space", "nb201", "--out", str(tmp_path / "run")]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    signal.signal(signal.SIGINT, before)
    for line in process.stderr:  # of every module that has been imported
        if line.rstrip().endswith(f" {module}"):
            process.send_signal(getattr(signal, name))
            break
    said = [line for line in process.communicate()[1].splitlines() if not line.startswith("import time:")]
    assert process.returncode == status and len(said) == 1 and said[0].startswith("error: "), said
    assert not (tmp_path / "run").exists()
