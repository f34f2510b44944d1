"""``python -m papers.nao_v2 VERB``: see README.md."""

from typing import Any

from common.cli.verbs import COMPUTES, NO_RUN, Stage, Verb, alone, main
from papers.nao_v2.settings import (
    SEARCH_VARIANTS,
    TRAIN_VARIANTS,
    Describe,
    Draw,
    Evaluate,
    Export,
    Predict,
    RandomSearch,
    RankStudy,
    Search,
    Train,
)


def _verb(settings: type, run: str, section: str, about: str, **more: Any) -> Verb:
    parts = {"section": section, "about": about, "ending": "papers.nao_v2.ending:ending", **more}
    return alone(Stage(settings=settings, run=f"papers.nao_v2.{run}", **parts))


VERBS = {
    "search": _verb(
        Search, "search:search", "search", "balanced one-shot search with a controller",
        variants=SEARCH_VARIANTS, bf16=True, compiles=True,
        usual=("dataset", "iterations", "epochs", "sampling", "final_epochs"),
    ),
    "random-search": _verb(
        RandomSearch, "studies.random_search:random_search", "random_search", "baseline, same budget", bf16=True,
        usual=("dataset", "architectures", "epochs", "channels", "layers"),
    ),
    "train": _verb(
        Train, "train:train", "train", "train an architecture from scratch", variants=TRAIN_VARIANTS, bf16=True,
        compiles=True,
        usual=("arch", "dataset", "epochs", "channels", "layers"),
    ),
    "evaluate": _verb(Evaluate, "evaluate:evaluate", "evaluate", "test error of weights", bf16=True,
        compiles=True,
        usual=("arch", "checkpoint", "dataset", "weights", "batch_size"),
    ),
    "predict": _verb(
        Predict, "use:predict", "predict", "what pictures show, by trained weights", bf16=True, file=True,
        ignores=NO_RUN,
    ),
    "export": _verb(
        Export, "use:export", "export", "trained weights as ONNX or TorchScript", file=True, ignores=COMPUTES
    ),
    "rank-study": _verb(
        RankStudy, "studies.rank_study:rank_study", "rank_study", "balanced against uniform sampling", bf16=True,
        usual=("dataset", "architectures", "seeds", "epochs", "alone_epochs"),
    ),
    "describe": _verb(
        Describe, "describe:describe", "describe", "size and multiply-adds", writes=False, ignores=COMPUTES
    ),
    "draw": _verb(Draw, "describe:draw", "draw", "draw both cells", ignores=COMPUTES),
}  # fmt: skip

if __name__ == "__main__":
    main("nao_v2", VERBS)
