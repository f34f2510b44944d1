"""``python -m papers.cream search|select|train|evaluate|rank-study|describe|draw|figures``."""

from common.cli.verbs import COMPUTES, Stage, Verb, main
from papers.cream.settings import (
    GENERIC_TRAIN,
    HEAD_SEARCH,
    MODERN_SEARCH,
    PAPER_SEARCH,
    Describe,
    Draw,
    Evaluate,
    Figures,
    RankStudy,
    Search,
    Select,
    Train,
)


def only(stage: Stage) -> dict[tuple[str, ...], Stage]:
    return {(): stage}


VERBS = {
    "search": Verb(
        only(
            Stage(
                settings=Search,
                run="papers.cream.search:search",
                plan="papers.cream.plan:search",
                section="search",
                about="train the supernet with prioritized paths; the board's head is the architecture",
                variants={"head": HEAD_SEARCH, "paper": PAPER_SEARCH, "modern": MODERN_SEARCH},
                bf16=True,
            )
        ),
        about="find an architecture",
    ),
    "select": Verb(
        only(
            Stage(
                settings=Select,
                run="papers.cream.select:select",
                plan="papers.cream.plan:select",
                section="select",
                about="re-score the board of a finished search and write the chosen path",
                cheap=True,
            )
        ),
        about="choose again among the paths on the board",
    ),
    "train": Verb(
        only(
            Stage(
                settings=Train,
                run="papers.cream.train:train",
                plan="papers.cream.plan:train",
                section="train",
                about="train 14, 43, 114, 287, 481, 604, a path list or a found architecture from scratch",
                variants={"paper": {}, "modern": {"single_block": "strict"}, "generic": GENERIC_TRAIN},
                bf16=True,
            )
        ),
        about="train an architecture from scratch",
    ),
    "evaluate": Verb(
        only(
            Stage(
                settings=Evaluate,
                run="papers.cream.evaluate:evaluate",
                plan="papers.cream.plan:evaluate",
                section="evaluate",
                about="test error of published or own weights",
                variants={"paper": {}, "modern": {}},
                bf16=True,
            )
        ),
        about="test error of weights",
    ),
    "rank-study": Verb(
        only(
            Stage(
                settings=RankStudy,
                run="papers.cream.studies.rank_study:rank_study",
                plan="papers.cream.plan:rank_study",
                section="rank_study",
                about="random paths by the supernet of a finished search and from scratch, and how far they agree",
                bf16=True,
            )
        ),
        about="do shared weights rank paths as training from scratch does?",
    ),
    "describe": Verb(
        only(
            Stage(
                settings=Describe,
                run="papers.cream.describe:describe",
                section="describe",
                about="parameters, multiply-adds and the published count of a network",
                writes=False,
                ignores=COMPUTES,
            )
        ),
        about="sizes of a network",
    ),
    "draw": Verb(
        only(
            Stage(
                settings=Draw,
                run="papers.cream.describe:draw",
                section="draw",
                about="one bar a block: kernel, expansion, width",
                ignores=COMPUTES,
            )
        ),
        about="draw a network",
    ),
    "figures": Verb(
        only(
            Stage(
                settings=Figures,
                run="papers.cream.studies.figures:figures",
                section="figures",
                about="redraw accuracy against MACs from the claims",
                ignores=COMPUTES,
            )
        ),
        about="redraw the published figures",
    ),
}

if __name__ == "__main__":
    main("cream", VERBS)
