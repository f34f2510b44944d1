"""The report: answers first, self-contained, what every search found; looked at in headless Chromium."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.spaces.architecture import save_architecture
from papers.evnas.networks.architectures import PUBLISHED
from reproductions.claims import ROOT, load_all
from reproductions.report import charts, figures, found, page
from reproductions.results import load
from reproductions.verdicts import NOT_RUN, Verdict
from tests.browser import look, needs_chromium


def write(folder: Path, paper: str, stage: str, metrics: dict, seed: int = 0, history: str = "", **settings) -> Path:
    out = folder / "smoke" / paper / f"{stage}-{seed}"
    out.mkdir(parents=True)
    content = {"paper": paper, "stage": stage, "profile": "smoke", "seed": seed, "metrics": metrics,
               "settings": settings}  # fmt: skip
    (out / "result.json").write_text(json.dumps(content))
    git = {"commit": "0123456789abcdef", "changed": False}
    environment = {"processor": "test <processor>", "packages": {"torch": "2.13.0"}, "git": git}
    (out / "env.json").write_text(json.dumps(environment))
    (out / "timing.json").write_text(json.dumps({"seconds": 600.0}))
    if history:
        (out / "history.csv").write_text(history)
    return out


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    curve = "epoch,loss,test_top1_error_percent\n0,2.1,40.0\n1,1.2,20.0\n2,0.7,9.0\n"
    search = write(folder, "evnas", "search", {"fitness_chosen_percent": 61.5}, dataset="digits", strategy="evolution")
    save_architecture(search / "architecture.json", "darts", PUBLISHED["EvNASA"].as_dict())
    for seed, fitness in ((1, 55.0), (2, 57.0)):
        write(folder, "evnas", "search", {"fitness_chosen_percent": fitness}, seed, dataset="digits", strategy="random")
    for seed, error in ((0, 8.0), (1, 9.5)):
        out = write(folder, "evnas", "train", {"top1_error_percent": error}, seed, curve, dataset="digits")
        (out / "rank.csv").write_text("score,accuracy\n" + "".join(f"{i},{i * 2 + i % 3}\n" for i in range(12)))
    write(folder, "evnas", "search_nb201", {"rank_among_15625": 125, "test_accuracy_percent": 93.1}, dataset="cifar10")
    study = write(folder, "nsas", "experiments", {"runs": 2}, 5)
    (study / "figure.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"/>')
    (study / "paragraph.txt").write_text("2 runs, 1 seed.\nTau: a 0.1 [0.0, 0.2].\nEvery M gave the same supernet.\n")
    for seed in (0, 1):
        metrics = {"chosen_test_accuracy_percent": 90.0 + seed, "tau": 0.1, "forgetting_points": 0.5}
        write(folder, "nsas", "experiments", metrics, seed, "epoch,loss\n1,2.0\n2,1.5\n", constraints=0)
    return folder


@pytest.fixture(scope="module")
def report(results) -> Path:
    """Made with the claims that are decided without building a network: the others take a minute."""
    claims = [c for c in load_all() if c.needs or c.paper == "sgnas"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "load_all", lambda: claims)
        return made(results)


def made(results: Path) -> Path:
    assert page.main(["--results", str(results)]) == 0
    return results / "report.html"


def test_self_contained_and_escaped(report):
    text = report.read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "test &lt;processor&gt;" in text
    assert text.count("<svg viewBox") >= 4  # curves of two papers, random search, rank scatter, seeds
    assert len(re.findall(r"<text ", text)) > 20 and "matplotlib" not in text


def test_answers_come_first(report):
    text = report.read_text()
    order = ["What came back", "architectures and sizes", "The numbers that matter", "<h2 id=\"evnas\"", "Found",
             "Curves", "Beside random search", "Every run"]  # fmt: skip
    places = [text.index(word) for word in order]
    assert places == sorted(places)


def test_every_run_says_what_came_out(report, results):
    """No row of dashes: numbers, run time, day, commit, random search."""
    text = report.read_text()
    tables = re.findall(r"<summary>Every run \(\d+\)</summary>.*?</table>", text, re.S)
    rows = [row for table in tables for row in re.findall(r"<tr>(.*?)</tr>", table, re.S)[1:]]
    assert len(rows) >= len(load(results))
    for row in rows:
        run, _, said, near, time, day, commit = re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)
        assert re.search(r"<b>[\d.,]+", said), run
        assert near and time == "10 min" and re.fullmatch(r"\d{4}-\d\d-\d\d", day) and commit == "<code>0123456</code>"
    assert "Every M gave the same supernet." in text.replace("&#x27;", "'")
    assert text.index("Every M gave") < text.index("All intervals")


def test_a_found_architecture_says_when_and_from_what_it_came(report):
    captions = re.findall(r"<figure class=found>.*?<figcaption>(.*?)<ul>", report.read_text(), re.S)
    assert captions
    for caption in captions:
        assert re.fullmatch(r"<b>.+</b>, seed 0, 10 min, \d{4}-\d\d-\d\d, commit 0123456", caption)


def test_the_page_says_which_numbers_only_lack_data(tmp_path):
    claims = [c for c in load_all("nsas") if c.hardest == "data" and c.compute]
    text = page.page([], [Verdict(c, NOT_RUN) for c in claims], tmp_path)
    assert f"{len(claims)} of the claims not run need only data that are not here" in text
    assert "need only data" not in page.page([], [Verdict(c, NOT_RUN, measured=1.0) for c in claims], tmp_path)


def test_a_search_stands_beside_its_random_search(results):
    everything = load(results)
    searches = [r for r in everything if r.stage == "search"]
    own = [r for r in searches if r.settings["strategy"] == "evolution"]
    beside = found.against(own, "search", everything)
    assert (beside.own, sorted(beside.random)) == ((61.5,), [55.0, 57.0])
    assert found.compared(beside).startswith("61.5 % against 56 ± 1.4 % of random search (2 runs, 95 % interval [")
    assert found.against([r for r in searches if r not in own], "random", everything) is None
    looked_up = next(r for r in everything if r.stage == "search_nb201")
    assert found.chance(looked_up) == "a cell drawn at random is at least as good in 0.8 % of draws"
    assert found.against([looked_up], "nb201", everything) is None  # another set


def test_what_trained_a_random_architecture_is_random(tmp_path):
    write(tmp_path, "sgnas", "evolve", {"mean_error": 80.0}, 1, random=True)
    write(
        tmp_path,
        "sgnas",
        "train",
        {"top1_error_percent": 9.0},
        0,
        arch="results/smoke/sgnas/evolve-1/architecture.json",
    )
    assert all(found.is_random(r, load(tmp_path)) for r in load(tmp_path))


def test_charts_of_one_unit_share_their_axis_and_say_it():
    lines = [charts.Line("a", ((0, 1.0), (1, 3.0))), charts.Line("b", ((0, 9.0), (5, 11.0)))]
    drawn = charts.row([charts.Panel("one", (lines[0],)), charts.Panel("two", (lines[1],))], "loss, nats")
    one, two = re.findall(r"<svg.*?</svg>", drawn, re.S)
    height = [re.findall(r'<text x="36.0"[^>]*>([\d.,]+)</text>', chart) for chart in (one, two)]
    assert height[0] == height[1] and "10" in height[0]
    assert one.count("loss, nats") == 2 and one.count("epoch") == 2  # on the axis, and in the words for the blind
    assert charts.ticks(0, 9, whole=True) == [0, 3, 6, 9] and charts.ticks(0, 1) == [0, 0.25, 0.5, 0.75, 1]


def test_nothing_leaves_a_chart():
    points = tuple((float(x), 100.0 * (x % 7) / 7) for x in range(40))
    chart = charts.row([charts.Panel("t", (charts.Line("a", points),))], "%")
    numbers = [
        float(n) for path in re.findall(r'class="line[^>]* d="([^"]*)"', chart) for n in re.findall(r"[\d.]+", path)
    ]
    assert len(numbers) == 80
    assert all(charts.LEFT <= x <= charts.WIDTH for x in numbers[::2])
    assert all(charts.TOP <= y <= charts.HEIGHT - charts.BOTTOM for y in numbers[1::2])


def test_curves_stand_over_the_authors_where_the_repository_has_theirs(tmp_path):
    """What the report draws beside a run is what the authors' logs say, in our columns."""
    history = "epoch,test_top1_error_percent\n0,50\n1,40\n"
    write(tmp_path, "nsas", "train", {"top1_error_percent": 40.0}, 0, history, dataset="cifar10")
    write(tmp_path, "nsas", "train", {"top1_error_percent": 40.0}, 1, history, dataset="digits")
    ours, other = load(tmp_path)
    line = figures.reference_of(ours, "test_top1_error_percent")
    log = ROOT / "tests" / "golden" / "nsas" / "data" / "logs" / "cifar10_Random_NSAS_C_seed2.json.gz"
    theirs = json.loads(gzip.decompress(log.read_bytes()))["columns"]["valid_top1"]
    assert len(line.points) == len(theirs) == 600
    assert all(abs(100 - top1 - y) < 0.006 for top1, (_, y) in zip(theirs, line.points, strict=True))
    assert figures.reference_of(other, "test_top1_error_percent") is None
    unit, panel = figures.panel("train", [ours])
    assert unit == "top-1 error, %" and panel.x == "share of the run, %" and panel.lines[-1].kind == "reference"


def test_pictures_are_kept(results, tmp_path, monkeypatch):
    """The second report draws nothing; another file is drawn anew."""
    monkeypatch.setattr(figures, "KEPT", tmp_path)
    search = next(r for r in load(results) if r.stage == "search" and r.seed == 0)
    drawn = figures.drawings(search)
    assert len(drawn) == 2 and all(picture.startswith("<img") for picture in drawn)
    monkeypatch.setattr(figures, "_drawn", lambda *_: ["anew"])
    assert figures.drawings(search) == drawn
    save_architecture(search.path.parent / "architecture.json", "darts", PUBLISHED["EvNASB"].as_dict())
    assert figures.drawings(search) == ["anew"]


@needs_chromium
def test_kept_answers_need_no_heavy_library():
    """What was decided and drawn before is shown again without the libraries that decided and drew it."""
    program = """
import sys
from pathlib import Path
from reproductions import kept, listing
from reproductions.claims import load_all
from reproductions.report import figures, page
from reproductions.results import load
from reproductions.verdicts import NOT_RUN, Verdict
from reproductions.verdicts import NOT_RUN, Verdict

def known(claims, results):
    return [Verdict(claim, NOT_RUN) for claim in claims]

kept.verdicts = listing.decided = known
figures.kept = lambda word, content, make: [0.5, 0.4, 0.6] if word == "tau" else []
results = load()
assert results and "Beside random search" in page.page(results, known(load_all(), []), Path("results"))
listing.main([])
print(*[n for n in ("torch", "scipy.stats", "tyro", "matplotlib", "pandas") if n in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "\n"), done.stderr


@pytest.mark.browser
@pytest.mark.parametrize(("width", "flags"), [(1200, ()), (400, ()), (1200, ("--force-dark-mode",))])
def test_in_chromium(report, tmp_path, width, flags):
    seen = look(report, width, tmp_path, *flags)
    assert seen["broken"] == 0 and seen["small"] == 0
    assert seen["images"] >= 2 and seen["charts"] >= 4 and seen["tables"] >= 1
    assert seen["wide"] <= 0, "the page scrolls sideways"
    assert seen["background"] == ("rgb(22, 27, 33)" if flags else "rgb(255, 255, 255)")
