"""``python -m reproductions VERB``: claims, check, seeds, compare, report, readme, docs, bench, data, checkpoints."""

from __future__ import annotations

import importlib
import sys

from common.cli.signals import INTERRUPTED, STOPPED, begins, heard
from common.errors import Stopped, UserError, of_disk
from common.words import hint

VERBS = {
    "claims": ("reproductions.listing", "every published number with its verdict"),
    "check": ("reproductions.check", "smoke results against reproductions/expected/smoke.json"),
    "seeds": ("reproductions.compare.seeds", "a pipeline's runs for several seeds, without DVC"),
    "compare": (
        "reproductions.compare.commands",
        "seed spread, intervals, equivalence, paired comparisons, ranks",
    ),
    "report": ("reproductions.report.page", "results/report.html, one self-contained page"),
    "readme": ("reproductions.docs.readme", "the generated tables of the README files"),
    "docs": ("reproductions.docs.site", "the documentation as a static site"),
    "plots": ("reproductions.docs.plots", "learning curves of the pipelines, a page that needs no network"),
    "bench": ("reproductions.speed.bench", "results/benchmarks from what `make bench` measured"),
    "picture": ("reproductions.docs.picture", "docs/picture.svg: a found cell beside its learning curve"),
    "data": ("reproductions.data.commands", "fetch, prepare, verify and list data sets"),
    "checkpoints": ("reproductions.checkpoints.commands", "fetch, verify and evaluate the authors' checkpoints"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one verb; a user's mistake ends with one line on stderr and status 2."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print("usage: python -m reproductions VERB …\n")
        for verb, (_, about) in VERBS.items():
            print(f"  {verb:<12} {about}")
        return 0 if words else 2
    if words[0] not in VERBS:
        print(f"error: unknown verb {words[0]!r}{hint(words[0], VERBS)}; there are {', '.join(VERBS)}", file=sys.stderr)
        return 2
    try:
        with heard(starting=True):
            verb = importlib.import_module(VERBS[words[0]][0]).main
            begins()
            return int(verb(words[1:]) or 0)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Stopped) as error:
        stopped = isinstance(error, Stopped)
        print(f"error: {'stopped by SIGTERM' if stopped else 'interrupted'}", file=sys.stderr)
        return STOPPED if stopped else INTERRUPTED
    except BrokenPipeError:
        return 0
    except OSError as error:
        print(f"error: {of_disk(error)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
