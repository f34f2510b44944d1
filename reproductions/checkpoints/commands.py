"""``python -m reproductions checkpoints list|fetch|verify|evaluate``: the authors' published weights.

Files stand under the data root as ``checkpoints/ID``. A file whose hash is not known beforehand is recorded in
``checkpoints/recorded.json`` when it first arrives, and must be the same ever after.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from common.data.digests import cached_hash, hash_file
from common.data.pins import ROOT, data_root
from common.errors import UserError
from common.run.files import write_json
from common.weights import published
from common.words import hint
from reproductions.arguments import OneLineParser
from reproductions.checkpoints.pins import Checkpoint, addresses, browser_hint, load_checkpoints
from reproductions.data.download import download
from reproductions.results import RESULTS

FOLDER = "checkpoints"
RECORD = "recorded.json"


def location(checkpoint: Checkpoint, root: Path) -> Path:
    """Where a checkpoint stands under a data root."""
    return root / FOLDER / checkpoint.id


def choose(ids: list[str], paper: str = "") -> list[Checkpoint]:
    """The checkpoints with the given ids (``all`` or none: every one), optionally of one paper."""
    known = load_checkpoints()
    unknown = [name for name in ids if name not in known and name != "all"]
    if unknown:
        like = [name for name in known if unknown[0].split("-")[0] in name][:6] or list(known)[:6]
        raise UserError(
            f"unknown checkpoint {unknown[0]!r}{hint(unknown[0], known)}; for example {', '.join(like)}; see: "
            f"checkpoints list"
        )
    names = list(known) if not ids or "all" in ids else ids
    return [known[name] for name in names if not paper or known[name].paper == paper]


# --- fetching and verifying ----------------------------------------------------------------------------------------


def _recorded(root: Path) -> dict[str, str]:
    path = root / FOLDER / RECORD
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): str(value) for key, value in content.items()}
    except (ValueError, AttributeError):
        raise UserError(f"{path} is damaged; restore it, or remove it to record the files' hashes anew") from None


def _record(root: Path, name: str, digest: str) -> None:
    write_json(root / FOLDER / RECORD, {**_recorded(root), name: digest})


def _wanted(checkpoint: Checkpoint, root: Path) -> dict[str, str]:
    """The hashes that must hold: the pinned ones, and the one recorded at the first download."""
    recorded = _recorded(root).get(checkpoint.id)
    return {**checkpoint.digests, **({"sha256": recorded} if recorded and "sha256" not in checkpoint.digests else {})}


def verify(checkpoint: Checkpoint, root: Path) -> dict[str, Any]:
    """What is known of the file in place: id, bytes, sha256, pinned. Raises UserError when absent or not the file."""
    path = location(checkpoint, root)
    elsewhere = f" --data {root}" if root != data_root() else ""
    get = f"python -m reproductions checkpoints fetch {checkpoint.id}{elsewhere}"
    if not path.is_file():
        raise UserError(f"{path} is missing; get it with: {get}")
    wanted = _wanted(checkpoint, root)
    for name, expected in wanted.items():
        found = cached_hash(path, name.removesuffix("_prefix"), root)
        if (found[: len(expected)] if name.endswith("_prefix") else found) != expected:
            raise UserError(
                f"{path} is not the published file: {name.removesuffix('_prefix')} is {found}, expected {expected}; "
                f"remove it and get it with: {get}"
            )
    if not wanted:
        raise UserError(f"{path} has no recorded hash yet; record it with: {get}")
    published.record(path, checkpoint.facts)
    return {
        "checkpoint": checkpoint.id,
        "bytes": path.stat().st_size,
        "sha256": cached_hash(path, "sha256", root),
        "pinned": checkpoint.pinned,
    }


def fetch(checkpoint: Checkpoint, root: Path, given: Path | None = None, **options: Any) -> str:
    """Bring a checkpoint into place (from ``given`` instead of the net, when set); returns where it came from."""
    path = location(checkpoint, root)
    wanted = _wanted(checkpoint, root)
    if given is not None:
        _adopt(checkpoint, given, path, wanted)
        origin = str(given)
    elif path.is_file():
        if wanted:
            verify(checkpoint, root)
            return "already there"
        origin = "the file already in place"
    else:
        origin = _from_sources(checkpoint, path, wanted, options)
    if "sha256" not in wanted:
        _record(root, checkpoint.id, cached_hash(path, "sha256", root))
    verify(checkpoint, root)
    return origin


def _from_sources(checkpoint: Checkpoint, path: Path, wanted: dict[str, str], options: dict[str, Any]) -> str:
    reasons = []
    for source in checkpoint.sources:
        digests = wanted or {key: source[key] for key in ("git_blob",) if key in source}
        try:
            return download(addresses(source), path, digests=digests, size=checkpoint.bytes, **options)
        except UserError as error:
            if "cannot download" not in str(error):
                raise
            reasons.append(str(error).removeprefix(f"cannot download {path.name}: "))
    raise UserError(f"cannot download {checkpoint.id}: {'; '.join(reasons)}; {browser_hint(checkpoint)}")


def _adopt(checkpoint: Checkpoint, given: Path, path: Path, wanted: dict[str, str]) -> None:
    """Copy a file that the user downloaded, after checking it."""
    if not given.is_file():
        raise UserError(f"{given} is no file; give the downloaded checkpoint")
    with given.open("rb") as handle:
        start = handle.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise UserError(f"{given} is an HTML page, not a checkpoint; {browser_hint(checkpoint)}")
    for name, expected in wanted.items():
        found = hash_file(given, name.removesuffix("_prefix"))
        if (found[: len(expected)] if name.endswith("_prefix") else found) != expected:
            raise UserError(f"{given} is not {checkpoint.id}: {name} is {found}, expected {expected}")
    if not wanted:
        _check_whole(checkpoint, given)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        shutil.copyfile(given, part)
        part.replace(path)
    except OSError as error:
        raise UserError(f"cannot copy {given} to {path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _check_whole(checkpoint: Checkpoint, given: Path) -> None:
    """What can be said of a file whose hash nobody knows: its size, and that a test could read it to its end."""
    from common.weights.read import check_zip, load_tensors

    if checkpoint.bytes is not None and given.stat().st_size != checkpoint.bytes:
        raise UserError(f"{given} is not {checkpoint.id}: {given.stat().st_size} bytes, expected {checkpoint.bytes}")
    if checkpoint.evaluate is not None:
        load_tensors(given)
    else:
        check_zip(given)


# --- evaluating ----------------------------------------------------------------------------------------------------


def evaluate_command(checkpoint: Checkpoint, path: Path, out: Path, more: list[str]) -> list[str]:
    """The paper's evaluate verb for a checkpoint, on the set that it is of; ``more`` may name a folder instead.

    Raises UserError where there is nothing to evaluate.
    """
    if checkpoint.evaluate is None:
        reason = checkpoint.note or "it is no trained network of this suite's spaces"
        raise UserError(f"{checkpoint.id} cannot be evaluated: {reason}")
    which = "--text" if checkpoint.dataset in published.TEXTS else "--dataset"
    return [
        sys.executable, "-m", f"papers.{checkpoint.paper}", "evaluate", "--profile", "paper",
        "--arch", checkpoint.architecture, "--checkpoint", str(path), "--out", str(out), which, checkpoint.dataset,
        *checkpoint.evaluate, *more,
    ]  # fmt: skip


def run_verb(command: list[str]) -> int:
    """The command's status; what it says goes to the terminal."""
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def compare(checkpoint: Checkpoint, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Each expected metric with its measured value and whether it lies within the margin (None: not measured)."""
    rows = []
    for name, expected in checkpoint.expected.items():
        measured = metrics.get(name)
        within = None if measured is None else abs(measured - expected) <= checkpoint.margin + 1e-9
        rows.append({"metric": name, "expected": expected, "measured": measured, "within": within})
    return rows


def evaluate(checkpoint: Checkpoint, root: Path, more: list[str], results: Path | None = None) -> list[dict[str, Any]]:
    """Verify the file, run the paper's test with it, and write the outcome beside the result.

    The result goes to ``results/paper/<paper>/evaluate-<id>/result.json``, the comparison with the published values to
    ``checkpoint.json`` in the same folder. Raises UserError when the file or the run fails.
    """
    facts = verify(checkpoint, root)
    out = (results or RESULTS) / "paper" / checkpoint.paper / f"evaluate-{checkpoint.id}"
    command = evaluate_command(checkpoint, location(checkpoint, root).resolve(), out, ["--data", str(root), *more])
    status = run_verb(command)
    if status:
        raise UserError(f"the evaluation of {checkpoint.id} failed with status {status}; its message stands above")
    try:
        metrics = json.loads((out / "result.json").read_text(encoding="utf-8"))["metrics"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{out / 'result.json'} holds no metrics: {error}") from None
    rows = compare(checkpoint, metrics)
    write_json(out / "checkpoint.json", {**facts, "margin": checkpoint.margin, "comparison": rows})
    return rows


# --- the command line ----------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m reproductions checkpoints", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, about in (
        ("list", "what is published, and whether it is here"),
        ("fetch", "download and verify"),
        ("verify", "check the files in place"),
        ("evaluate", "run the paper's test with a checkpoint; further flags of the verb after --"),
    ):
        sub = verbs.add_parser(verb, help=about, description=about)
        sub.add_argument("ids", nargs="*", metavar="ID", help="checkpoint ids; see list")
        sub.add_argument("--data", type=Path, help="data root (default: NAS_DATA or data)")
        if verb == "list":
            sub.add_argument("--json", action="store_true")
        if verb in ("list", "fetch", "verify"):
            sub.add_argument("--paper", default="", help="only those of one paper")
        if verb == "fetch":
            sub.add_argument("--from", dest="given", type=Path, metavar="FILE", help="a file downloaded in a browser")
        if verb == "verify":
            sub.add_argument("--manifest", type=Path, help="write what was verified to this JSON file")
    return parser


def main(argv: list[str]) -> int:
    """Run the command; the number of failures decides the status (0 or 1)."""
    more: list[str] = []
    if "--" in argv:
        cut = argv.index("--")
        argv, more = argv[:cut], argv[cut + 1 :]
    arguments = _parser().parse_args(argv)
    root = data_root(arguments)
    if arguments.verb != "list" and not arguments.ids and not getattr(arguments, "paper", ""):
        raise UserError(f"name the checkpoints to {arguments.verb} (or all); see: reproductions checkpoints list")
    chosen = choose(arguments.ids, getattr(arguments, "paper", ""))
    if arguments.verb == "list":
        return _list(chosen, root, arguments.json)
    if arguments.verb == "evaluate":
        return _evaluate_all(chosen, root, more)
    if getattr(arguments, "given", None) and len(chosen) != 1:
        raise UserError("--from takes exactly one checkpoint id")
    facts, failures = [], []
    for checkpoint in chosen:
        try:
            if arguments.verb == "fetch":
                print(f"{checkpoint.id}: {fetch(checkpoint, root, arguments.given)}")
            facts.append(verify(checkpoint, root))
            if arguments.verb == "verify":
                kind = "pinned" if checkpoint.pinned else "as recorded at the first download"
                print(f"{checkpoint.id}: verified ({kind})")
        except UserError as error:
            if len(chosen) == 1:
                raise
            failures.append(checkpoint.id)
            print(f"error: {error}", file=sys.stderr)
    if getattr(arguments, "manifest", None) and not failures:
        write_json(arguments.manifest, {"checkpoints": facts})
    return 1 if failures else 0


def _evaluate_all(chosen: list[Checkpoint], root: Path, more: list[str]) -> int:
    failed = 0
    for checkpoint in chosen:
        try:
            rows = evaluate(checkpoint, root, more)
        except UserError as error:
            if len(chosen) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)
            failed += 1  # the others go on
            continue
        for row in rows:
            verdict = {None: "not measured", True: "reproduced", False: "not reproduced"}[row["within"]]
            print(f"{checkpoint.id}: {row['metric']} {row['measured']}, published {row['expected']}: {verdict}")
    return 1 if failed else 0


def _list(chosen: list[Checkpoint], root: Path, as_json: bool) -> int:
    rows: list[dict[str, Any]] = []
    for checkpoint in chosen:
        try:
            verify(checkpoint, root)
            state = "here"
        except UserError as error:
            state = "missing" if "is missing" in str(error) else "not verified"
        source = checkpoint.sources[0]
        rows.append({
            "id": checkpoint.id, "paper": checkpoint.paper, "architecture": checkpoint.architecture,
            "dataset": checkpoint.dataset, "expected": checkpoint.expected, "pinned": checkpoint.pinned,
            "source": "Google Drive" if "gdrive" in source else source.get("github") or source["url"],
            "state": state,
        })  # fmt: skip
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    width = max(len(row["id"]) for row in rows) if rows else 0
    for row in rows:
        expected = ", ".join(f"{name} {value}" for name, value in row["expected"].items()) or "-"
        print(f"{row['id']:<{width}}  {row['state']:<12}  {row['source'][:40]:<40}  {expected}")
    return 0
