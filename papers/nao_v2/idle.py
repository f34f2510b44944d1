"""Which settings do nothing beside the others: asked for, they are refused by name, not ignored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from common.cli import ranges
from papers.nao_v2.settings import RandomSettings, RankStudySettings, SearchSettings, TrainSettings

Rule = tuple[tuple[str, ...], Callable[[Any], bool], str]  # settings, whether they act, when they do

CONTROLLER = tuple(f.name for f in fields(SearchSettings) if f.name.startswith("controller_"))
LATER = ("new_architectures", "trade_off", "generation_seeds", "maximum_step", "canonical", "on_empty")

RULES: dict[type, tuple[Rule, ...]] = {
    SearchSettings: (
        ((*CONTROLLER, *LATER, "restart", "supernet_weights"), lambda c: c.iterations > 1, "--iterations above 1"),
        (("controller_weights",), lambda c: c.iterations > 2, "--iterations above 2"),
        (
            ("controller_mlp_hidden", "controller_mlp_dropout"),
            lambda c: c.controller_mlp_layers > 0,
            "--controller-mlp-layers above 0",
        ),
        (("seed_architectures",), lambda c: not c.pool_file, "no --pool-file"),
        (("drop_path_rule",), lambda c: c.drop_path_keep < 1, "--drop-path-keep below 1"),
        (("final_drop_path_steps",), lambda c: c.final_drop_path_keep < 1, "--final-drop-path-keep below 1"),
        (("final_relu_in_place",), lambda c: c.final_auxiliary, "--final-auxiliary"),
    ),
    RandomSettings: (
        (("search_final",), lambda c: not c.architectures, "--architectures 0"),
        (
            ("search_epochs",),
            lambda c: not c.architectures or (c.drop_path_keep < 1 and not c.drop_path_steps),
            "--architectures 0 or a drop path",
        ),
        (
            ("search_iterations",),
            lambda c: c.drop_path_keep < 1 and not c.drop_path_steps,
            "--drop-path-keep below 1 and --drop-path-steps 0",
        ),
        (("drop_path_steps",), lambda c: c.drop_path_keep < 1, "--drop-path-keep below 1"),
        (("relu_in_place",), lambda c: c.auxiliary, "--auxiliary"),
    ),
    TrainSettings: (
        (("minimum_learning_rate",), lambda c: c.schedule == "cosine", "--schedule cosine"),
        (("decay", "decay_every"), lambda c: c.schedule == "exponential", "--schedule exponential"),
        (("auxiliary_weight", "relu_in_place"), lambda c: c.auxiliary, "--auxiliary"),
    ),
    RankStudySettings: (
        (("alone_drop_path_steps",), lambda c: c.alone_drop_path_keep < 1, "--alone-drop-path-keep below 1"),
        (("alone_relu_in_place",), lambda c: c.alone_auxiliary, "--alone-auxiliary"),
    ),
}


def refuse_idle(settings: Any, options: Any) -> None:
    """Raises UserError for the first setting that was asked for and cannot act beside the others."""
    idle = {name: when for names, acts, when in RULES[type(settings)] if not acts(settings) for name in names}
    ranges.refuse_idle(settings, idle, getattr(options, "given", None))
