"""A setting's help and range stand where it is declared, and hold on the command line and in Python alike."""

import math
from dataclasses import dataclass

import pytest

from common.cli.verbs import Stage, Verb, main
from common.errors import UserError
from common.settings import Settings, fingerprint, range_of, refuse_idle, setting, settings_from


@dataclass(frozen=True)
class Search(Settings):
    """A stage."""

    epochs: int = setting(50, "epochs of the supernet", at_least=1)
    lr: float = setting(0.1, "learning rate at the start", above=0)
    dropout: float = setting(0.0, "probability", at_least=0, below=1)
    rates: tuple[float, ...] = setting((0.5, 1.0), "shares", above=0, at_most=1)
    limit: int | None = setting(None, "steps; none: no limit", at_least=1)
    workers: int = setting(0, "loader processes", at_least=0, result=False)
    clip: bool = setting(False, "cut gradients")
    norm: float = setting(5.0, "total norm of the gradients")

    def check(self, given: frozenset[str] | None = None) -> None:
        refuse_idle(self, {} if self.clip else {"norm": "--clip"}, given)


def made(settings, options):
    return {"metrics": {"epochs": settings.epochs}}


VERBS = {"search": Verb({(): Stage(Search, f"{__name__}:made", "search", "a search", writes=False)}, "a search")}


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"at_least": 1}, "at least 1"),
        ({"at_least": 0}, "0 or more"),
        ({"above": 0}, "above 0"),
        ({"at_least": 0, "at_most": 1}, "between 0 and 1"),
        ({"at_least": 0, "below": 1}, "between 0 and 1, 1 excluded"),
        ({"above": 0, "below": 1}, "between 0 and 1, 0 and 1 excluded"),
        ({"at_most": 3}, "at most 3"),
        ({}, ""),
    ],
)
def test_a_range_in_words(bounds, words):
    assert range_of(bounds) == words


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0), ("lr", 0.0), ("lr", math.nan), ("lr", math.inf), ("dropout", 1.0), ("dropout", -0.1),
        ("rates", (0.5, 0.0)), ("rates", (1.5,)), ("limit", 0), ("workers", -1), ("norm", math.nan),
    ],
)  # fmt: skip
def test_a_value_outside_its_range_is_refused_however_the_settings_are_made(name, value):
    with pytest.raises(UserError, match=f"^--{name} must be "):
        Search(**{name: value})
    with pytest.raises(UserError, match=f"{name}.* must be "):
        settings_from(Search, {name: value})


def test_the_ends_of_a_range():
    Search(epochs=1, dropout=0.0, rates=(1.0,), limit=None, workers=0)


def test_the_command_line_refuses_them_and_shows_help_and_range(capsys):
    with pytest.raises(SystemExit) as left:
        main("toy", VERBS, ["search", "--epochs", "0"])
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: --epochs must be at least 1, not 0\n"
    with pytest.raises(SystemExit):
        main("toy", VERBS, ["search", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "epochs of the supernet (at least 1)" in text


def test_relations_are_checked_on_the_command_line_and_may_be_asked_for_in_python(capsys):
    with pytest.raises(SystemExit):
        main("toy", VERBS, ["search", "--norm", "3"])
    assert "--norm 3.0 does nothing here: it acts with --clip only" in capsys.readouterr().err
    with pytest.raises(UserError, match="--clip"):
        Search(norm=3.0).check()
    Search(norm=3.0).check(given=frozenset())  # a profile's value for another choice of the user's


def test_what_cannot_change_a_result_is_not_in_the_fingerprint():
    assert fingerprint(Search(workers=4)) == fingerprint(Search())
    assert fingerprint(Search(epochs=4)) != fingerprint(Search())
