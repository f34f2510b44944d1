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

    learning_rate: float = 0.05  # of SGD with momentum
    epochs: int = 4  # passes
    steps: int = 5  # steps of a pass
    batch_size: int = 8
    workers: int = 0
    pause: float = 0.0  # seconds a step
    nan_at: int = -1  # step whose loss is not a number
    memory: bool = False  # runs out of memory
    dies: int = field(default=-1, metadata={"result": False})  # rank that dies in the second pass


def search(settings, options):
    import torch
    from torch import nn

    from common.run import seeds
    from common.run.folder import check_finite, open_run
    from common.train import distributed
    from common.train.batchnorm import average
    from common.train.loop import auxiliary_loss
    from common.train.optim import EMA

    with open_run(options, settings, {"data": {"points": "sha256:none"}}) as run:
        if run.result is not None:
            return run.result
        seeds.seed_everything(options.seed)
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=settings.learning_rate, momentum=0.9)
        ema = EMA(model, 0.9)
        population, epoch, first, shown = [(0, 1.0)], 0, 0, 0.0
        if state := run.load():
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            ema.load_state_dict(state["ema"])
            population, epoch, first, shown = (state[key] for key in ("population", "epoch", "step", "loss"))
        loss_of = auxiliary_loss(nn.functional.cross_entropy, 0.4)

        def snapshot(epoch, step):
            return {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.state_dict(),
                "population": population, "epoch": epoch, "step": step, "loss": shown,
            }  # fmt: skip

        if settings.memory:
            raise MemoryError
        while epoch < settings.epochs:
            for step in range(first, settings.steps):
                if settings.dies == distributed.rank() and (epoch, step) == (1, 2):
                    os._exit(7)
                seeds.step_chance(options.seed, epoch, step)
                generator = seeds.generator(options.seed, "batch", epoch, step, distributed.rank())
                x = torch.randn(settings.batch_size, 6, generator=generator)
                y = torch.randint(3, (settings.batch_size,), generator=generator)
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
                shown = float(loss.detach())
                time.sleep(settings.pause)
                if run.due():
                    run.save(snapshot(epoch, step + 1))
            population = [*population, (epoch, random.random())][-3:]
            run.log(epoch=epoch + 1, loss=shown, best=population[-1][1])
            epoch, first = epoch + 1, 0
            run.save(snapshot(epoch, 0))
        digest = hashlib.sha256(repr(population).encode())
        for value in [*model.state_dict().values(), *ema.values.values(), torch.rand(4)]:
            digest.update(value.numpy().tobytes())
        return run.finish({"metrics": {"epochs": settings.epochs}, "state": digest.hexdigest()})


VERBS = {"search": Verb({(): Stage(Settings, "tiny_search:search", "search", "A tiny search.")}, "search")}

if __name__ == "__main__":
    sys.modules["tiny_search"] = sys.modules["__main__"]
    main("tiny", VERBS)
