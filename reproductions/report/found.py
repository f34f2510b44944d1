"""What a run found, in words and numbers; how long it took, when and from which commit; and its random search."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path

from common.errors import UserError
from common.run.files import read_json
from reproductions.claims import ROOT
from reproductions.compare.statistics import spread
from reproductions.listing import number
from reproductions.results import Result, by_seed

SAYS = {
    # metric: (what it is, unit, whether less is better; None: neither)
    "test_accuracy_percent": ("test accuracy in the table", "%", False),
    "chosen_test_accuracy_percent": ("test accuracy of the chosen cell in the table", "%", False),
    "top1_error_percent": ("top-1 error", "%", True),
    "test_perplexity": ("test perplexity", "", True),
    "rank_among_15625": ("rank among 15,625", "", True),
    "fitness_chosen_percent": ("accuracy on the images that select", "%", False),
    "valid_accuracy_percent": ("validation accuracy", "%", False),
    "supernet_accuracy_percent": ("accuracy with the supernet's weights", "%", False),
    "supernet_valid_perplexity": ("validation perplexity with the supernet's weights", "", True),
    "mean_error": ("top-1 error with the supernet's weights", "%", True),
    "board_best": ("accuracy of the board's head on its batch", "%", False),
    "tau": ("Kendall's tau of supernet and table", "", False),
    "shared_kendall_tau": ("Kendall's tau of supernet and training", "", False),
    "kendall_tau_params": ("Kendall's tau, paths by size", "", False),
    "kendall_tau_uniform": ("Kendall's tau, uniform paths", "", False),
    "forgetting_points": ("forgetting", "points", True),
    "largest_miss": ("largest miss of a target", "M multiply-adds", True),
    "controller_pairwise_accuracy": ("pairs that the controller orders rightly, share", "", False),
    "runs": ("runs summarised", "", None),
    "macs": ("multiply-adds", "", None),
    "parameters": ("parameters", "", None),
}
LEADING = 4  # metrics named in a row
CHANCE = 15625


@dataclass(frozen=True)
class Against:
    """A score beside random search's, one value a seed."""

    label: str
    metric: str
    own: tuple[float, ...]
    random: tuple[float, ...]

    @property
    def unit(self) -> str:
        """What the values are, with their unit."""
        what, unit, _ = SAYS[self.metric]
        return f"{what}, {unit}" if unit else what


def says(group: Sequence[Result]) -> list[tuple[str, str]]:
    """(what, value) of the leading metrics of runs of one kind: mean ± standard deviation over seeds."""
    group = [with_board(result) for result in group]
    found = [(name, values) for name in SAYS if (values := list(by_seed(list(group), name).values()))]
    if not found:
        names = [n for n, v in group[0].metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)]
        found = [(name, values) for name in names if (values := list(by_seed(list(group), name).values()))]
    if found and len(found) > LEADING:  # sizes last, but never left out for the fourth score
        sizes = [entry for entry in found if SAYS.get(entry[0], ("", "", False))[2] is None]
        found = [*[entry for entry in found if entry not in sizes][: LEADING - bool(sizes)], *sizes[:1]]
    return [(SAYS.get(name, (name.replace("_", " "), "", None))[0], shown(name, values)) for name, values in found]


def with_board(result: Result) -> Result:
    """Cream's search scores its choice in the history's last line only."""
    if result.paper != "cream" or "board_size" not in result.metrics or not (rows := result.history()):
        return result
    score = rows[-1].get("board_best") or ""
    return replace(result, metrics={**result.metrics, "board_best": float(score)}) if score else result


def trained(group: Sequence[Result], results: Sequence[Result]) -> list[str]:
    """What training what a search found gave, a sentence a training."""
    folders = {r.path.parent.resolve() for r in group}
    found = []
    for r in results:
        arch = Path(str(r.settings.get("arch") or ""))
        there = arch if arch.is_absolute() else ROOT / arch
        if r.stage.startswith("train") and arch.suffix == ".json" and there.parent.resolve() in folders:
            found += [f"trained from scratch: {what} {value}" for what, value in says([r])[:1]]
    return found


def shown(name: str, values: Sequence[float]) -> str:
    """A metric in numbers with its unit."""
    s = spread(list(values))
    _, unit, better = SAYS.get(name, ("", "", False))
    if better is None:
        text = number(round(s.mean), "count") + (f" ± {s.sd:,.0f}" if s.sd > 0 else "")
    else:
        text = number(s.mean, "", digits=4) + (f" ± {s.sd:.2g}" if s.sd > 0 else "")
    return f"{text} {unit}".strip()


def chance(result: Result) -> str:
    """How likely a cell of NAS-Bench-201 drawn at random is at least as good; "" elsewhere."""
    rank = result.metrics.get("rank_among_15625")
    return f"a cell drawn at random is at least as good in {100 * rank / CHANCE:.1f} % of draws" if rank else ""


def is_random(result: Result, results: Sequence[Result] = ()) -> bool:
    """Whether a run is a random search, or trains what one found."""
    s = result.settings
    if "random_search" in result.stage or s.get("random") is True or result.stage == "random":
        return True
    if s.get("strategy") in ("random", "random-search") or (result.paper == "cream" and s.get("method") == "random"):
        return True
    if result.stage == "experiments":
        return s.get("constraints") == 0
    arch = Path(str(s.get("arch") or ""))
    if arch.suffix != ".json":
        return False
    folder = arch.parent.name
    return any(r.path.parent.name == folder and r.paper == result.paper and is_random(r) for r in results)


def against(group: Sequence[Result], label: str, results: Sequence[Result]) -> Against | None:
    """The runs of one kind beside the random searches of the same paper, profile, role and set; None without one."""
    first = group[0]
    if is_random(first, results):
        return None
    others = [r for r in results if r.paper == first.paper and r.profile == first.profile and is_random(r, results)]
    others = [
        r for r in others if _role(r) == _role(first) and r.settings.get("dataset") == first.settings.get("dataset")
    ]
    for name, (_, _, better) in SAYS.items():
        if better is None:
            continue
        own = tuple(by_seed(list(group), name).values())
        random = tuple(float(r.metrics[name]) for r in others if isinstance(r.metrics.get(name), int | float))
        if own and random:
            return Against(label, name, own, random)
    return None


def _role(result: Result) -> str:
    if result.stage.startswith(("train", "evaluate", "experiments")):
        return result.stage
    return "study" if "study" in result.stage else "search"


def compared(found: Against) -> str:
    """The comparison in a sentence."""
    own, random = shown(found.metric, found.own), shown(found.metric, found.random)
    s = spread(list(found.random))
    text = f"{own} against {random} of random search ({len(found.random)} run{'s' * (len(found.random) > 1)}"
    return text + (f", 95 % interval [{s.t[0]:.4g}, {s.t[1]:.4g}])" if len(found.random) > 1 else "; no interval)")


def took(group: Sequence[Result]) -> str:
    """Mean run time over the runs that say it."""
    seconds = []
    for r in group:
        path = r.path.parent / "timing.json"
        try:
            seconds.append(float(read_json(path)["seconds"]) if path.exists() else 0.0)
        except (UserError, KeyError, TypeError, ValueError):
            continue
    known = [s for s in seconds if s > 0]
    return duration(sum(known) / len(known)) if known else "not recorded"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def commit(result: Result) -> str:
    """The commit that the run was made from, with a star where files were changed."""
    git = result.environment().get("git") or {}
    return f"{str(git['commit'])[:7]}{'*' * bool(git.get('changed'))}" if git.get("commit") else "no git"


def date(result: Result) -> str:
    """When the result came into git; of one that is not in it, when its file was written."""
    known = committed_dates().get(result.path.resolve())
    return known or datetime.fromtimestamp(result.path.stat().st_mtime).strftime("%Y-%m-%d")


@cache
def committed_dates() -> dict[Path, str]:
    """result.json below results/ -> day of the last commit that changed it; {} outside a checkout."""
    command = ["git", "log", "--format=@%cs", "--name-only", "--", "results/*result.json"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found: dict[Path, str] = {}
    day = ""
    for line in done.stdout.splitlines():
        if line.startswith("@"):
            day = line[1:]
        elif line:
            found.setdefault((ROOT / line).resolve(), day)
    return found
