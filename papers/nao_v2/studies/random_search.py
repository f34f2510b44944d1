"""Baseline: random architectures trained from scratch with the budget of a search; the best on validation wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.run import seeds
from common.run.device import pick_device
from common.run.folder import open_run
from common.spaces.architecture import save_architecture
from papers.nao_v2.data.sets import refuse_small, small_images, split
from papers.nao_v2.method import pool
from papers.nao_v2.method.stand_alone import Recipe, StandAlone
from papers.nao_v2.networks.architectures import SPACE, SPACES, Shape, as_file, text_of
from papers.nao_v2.networks.size import size_of
from papers.nao_v2.settings import RandomSearch

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions


def random_search(settings: RandomSearch, options: RunOptions) -> dict[str, Any]:
    """The baseline: n random architectures, each trained from scratch; the best on validation is the result."""
    c, device = settings, pick_device(options)
    images = small_images(c.dataset, "train", options)
    refuse_small(c, images)
    with open_run(options, c, data=images) as run:
        if run.result is not None:
            return run.result
        rng = seeds.numpy_rng(options.seed, "random search")
        train, valid = split(rng, images.to(device), c.train_images, c.valid_images, options.seed)
        candidates = pool.random_pool(rng, count_of(c), len(SPACES[c.space]))
        per_epoch = -(-len(train) // c.batch_size)
        recipe = Recipe(
            epochs=c.epochs, lr=c.lr, lr_min=c.lr_min, drop_path_keep=c.drop_path_keep,
            drop_path_steps=c.drop_path_steps or supernet_epochs(c) * per_epoch,
        )  # fmt: skip
        recipe.check_ramp(per_epoch)
        shape = Shape("cifar", c.channels, c.layers, len(images.classes), c.space)
        network = {"auxiliary": c.auxiliary, "dropout_keep": c.dropout_keep, "relu_in_place": c.relu_in_place}
        alone, scores = StandAlone(recipe, shape, network, train, valid, c.batch_size, c.parts), list[float]()
        run.keeps(scores=scores)
        for number, architecture in run.each(candidates, "architecture"):
            scores.append(alone.accuracy(run, architecture, number, device))
            run.log(number=number, valid_accuracy_percent=scores[-1], best=max(scores))
        best = candidates[pool.ranking(scores)[0]]
        if run.writes:
            origin = {**run.origin, "dataset": c.dataset, "classes": len(images.classes), "pixels": images.size}
            save_architecture(run.folder / "architecture.json", SPACE, as_file(best, c.space), origin)
        counts = size_of(best, shape)
        metrics = {
            "valid_accuracy_percent": max(scores), "architectures": len(scores), "parameters": counts.parameters,
            "macs": counts.macs,
        }  # fmt: skip
        return run.finish({"metrics": metrics, "architecture": text_of(best)})


def count_of(c: RandomSearch) -> int:
    """Architectures that a search would pay for: supernet epochs / epochs per architecture, and its finalists."""
    return c.architectures or max(1, c.search_epochs // c.epochs) + c.search_final


def supernet_epochs(c: RandomSearch) -> int:
    """Epochs of one supernet training of the search that it is compared with: they set the drop path's ramp."""
    return max(1, c.search_epochs // c.search_iterations)
