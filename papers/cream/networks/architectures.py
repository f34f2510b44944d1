"""The published networks as data, their aliases, and the checks on a path. No torch here.

A path lists one choice index per block and stage (stages 0 to 6). Choice -> (kernel, expansion):
0 (3, 4), 1 (3, 6), 2 (5, 4), 3 (5, 6), 4 (7, 4), 5 (7, 6); -1 leaves the block out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.data.names import exists
from common.errors import UserError
from common.spaces.architecture import whole
from common.spaces.pasted import given, plain
from common.words import hint

ChoicePath = list[list[int]]

CHOICES: tuple[tuple[int, int], ...] = ((3, 4), (3, 6), (5, 4), (5, 6), (7, 4), (7, 6))
SKIP = -1
STAGES = 7

PUBLISHED: dict[str, ChoicePath] = {
    "14": [[0], [3], [3, 3], [3, 3], [3], [3], [0]],
    "43": [[0], [3], [3, 1], [3, 1], [3, 3, 3], [3, 3], [0]],
    "114": [[0], [3], [3, 3], [3, 3], [3, 3, 3], [3, 3], [0]],
    "287": [[0], [3], [3, 3], [3, 1, 3], [3, 3, 3, 3], [3, 3, 3], [0]],
    "481": [[0], [3, 4, 3, 1], [3, 2, 3, 0], [3, 3, 3, 1, 1], [3, 3, 3, 3], [3, 3, 3, 3], [0]],
    "604": [
        [0], [3, 3, 2, 3, 3], [3, 2, 3, 2, 3], [3, 2, 3, 2, 3], [3, 3, 2, 2, 3, 3], [3, 3, 2, 3, 3, 3], [0],
    ],
}  # fmt: skip
RESOLUTIONS = {"14": 64, "43": 96, "114": 160, "287": 224, "481": 224, "604": 224}
ALIASES = {"112": "114", "285": "287", "470": "481", "600": "604"}  # names of the paper's text and figures
NEVER_PUBLISHED = ("23", "72")
DEFAULT_INPUT_ARCH = PUBLISHED["287"]  # what NET.INPUT_ARCH holds when the selection is -1


def published_name(name: str) -> str | None:
    """The canonical name of a published network (``285`` -> ``287``), or None when the name is not one.

    Raises UserError for 23 and 72, whose architectures were never released.
    """
    name = _canonical(name)
    if name in NEVER_PUBLISHED:
        raise UserError(
            f"network {name}: only its accuracy was published (as a point in a figure), never its architecture; "
            f"choose one of {', '.join(PUBLISHED)}"
        )
    return name if name in PUBLISHED else None


def _canonical(name: str) -> str:
    name = name.strip().removesuffix("M").removesuffix("m")
    return ALIASES.get(name, name)


def check_path(path: Any, positions: list[int] | None = None, choices: int = len(CHOICES)) -> ChoicePath:
    """The path itself when it is one; ``positions`` bounds the number of blocks of each of the seven stages.

    Raises UserError naming the stage: not seven stages, an unknown choice, a stage without blocks, too many blocks.
    """
    if not isinstance(path, list) or len(path) != STAGES or not all(isinstance(stage, list) for stage in path):
        many = f" of {len(path)}" if isinstance(path, list) else ""
        raise UserError(f"a Cream path is a list of {STAGES} lists (stages 0 to 6){many}; got {str(path)[:80]}")
    for number, stage in enumerate(path):
        allowed = 1 if number in (0, STAGES - 1) else choices
        for place, entry in enumerate(stage):
            if not isinstance(entry, int) or isinstance(entry, bool) or not SKIP <= entry < allowed:
                raise UserError(
                    f"stage {number}: unknown choice {entry!r} at position {place}; use 0 to {allowed - 1}, or "
                    f"{SKIP} to leave a block out"
                )
        if not stage or stage[0] == SKIP:
            raise UserError(f"stage {number} has no first block, which must change the width; give it a choice >= 0")
        if positions is not None and len(stage) > positions[number]:
            raise UserError(
                f"stage {number} has {len(stage)} entries but the supernet has {positions[number]} positions"
            )
    return path


def path_of(value: Any, where: str = "") -> ChoicePath:
    """A path as people write it: lists or tuples, a stage of one block as the bare number (Python reads ``(3)`` so).

    Raises UserError naming stage and position.
    """
    if not isinstance(value, list | tuple):
        raise UserError(f"{where or 'the text'} holds no path: a list of {STAGES} lists is expected, not {value!r:.60}")
    stages = [list(stage) if isinstance(stage, list | tuple) else [stage] for stage in value]
    if len(stages) != STAGES:
        start = f"{where}: " if where else ""
        raise UserError(f"{start}a Cream path is a list of {STAGES} lists (stages 0 to 6); {len(stages)} are given")
    return check_path(stages)


def parse_path(text: str) -> ChoicePath:
    """A path written as ``[[0],[3],[3,3],[3,3],[3],[3],[0]]``, tuples instead of lists too. Raises UserError."""
    try:
        value = plain(text)
    except UserError as error:
        raise UserError(f"--arch {text[:60]!r} is not a path list: {error}") from None
    return path_of(value)


@dataclass(frozen=True)
class Architecture:
    """An architecture and what its source says beside it.

    name: of the published network, the file, or "path". resolution: its input size, or None. extra: the fields of an
    architecture file (larger space, how one-block stages are built). dataset, classes: what it was found on or trained
    for, where the source says so.
    """

    name: str
    path: ChoicePath
    resolution: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    dataset: str = ""
    classes: int = 0


def name_of(arch: str) -> str:
    """The name that ``resolve`` would give, without a look at any file: published, "path", or the file's."""
    if arch.lstrip().startswith(("[", "(")):
        return "path"
    name = _canonical(arch)
    return name if name in PUBLISHED else Path(arch).stem


def resolve(arch: str) -> Architecture:
    """Of a published name, a path list, a file (an architecture file, a path as .json or .txt, weights trained here) or
    the folder of a run. Raises UserError otherwise.
    """
    if not arch:
        raise UserError(f"no architecture given; pass --arch with one of {', '.join(PUBLISHED)}, a path list or a file")
    if arch.lstrip().startswith(("[", "(")):
        return Architecture("path", parse_path(arch))
    there = exists(arch)
    name = published_name(arch) if not there else None
    if name is not None:
        return Architecture(name, PUBLISHED[name], RESOLUTIONS[name])
    if not there:
        raise UserError(
            f"unknown architecture {arch!r}{hint(arch, PUBLISHED)}; choose one of {', '.join(PUBLISHED)}, a path list, "
            f"or an architecture file"
        )
    if Path(arch).suffix == ".safetensors":
        return of_weights(arch)
    found = given(Path(arch), PUBLISHED, "cream")
    if found.space and found.space != "cream":
        raise UserError(f"{found.where} holds an architecture of space {found.space!r}; 'cream' is needed here")
    if found.space:
        return _of_content(Path(found.where).stem, found.value, found.record.get("origin") or found.record)
    value = plain(found.text, found.where) if found.text else found.value
    if isinstance(value, dict) and "path" in value:
        return _of_content(Path(arch).stem, {**value, "path": path_of(value["path"], found.where)}, {})
    return Architecture(Path(arch).stem, path_of(value, found.where))


def of_weights(file: str) -> Architecture:
    """The network that a weights file says it is of. Raises UserError for a file that does not say."""
    from common.weights.read import read_metadata

    about = read_metadata(file)
    if about.get("space") != "cream" or "architecture" not in about:
        raise UserError(
            f"{file} does not say which Cream network it is of (weights trained here do); pass --arch with one of "
            f"{', '.join(PUBLISHED)}, a path list or an architecture file"
        )
    return _of_content(Path(file).stem, about["architecture"], about)


def _of_content(name: str, content: Any, origin: dict[str, Any]) -> Architecture:
    dataset, classes = str(origin.get("dataset", "")), whole(origin.get("classes"), "classes", name)
    if not isinstance(content, dict):
        return Architecture(name, check_path(content), None, {}, dataset, classes)
    choices = len(CHOICES) + 2 * bool(content.get("dil_conv")) + bool(content.get("resunit"))  # the larger spaces
    path = check_path(content.get("path"), choices=choices)
    resolution = whole(content.get("resolution"), "resolution", name) or None
    return Architecture(name, path, resolution, content, dataset, classes)
