"""Every command that keeps a state, at sizes of seconds. PICTURES and names of other cases stand for folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from tests import fresh
from tests.plain import own_pictures


class Case(NamedTuple):
    """A command of a paper. needs: folders that its words name, each made by the case of that name.

    cheap: it is one of those that stand for the others in the test suite. pair: it also runs as two processes.
    """

    paper: str
    name: str
    words: str
    cheap: bool = False
    pair: bool = True


DIGITS = "--dataset digits --train-images"
_EVNAS = (
    f"search {DIGITS} 24 --generations 2 --fitness-images 18 --batch-size 12 --fitness-batch-size 9 --population 2 "
    "--tournament 2 --pad 2 --no-flip --cutout 0 --channels 2"
)
_NB201 = f"{DIGITS} 120 --epochs 2 --batch-size 30 --channels 2 --cells 1"
_TEXT = "--space ptb --text kjv --max-types 200 --width 8 --epochs 2 --bptt 10 --batch-size 64"
_SELECT = "--select-candidates 2"
_CREAM = "--workers 0 --crop padded --pad 2 --no-flip --erasing 0.2 --parts 2"
_SGNAS = f"{DIGITS} 32 --macro tiny --search-images 32 --batch-size 16"
_GENERATOR = (
    "--generator-epochs 2 --low-mflops 2.5 --high-mflops 5 --target-step 0.25 --target-noise 0.1 --validation-step 0.5 "
    "--alpha 0.3 --accept-loss 99 --prior-tolerance 0.2 --targets 3 4 --width 8"
)
_TRAIN = "--dataset PICTURES@32 --train-images 0 --batch-size 24 --epochs 2 --eval-every 1"
_DARTS = "--channels 2 --layers 3 --no-auxiliary --drop-path 0.3"
_CELL = "train --space nb201 --arch 000000 --channels 2 --cells-per-stage 1"
_NAO = "--valid-images 60 --train-images 64 --layers 1 --channels 2 --epochs 1 --batch-size 32"
_ARCH = "[[0],[0],[0],[0],[0],[0],[0]]"

CASES = (
    Case("evnas", "search", f"{_EVNAS} --layers 3"),
    Case("evnas", "search nb201", f"{_EVNAS} --space nb201 --cells-per-stage 1", cheap=True),
    Case("evnas", "train", f"train --arch EvNASA {_TRAIN} {_DARTS}"),
    Case("evnas", "train nb201", f"{_CELL} {_TRAIN}", pair=False),
    Case("evnas", "fine-tuning", f"train --checkpoint evnas-train {_TRAIN} {_DARTS} --lr 0.01", pair=False),
    Case("nsas", "search", f"search {DIGITS} 24 --epochs 2 --batch-size 6 --channels 2 --layers 3 --constraints 2 "
         f"--select-rounds 1 {_SELECT} --select-images 10"),
    Case("nsas", "search gdas", f"search --method gdas {DIGITS} 20 --epochs 2 --batch-size 10 --channels 2 --layers 3 "
         "--constraints 2"),
    Case("nsas", "search nb201 random", f"search --space nb201 --method random {_NB201} {_SELECT} --select-images 50"),
    Case("nsas", "search nb201 gdas", f"search --space nb201 --method gdas {_NB201}", cheap=True),
    Case("nsas", "search ptb", f"search --method random {_TEXT} --max-tokens 2500 --path sampled --constraints 2 "
         f"{_SELECT} --select-rows 10 --recalibrate-chunks 1"),
    Case("nsas", "train", f"train --arch Random_NSAS {_TRAIN} {_DARTS}"),
    Case("nsas", "train nb201", f"{_CELL} {_TRAIN}", pair=False),
    Case("nsas", "train ptb", f"train {_TEXT} --max-tokens 4000 --nonmono 5", cheap=True),
    Case("nsas", "fine-tuning", f"train --checkpoint nsas-train {_TRAIN} {_DARTS} --lr 0.01", pair=False),
    Case("nsas", "experiments", f"experiments {_NB201} --loss paper --constraints 2 --probe-every 1 --probe-images 8 "
         "--rank-cells 3 --rank-images 50 --recalibrate-batches 1", pair=False),
    Case("nao_v2", "search", f"search {_NAO} --iterations 2 --seed-architectures 5 --new-architectures 3 "
         "--score-images 20 --controller-epochs 4 --generation-seeds 4 --on-empty random --maximum-step 4 --final 1 "
         "--final-epochs 1 --final-batch-size 32 --no-final-auxiliary --final-dropout-keep 0.9 "
         "--final-drop-path-keep 0.9"),
    Case("nao_v2", "random-search", f"random-search {_NAO} --architectures 3", cheap=True),
    Case("nao_v2", "rank-study", f"rank-study {_NAO} --architectures 3 --seeds 1 --alone-epochs 1 --score-images 20"),
    Case("nao_v2", "train", f"train --arch NAONet_V2 {_TRAIN} --channels 4 --layers 1"),
    Case("nao_v2", "fine-tuning", f"train --checkpoint nao_v2-train {_TRAIN} --lr 0.01", pair=False),
    Case("cream", "search", f"search --dataset PICTURES@32 --train-images 0 --holdout 12 --resolution 32 "
         f"--macs-max 122 --epochs 2 --lr 0.02 --meta-lr 0.01 --start-epoch 0 --update-every 2 --pool-size 2 "
         f"--slice 3 --jitter 0 --batch-size 12 {_CREAM}"),
    Case("cream", "select", "select --search cream-search --recalibrate-batches 1 --select-images 12"),
    Case("cream", "rank-study", "rank-study --search cream-search --paths 2 --recalibrate-batches 1 --epochs 2 "
         f"--cooldown 0 --lr 0.004 --warmup-epochs 0 --ema-decay 0.9 --eval-batch-size 20 --batch-size 16 {_CREAM}"),
    Case("cream", "train", f"train --arch {_ARCH} {_TRAIN} --resolution 32 --cooldown 0 --lr 0.004 --warmup-epochs 1 "
         f"--ema-decay 0.9 {_CREAM}"),
    Case("cream", "fine-tuning", f"train --checkpoint cream-train {_TRAIN} --cooldown 0 --lr 0.001 {_CREAM}",
         pair=False),
    Case("sgnas", "search", f"search {_SGNAS} --supernet-epochs 1 --lr 0.01 {_GENERATOR}", cheap=True),
    Case("sgnas", "search-supernet", f"search-supernet {_SGNAS} --supernet-epochs 2 --lr 0.01"),
    Case("sgnas", "search-generator", f"search-generator {_SGNAS} --supernet sgnas-search-supernet {_GENERATOR}"),
    Case("sgnas", "evolve", "evolve --supernet sgnas-search --search-images 32 --targets 3 4 --tolerance 0.2 "
         "--population 2 --generations 2", pair=False),
    Case("sgnas", "sweep", "sweep --generator sgnas-search --supernet sgnas-search --search-images 32 "
         "--step-mflops 0.5", pair=False),
    Case("sgnas", "train", "train --arch [[7,3,5],[3],[5,3,3],[3,7],[7,5,3,3]] --macro tiny "
         f"{_TRAIN.removesuffix(' --eval-every 1')} --ema-decay 0.5 --dropout 0.5"),
    Case("sgnas", "fine-tuning", "train --checkpoint sgnas-train "
         f"{_TRAIN.removesuffix(' --eval-every 1')} --lr 0.001", pair=False),
)  # fmt: skip
FOLDERS = ("evnas-train", "nsas-train", "nao_v2-train", "cream-train", "cream-search", "sgnas-train", "sgnas-search",
           "sgnas-search-supernet")  # fmt: skip


def named(name: str) -> Case:
    """The case of a folder's name: paper-name."""
    return next(case for case in CASES if f"{case.paper}-{case.name}" == name)


def words_of(case: Case, root: Path) -> list[str]:
    """The case's command without its paper; folders that it needs are made in ``root`` where they are absent."""
    words = []
    for word in case.words.split():
        if word == "PICTURES@32":
            if not (root / "pictures").exists():
                own_pictures(root / "pictures")
            word = f"{root / 'pictures'}@32"
        elif word in FOLDERS:
            if not (root / word / "finished.json").exists():
                done(named(word), root, root / word)
            word = str(root / word)
        words.append(word)
    return [*words, "--device", "cpu"]


def done(case: Case, root: Path, out: Path, **more: str) -> None:
    """Run a case to its end."""
    ended = fresh.run(["-m", f"papers.{case.paper}", *words_of(case, root), "--out", out], environment(**more))
    if ended.returncode:
        raise RuntimeError(f"{case.paper} {case.name}: {ended.stderr[-1500:]}")


def environment(**more: str) -> dict[str, str]:
    """One thread; no saves but at the end of epochs unless ``more`` says otherwise."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "NAS_SAVE_EVERY_S": "3600", "NAS_DISTRIBUTED_TIMEOUT_S": "60", **more}
