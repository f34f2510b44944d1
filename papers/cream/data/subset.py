"""Sub-ImageNet of the rank-correlation study, by rule: the first 100 classes and 350 pictures each.

The README of the original says 100 random classes with 250 training and 50 validation pictures; its list holds the
*first* folders and file names in sorted order, and no split of the 350 was ever published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.cli.errors import UserError

CLASSES, PER_CLASS = 100, 350


def subset_names(names: Mapping[str, Sequence[str]], classes: int = CLASSES, per_class: int = PER_CLASS) -> list[str]:
    """File names of the subset: first ``classes`` class folders, first ``per_class`` names of each, both sorted.

    names: class folder -> its file names. Raises UserError when there are too few of either.
    """
    chosen = sorted(names)[:classes]
    if len(chosen) < classes:
        raise UserError(f"the subset needs {classes} classes, found {len(chosen)}; lower --subset-classes")
    result = []
    for wnid in chosen:
        if len(names[wnid]) < per_class:
            raise UserError(f"class {wnid} has {len(names[wnid])} pictures, the subset needs {per_class} of each class")
        result += sorted(names[wnid])[:per_class]
    return result


def subset_indices(labels: Sequence[int], classes: int = CLASSES, per_class: int = PER_CLASS) -> list[int]:
    """The same rule on pictures already listed in sorted order: positions of the first of each of the first classes."""
    taken: dict[int, int] = {}
    result = []
    for position, label in enumerate(labels):
        if label < classes and taken.get(int(label), 0) < per_class:
            taken[int(label)] = taken.get(int(label), 0) + 1
            result.append(position)
    if len(taken) < classes or min(taken.values(), default=0) < per_class:
        raise UserError(f"the subset needs {classes} classes with {per_class} pictures each; this set is too small")
    return result
