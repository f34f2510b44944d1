"""Names and channel order of the authors' files, translated from and to ours, for derived networks and supernets.

Both keep in one tensor what the authors hold apart: a derived network the sub-blocks of one kernel size, a supernet the
sub-blocks of one kernel size and the six normalisations behind a projection. Gradients and buffers translate likewise.
"""

from __future__ import annotations

import torch

from common.errors import UserError
from papers.sgnas.networks.architectures import KERNEL_SIZES, STEM_CHANNELS, SUB_BLOCKS
from papers.sgnas.networks.derived import Network
from papers.sgnas.networks.supernet import Supernet

Tensors = dict[str, torch.Tensor]

# -- derived network --------------------------------------------------------------------------------------------------


def _orders(network: Network) -> list[tuple[str, list[int], torch.Tensor]]:
    """(prefix, kernels in sub-block order, hidden channels of the authors' order at each of our positions)."""
    orders = []
    for number, (channels, row) in enumerate(zip(network.macro.in_channels, network.kernels)):
        blocks = sorted(range(len(row)), key=row.__getitem__)  # stable: equal kernels keep their order
        index = torch.cat([torch.arange(channels) + i * channels for i in blocks])
        orders.append((f"stages.{number}.", row, index))
    orders.append(("first_mb.", [3], torch.arange(STEM_CHANNELS)))
    return orders


# Which axis of which tensor runs over a block's hidden channels.
_ROWS = ("point_wise.conv.", "point_wise.bn.", "depthwise.bn.", "se.excite_conv.")
_COLUMNS = ("se.squeeze_conv.weight", "point_wise_1.conv.weight")


def _permute(name: str, tensor: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    if name.startswith(_COLUMNS):
        return tensor[:, index]
    return tensor[index] if name.startswith(_ROWS) and tensor.dim() else tensor


def _outer(name: str, ours: bool) -> str:
    """Names outside the blocks that differ: the last stage and the classifier are sequences in the authors' code."""
    pairs = (
        ("last_stage.0.", "last_stage.conv."),
        ("last_stage.1.", "last_stage.bn."),
        ("classifier.1.", "classifier."),
    )
    for theirs, mine in pairs:
        old, new = (theirs, mine) if ours else (mine, theirs)
        if name.startswith(old):
            return new + name[len(old) :]
    return name


def from_published(tensors: Tensors, network: Network) -> Tensors:
    """Tensors (weights, gradients …) under the authors' names and order -> ours. Unknown names are passed through, and
    so is all that has our names and order already (the state of a training).
    """
    if any(".depthwise.convs.k" in name for name in tensors):
        return dict(tensors)
    result = {}
    done = set()
    for prefix, row, index in _orders(network):
        for k in sorted(set(row)):
            names = [f"{prefix}depthwise.blocks.{i}.weight" for i, kernel in enumerate(row) if kernel == k]
            # kernels of another size stay under their names, for the strict loading to refuse
            if all(name in tensors and tensors[name].shape[-1] == k for name in names):
                result[f"{prefix}depthwise.convs.k{k}.weight"] = torch.cat([tensors[name] for name in names])
                done.update(names)
        for name in [name for name in tensors if name.startswith(prefix) and name not in done]:
            local, width = name.removeprefix(prefix), tensors[name]
            fits = width.dim() == 0 or len(index) in width.shape[:2]
            result[name] = _permute(local, width, index) if fits else width
            done.add(name)
    result.update({_outer(name, True): tensor for name, tensor in tensors.items() if name not in done})
    return result


def to_published(tensors: Tensors, network: Network) -> Tensors:
    """Inverse of ``from_published``."""
    result = {}
    done = set()
    for prefix, row, index in _orders(network):
        inverse = torch.argsort(index)
        for k in sorted(set(row)):
            name = f"{prefix}depthwise.convs.k{k}.weight"
            if name in tensors:
                blocks = [i for i, kernel in enumerate(row) if kernel == k]
                for i, part in zip(blocks, tensors[name].chunk(len(blocks))):
                    result[f"{prefix}depthwise.blocks.{i}.weight"] = part
                done.add(name)
        for name in [name for name in tensors if name.startswith(prefix) and name not in done]:
            result[name] = _permute(name.removeprefix(prefix), tensors[name], inverse)
            done.add(name)
    result.update({_outer(name, False): tensor for name, tensor in tensors.items() if name not in done})
    return result


class Published(torch.nn.Module):
    """A view of a derived network whose state dict has the authors' names and channel order."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def state_dict(self, *args: object, **kwargs: object) -> Tensors:  # type: ignore[override]
        """The network's tensors under the authors' names, each a copy of its own."""
        tensors = to_published(self.network.state_dict(), self.network)
        return {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}


# -- supernet ---------------------------------------------------------------------------------------------------------

_BN = ("weight", "bias", "running_mean", "running_var")


def _places(supernet: Supernet) -> dict[str, tuple[str, tuple[slice | int, ...]]]:
    """The authors' name -> our name and the part of our tensor, for everything inside the searched layers. Raises
    UserError for a supernet with one normalisation per block, which the authors' code has not.
    """
    if not supernet.switchable_bn:
        raise UserError("the authors' code knows no supernet with one normalisation for all expansion rates")
    places: dict[str, tuple[str, tuple[slice | int, ...]]] = {}
    for number, stage in enumerate(supernet.stages):
        s = f"stages.{number}."
        places[s + "point_wise.conv.weight"] = (s + "expand", ())
        places[s + "point_wise_1.conv.weight"] = (s + "project", ())
        for part in _BN:
            places[f"{s}point_wise.bn.{part}"] = (f"{s}expand_bn.{part}", ())
            for n in range(SUB_BLOCKS):
                places[f"{s}sbn.{n}.{part}"] = (f"{s}switchable_bn.{part}", (n,))
        for i in range(SUB_BLOCKS):
            rows = (slice(i * stage.channels, (i + 1) * stage.channels),)
            for j in range(len(KERNEL_SIZES)):
                theirs = f"{s}depthwise.blocks.{i}.blocks.{j}."
                places[theirs + "conv.weight"] = (f"{s}depthwise.{j}", rows)
                for part in _BN:
                    places[f"{theirs}bn.{part}"] = (f"{s}depthwise_bn.{j}.{part}", rows)
    return places


_OUTER = (
    ("first_mb.depthwise.blocks.0.weight", "first_mb.depthwise.convs.k3.weight"),
    ("last_stage.0.", "last_stage.conv."),
    ("last_stage.1.", "last_stage.bn."),
)


def supernet_from_published(tensors: Tensors, supernet: Supernet) -> Tensors:
    """The authors' supernet state dict -> ours. Dead skip convolutions and counters of merged norms are dropped."""
    places = _places(supernet)
    result = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    for name, tensor in tensors.items():
        if name in places:
            mine, part = places[name]
            result[mine][part] = tensor
        elif not name.startswith("stages."):
            for theirs, mine in _OUTER:
                if name.startswith(theirs):
                    name = mine + name[len(theirs) :]
            result[name] = tensor
    return result


def supernet_to_published(tensors: Tensors, supernet: Supernet) -> Tensors:
    """Our tensors (weights, gradients …) under the authors' names, without skip convolutions and merged counters."""
    result = {name: tensors[mine][part] for name, (mine, part) in _places(supernet).items() if mine in tensors}
    for name, tensor in tensors.items():
        if not name.startswith("stages."):
            for theirs, mine in _OUTER:
                if name.startswith(mine):
                    name = theirs + name[len(mine) :]
            result[name] = tensor
    return result
