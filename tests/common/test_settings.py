"""Settings: precedence, types, suggestions, fingerprints, profiles."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest

from common import settings as module
from common.errors import UserError
from common.outside import load_yaml
from common.settings import fingerprint, profile_section, result_bearing, settings_from, to_dict


@dataclass(frozen=True)
class Settings:
    learning_rate: float = 0.1
    epochs: int = 3
    kind: Literal["a", "b"] = "a"
    limit: int | None = None
    shape: tuple[int, ...] = (1, 2)
    pair: tuple[float, str] = (0.5, "x")
    flag: bool = True
    name: Annotated[str, "positional"] = ""
    place: Path | None = None
    workers: int = 4
    note: str = field(default="", metadata={"result": False})


def test_later_layers_win_and_types_are_converted():
    made = settings_from(
        Settings, {"epochs": 5, "learning_rate": 1}, {"learning-rate": "1e-3", "shape": [3], "limit": 2}
    )
    assert made == Settings(learning_rate=0.001, epochs=5, shape=(3,), limit=2)
    assert settings_from(Settings, {"pair": [1, "y"], "place": "x", "epochs": 4.0}).pair == (1.0, "y")
    assert settings_from(Settings, {"limit": None}) == Settings() == settings_from(Settings, {}, None)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"learning_rat": 1}, "unknown setting 'learning_rat'; did you mean 'learning_rate'?"),
        ({"epochs": 2.5}, "epochs must be int, not 2.5"),
        ({"epochs": True}, "epochs must be int"),
        ({"learning_rate": "fast"}, "learning_rate must be float, not 'fast'"),
        ({"learning_rate": ".nan"}, "learning_rate must be float, not '.nan'"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number, not nan"),
        ({"learning_rate": "-inf"}, "learning_rate must be a finite number, not '-inf'"),
        ({"kind": "c"}, "kind cannot be 'c'; known: a, b"),
        ({"limit": "x"}, "limit must be int"),
        ({"shape": 3}, "shape must be"),
        ({"shape": [1, "b"]}, "shape must be int, not 'b'"),
        ({"pair": [1]}, "pair needs 2 values, not 1"),
        ({"flag": 1}, "flag must be bool, not 1"),
        ({"name": 7}, "name must be str, not 7"),
    ],
)
def test_wrong_settings_are_named(wrong, words):
    with pytest.raises(UserError) as caught:
        settings_from(Settings, wrong)
    assert words in str(caught.value)


def test_fingerprint_follows_what_can_change_a_result():
    same = [Settings(), Settings(workers=8), Settings(note="x")]
    assert len({fingerprint(s) for s in same}) == 1
    others = [Settings(epochs=4), Settings(shape=(2, 1)), Settings(limit=0), Settings(learning_rate=0.1000001)]
    assert len({fingerprint(s) for s in [Settings(), *others]}) == 5
    assert "workers" not in result_bearing(Settings()) and "workers" in to_dict(Settings())
    assert to_dict(Settings(place=Path("a/b")))["place"] == "a/b" and to_dict(Settings())["shape"] == [1, 2]


def test_profiles_and_files(tmp_path, monkeypatch):
    file = tmp_path / "p.yaml"
    file.write_text("evnas:\n  search:\n    epochs: 9\n  train: {}\n")
    monkeypatch.setitem(module.PROFILES, "smoke", file)
    monkeypatch.setitem(module.PROFILES, "paper", tmp_path / "absent.yaml")
    assert profile_section("smoke", "evnas", "search") == {"epochs": 9}
    assert profile_section("smoke", "evnas", "train") == profile_section("smoke", "other", "x") == {}
    assert profile_section("paper", "evnas", "search") == {}
    assert module.file_section(file, "evnas", "search") == {"epochs": 9}
    file.write_text("epochs: 4\n")
    assert module.file_section(file, "evnas", "search") == {"epochs": 4}
    with pytest.raises(UserError, match="did you mean 'smoke'"):
        profile_section("smok", "evnas", "search")


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "!!python/object/apply:os.system ['true']\n"])
def test_unusable_yaml_is_one_line(text, tmp_path):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load_yaml(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value) and "x.yaml" in str(caught.value)


def test_the_committed_profiles_are_mappings_of_mappings():
    for profile, path in module.PROFILES.items():
        if path.exists():
            for paper, sections in load_yaml(path).items():
                for section in sections or {}:
                    assert isinstance(profile_section(profile, paper, section), dict), (profile, paper, section)
