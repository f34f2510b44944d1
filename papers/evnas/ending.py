"""What is said at the end of a run: the result beside the paper's, and the next command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.cli.ending import Ending

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

TRAINED = {
    ("EvNASA", "cifar10"): "2.47 ± 0.06", ("EvNASB", "cifar10"): "2.62 ± 0.06", ("EvNASC", "cifar10"): "2.63 ± 0.05",
    ("EvNASA", "cifar100"): "16.37", ("EvNASB", "cifar100"): "16.51", ("EvNASC", "cifar100"): "16.86",
    ("EvNASA", "imagenet"): "24.4", ("EvNASB", "imagenet"): "24.4", ("EvNASC", "imagenet"): "25.1",
}  # fmt: skip
TABLES = {"cifar10": "92.18 ± 1.11", "cifar100": "66.74 ± 3.08", "imagenet16-120": "39.00 ± 0.44"}


def ending(result: dict[str, Any], settings: Any, options: RunOptions) -> Ending | None:
    """Of a search, a training or a test of weights."""
    metrics, folder = result.get("metrics", {}), options.folder
    if options.section == "search":
        return Ending(
            f"the chosen cell classifies {metrics['fitness_chosen_percent']:.2f} % of the fitness images with the "
            f"shared weights",
            "a network of the searched cell has 2.47 ± 0.06 % test error on CIFAR-10 (CIFAR table)",
            "train", ("--arch", f"{folder}/architecture.json"),
        )  # fmt: skip
    if options.section == "search_nb201":
        table = TABLES.get(settings.dataset)
        return Ending(
            f"the chosen cell is {result['last_generation_best']}, fitness {metrics['fitness_chosen_percent']:.2f} %",
            f"{table} % test accuracy in the benchmark's tables (NAS-Bench-201 table)" if table else "",
            "describe", (str(folder),),
        )  # fmt: skip
    if options.section == "train_nb201":
        table = metrics.get("table_test")
        return Ending(
            f"{result['architecture']} has {metrics['accuracy_percent']:.2f} % test accuracy",
            f"{table:.2f} % in the benchmark's tables" if table is not None else "",
            "evaluate", ("--checkpoint", f"{folder}/weights.safetensors"),
        )  # fmt: skip
    if options.section in ("train", "train_imagenet", "evaluate"):
        error = TRAINED.get((settings.arch, settings.dataset))
        found = f"{settings.arch or 'the network'} has {metrics['top1_error_percent']:.2f} % test error"
        after = ("evaluate", ("--checkpoint", f"{folder}/weights.safetensors"))
        return Ending(found, f"{error} % ({settings.dataset})" if error else "", *(
            after if options.section != "evaluate" else ()
        ))  # fmt: skip
    return None
