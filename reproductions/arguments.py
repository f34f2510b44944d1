"""The argument parser of the verbs: a mistake is one line, like every other mistake."""

from __future__ import annotations

import argparse
from typing import NoReturn

from common.errors import UserError


class OneLineParser(argparse.ArgumentParser):
    """argparse without the usage text before the message. Abbreviated flags are refused, so that scripts stay valid."""

    def __init__(self, *words: object, **options: object) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(*words, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see: {self.prog} --help")
