"""Images and batches for scoring architectures with a trained supernet, none of which it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.run import distributed
from common.run.device import pick_device
from papers.sgnas.data import sets as datasets
from papers.sgnas.data.split import Provenance, provenance_of
from papers.sgnas.method.scoring import Scorer
from papers.sgnas.networks.architectures import Macro, Ops
from papers.sgnas.networks.supernet import Supernet, load_supernet
from papers.sgnas.studies.settings import Scoring

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


@dataclass(frozen=True)
class Scored:
    """A trained supernet, the set it was trained on, and what scores architectures on images that it has not seen."""

    name: str
    images: datasets.ImageSet
    supernet: Supernet
    provenance: Provenance
    scorer: Scorer
    batches: datasets.Loader

    def error(self, ops: Ops) -> float:
        """Top-1 error in percent of an architecture with the supernet's weights."""
        return self.scorer(ops, self.batches)[1]


def open_scored(c: Scoring, options: RunOptions, use: str, stream: str, macro: Macro | None = None) -> Scored:
    """Open the supernet of ``c`` and the set of its training. use, stream: see ``Loaders``. Raises UserError, also for
    a supernet of another macro structure or number of classes where ``macro`` is given.
    """
    device = pick_device(options)
    distributed.setup()
    trained = provenance_of(Path(c.supernet))
    name = c.dataset or trained.dataset
    images = datasets.open_set(name, "train", options)
    trained.check_set(name, images)
    classes = len(images.classes) if macro else 0
    supernet = load_supernet(Path(c.supernet), macro, classes).to(device).eval()
    seen, held = trained.split.parts(images, c.search_images)
    batches = datasets.Loaders(name, options.seed, device)
    calibrating = batches(seen, min(c.batch_size, len(seen)), "search", "recalibrate")
    scorer = Scorer(supernet, trained.active, calibrating, c.recalibrate_batches)
    scored = batches(held, min(c.batch_size, len(held)), use, stream)
    return Scored(name, images, supernet, trained, scorer, scored)
