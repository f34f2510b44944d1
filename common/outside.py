"""What comes from outside, checked before it is used: YAML text, and numbers in the environment."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from common.errors import UserError

YAML_BYTES, YAML_DEPTH, YAML_VALUES = 2**22, 20, 100_000  # of a settings file, at most


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping. Raises UserError when it is absent, not YAML, no mapping, or repeats a key anywhere."""
    import yaml

    class Once(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Of two equal keys YAML's loader keeps the last without a word."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.value != "<<"]
            for position, key in enumerate(keys):
                if key in keys[:position]:
                    line = node.value[position][0].start_mark.line + 1
                    raise UserError(f"{path} repeats {key!r} (line {line}); keep one of the two")
            return super().construct_mapping(node, deep)

    try:
        if path.stat().st_size > YAML_BYTES:
            raise UserError(
                f"{path} has {path.stat().st_size} bytes, too many for settings; give a YAML file of settings"
            )
        text = path.read_text(encoding="utf-8")
        check_nesting(text, path)
        content = yaml.load(text, Once)
    except FileNotFoundError:
        raise UserError(f"no settings file {path}; give an existing YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())[:300]}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a mapping of settings, not a {type(content).__name__}")
    return content


def check_nesting(text: str, path: Path) -> None:
    """Raises UserError for YAML nested deeper than settings are, or whose aliases say much more than it holds: loading
    the one overflows the stack, showing the other fills the memory.
    """
    import yaml

    depth, open_anchors, sizes, counts = 0, [""], {"": 0}, [0]
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in open_anchors:
                raise UserError(f"{path} is no settings file: *{event.anchor} stands inside itself")
            counts[-1] += sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            open_anchors.append(event.anchor or "")
            counts.append(1)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            size, anchor = counts.pop(), open_anchors.pop()
            sizes[anchor] = size
            counts[-1] += size
        elif isinstance(event, yaml.ScalarEvent):
            counts[-1] += 1
        if depth > YAML_DEPTH or counts[-1] > YAML_VALUES:
            what = f"nested more than {YAML_DEPTH} deep" if depth > YAML_DEPTH else f"more than {YAML_VALUES} values"
            raise UserError(f"{path} is no settings file: {what}")


def of_environment(name: str, usual: int, least: int = 0) -> int:
    """A whole number from the environment, ``usual`` where it is not set. Raises UserError for anything else."""
    text = os.environ.get(name, "").strip()
    if not text:
        return usual
    if not (text.isascii() and text.isdecimal()) or int(text) < least:
        raise UserError(
            f"{name}={text!r} in the environment is no whole number from {least}; unset it, or set it right"
        )
    return int(text)


def seconds_of_environment(name: str, usual: float) -> float:
    """A number of seconds from the environment, ``usual`` where it is not set. Raises UserError for anything else."""
    text = os.environ.get(name, "").strip()
    try:
        seconds = float(text) if text else usual
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(f"{name}={text!r} in the environment is no number of seconds; unset it, or set it right")
    return seconds
