"""A setting acts or is refused by name: walks every setting of a stage and changes it.

    from tests.settings_walk import walk
    def digest(settings): ...      # something cheap that depends on all that the run would compute
    walk(digest, TrainSettings(epochs=2), {"arch": "EvNASB", "dataset": "cifar100"})

A paper's test gives ``digest``: settings -> a value that two equal computations share (hashes of the first batches, of
initial weights, the learning rates of all steps, the numbers of epochs and steps, what is evaluated and when). The
cheaper the better: it runs once for every setting. Where one digest cannot see all, walk twice with ``skip``.
"""

import dataclasses
import re
import typing

import pytest

from common.errors import UserError
from common.settings import NOT_RESULT_BEARING, field_types


def others(value, kind):
    """Other legal values of a setting, likely ones first, by its type and present value; [] where only a text would do.

    A switch is flipped, a choice replaced by each other one, a number halved, doubled, stepped.
    """
    if isinstance(value, bool):
        return [not value]
    if typing.get_origin(kind) is typing.Literal:
        return [choice for choice in typing.get_args(kind) if choice != value]
    members = [m for m in typing.get_args(kind) if m is not type(None)]
    if value is None:
        return [2, 1, 0] if int in members else [0.5, 2.0] if float in members else []
    if isinstance(value, int):
        return [v for v in (value + 1, value * 2, value // 2, value - 1) if v != value and v >= 0]
    if isinstance(value, float):
        return [0.5, 0.1, 1.0] if value == 0 else [value / 2, value * 2, 0.0]
    if isinstance(value, tuple) and value and all(isinstance(v, int | float) for v in value):
        return [tuple(v * 2 for v in value), (*value[:-1], value[-1] + 1), value[:-1]]
    return []


def walk(digest, settings, given=None, skip=None):
    """Assert that every setting of ``settings`` acts or is refused by name.

    digest: settings -> comparable value; may raise UserError. given: setting -> another value (or a list of them) where
    none follows from the type, above all for texts. skip: setting -> the reason for leaving it out. Settings that bear
    no result are left out. One failure names every silent setting.
    """
    given, skip = dict(given or {}), dict(skip or {})
    kinds = field_types(type(settings))
    free = {f.name for f in dataclasses.fields(settings) if f.metadata.get("result") is False} | NOT_RESULT_BEARING
    unknown = (set(given) | set(skip)) - set(kinds)
    assert not unknown, f"{type(settings).__name__} has no {sorted(unknown)}"
    base, faults = digest(settings), []
    assert digest(settings) == base, "the digest of equal settings differs: it cannot tell a change"
    for name, kind in kinds.items():
        if name in skip or name in free:
            continue
        values = given.get(name, others(getattr(settings, name), kind))
        verdict = _verdict(digest, settings, base, name, values if isinstance(values, list) else [values])
        if verdict:
            faults.append(f"{name}: {verdict}")
    if faults:
        pytest.fail(f"settings of {type(settings).__name__} that neither act nor are refused: " + "; ".join(faults))


def _verdict(digest, settings, base, name, values):
    """ "" where a value acts or is refused as doing nothing; else what happened."""
    flag, seen = re.compile(rf"--{name.replace('_', '-')}(?![\w-])"), []
    for value in values:
        try:
            if digest(dataclasses.replace(settings, **{name: value})) != base:
                return ""
            seen.append(f"{value!r} changes nothing")
        except UserError as error:
            text = str(error)
            if flag.search(text) and not re.search(rf"{flag.pattern} must be", text):
                return ""
            seen.append(f"{value!r} is refused otherwise ({text[:100]})")  # out of range, say: no sign of acting
    return "; ".join(seen) or "no other value is known; give one"
