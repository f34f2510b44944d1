"""What is said at the end of a run: the result beside the paper's, and the next command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.cli.ending import Ending

if TYPE_CHECKING:
    from common.cli.verbs import RunOptions

TRAINED = {"14": "46.2", "43": "33.7", "114": "27.2", "287": "22.4", "481": "20.8", "604": "20.0"}  # % on ImageNet


def ending(result: dict[str, Any], settings: Any, options: RunOptions) -> Ending | None:
    """Of a search, a choice on its board, a training, a test of weights or a rank study."""
    metrics, folder = result.get("metrics", {}), options.folder
    if options.section in ("search", "select"):
        size = f"{metrics['macs'] / 1e6:.1f} million multiply-adds and {metrics['parameters']:,} parameters"
        error = metrics.get("supernet_top1_error_percent")
        scored = "" if error is None else f"; {error:.2f} % error with the shared weights"
        return Ending(
            f"the chosen path has {size}{scored}",
            "networks of 14 to 604 million multiply-adds with 46.2 to 20.0 % top-1 error on ImageNet",
            "train", ("--arch", f"{folder}/architecture.json"),
        )  # fmt: skip
    if options.section in ("train", "evaluate"):
        name = result["network"] if result.get("network") in TRAINED else settings.arch  # else a file's name
        published = TRAINED.get(name, "")
        called = f"network {name}" if published else name or "the network"
        next_one = ("evaluate", ("--checkpoint", f"{folder}/weights.safetensors"))
        return Ending(
            f"{called} has {metrics['top1_error_percent']:.2f} % test error on {settings.dataset}",
            f"{published} % top-1 error on ImageNet" if published else "",
            *(next_one if options.section == "train" else ()),
        )
    if options.section == "rank_study":
        tau, low, high = (metrics.get(f"shared_kendall_tau{end}") for end in ("", "_low", "_high"))
        said = "undefined" if tau is None else f"{tau:.2f}" + (f" [{low:.2f}, {high:.2f}]" if low is not None else "")
        return Ending(
            f"of {metrics['paths']} paths trained alone, Kendall's tau to their order in the supernet is {said}"
        )
    return None
