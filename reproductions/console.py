"""The installed command: ``nas-replications PAPER VERB …`` and ``nas-replications VERB …``.

The same verbs as ``python -m papers.<paper>`` and ``python -m reproductions``, for those who installed the package.
"""

from __future__ import annotations

import importlib
import sys

from common.cli.verbs import main as run_paper
from common.papers import PAPERS
from common.words import suggestion
from reproductions.__main__ import VERBS
from reproductions.__main__ import main as run_reproductions


def main() -> int:
    """Hand the words over to a paper or to the verbs beside them; the exit status, 2 for a user's mistake."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print("usage: nas-replications PAPER VERB [flags]   or   nas-replications VERB [flags]\n")
        print(f"  papers: {', '.join(PAPERS)} (nas-replications PAPER --help lists a paper's verbs)")
        for verb, (_, about) in VERBS.items():
            print(f"  {verb:<12} {about}")
        return 0 if words else 2
    first = words[0].replace("-", "_")
    if first in PAPERS:
        run_paper(first, importlib.import_module(f"papers.{first}.__main__").VERBS, words[1:])
        return 0
    if words[0] in VERBS:
        return run_reproductions(words)
    print(f"error: unknown paper or verb {words[0]!r}{suggestion(words[0], [*PAPERS, *VERBS])}", file=sys.stderr)
    return 2
