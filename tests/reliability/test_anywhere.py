"""A part of ``make reliability``: commands of every paper killed and stopped anywhere, started together, odd clocks."""

import pytest

from tests.reliability.proof import cases, kills, stops, together

KILLED = ("evnas-train nb201", "nsas-search nb201 gdas", "nao_v2-random-search", "cream-train", "sgnas-train")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("anywhere")


@pytest.mark.parametrize("name", KILLED)
def test_killed_in_a_save_at_a_step_and_at_any_time(name, root):
    count = kills.killed(cases.named(name), root, 3)
    assert count.survived == count.injected == 3


@pytest.mark.parametrize("name", ["nsas-train ptb", "sgnas-sweep"])
def test_stopped_at_a_step(name, root):
    count = stops.stopped(cases.named(name), root, 1)
    assert count.survived == 1


def test_two_runs_into_one_folder_at_the_same_instant(root):
    assert together.one_folder(root) == ""


def test_two_fetches_of_one_file_at_the_same_instant(root):
    assert together.one_file(root) == ""


def test_a_clock_that_jumps_back_does_no_harm(root):
    """The wall clock goes back a day at every look; saving depends on the steady one."""
    case = cases.named("evnas-train nb201")
    words = cases.words_of(case, root)
    whole = kills.whole(case, words, root)
    out = root / "clock"
    assert kills.ended(case, words, out, {"clock": -86400, "only": "step", "die": 3}, "0")[0] == -9
    status, said = kills.ended(case, words, out, {"clock": 86400 * 400}, "0")
    assert status == 0 and kills.difference(whole.folder, out) == "", said
