"""What is said at the end of a run: the result beside the paper's, and the next command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.cli.ending import Ending

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

TRAINED = {"SGNAS-A": "22.9", "SGNAS-B": "23.2", "SGNAS-C": "23.8"}  # % on ImageNet


def ending(result: dict[str, Any], settings: Any, options: RunOptions) -> Ending | None:
    """Of a search or its phases, a training, a test of weights, an evolution or a sweep."""
    metrics, folder, section = result.get("metrics", {}), options.folder, options.section
    if section == "search_supernet":
        more = ("--supernet", f"{folder}/supernet.safetensors")
        return Ending("the supernet is trained", "", "search-generator", more)
    if section in ("search", "search_generator"):
        return Ending(
            f"{len(result['architectures'])} architectures were generated; the largest miss of a target is "
            f"{metrics['largest_miss']:.3g}, Kendall's tau between targets and costs {metrics['kendall_tau']:.3f}",
            "SGNAS-A, B and C of 373, 326 and 281 million multiply-adds have 22.9, 23.2 and 23.8 % top-1 error on "
            "ImageNet",
            "train", ("--arch", f"{folder}/architecture.json"),
        )  # fmt: skip
    if section in ("train", "evaluate"):
        error = TRAINED.get(settings.arch)
        next_one = ("evaluate", ("--checkpoint", f"{folder}/weights.safetensors"))
        return Ending(
            f"{settings.arch or 'the network'} has {metrics['top1_error_percent']:.2f} % test error",
            f"{error} % top-1 error on ImageNet" if error else "", *(next_one if section == "train" else ()),
        )  # fmt: skip
    if section == "evolve":
        return Ending(
            f"{len(result['architectures'])} architectures were found by scoring {metrics['scored']:,}; with the "
            f"shared weights their mean error is {metrics['mean_error']:.2f} %", "",
            "train", ("--arch", f"{folder}/architecture.json"),
        )  # fmt: skip
    if section == "sweep":
        return Ending(
            f"of {len(result['rows'])} targets, Kendall's tau to the costs that the generator gives is "
            f"{metrics['kendall_tau']:.3f}"
        )
    return None
