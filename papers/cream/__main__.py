"""``python -m papers.cream search|select|train|evaluate|rank-study|describe|draw|figures``: see the README."""

from __future__ import annotations

from typing import Any

from common.cli.verbs import COMPUTES, NO_RUN, Stage, Verb, alone, main
from papers.cream import settings
from papers.cream.settings import GENERIC_TRAIN, HEAD_SEARCH, MODERN_SEARCH, PAPER_SEARCH
from papers.cream.studies.settings import Figures, RankStudy


def _verb(cls: type, run: str, about: str, **more: Any) -> Verb:
    """A verb of one stage, which is called as its function is."""
    section = run.partition(":")[2]
    parts = {"section": section, "about": about, "ending": "papers.cream.ending:ending", **more}
    return alone(Stage(settings=cls, run=f"papers.cream.{run}", **parts))


VERBS = {
    "search": _verb(
        settings.Search, "search:search", "train the supernet with prioritized paths; the board's head is the result",
        variants={"head": HEAD_SEARCH, "paper": PAPER_SEARCH, "modern": MODERN_SEARCH}, bf16=True, compiles=True,
        usual=("dataset", "method", "epochs", "macs_max", "choose"),
    ),
    "select": _verb(
        settings.Select, "select:select", "re-score the board of a finished search and write the best path", cheap=True,
        usual=("search", "rule", "select_images", "macs_max"),
    ),
    "train": _verb(
        settings.Train, "train:train", "train 14 to 604, a path list or a found architecture from scratch",
        variants={"paper": {}, "modern": {"single_block": "strict"}, "generic": GENERIC_TRAIN}, bf16=True,
        compiles=True,
        usual=("arch", "dataset", "epochs", "batch_size", "resolution"),
    ),
    "evaluate": _verb(
        settings.Evaluate, "evaluate:evaluate", "test error of published or own weights",
        variants={"paper": {}, "modern": {}}, bf16=True, compiles=True,
        usual=("arch", "checkpoint", "dataset", "weights", "resolution"),
    ),
    "predict": _verb(
        settings.Predict, "use:predict", "what pictures show, by trained weights", bf16=True, file=True,
        ignores=NO_RUN,
    ),
    "export": _verb(
        settings.Export, "use:export", "trained weights as ONNX or TorchScript", file=True,
        ignores=COMPUTES,
    ),
    "rank-study": _verb(
        RankStudy, "studies.rank_study:rank_study",
        "do shared weights rank random paths as training from scratch does?", bf16=True,
        usual=("search", "paths", "epochs", "batch_size", "lr"),
    ),
    "describe": _verb(
        settings.Describe, "describe:describe", "parameters, multiply-adds and the published count of a network",
        writes=False, ignores=COMPUTES,
    ),
    "draw": _verb(
        settings.Draw, "describe:draw", "one bar a block: kernel, expansion, width", ignores=COMPUTES
    ),
    "figures": _verb(
        Figures, "studies.figures:figures", "redraw accuracy against MACs with the results here",
        ignores=COMPUTES,
    ),
}  # fmt: skip

if __name__ == "__main__":
    main("cream", VERBS)
