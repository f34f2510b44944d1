"""docs/python.md: its code runs from top to bottom, and what its tables name is there."""

from __future__ import annotations

import importlib
import re

from common.settings import Settings
from tests.plain import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_code_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert names["tested"]["metrics"]["images"] == 1000 and not names["net"].training


def test_functions_and_settings_of_the_table_are_there():
    rows = [row for row in PAGE.splitlines() if row.startswith("| ") and "`papers." in row]
    assert len(rows) == 5
    for row in rows:
        _, _, functions, settings, _ = row.split("|")
        names = re.findall(r"`([\w.]+)`", functions)
        package = ".".join(names[0].split(".")[:2])
        for name in names:
            module, _, function = name.removeprefix(package + ".").rpartition(".")
            assert callable(getattr(importlib.import_module(f"{package}.{module}"), function)), name
        words = re.findall(r"`([\w.]+)`", settings)
        for name in words:
            if name.endswith("settings"):
                place = name if name.startswith("papers") else f"{package}.{name}"
                module = importlib.import_module(place)
            elif "." in name:
                place, _, cls = name.rpartition(".")
                assert issubclass(getattr(importlib.import_module(place), cls), Settings)
            else:
                assert issubclass(getattr(module, name), Settings), name
