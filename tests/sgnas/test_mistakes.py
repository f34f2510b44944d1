"""Mistakes of a user end in one line that says what to do, before anything is written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from common.errors import UserError
from common.run.files import write_json
from papers.sgnas.method.trained_generator import load_generator
from papers.sgnas.networks.architectures import MACROS
from papers.sgnas.networks.supernet import Supernet, save_supernet
from papers.sgnas.search import search, search_generator
from tests.sgnas.small import DATA, FLAGS, PHASE_2, SMALL, command, mistake, options


def test_user_errors(whole, tmp_path):
    folder, _ = whole
    with pytest.raises(UserError, match="prior pool was made for"):
        drawn = {"prior_pool": str(folder / "prior_pool.json"), "prior_tolerance": 1.0}
        search(replace(SMALL, **drawn, high_mflops=5.5), options(tmp_path / "a"))
    with pytest.raises(UserError, match="lie outside this space"):
        search(replace(SMALL, low_mflops=270.0, high_mflops=450.0, targets=(300.0,)), options(tmp_path / "b"))
    with pytest.raises(UserError, match="needs a trained supernet"):
        search_generator(SMALL, options(tmp_path / "c"))
    with pytest.raises(UserError, match="is a supernet of the tiny structure"):
        other = replace(
            SMALL,
            macro="cifar",
            low_mflops=80.0,
            high_mflops=120.0,
            targets=(100.0,),
            supernet=str(folder),
            prior_tolerance=1.0,
        )
        search_generator(other, options(tmp_path / "d"))
    with pytest.raises(UserError, match="not below"):
        search(replace(SMALL, low_mflops=5.0, high_mflops=2.5), options(tmp_path / "e"))
    with pytest.raises(UserError, match=r"latency table|no file"):
        search(replace(SMALL, latency_table=str(folder / "result.json")), options(tmp_path / "f"))


def test_target_outside_the_range(searched, tmp_path, capsys):
    line = mistake(capsys, "search", *FLAGS, "--targets", 3, 7, "--out", tmp_path / "s")
    assert "target 7 is outside the range 2.5 to 5" in line and "saturates" in line
    assert "--target-mflops must be above 0" in mistake(
        capsys, "generate", "--generator", searched, "--target-mflops", -1, "--out", tmp_path / "g"
    )
    command("generate", "--generator", searched, "--target-mflops", 9, "--out", tmp_path / "g9")
    text = capsys.readouterr().err
    given = json.loads((tmp_path / "g9" / "architecture-9.json").read_text())["origin"]["lookup_cost"]
    assert "outside the trained range 2.5 to 5 MFLOPs" in text and f"it gives {given:.1f} MFLOPs" in text


def test_pools_and_generators_that_do_not_belong(searched, tmp_path, capsys):
    pool = searched / "prior_pool.json"
    flags = [*FLAGS, "--prior-pool", pool]
    assert "--prior-tolerance 0.2 does nothing here" in mistake(capsys, "search", *flags, "--out", tmp_path / "a")
    at = flags.index("--prior-tolerance")
    flags = flags[:at] + flags[at + 2 :]
    line = mistake(capsys, "search", *flags, "--high-mflops", 5.5, "--out", tmp_path / "a")
    assert "prior pool was made for 2.5 to 5, the settings say 2.5 to 5.5" in line
    content = json.loads(pool.read_text())
    write_json(tmp_path / "p.json", {**content, "table": "0123456789abcdef"})
    line = mistake(capsys, "search", *flags, "--prior-pool", tmp_path / "p.json", "--out", tmp_path / "b")
    assert "made for another look-up table" in line
    write_json(tmp_path / "generator.json", {"space": "darts"})
    assert "is not a generator of space" in mistake(
        capsys, "generate", "--generator", tmp_path, "--out", tmp_path / "c"
    )
    about = json.loads((searched / "generator.json").read_text())
    (tmp_path / "other").mkdir()
    write_json(tmp_path / "other" / "generator.json", {**about, "macro": "cifar"})
    (tmp_path / "other" / "generator.safetensors").write_bytes((searched / "generator.safetensors").read_bytes())
    line = mistake(capsys, "generate", "--generator", tmp_path / "other", "--out", tmp_path / "d")
    assert "the prior pool has 5 layers, this space 19" in line


def test_supernets_and_times_that_do_not_belong(searched, tmp_path, capsys):
    save_supernet(tmp_path, Supernet(MACROS["tiny"], 7), "digits")
    about = json.loads((tmp_path / "supernet.json").read_text())
    trained_on = json.loads((searched / "supernet.json").read_text())["provenance"]
    write_json(tmp_path / "supernet.json", {**about, "provenance": trained_on})
    line = mistake(capsys, "search-generator", *DATA, *PHASE_2, "--supernet", tmp_path, "--out", tmp_path / "a")
    assert "is a supernet of the tiny structure at 32 pixels, 7 classes" in line
    line = mistake(capsys, "cost", "--search", searched, "--out", tmp_path / "b")
    assert "no run of search-generator" in line
    command("search-generator", *DATA, *PHASE_2, "--supernet", searched, "--out", tmp_path / "alone")
    command("cost", "--search", tmp_path / "alone", "--repeats", 1, "--macro", "tiny", "--out", tmp_path / "c")
    rows = json.loads((tmp_path / "c" / "cost.json").read_text())["rows"]
    seconds = json.loads((tmp_path / "alone" / "timing.json").read_text())["seconds"]
    assert rows[0]["generator_seconds"] == pytest.approx(seconds, abs=1.0) and (tmp_path / "c" / "cost.png").exists()
    small = ["--dataset", "digits", "--targets", 3, 4, "--population", 2, "--generations", 0, "--search-images", 32]
    command("evolve", *small, "--supernet", searched, "--tolerance", 0.3, "--out", tmp_path / "evolved")
    command("cost", "--evolved", tmp_path / "evolved", "--repeats", 1, "--macro", "tiny", "--out", tmp_path / "d")
    rows = json.loads((tmp_path / "d" / "cost.json").read_text())["rows"]
    seconds = json.loads((tmp_path / "evolved" / "timing.json").read_text())["seconds"]
    assert [row["evolution_seconds"] for row in rows] == pytest.approx([seconds / 2 * n for n in (1, 3, 10)])
    line = mistake(capsys, "cost", "--evolved", tmp_path / "alone", "--out", tmp_path / "e")
    assert "no run of evolve" in line


def test_verbs_for_one_process_refuse_torchrun(tree, tmp_path, capsys, monkeypatch):
    from common.run import distributed

    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "setup", lambda: None)
    out = ("--out", tmp_path / "out")
    for verb, *arguments in (["convert-lmdb", tree / "tree", tmp_path / "out"], ["cost", *out], ["latency", *out]):
        assert f"{verb} runs in one process" in mistake(capsys, verb, *arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("verb", "flag", "value", "message"),
    [
        ("search", "--paths", 0, "--paths must be at least 1"),
        ("search", "--target-step", 0, "--target-step must be above 0"),
        ("search", "--validation-step", "nan", "--validation-step must be a finite number, not nan"),
        ("search", "--generator-epochs", 0, "no generator epoch is wanted"),
        ("search-supernet", "--supernet-epochs", 0, "no supernet epoch is wanted"),
        ("search", "--tau", 0, "--tau must be above 0"),
        ("search", "--targets-per-step", 0, "--targets-per-step must be at least 1"),
        ("evolve", "--parents", 0, "--parents must be at least 1"),
        ("evolve", "--targets", None, "no targets"),
        ("sweep", "--step-mflops", 0, "--step-mflops must be above 0"),
        ("train", "--epochs", 0, "--epochs must be at least 1"),
        ("train", "--dropout", 1, "--dropout must be between 0 and 1"),
    ],
)
def test_settings_out_of_range(searched, tmp_path, capsys, verb, flag, value, message):
    own = {"evolve": ["--supernet", searched], "sweep": ["--generator", searched]}.get(verb, [])
    values = [] if value is None else [value]
    assert message in mistake(capsys, verb, *own, flag, *values, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_generator_of_another_space(tmp_path):
    (tmp_path / "generator.json").write_text(json.dumps({"space": "darts"}))
    with pytest.raises(UserError, match="is not a generator of space"):
        load_generator(str(tmp_path))
    with pytest.raises(UserError, match="no generator"):
        load_generator(str(tmp_path / "absent"))
