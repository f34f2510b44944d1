"""A network as a file of another form, checked against the module before it is kept.

The file takes normalised images [N, 3, H, W] of any number N at the size of the weights, and gives logits. What a
picture has to go through before stands in the file too: ONNX ``metadata_props``, TorchScript's extra file.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.run.files import write_bytes
from common.use.predict import View
from common.use.settings import Export

BATCHES = (1, 2, 5)  # numbers of images that the file is tried with
TRACED = 2  # the number that it is made with
LARGEST = 1e-4  # difference of a logit that is let through
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
NAMES = {"onnx": "network.onnx", "torchscript": "network.pt"}
INPUT, OUTPUT, ABOUT = "images", "logits", "about.json"
Run = Callable[[Tensor], Tensor]


def export(net: nn.Module, view: View, settings: Export, options: Any) -> dict[str, Any]:
    """The ``export`` verb, from the network on. Raises UserError where a package is absent, or the file and the module
    differ by more than LARGEST; nothing is then written.
    """
    out = options.out or options.folder / NAMES[settings.format]
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; give a file, such as {out / NAMES[settings.format]}")
    if settings.format == "onnx":
        need_packages()
    about = {
        "classes": list(view.classes), "pixels": view.pixels, "mean": list(view.mean), "std": list(view.std),
        "input": INPUT, "output": OUTPUT,
    }  # fmt: skip
    net = net.cpu().eval()
    with _quiet():
        content, run = (as_onnx if settings.format == "onnx" else as_torchscript)(net, view.pixels, about)
        difference = checked(net, run, view.pixels)
    write_bytes(out, content)
    return {
        "file": str(out), "format": settings.format, "bytes": len(content), "max_abs_difference": difference,
        "batch_sizes": list(BATCHES), **{k: v for k, v in about.items() if k != "classes"},
        "classes": len(view.classes),
    }  # fmt: skip


def need_packages() -> None:
    """Raise UserError where a package of the ONNX form is absent."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError(
            f"--format onnx needs {', '.join(absent)}: pip install '.[export]', or use --format torchscript"
        )


def checked(net: nn.Module, run: Run, pixels: int) -> float:
    """The largest difference of a logit between module and file on standard normal images. Raises UserError where it is
    above LARGEST.
    """
    generator, largest = torch.Generator().manual_seed(0), 0.0
    for count in BATCHES:
        images = torch.randn(count, 3, pixels, pixels, generator=generator)
        with torch.no_grad():
            wanted, found = net(images), run(images)
        if wanted.shape != found.shape:
            raise UserError(
                f"the file gives {list(found.shape)} for {count} images, the module {list(wanted.shape)}; nothing was "
                f"written"
            )
        difference = float((wanted - found).abs().max())
        if not difference <= LARGEST:  # NaN too
            raise UserError(
                f"with {count} images the file's logits differ from the module's by {difference:.3g}, more than "
                f"{LARGEST:g}; nothing was written"
            )
        largest = max(largest, difference)
    return largest


def as_torchscript(net: nn.Module, pixels: int, about: dict[str, Any]) -> tuple[bytes, Run]:
    """(a traced module's file, what it computes)."""
    buffer, example = io.BytesIO(), torch.randn(TRACED, 3, pixels, pixels, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        traced = torch.jit.trace(net, example, check_trace=False)  # it is checked below, with other batches
    torch.jit.save(traced, buffer, _extra_files={ABOUT: json.dumps(about)})
    return buffer.getvalue(), torch.jit.load(io.BytesIO(buffer.getvalue()))


def as_onnx(net: nn.Module, pixels: int, about: dict[str, Any]) -> tuple[bytes, Run]:
    """(an ONNX file, what onnxruntime computes with it)."""
    import onnxruntime

    example = torch.randn(TRACED, 3, pixels, pixels, generator=torch.Generator().manual_seed(1))
    program = torch.onnx.export(
        net, (example,), dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    model = program.model_proto  # type: ignore[union-attr]
    for key, value in about.items():
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    content = model.SerializeToString(deterministic=True)
    threads = onnxruntime.SessionOptions()
    threads.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, threads, providers=["CPUExecutionProvider"])
    return content, lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the converters' warnings and progress: what counts is the comparison with the module."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
