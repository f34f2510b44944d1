"""A tiny search in a run folder, run as a program by the tests: ``tiny_search.py search|fail [flags]``."""

import hashlib
import os
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from common.cli.verbs import Stage, Verb, main


@dataclass(frozen=True)
class Settings:
    """A tiny search."""

    lr: float = 0.05  # of SGD with momentum
    epochs: int = 4  # passes
    steps: int = 5  # steps of a pass
    batch_size: int = 8
    workers: int = 0
    pause: float = 0.0  # seconds a step
    nan_at: int = -1  # step whose loss is not a number
    memory: bool = False  # runs out of memory
    dies: int = field(default=-1, metadata={"result": False})  # rank that dies in the second pass


class Points:
    """Random points for the steps of an epoch, as a function of (seed, epoch, step, process)."""

    def __init__(self, settings, seed):
        self.settings, self.seed = settings, seed

    def __len__(self):
        return self.settings.steps

    def epoch(self, epoch, start):
        import torch

        from common.run import distributed, seeds

        for step in range(start, len(self)):
            generator = seeds.generator(self.seed, "batch", epoch, step, distributed.rank())
            x = torch.randn(self.settings.batch_size, 6, generator=generator)
            yield x, torch.randint(3, (self.settings.batch_size,), generator=generator)


def search(settings, options):
    import torch
    from torch import nn

    from common.run import distributed, seeds
    from common.run.folder import open_run
    from common.run.keep import Values
    from common.train.batchnorm import average
    from common.train.loop import auxiliary_loss
    from common.train.losses import check_finite
    from common.train.optim import EMA

    with open_run(options, settings, data={"points": "sha256:none"}) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr, momentum=0.9)
        ema = EMA(model, 0.9)
        population, now = [(0, 1.0)], Values(loss=0.0)
        run.keeps(model=model, optimizer=optimizer, ema=ema, population=population, now=now)
        loss_of = auxiliary_loss(nn.functional.cross_entropy, 0.4)
        if settings.memory:
            raise MemoryError
        for epoch in run.epochs(settings.epochs):
            for step, (x, y) in run.steps(Points(settings, options.seed), epoch):
                if settings.dies == distributed.rank() and (epoch, step) == (1, 2):
                    os._exit(7)
                optimizer.zero_grad()
                loss = loss_of(model(x), y)  # dropout draws from the global generator
                if settings.nan_at == epoch * settings.steps + step:
                    loss = loss * float("nan")
                check_finite(loss, step=step, architecture=population[-1])
                loss.backward()
                distributed.reduce_gradients(model.parameters(), len(x))
                average(model, len(x))
                optimizer.step()
                ema.update(model)
                now.loss = float(loss.detach())
                time.sleep(settings.pause)
            population[:] = [*population, (epoch, random.random())][-3:]
            run.log(epoch=epoch, loss=now.loss, best=population[-1][1])
        digest = hashlib.sha256(repr(population).encode())
        for value in [*model.state_dict().values(), *ema.values.values(), torch.rand(4)]:
            digest.update(value.numpy().tobytes())
        return run.finish({"metrics": {"epochs": settings.epochs}, "state": digest.hexdigest()})


VERBS = {"search": Verb({(): Stage(Settings, "tiny_search:search", "search", "A tiny search.")}, "search")}

if __name__ == "__main__":
    sys.modules["tiny_search"] = sys.modules["__main__"]
    main("tiny", VERBS)
