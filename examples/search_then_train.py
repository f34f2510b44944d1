"""Which cell does a search find on my pictures, and how well does it do when trained alone?

usage: python examples/search_then_train.py [FOLDER@32]     (a folder of class folders; default the embedded digits)
The sizes are those of a first try; the published search is SearchNB201(dataset=…) without any of them.
"""

import sys
from pathlib import Path

from common.cli.verbs import RunOptions
from common.spaces.nasbench201.settings import TrainCell
from papers.evnas.search import search
from papers.evnas.settings import SearchNB201
from papers.evnas.train import train_nb201

dataset = sys.argv[1] if len(sys.argv) > 1 else "digits"
folder = Path("runs/search_then_train") / Path(dataset).name


def options(stage: str) -> RunOptions:
    """Where a run writes; the same folder again goes on, or shows what is there."""
    return RunOptions(paper="evnas", section=stage, out=folder / stage, device="auto")


small = {"dataset": dataset, "batch_size": 16, "channels": 4, "cells_per_stage": 1}
images = {"train_images": 96, "fitness_images": 48} if dataset == "digits" else {}
searched = search(SearchNB201(**small, **images, generations=2, population=3, tournament=2), options("search_nb201"))
cell = str(folder / "search_nb201" / "architecture.json")

images = {"train_images": 320} if dataset == "digits" else {}
trained = train_nb201(TrainCell(arch=cell, **small, **images, epochs=2), options("train_nb201"))
error = trained["metrics"]["top1_error_percent"]
print(f"the search on {dataset} chose {trained['architecture']}")
print(f"trained alone: {error:.1f} % test error, {trained['metrics']['parameters']:,} parameters; weights in {folder}")
