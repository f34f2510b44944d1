"""What is said at the end of a run: the result beside the paper's, and the next command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.cli.ending import Ending

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

TRAINED = {
    ("Random_NSAS", "cifar10"): "2.50", ("Random_NSAS", "cifar100"): "17.56", ("Random_NSAS_C", "cifar10"): "2.61",
    ("Random_NSAS_C", "cifar100"): "16.69", ("Random_NSAS_C", "imagenet"): "25.5",
}  # fmt: skip
SEARCHED = {
    "search": "networks of the searched cells have 2.50 % test error on CIFAR-10 and 17.56 % on CIFAR-100",
    "search_gdas": "",
    "search_nb201": "93.49 % test accuracy in the benchmark's tables, CIFAR-10 (GDAS-NSAS, one seed)",
    "search_nb201_random": "88.585 % test accuracy in the benchmark's tables, CIFAR-10 (RandomNAS-NSAS, one seed)",
    "search_ptb": "a network of the searched cell has a test perplexity of 56.84 on Penn Treebank",
}


def ending(result: dict[str, Any], settings: Any, options: RunOptions) -> Ending | None:
    """Of a search in any space, a training, a test of weights or an experiment."""
    metrics, folder, section = result.get("metrics", {}), options.folder, options.section
    if section in SEARCHED:
        score = metrics.get("supernet_accuracy_percent")
        said = f", {score:.2f} % accuracy with the shared weights" if score is not None else ""
        if "supernet_valid_perplexity" in metrics:
            said = f", validation perplexity {metrics['supernet_valid_perplexity']:.1f} with the shared weights"
        space = ("--space", "ptb") if section == "search_ptb" else ()
        after = ("describe", (str(folder),)) if "nb201" in section else (
            "train", (*space, "--arch", f"{folder}/architecture.json")
        )  # fmt: skip
        return Ending(f"a cell was chosen{said}", SEARCHED[section], *after)
    next_one = ("evaluate", ("--checkpoint", f"{folder}/weights.safetensors"))
    if section in ("train_ptb", "evaluate_ptb"):
        again = ("evaluate", ("--space", "ptb", *next_one[1])) if section == "train_ptb" else ()
        return Ending(
            f"{settings.arch or 'the network'} has a test perplexity of {metrics['test_perplexity']:.2f}",
            "56.84 on Penn Treebank" if settings.text == "ptb" else "", *again,
        )  # fmt: skip
    if section == "train_nb201":
        table = metrics.get("table_test")
        found = f"{result['architecture']} has {metrics['accuracy_percent']:.2f} % test accuracy"
        return Ending(found, f"{table:.2f} % in the benchmark's tables" if table is not None else "", *next_one)
    if section in ("train", "evaluate"):
        error = TRAINED.get((settings.arch, settings.dataset))
        return Ending(
            f"{settings.arch or 'the network'} has {metrics['top1_error_percent']:.2f} % test error",
            f"{error} % ({settings.dataset})" if error else "", *(next_one if section == "train" else ()),
        )  # fmt: skip
    if section == "experiments":
        return Ending(_experiment(result))
    return None


def _experiment(result: dict[str, Any]) -> str:
    """The first line of its paragraph; of the two losses side by side, what each made of the same start."""
    if said := result.get("paragraph", "").strip():
        return said.splitlines()[0].rstrip(".")
    metrics = result["metrics"]
    lost, seen = (
        [metrics[f"{key}_{loss}"] for loss in ("authors", "paper")]
        for key in ("forgetting_points", "mean_supernet_accuracy_percent")
    )
    return (
        f"from one start, an earlier architecture lost {lost[0]:.2f} points between two probes under the released loss "
        f"and {lost[1]:.2f} under the published one; cells have {seen[0]:.2f} and {seen[1]:.2f} % with the shared "
        "weights on average"
    )
