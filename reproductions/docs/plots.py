"""``python -m reproductions plots``: the learning curves of ``dvc plots show`` as a page that needs no network.

DVC's page loads its drawing libraries from the network. Here they come from the installed package vl-convert-python and
lie beside the page (``dvc_plots/vega.js``), where ``dvc plots show`` finds them from then on.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from common.errors import UserError
from common.run.files import write_text
from reproductions.arguments import OneLineParser
from reproductions.claims import ROOT

BUNDLE = "vega.js"
EXPORTS = "window.vegaEmbed = vegaEmbed; window.vega = vega; window.vegaLite = vegaLite;"


def main(argv: list[str]) -> int:
    parser = OneLineParser(prog="python -m reproductions plots", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dvc_plots", help="folder of the page (default: dvc_plots)")
    parser.add_argument("--quiet", action="store_true", help="say nothing where all goes well")
    parser.add_argument("targets", nargs="*", help="files or plots to show, as of dvc plots show (default: all)")
    args = parser.parse_args(argv)
    bundle(args.out / BUNDLE)
    dvc = shutil.which("dvc", path=str(Path(sys.executable).parent)) or shutil.which("dvc")
    if dvc is None:
        raise UserError("dvc is not installed; make venv sets up everything")
    command = [dvc, "plots", "show", "--out", str(args.out), *args.targets]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    page = args.out / "index.html"
    if found.returncode != 0 or not page.exists():
        last = (found.stderr or found.stdout).strip().splitlines()[-1:]
        raise UserError(f"dvc plots show: {''.join(last) or 'nothing to plot; run the pipeline first: make reproduce'}")
    if not args.quiet:
        print(page)
    return 0


def bundle(path: Path) -> None:
    """Write Vega, Vega-Lite and Vega-Embed as one script, once. Raises UserError where the package is absent."""
    if path.exists():
        return
    if importlib.util.find_spec("vl_convert") is None:
        raise UserError('a page without network needs vl-convert-python: pip install ".[plots]"; else: dvc plots show')
    import vl_convert  # type: ignore[import-not-found,unused-ignore]

    write_text(path, vl_convert.javascript_bundle(EXPORTS))
