"""What is said at the end of a run: the result beside the paper's, and the next command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.cli.ending import Ending

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

PUBLISHED = {"cifar10": "2.57 % test error of NAONet-V2 on CIFAR-10", "imagenet": "25.5 % top-1 error on ImageNet"}


def ending(result: dict[str, Any], settings: Any, options: RunOptions) -> Ending | None:
    """Of a search, the random search beside it, a training, a test of weights or a rank study."""
    metrics, folder = result.get("metrics", {}), options.folder
    if options.section == "search":
        return Ending(
            f"the best of {metrics['pool']} architectures classifies {metrics['valid_accuracy_percent']:.2f} % of the "
            f"validation images once trained, with {metrics['parameters']:,} parameters",
            "a network of the searched architecture has 2.57 % test error on CIFAR-10 (README)",
            "train", ("--arch", f"{folder}/architecture.json"),
        )  # fmt: skip
    if options.section in ("train", "evaluate"):
        next_one = ("evaluate", ("--checkpoint", f"{folder}/weights.safetensors"))
        return Ending(
            f"{settings.arch or 'the network'} has {metrics['top1_error_percent']:.2f} % test error",
            PUBLISHED.get(settings.dataset, ""), *(next_one if options.section == "train" else ()),
        )  # fmt: skip
    if options.section == "random_search":
        return Ending(
            f"the best of {metrics['architectures']} random architectures classifies "
            f"{metrics['valid_accuracy_percent']:.2f} % of the validation images once trained, with "
            f"{metrics['parameters']:,} parameters", "", "train", ("--arch", f"{folder}/architecture.json"),
        )  # fmt: skip
    if options.section == "rank_study":
        by_size, uniform = (metrics.get(f"kendall_tau_{kind}") for kind in ("params", "uniform"))
        said = ["undefined" if tau is None else f"{tau:.2f}" for tau in (by_size, uniform)]
        return Ending(
            f"of {metrics['architectures']} architectures trained alone, Kendall's tau to their order in the supernet "
            f"is {said[0]} with sampling by size and {said[1]} with uniform sampling"
        )
    return None
