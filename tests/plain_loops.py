"""Second loops, written plainly, that trainings and searches are compared with; images that say which ones they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from common.data.sets import Images


def numbered(count: int, name: str, size: int = 4, classes: int = 10) -> Images:
    """A set of which every picture holds its place in all its pixels; the classes take turns."""
    places = torch.arange(count)
    colours = torch.stack([places % 256, places // 256 % 256, places // 65536], 1).to(torch.uint8)
    pixels = colours[:, :, None, None].repeat(1, 1, size, size)
    return Images(pixels, places % classes, tuple(map(str, range(classes))), name, True)


def noise(count: int, name: str = "digits", size: int = 8, seed: int = 0) -> Images:
    """A set of small pictures of ten classes, each of random pixels: quick, and as good as any to compare two loops."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    return Images(pixels, torch.arange(count) % 10, tuple("0123456789"), name, True)


def places(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> list[int]:
    """Which pictures of a ``numbered`` set a normalised batch [B, 3, H, W] holds, from their middle pixels."""
    middle = x[:, :, x.shape[2] // 2, x.shape[3] // 2].double()
    colours = ((middle * torch.tensor(std) + torch.tensor(mean)) * 255).round().long()
    return (colours @ torch.tensor([1, 256, 65536])).tolist()


def cosine(base: float, minimum: float, epoch: int, epochs: int) -> float:
    """minimum + (base - minimum) (1 + cos(pi e / E)) / 2."""
    return minimum + (base - minimum) * (1 + math.cos(math.pi * epoch / epochs)) / 2


class PlainSGD:
    """g <- g min(1, c / |g|) + wd w;  v <- g, later mu v + g;  w <- w - lr v, Nesterov: w - lr (g + mu v).

    Tensors without a gradient stay where they are. ``norms`` holds what the clip met.
    """

    def __init__(
        self, tensors: Iterable[Tensor], momentum: float, decay: float, clip: float = 0.0, nesterov: bool = False
    ) -> None:
        self.tensors, self.momentum, self.decay = list(tensors), momentum, decay
        self.clip, self.nesterov, self.velocity, self.norms = clip, nesterov, {}, []

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], lr: float) -> None:
        """One step down the gradients."""
        norm = math.sqrt(sum(float(g.double().pow(2).sum()) for g in gradients if g is not None))
        self.norms.append(norm)
        cut = min(1.0, self.clip / (norm + 1e-6)) if self.clip else 1.0
        for k, (w, g) in enumerate(zip(self.tensors, gradients, strict=True)):
            if g is None:
                continue
            g = g * cut + self.decay * w
            v = self.velocity[k] = self.momentum * self.velocity[k] + g if k in self.velocity else g
            w -= lr * (g + self.momentum * v if self.nesterov else v)


def plain_training(
    model: nn.Module, epochs: int, batches: Callable[[int], Iterable], lr_of: Callable[[int], float], sgd: PlainSGD,
    drop_path: float, loss_of: Callable, tests: Callable, before: Callable[[int, int], None] = lambda *_: None,
) -> list[float]:  # fmt: skip
    """Train a derived network; returns what ``tests(model)`` gave after every epoch.

    batches: epoch -> (images, labels). loss_of: (logits, auxiliary logits, labels) -> loss. before: (epoch, step), at
    the start of each step.
    """
    found = []
    for epoch in range(epochs):
        model.drop_path_prob = drop_path * epoch / epochs
        for step, (x, y) in enumerate(batches(epoch)):
            before(epoch, step)
            model.train()
            loss = loss_of(*model(x), y)
            sgd.step(torch.autograd.grad(loss, sgd.tensors, allow_unused=True), lr_of(epoch))
        model.eval()
        with torch.no_grad():
            found.append(tests(model))
    return found


def same_weights(found: dict[str, Tensor], model: nn.Module, bound: float = 1e-3) -> None:
    """Every tensor of ``found`` is the model's, up to ``bound`` of its largest entry (of 0.001 where that is less)."""
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("auxiliary_head")}
    assert {k for k in found if not k.startswith("auxiliary_head")} == set(state)
    apart = {
        k: float((found[k].double() - v.double()).abs().max() / v.abs().max().clamp(1e-3)) for k, v in state.items()
    }
    assert max(apart.values()) <= bound, sorted(apart.items(), key=lambda pair: -pair[1])[:5]
