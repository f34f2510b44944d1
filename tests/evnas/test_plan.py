"""``--plan`` says what the run would do, and runs nothing."""

from __future__ import annotations

import re

from common.spaces.counting import parameters
from common.weights.read import save_weights
from papers.evnas.networks import build, load_genotype
from papers.evnas.plan import plan_evaluate, plan_search, plan_train
from papers.evnas.settings import Evaluate, Train
from tests.evnas.small import DARTS_SEARCH, TRAIN, options, train_options


def test_plan_runs_nothing(tmp_path):
    lines = plan_search(DARTS_SEARCH, options(tmp_path))
    assert any("individuals" in line for line in lines) and not (tmp_path / "settings.json").exists()


def test_plans_of_training_and_evaluation(tmp_path):
    """Steps are those of the run, nothing is written; evaluation reads the sizes off the weights."""
    settings = Train(**TRAIN)
    lines = plan_train(settings, train_options(tmp_path / "run"))
    steps = re.search(r"2 x (\d+) = (\d+) steps of (\d+) images", lines[1])
    assert steps and int(steps[2]) == 2 * int(steps[1]) == 2 * -(-settings.train_images // settings.batch_size)
    assert "1-2 min on one CPU core" in lines[2] and not (tmp_path / "run").exists()
    network = build(load_genotype("EvNASA"), False, 10, 4, 3)
    save_weights(network, tmp_path / "w.safetensors")
    evaluation = Evaluate(arch="EvNASA", dataset="digits", checkpoint=str(tmp_path / "w.safetensors"))
    assert f"{parameters(network):,} parameters" in plan_evaluate(evaluation, train_options(tmp_path / "run"))[0]
    assert not (tmp_path / "run").exists()
