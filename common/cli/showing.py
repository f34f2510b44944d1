"""What a command prints: results with numbers as people read them."""

from __future__ import annotations

import json
from typing import Any

from common.settings import plain

DIGITS = 6  # significant digits of a number shown; JSON has them all


def values(result: Any) -> Any:
    """What a stage returned, as JSON holds it: without ``table``, the lines that a person reads instead."""
    return {k: v for k, v in result.items() if k != "table"} if isinstance(result, dict) else result


def show(result: Any, options: Any) -> None:
    """Print what a stage returned: JSON, or its table, or its numbers line by line."""
    if options.json:
        print(json.dumps(plain(values(result)), indent=1, sort_keys=True))
        return
    if isinstance(result, dict) and "table" in result:
        print("\n".join([*result["table"], *(["made from unpinned data"] if result.get("unpinned_data") else [])]))
        return
    if not isinstance(result, dict):
        if result is not None:
            print(number(result) if isinstance(result, float) else result)
        return
    shown = result.get("metrics", result)
    for key, value in shown.items():
        text = value if isinstance(value, int | str) else json.dumps(rounded(plain(value)))
        print(f"{key}: {text}")
    if result.get("unpinned_data"):
        print("made from unpinned data")
    if "metrics" in result:
        print(f"result: {options.folder / 'result.json'}")


def rounded(value: Any) -> Any:
    """The value with every number in it rounded for reading."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else value


def number(value: float) -> float:
    """Rounded to DIGITS significant digits, whole parts kept: 4.400000000000004 -> 4.4, 12345678.9 -> 12345679.0."""
    return round(value) + 0.0 if abs(value) >= 10**DIGITS else float(f"{value:.{DIGITS}g}")
