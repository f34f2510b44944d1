"""The README's block of commands, one after another in one folder, on profiles that are smaller still."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from common import settings
from common.cli.verbs import main
from papers.nao_v2.__main__ import VERBS
from tests.plain import photographs

TINY = """
nao_v2:
  search: {dataset: digits, valid_images: 100, train_images: 96, iterations: 2, seed_architectures: 4, layers: 1,
    new_architectures: 2, channels: 2, epochs: 1, batch_size: 48, score_images: 20, controller_epochs: 2, final: 1,
    generation_seeds: 2, maximum_step: 2, on_empty: random, final_epochs: 1, final_auxiliary: false}
  random_search: {dataset: digits, valid_images: 100, train_images: 96, architectures: 1, layers: 1, channels: 2,
    epochs: 1, auxiliary: false}
  train: {dataset: digits, train_images: 96, layers: 1, channels: 2, epochs: 1, batch_size: 48, auxiliary: false}
  rank_study: {dataset: digits, valid_images: 100, train_images: 96, architectures: 2, seeds: 1, epochs: 1, layers: 1,
    channels: 2, alone_epochs: 1, alone_auxiliary: false}
"""


def test_commands_in_order(monkeypatch, tmp_path, capsys):
    text = (Path(__file__).parents[2] / "papers" / "nao_v2" / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    (tmp_path / "params.yaml").write_text(TINY)
    for profile in ("smoke", "paper"):  # a plan rehearses the real work
        monkeypatch.setitem(settings.PROFILES, profile, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    verbs = []
    photographs(tmp_path)
    for line in "".join(blocks).strip().splitlines():
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "papers.nao_v2"], line
        main("nao_v2", VERBS, words[3:])
        verbs.append(words[3])
    assert set(verbs) == set(VERBS)
    trained, tested = (
        re.search(r"top1_error_percent: (\S+)", shown)[1] for shown in _results(capsys.readouterr().out, "macs:")[1:3]
    )
    assert trained == tested
    assert len(list(tmp_path.glob("results/**/normal.svg"))) == 1


def _results(shown: str, word: str) -> list[str]:
    """What each command printed that counts multiply-adds: search, train, evaluate, random search."""
    parts = shown.split("result: ")
    return [part for part in parts if word in part]
