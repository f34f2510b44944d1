"""The walk over settings finds what does nothing."""

from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from common.errors import UserError
from common.settings import refuse_idle
from tests.settings_walk import others, walk


@dataclass(frozen=True)
class Train:
    epochs: int = 3
    lr: float = 0.1
    crop: Literal["padded", "random"] = "padded"
    pad: int = 4
    limit: int | None = None
    name: str = "a"
    flip: bool = True
    workers: int = 0
    note: int = field(default=0, metadata={"result": False})


def digest(settings, blind=()):
    if not 1 <= settings.epochs <= 5:
        raise UserError(f"--epochs must be 1 to 5, not {settings.epochs}")
    if settings.crop == "random":
        refuse_idle(settings, {"pad": "--crop padded"})
    settings = replace(settings, **{name: getattr(Train(), name) for name in blind})
    pad = settings.pad if settings.crop == "padded" else 0
    return settings.epochs, settings.lr, settings.crop, pad, settings.limit, settings.name, settings.flip


def test_settings_that_act_or_are_refused_pass():
    walk(digest, Train(), {"name": "b"})
    walk(digest, Train(epochs=5), {"name": ["b", "c"]})  # six is out of range; another value is tried
    walk(digest, Train(crop="random"), {"name": "b"})  # pad is refused, as the next lines show
    with pytest.raises(UserError, match="--pad 5 does nothing"):
        digest(Train(crop="random", pad=5))


@pytest.mark.parametrize("name", ["epochs", "lr", "crop", "pad", "limit", "name", "flip"])
def test_a_silent_setting_is_named(name):
    with pytest.raises(pytest.fail.Exception, match=rf"refused: {name}: .* changes nothing$"):
        walk(lambda settings: digest(settings, [name]), Train(), {"name": "b"})


def test_what_the_walk_cannot_judge_is_said():
    with pytest.raises(pytest.fail.Exception, match="name: no other value is known"):
        walk(digest, Train())
    with pytest.raises(pytest.fail.Exception, match="epochs: 9 is refused otherwise"):
        walk(digest, Train(), {"name": "b", "epochs": 9})
    with pytest.raises(AssertionError, match="no \\['speed'\\]"):
        walk(digest, Train(), skip={"speed": "?"})
    with pytest.raises(AssertionError, match="equal settings differs"):
        walk(lambda settings: object(), Train())
    assert others(0, int) == [1] and others((8, 16), tuple[int, ...])[0] == (16, 32)
