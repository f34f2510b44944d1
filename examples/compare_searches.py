"""Is one search better than another? The same seeds for both, the paired differences, and their interval.

On real data: SearchNB201(dataset="cifar10") as published, SCORE = "test_accuracy_percent" (of the benchmark's tables).
"""

from pathlib import Path

from scipy import stats

from common.cli.verbs import RunOptions
from papers.evnas.search import search
from papers.evnas.settings import SearchNB201

SEEDS, SCORE = (0, 1, 2), "fitness_chosen_percent"
small = {"dataset": "digits", "channels": 2, "cells_per_stage": 1, "train_images": 96, "fitness_images": 48,
         "batch_size": 16, "lr": 0.1, "generations": 4, "population": 4}  # fmt: skip
methods = {
    "evolution": SearchNB201(**small, tournament=2),
    "random search": SearchNB201(**small, tournament=2, strategy="random-search"),  # equal budget
}
scores: dict[str, list[float]] = {}
for name, settings in methods.items():
    for seed in SEEDS:
        out = Path("runs/compare_searches") / f"{name.replace(' ', '-')}-{seed}"
        options = RunOptions(paper="evnas", section="search_nb201", seed=seed, out=out, given=frozenset())
        scores.setdefault(name, []).append(search(settings, options)["metrics"][SCORE])

differences = [a - b for a, b in zip(*scores.values(), strict=True)]
test = stats.ttest_1samp(differences, 0.0)
low, high = test.confidence_interval(0.95)
for name, values in scores.items():
    print(f"{name}: {', '.join(f'{value:.1f}' for value in values)} % by seed")
print(f"difference by seed: {', '.join(f'{d:+.1f}' for d in differences)} points")
print(f"mean {sum(differences) / len(differences):+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}")
answer = "the interval holds 0: these seeds show no difference" if low <= 0 <= high else "a difference beyond chance"
print(f"{answer}; {len(SEEDS)} seeds of a tiny search say little, take ten of the real one")
