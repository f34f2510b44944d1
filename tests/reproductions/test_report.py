"""The report: self-contained, and looked at in headless Chromium where there is one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reproductions.report import page as report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """<script>
addEventListener("error", e => { document.body.dataset.fault = e.message; });
addEventListener("load", () => {
  const broken = [...document.images].filter(i => !i.complete || !i.naturalWidth).length;
  const tables = [...document.querySelectorAll("table")].filter(t => t.getBoundingClientRect().height > 0).length;
  document.body.dataset.probe = JSON.stringify(
    {broken, images: document.images.length, tables, wide: document.documentElement.scrollWidth > innerWidth});
});
</script></body>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    for seed, error in ((0, 8.0), (1, 9.5)):
        out = folder / "smoke" / "evnas" / f"train-{seed}"
        out.mkdir(parents=True)
        metrics = {"top1_error_percent": error, "parameters": 12345}
        content = {"paper": "evnas", "stage": "train", "profile": "smoke", "seed": seed, "metrics": metrics}
        (out / "result.json").write_text(json.dumps(content))
        (out / "history.csv").write_text("epoch,loss,valid_error_percent\n0,2.1,40.0\n1,1.2,20.0\n2,0.7,9.0\n")
        (out / "env.json").write_text(json.dumps({"processor": "test <processor>", "packages": {"torch": "2.13.0"}}))
    scatter = "score,accuracy\n" + "".join(f"{i},{i * 2 + i % 3}\n" for i in range(12))
    (folder / "smoke" / "evnas" / "train-0" / "rank.csv").write_text(scatter)
    assert report.main(["--results", str(folder)]) == 0
    return folder / "report.html"


def test_self_contained_and_escaped(page):
    text = page.read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "test &lt;processor&gt;" in text
    assert "tau" in text
    assert text.count("<img") >= 3  # curves, rank scatter, seed spread


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no headless Chromium installed: the report's look is not checked")
@pytest.mark.parametrize("width", [1200, 500])
def test_in_chromium(page, tmp_path, width):
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text().replace("</body>", PROBE))
    shots = Path(os.environ.get("NAS_SCREENSHOTS", tmp_path))
    shots.mkdir(parents=True, exist_ok=True)
    flags = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
        "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1600",
        "--virtual-time-budget=3000",
    ]  # fmt: skip
    shot = shots / f"report-{width}.png"
    subprocess.run([*flags, f"--screenshot={shot}", probed.as_uri()], capture_output=True, timeout=120, check=True)
    done = subprocess.run(
        [*flags, "--dump-dom", probed.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert shot.stat().st_size > 10_000
    assert "CONSOLE" not in done.stderr, done.stderr
    assert "data-fault" not in done.stdout
    found = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert found, done.stdout[-500:]
    probe = json.loads(found[1].replace("&quot;", '"'))
    assert probe["broken"] == 0
    assert probe["images"] >= 3
    assert probe["tables"] >= 3
    assert not probe["wide"], "the page scrolls sideways"
