"""The generations of a search so far, and what is written of them."""

from __future__ import annotations

import io
import math
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.run import files
from common.run.folder import Run
from papers.evnas.lookup import Lookup
from papers.evnas.method.evolution import Draws, ranking
from papers.evnas.method.population import NB201, Space

SCORE = ("top1", "top5", "loss")  # of an individual on the fitness images: accuracies in percent, nats


class Generations:
    """Every population with its fitness, numbered as in individuals.csv, and the best individuals.

    populations: A [P, rows, operations] of each generation; scores: a list of SCORE for each of its individuals (empty:
    not measured). last, best: the best individual of the last generation, and of all (the first to reach its fitness).
    trajectory: the best architecture of every generation; in NAS-Bench-201 the cell of the alphas that the supernet is
    born with comes first, as in the released list.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.populations: list[Tensor] = []
        self.scores: list[list[list[Any]]] = []
        self.last: dict[str, Any] = {}
        self.best: dict[str, Any] = {}
        born = [Draws.stream(space, seed, "supernet").individual()] if space is NB201 else []
        self.trajectory = [space.text(alphas) for alphas in born]

    def state_dict(self) -> dict[str, Any]:
        """What a run keeps."""
        return {name: value for name, value in vars(self).items() if name != "space"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()``."""
        vars(self).update(state)

    def enter(self, population: Tensor, scores: list[list[Any]]) -> tuple[Tensor, list[float]]:
        """Add a generation: its individuals in descending order of fitness (equals keep their order), and that fitness.

        Without scores (strategy random) the order stays, and the first individual stands in for the best.
        """
        fitness = [top1 for top1, *_ in scores]
        order = ranking(fitness) if scores else list(range(len(population)))
        self.populations.append(population)
        self.scores.append(scores)
        alphas = population[order[0]].clone()
        values = dict(zip(SCORE, scores[order[0]] if scores else (None, None, None), strict=True))
        self.last = {
            "alphas": alphas, "generation": len(self.populations) - 1, **values, "cell": self.space.text(alphas),
        }  # fmt: skip
        if not self.best or (scores and (self.best["top1"] is None or values["top1"] > self.best["top1"])):
            self.best = self.last
        self.trajectory.append(self.last["cell"])
        return population[order], [fitness[k] for k in order] if scores else []

    def log(self, run: Run, lr: float, train_loss: float, lookup: Lookup) -> None:
        """The rows of the newest generation in history.csv and individuals.csv, and populations.npz of all."""
        newest, scores = self.last, self.scores[-1]
        for k, values in enumerate(scores):
            cell = self.space.text(self.populations[-1][k])
            run.log("individuals", generation=newest["generation"], individual=k, **dict(zip(SCORE, values)), cell=cell)
        if run.writes:
            size, file = len(self.populations[-1]), io.BytesIO()
            fitness = [[top1 for top1, *_ in each] or [math.nan] * size for each in self.scores]
            np.savez(file, alphas=torch.stack(self.populations).numpy(), fitness=np.array(fitness))
            files.write_bytes(run.folder / "populations.npz", file.getvalue())
        top1s = [top1 for top1, *_ in scores]
        row = {
            "generation": newest["generation"],
            "lr": lr,
            "train_loss": train_loss,
            "fitness_best": newest["top1"],
            "fitness_mean": fmean(top1s) if scores else None,
            "fitness_worst": min(top1s) if scores else None,
            "top5_of_best": newest["top5"],
            "loss_of_best": newest["loss"],
            "best_so_far": self.best["top1"],
            "cell": newest["cell"],
        }
        run.log(**row, **lookup.columns(newest["cell"]))

    def report(self, chosen: dict[str, Any], lookup: Lookup) -> dict[str, Any]:
        """The result: best of the last generation (the paper's answer), best of all generations, and the chosen one."""
        return {
            "metrics": {
                "fitness_last_percent": self.last["top1"],
                "fitness_best_percent": self.best["top1"],
                "fitness_chosen_percent": chosen["top1"],
                "best_generation": self.best["generation"],
                **lookup.metrics(chosen["cell"]),
            },
            "architecture": self.space.architecture(chosen["alphas"]),
            "last_generation_best": self.trajectory[-1],
            "best_so_far": self.best["cell"],
            "trajectory": self.trajectory,
            **lookup.report(chosen["cell"], self.trajectory),
        }
