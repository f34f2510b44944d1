"""The cell that a search would choose if it ended now: from the last state of a run that was killed or still runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from common.run import seeds
from common.run.device import pick_device
from common.run.folder import open_run, say
from common.run.state import UNFINISHED_STATE, LastState, last_state, wrong_run
from common.settings import Settings, settings_from
from papers.nsas import search_gdas, search_random
from papers.nsas.method.selection import accuracy
from papers.nsas.method.tables import Tables
from papers.nsas.nasbench201 import result as found_cell
from papers.nsas.nasbench201 import search_gdas as search_nb201_gdas
from papers.nsas.nasbench201 import search_random as search_nb201_random
from papers.nsas.nasbench201.settings import SearchNb201Gdas, SearchNb201Random
from papers.nsas.nasbench201.supernet import build_nb201_supernet
from papers.nsas.networks.paths import logits_function
from papers.nsas.networks.supernet import build_supernet
from papers.nsas.recurrent import search as search_recurrent
from papers.nsas.recurrent.settings import SearchRecurrent
from papers.nsas.settings import SearchGdas, SearchRandom, Select

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def select(settings: Select, options: RunOptions) -> dict[str, Any]:
    """Choose a cell as the search itself would at its end, by its seed, settings and data (Method 5, 6, 12, 15 and 16).

    The search's folder is only read; ``architecture.json`` is written into this run's. Raises UserError.
    """
    if not settings.search:
        raise UserError("no search given; pass --search FOLDER of a search that has not ended")
    folder = Path(settings.search)
    state = last_state(folder)
    if state is None:
        raise UserError(ended(folder))
    stage = str(state.identity["stage"])
    if state.identity["paper"] != "nsas" or stage not in SEARCHES:
        raise wrong_run(state, "pass the folder of an NSAS search")
    kind, choose = SEARCHES[stage]
    searched: Any = settings_from(kind, state.identity["settings"], source=str(folder / "settings.json"))
    for name in ("select_candidates", "select_images"):
        if value := getattr(settings, name):
            if not hasattr(searched, name):
                raise UserError(f"--{name.replace('_', '-')}: {stage} draws no candidates on images; leave it out")
            searched = replace(searched, **{name: value})
    say(state.says())
    return choose(settings, searched, state, options)


def ended(folder: Path) -> str:
    """What to say of a folder without an unfinished run."""
    if (folder / "architecture.json").is_file():
        return f"the search in {folder} has ended: its choice is {folder / 'architecture.json'}, take that"
    return f"{folder} holds no search; pass --search FOLDER of a search that has not ended"


def identity(state: LastState) -> dict[str, str]:
    """Which search, and which state of it."""
    return {"search_fingerprint": state.fingerprint, UNFINISHED_STATE: state.digest}


def seeded(state: LastState, options: RunOptions) -> RunOptions:
    """The options with the search's seed, by which data are shuffled and candidates drawn."""
    return replace(options, seed=int(state.identity["seed"]))


def of_random(asked: Select, searched: SearchRandom, state: LastState, options: RunOptions) -> dict[str, Any]:
    """RandomNAS: random cells are scored with the supernet of the state."""
    device, own = pick_device(options), seeded(state, options)
    parts = search_random.open_batches(searched, own, device)
    images = parts[0].images
    with open_run(options, asked, data=images, **identity(state)) as run:
        if run.result is not None:
            return run.result
        supernet = build_supernet(searched.channels, len(images.classes), searched.layers)
        supernet.load_state_dict(state.kept["supernet"])
        scores: list[float] = []
        run.keeps(scores=scores)
        chosen = search_random.choose(run, supernet.to(device), parts, searched, scores, own.seed)
        return search_random.finish(run, chosen, images, **state.stand)


def of_gdas(asked: Select, searched: SearchGdas, state: LastState, options: RunOptions) -> dict[str, Any]:
    """GDAS: the cell of the tables, and its accuracy with the supernet of the state."""
    device, own = pick_device(options), seeded(state, options)
    train, valid = search_gdas.open_batches(searched, own, device)
    with open_run(options, asked, data=train.images, **identity(state)) as run:
        if run.result is not None:
            return run.result
        supernet = build_supernet(searched.channels, len(train.images.classes), searched.layers)
        supernet.load_state_dict(state.kept["supernet"])
        tables = Tables(searched.arch_lr, searched.arch_weight_decay, device)
        tables.load_state_dict(state.kept["tables"])
        cell, logits_of = tables.architecture(search_gdas.decoder(searched)), logits_function(searched.table, False)
        score = accuracy(supernet.to(device), cell, logits_of, valid, -searched.epochs)
        return search_gdas.finish(run, tables, searched, score, train.images, **state.stand)


def of_nb201_random(asked: Select, searched: SearchNb201Random, state: LastState, options: RunOptions) -> dict:
    """RandomNAS on NAS-Bench-201: random cells are scored with the supernet of the state."""
    device, own = pick_device(options), seeded(state, options)
    train, valid, note = search_nb201_random.open_batches(searched, own, device)
    with open_run(options, asked, data=train.images, **identity(state)) as run:
        if run.result is not None:
            return run.result
        supernet = build_nb201_supernet(searched.channels, searched.cells, len(train.images.classes)).to(device)
        supernet.load_state_dict(state.kept["supernet"])
        chance, scores = seeds.numpy_rng(own.seed, "select"), list[search_nb201_random.Scored]()
        run.keeps(chance=chance, scores=scores)
        score = search_nb201_random.scorer(supernet, train, valid, searched)
        code, _, percent = search_nb201_random.choose(run, score, chance, searched.select_candidates, scores)
        metrics, name = {"supernet_accuracy_percent": percent}, train.images.name
        return found_cell.finish(run, code, metrics, options, note, name, **state.stand)


def of_nb201_gdas(asked: Select, searched: SearchNb201Gdas, state: LastState, options: RunOptions) -> dict[str, Any]:
    """GDAS on NAS-Bench-201: the cell of the table, with the accuracy of the last whole epoch's steps of the table."""
    device = pick_device(options)
    train, _, note = search_nb201_gdas.open_batches(searched, seeded(state, options), device)
    with open_run(options, asked, data=train.images, **identity(state)) as run:
        if run.result is not None:
            return run.result
        alphas = search_nb201_gdas.Alphas(device, searched.arch_lr, searched.arch_weight_decay, 0)
        alphas.load_state_dict(state.kept["alphas"])
        alphas.write(run)
        metrics = {"supernet_accuracy_percent": state.kept["now"]["valid_top1"]}
        return found_cell.finish(run, alphas.cell(), metrics, options, note, train.images.name, **state.stand)


def of_recurrent(asked: Select, searched: SearchRecurrent, state: LastState, options: RunOptions) -> dict[str, Any]:
    """Recurrent cells: by validation perplexity, or (``--path fixed``, as released) the last random sample."""
    device, last = pick_device(options), state.kept["now"]["code"]
    if searched.path == "fixed" and not last:
        raise UserError(f"{state.folder} has drawn no cell yet; look again later")
    corpus, train, valid = search_recurrent.open_text(searched, options, device)
    with open_run(options, asked, data=corpus, **identity(state)) as run:
        if run.result is not None:
            return run.result
        supernet = search_recurrent.build(corpus.types, searched).to(device)
        supernet.load_state_dict(state.kept["supernet"])
        scores: list[float] = []
        run.keeps(scores=scores)
        seed = int(state.identity["seed"])
        return search_recurrent.choose(
            run, supernet, (train, valid), searched, last, scores, seed, **state.stand
        )  # fmt: skip


Choose = Callable[[Select, Any, LastState, "RunOptions"], dict[str, Any]]
SEARCHES: dict[str, tuple[type[Settings], Choose]] = {
    "search": (SearchRandom, of_random),
    "search_gdas": (SearchGdas, of_gdas),
    "search_nb201_random": (SearchNb201Random, of_nb201_random),
    "search_nb201": (SearchNb201Gdas, of_nb201_gdas),
    "search_ptb": (SearchRecurrent, of_recurrent),
}
