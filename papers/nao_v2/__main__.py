"""``python -m papers.nao_v2 VERB``: see README.md."""

from typing import Any

from common.cli.verbs import COMPUTES, Stage, Verb, main
from papers.nao_v2 import settings as s


def _verb(settings: type, run: str, section: str, about: str, variants: dict | None = None, **more: Any) -> Verb:
    stage = Stage(settings, f"papers.nao_v2.{run}", section, about, variants or {}, **more)
    return Verb({(): stage}, about=about)


VERBS = {
    "search": _verb(
        s.SearchSettings,
        "search:search",
        "search",
        "balanced one-shot search with a controller",
        s.SEARCH_VARIANTS,
        bf16=True,
        plan="papers.nao_v2.search_plan:plan",
    ),
    "random-search": _verb(
        s.RandomSettings, "studies.random_search:random_search", "random_search", "baseline, same budget", bf16=True
    ),
    "train": _verb(
        s.TrainSettings, "train:train", "train", "train an architecture from scratch", s.TRAIN_VARIANTS, bf16=True
    ),
    "evaluate": _verb(s.EvaluateSettings, "evaluate:evaluate", "evaluate", "test error of weights", bf16=True),
    "rank-study": _verb(
        s.RankStudySettings,
        "studies.rank_study:rank_study",
        "rank_study",
        "balanced against uniform sampling",
        bf16=True,
    ),
    "describe": _verb(
        s.DescribeSettings,
        "describe:run_describe",
        "describe",
        "size and multiply-adds",
        writes=False,
        ignores=COMPUTES,
    ),
    "draw": _verb(s.DrawSettings, "draw:run_draw", "draw", "draw both cells", ignores=COMPUTES),
}

if __name__ == "__main__":
    main("nao_v2", VERBS)
