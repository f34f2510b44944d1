"""Pages in headless Chromium: faults, broken pictures, sideways scrolling, pictures of what is shown."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no headless Chromium installed: looks are not checked")
PROBE = """<script>
addEventListener("error", e => { document.body.dataset.fault = e.message; });
addEventListener("load", () => {
  const broken = [...document.images].filter(i => !i.complete || !i.naturalWidth).length;
  const seen = selector => [...document.querySelectorAll(selector)].filter(t => t.getBoundingClientRect().height > 0);
  const wide = document.documentElement.scrollWidth - innerWidth;
  const size = t => parseFloat(getComputedStyle(t).fontSize);
  const small = seen("p, td, th, figcaption, svg text").filter(t => size(t) < 8).length;
  document.body.dataset.probe = JSON.stringify({broken, images: document.images.length, charts: seen("svg").length,
    tables: seen("table").length, wide, small, background: getComputedStyle(document.body).backgroundColor});
});
</script></body>"""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which a folder is served while the block runs."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def look(page: Path, width: int, folder: Path, *flags: str, url: str = "") -> dict:
    """What the page says of itself at a width of so many pixels; screenshots lie in NAS_SCREENSHOTS where it is set.

    url: where the page's folder is served; empty: read from the disk.
    """
    probed = page.with_name(f"probed-{page.name}")
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", PROBE), encoding="utf-8")
    shots = Path(os.environ.get("NAS_SCREENSHOTS", folder))
    shots.mkdir(parents=True, exist_ok=True)
    command = [
        str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
        "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", f"--window-size={width},1600",
        "--virtual-time-budget=4000", *flags,
    ]  # fmt: skip
    shot = shots / f"{page.stem}-{width}{'-dark' if flags else ''}.png"
    done = subprocess.run(
        [*command, f"--screenshot={shot}", "--dump-dom", f"{url}/{probed.name}" if url else probed.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    assert "data-fault" not in done.stdout
    found = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert found, done.stdout[-500:]
    return json.loads(found[1].replace("&quot;", '"'))
