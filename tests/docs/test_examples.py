"""examples/: every script runs on embedded data without flags, is short, and answers in a line that people read."""

from __future__ import annotations

import re
import runpy
import sys

import pytest

from tests.plain import ROOT, own_pictures

SAYS = {
    "compare_searches": r"mean [+-]\d+\.\d points, 95 % interval [+-]?\S+ to [+-]?\S+",
    "finetune_and_export": r"two classes of its own after fine-tuning: \d+\.\d %\n.*gives \(5, 2\) logits",
    "search_then_train": r"trained alone: \d+\.\d % test error",
    "use_a_published_network": r"EvNASA on CIFAR-10: 3,626,470 parameters, 568 million multiply-adds",
}


def test_every_script_is_tested_and_short():
    scripts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")}
    assert set(scripts) == set(SAYS)
    for name, text in scripts.items():
        assert len(text.splitlines()) < 40, name
        assert text.startswith('"""') and "?" in text.splitlines()[0], name  # the question that it answers
        assert re.search(r"[Rr]eal (data|weights)|FOLDER@32", text), name


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name])
    if name == "search_then_train":  # its argument is a folder of the user's
        monkeypatch.setattr(sys, "argv", [name, f"{own_pictures(tmp_path / 'pictures')}@32"])
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    assert re.search(SAYS[name], capsys.readouterr().out)
