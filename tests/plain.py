"""What people do with a network that ``papers.<p>.network`` returned, tried on small inputs."""

from __future__ import annotations

import copy
import io
import pickle
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

ROOT = Path(__file__).parents[1]


def counted(net: nn.Module, image: torch.Tensor) -> int:
    """Multiply-adds of convolutions and linear layers of exactly torch's types, as forward hooks see them."""
    total = 0

    def hook(module, inputs, output):
        nonlocal total
        if isinstance(module, nn.Linear):
            total += module.in_features * module.out_features
        else:
            per = module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
            total += output[0].numel() * per

    handles = [m.register_forward_hook(hook) for m in net.modules() if type(m) in (nn.Conv2d, nn.Linear)]
    with torch.no_grad():
        net(image)
    for handle in handles:
        handle.remove()
    return total


def check_plain(net: nn.Module, side: int, classes: int) -> None:
    """Export, trace, pickle, copies, joined normalisation, full backward hooks, bf16, another classifier."""
    torch.manual_seed(0)
    images = torch.randn(3, 3, side, side)
    with torch.no_grad():
        logits = net(images)
    assert not net.training and logits.shape == (3, classes)

    def same(other, rtol=1e-4):
        with torch.no_grad():
            torch.testing.assert_close(other(images), logits, rtol=rtol, atol=1e-4)

    batch = {0: torch.export.Dim("batch", min=2, max=64)}
    same(torch.export.export(net, (images[:2],), dynamic_shapes=(batch,)).module())
    same(torch.jit.trace(net, images[:2]))
    same(pickle.loads(pickle.dumps(net)))
    same(copy.deepcopy(net))
    same(nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(net)))
    saved = io.BytesIO()
    torch.save(net.state_dict(), saved)
    saved.seek(0)
    other = copy.deepcopy(net)
    other.load_state_dict(torch.load(saved, weights_only=True))
    assert nn.utils.parameters_to_vector(net.parameters()).numel() == sum(p.numel() for p in net.parameters())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert net(images).isfinite().all()
    seen: list[str] = []
    for name, module in other.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_full_backward_hook(lambda *_, name=name: seen.append(name))
    other.train()(images.requires_grad_()).sum().backward()
    assert len(seen) == sum(isinstance(m, nn.Conv2d | nn.BatchNorm2d) for m in other.modules())
    assert all(p.grad is not None for p in other.parameters())
    other.classifier = nn.Linear(other.classifier.in_features, 2)
    assert other.eval()(images).shape == (3, 2)


def run_readme(paper: str) -> None:
    """The code below "In Python" of a paper's README."""
    text = (ROOT / "papers" / paper / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"## In Python\n.*?```python\n(.*?)```", text, re.DOTALL)
    exec(compile(code, f"{paper}/README.md", "exec"), {})


def own_pictures(root: Path, parts: tuple[str, ...] = ("",), each: int = 20, side: int = 36) -> Path:
    """A folder of class folders as users have: three classes, told apart by their colour."""
    generator = np.random.RandomState(0)
    for part in parts:
        for channel, name in enumerate(("red", "green", "blue")):
            (root / part / name).mkdir(parents=True)
            for i in range(each):
                pixels = generator.randint(0, 128, (side, side, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(root / part / name / f"{i:02}.png")
    return root


def photographs(folder: Path) -> None:
    """The pictures that the READMEs' lines of ``predict`` name."""
    for name in ("photos", "more"):
        (folder / name).mkdir()
        Image.new("RGB", (40, 36), (200, 60, 30)).save(folder / name / "one.jpg")
