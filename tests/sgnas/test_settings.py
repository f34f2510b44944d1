"""Every setting of every stage acts or is refused by name: each is changed in a run of a few steps."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from common.cli.verbs import RunOptions
from common.run.files import write_json
from common.run.folder import Run
from common.spaces.architecture import save_architecture
from papers.sgnas.evaluate import evaluate
from papers.sgnas.generate import generate
from papers.sgnas.method import scoring
from papers.sgnas.method.lookup import macs_table
from papers.sgnas.networks.architectures import macro_for
from papers.sgnas.search import search_generator, search_supernet
from papers.sgnas.settings import Evaluate, Generate, SearchGenerator, SearchSupernet, Train
from papers.sgnas.studies.evolve import evolve
from papers.sgnas.studies.settings import Evolve, Sweep
from papers.sgnas.studies.sweep import sweep
from papers.sgnas.train import train
from tests.settings_walk import walk

KERNELS = [[3, 5], [7, 3, 3], [5], [3, 3], [5, 7]]
FILES = ("*.safetensors", "history.csv", "sweep.csv", "architecture*.json", "prior_pool.json", "result.json")


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Every test here."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two folders of small pictures in three classes, architectures, a searched supernet and generator."""
    root, draw = tmp_path_factory.mktemp("settings"), np.random.RandomState(0)
    for name, train_count in (("set", 10), ("other", 11)):
        for split, count in (("train", train_count), ("val", 2)):
            for label, folder in enumerate("abc"):
                (root / name / split / folder).mkdir(parents=True)
                for number in range(count):
                    pixels = (draw.rand(16, 16, 3) * 80 + 60 * label).astype(np.uint8)
                    Image.fromarray(pixels).save(root / name / split / folder / f"{number}.png")
    save_architecture(root / "a.json", "sgnas", {"kernels": KERNELS, "macro": "tiny"})
    save_architecture(root / "b.json", "sgnas", {"kernels": KERNELS[::-1], "macro": "tiny"})
    return root


def digest_of(stage, base, root: Path, section: str):
    """settings -> what a run of the stage writes and says, with the settings that differ from ``base`` as given."""
    number = itertools.count()

    def digest(settings):
        changed = {f.name for f in dataclasses.fields(base) if getattr(settings, f.name) != getattr(base, f.name)}
        out = root / "runs" / f"{section}-{next(number)}"
        options = RunOptions(out=out, device="cpu", paper="sgnas", section=section, given=frozenset(changed))
        said = io.StringIO()
        spy = mock.patch.object(scoring, "recalibrated", wraps=scoring.recalibrated)
        unsaved = mock.patch.object(Run, "write_state")  # nothing here goes on
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said), spy as calls, unsaved:
            result = stage(settings, options)
        counts = [call.args[3] for call in calls.call_args_list]  # errors of six images do not tell
        found = {p.name: p.read_bytes() for pattern in FILES[:-1] for p in out.glob(pattern)}
        kept = {key: result.get(key) for key in ("metrics", "architecture", "architectures", "rows")}
        found = {name: content for name, content in found.items() if not name.startswith("architecture")}
        return (
            found,
            repr(kept),
            counts,
            [line for line in said.getvalue().splitlines() if line.startswith(("note", "warning"))],
        )

    return digest


def data_of(root: Path) -> dict:
    return {"dataset": f"{root / 'set'}@16", "macro": "tiny", "train_portion": 0.6, "search_images": 9,
            "train_images": 12, "batch_size": 6}  # fmt: skip


def supernet_of(root: Path) -> SearchSupernet:
    return SearchSupernet(**data_of(root), parts=0, paths=2, supernet_epochs=1, cosine_epochs=2, lr=0.05)


def generator_of(root: Path, supernet: str) -> SearchGenerator:
    return SearchGenerator(
        **data_of(root), supernet=supernet, generator_epochs=2, low_mflops=0.8, high_mflops=1.4, tau=1.0,
        target_step=0.1, target_noise=0.02, validation_step=0.1, alpha=5.0, accept_loss=99.0, prior_tolerance=0.05,
        targets=(1.0, 1.2), width=8,
    )  # fmt: skip


@pytest.fixture(scope="module")
def searched(root):
    base = supernet_of(root)
    digest_of(search_supernet, base, root, "supernet")(base)
    supernet = str(root / "runs" / "supernet-0")
    ready = generator_of(root, supernet)
    digest_of(search_generator, ready, root, "generator")(ready)
    digest_of(search_generator, ready, root, "again")(dataclasses.replace(ready, prior_seed=7))
    return supernet, str(root / "runs" / "generator-0")


def test_supernet(root, searched):
    base = supernet_of(root)
    given = {"dataset": f"{root / 'other'}@16", "macro": "cifar", "supernet": searched[0], "parts": 2}
    walk(digest_of(search_supernet, base, root, "s"), base, given)


def test_generator(root, searched):
    base = generator_of(root, searched[0])
    table = macs_table(macro_for("tiny", 16))
    plain = {"macro": "tiny", "input_size": 16, "unit": "ms", "base": table.base, "expand": table.expand.tolist()}
    tables = {"depthwise": (2 * table.depthwise).tolist(), "project": table.project.tolist()}
    write_json(root / "latency.json", {**plain, **tables})
    given = {"dataset": f"{root / 'other'}@16", "latency_table": str(root / "latency.json"), "accept_loss": 1e-6,
             "prior_pool": str(root / "runs" / "again-0" / "prior_pool.json"), "train_images": 6}  # fmt: skip
    skip = {"macro": "the supernet's, which says so", "supernet": "the input"}
    walk(digest_of(search_generator, base, root, "g"), base, given, skip)


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_train(root, schedule):
    first = schedule == "step"
    base = Train(
        arch=str(root / "a.json"), dataset=f"{root / 'set'}@16", train_images=15, bn_momentum=0.1, epochs=2,
        batch_size=5, parts=0, lr=0.01, schedule=schedule, decay_epochs=1.0, warmup_epochs=1 if first else 0,
        ema_decay=0.5, optimizer="rmsproptf" if first else "sgd",
    )  # fmt: skip
    given = {"arch": str(root / "b.json"), "dataset": f"{root / 'other'}@16", "parts": 2, "checkpoint": "absent"}
    whole = {"macro": "the architecture's, which says so"}
    seen = whole if first else dict.fromkeys(
        ("arch", "checkpoint", "dataset", "macro", "train_images", "se", "activation", "bn_momentum", "dropout",
         "epochs", "batch_size", "parts", "ema_decay", "label_smoothing", "smoothed_test_loss"),
        "walked before")  # fmt: skip
    walk(digest_of(train, base, root, f"t-{schedule}"), base, given if first else {}, seen)


def test_evaluate(root):
    weights = Train(
        arch=str(root / "a.json"), dataset=f"{root / 'set'}@16", epochs=1, batch_size=6, parts=0, bn_momentum=0.1,
        warmup_epochs=0, ema_decay=0.0,
    )  # fmt: skip
    digest_of(train, weights, root, "w")(weights)
    digest_of(train, weights, root, "w2")(dataclasses.replace(weights, lr=0.001))
    file = str(root / "runs" / "w-0" / "weights.safetensors")
    base = Evaluate(checkpoint=file, dataset=f"{root / 'set'}@16")
    given = {"arch": str(root / "b.json"), "checkpoint": file.replace("w-0", "w2-0"), "dataset": f"{root / 'other'}@16"}
    same = dict.fromkeys(("batch_size", "fold_bn"), "how it is computed: the outputs are the same")
    walk(digest_of(evaluate, base, root, "e"), base, given, same)


def test_generate_and_sweep(root, searched):
    supernet, generator = searched
    made = Generate(target_mflops=(1.0,), generator=generator)
    given = {"generator": str(root / "runs" / "again-0"), "prior_pool": "x"}
    walk(digest_of(generate, made, root, "n"), made, given)
    swept = Sweep(generator=generator, step_mflops=0.1)
    walk(digest_of(sweep, swept, root, "p"), swept, {**given, "supernet": supernet, "dataset": "digits"})
    scored = dataclasses.replace(swept, supernet=supernet, search_images=6, batch_size=3)
    seen = dict.fromkeys(("generator", "prior_pool", "step_mflops", "supernet", "batch_size"), "walked above")
    walk(digest_of(sweep, scored, root, "q"), scored, {"dataset": f"{root / 'other'}@16"}, seen)


def test_evolve(root, searched):
    evolved = Evolve(
        supernet=searched[0], search_images=6, batch_size=3, targets=(1.0,), tolerance=0.05, population=4,
        generations=2, parents=2,
    )  # fmt: skip
    skip = {"supernet": "the input", "batch_size": "errors of six images do not tell"}
    walk(digest_of(evolve, evolved, root, "v"), evolved, {"dataset": f"{root / 'other'}@16"}, skip)
