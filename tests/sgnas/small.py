"""Settings, flags and options of runs on a few digits, and what a wrong command ends with."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.cli.verbs import RunOptions, main
from papers.sgnas.__main__ import VERBS
from papers.sgnas.settings import Search

SMALL = Search(
    dataset="digits", macro="tiny", train_images=32, search_images=32, batch_size=16, supernet_epochs=1,
    cosine_epochs=1, generator_epochs=2, lr=0.01, low_mflops=2.5, high_mflops=5.0, target_step=0.25, target_noise=0.1,
    validation_step=0.5, alpha=0.3, accept_loss=9.0, prior_tolerance=0.2, targets=(3.0, 3.75, 4.5), width=8,
)  # fmt: skip
_DATA = "--dataset digits --macro tiny --train-images 32 --search-images 32 --batch-size 16"
_GENERATOR = (
    "--generator-epochs 1 --low-mflops 2.5 --high-mflops 5 --target-step 0.25 --target-noise 0.1 --validation-step 0.5 "
    "--alpha 0.3 --accept-loss 99 --prior-tolerance 0.2 --targets 3 4 --width 8"
)
DATA, PHASE_1, PHASE_2 = _DATA.split(), ["--supernet-epochs", "1", "--lr", "0.01"], _GENERATOR.split()
FLAGS = [*DATA, *PHASE_1, *PHASE_2]
KERNELS = [[7, 3, 5], [3], [5, 3, 3], [3, 7], [7, 5, 3, 3]]


def options(out: Path | None, section: str = "search", **more) -> RunOptions:
    return RunOptions(out=out, device="cpu", paper="sgnas", section=section, **more)


def command(*arguments: object) -> None:
    main("sgnas", VERBS, [str(a) for a in arguments])


def mistake(capsys, *arguments: object) -> str:
    """The one line that a wrong command ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        command(*arguments)
    assert left.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in last
    return last
