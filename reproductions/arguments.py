"""The argument parser of the verbs: a mistake is one line, like every other mistake."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from common.errors import UserError
from common.words import hint


class OneLineParser(argparse.ArgumentParser):
    """argparse without the usage text before the message. Abbreviated flags are refused, so that scripts stay valid."""

    def __init__(self, *words: object, **options: object) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(*words, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        near = ""
        if choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            near = hint(choice[1], re.findall(r"[^\s',]+", choice[2]))
        elif flag := re.search(r"unrecognized arguments: (--[\w-]+)", message):
            near = hint(flag[1], self._option_string_actions)
        raise UserError(f"{message}{near}; see: {self.prog} --help")
