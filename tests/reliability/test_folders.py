"""One folder, one run, one writer."""

import json
from dataclasses import dataclass

import pytest

from common.cli.verbs import RunOptions
from common.errors import UserError
from common.run import files as records
from common.run import outputs
from common.run.folder import open_run
from common.run.identity import tidy
from common.train.losses import check_finite


@dataclass(frozen=True)
class Settings:
    lr: float = 0.1
    workers: int = 0


def options(folder, **more):
    return RunOptions(**{"out": folder, "paper": "tiny", "section": "search", "device": "cpu", **more})


def refused(*arguments, match=".", **identity):
    with pytest.raises(UserError, match=match) as caught, open_run(*arguments, **identity):
        pass
    return str(caught.value)


def test_a_second_writer_is_refused(tmp_path):
    with open_run(options(tmp_path), Settings()):
        refused(options(tmp_path), Settings(), match="in use by process")
    with open_run(options(tmp_path), Settings()):
        pass  # the lock is gone with its holder


def test_a_second_process_is_refused(tiny, one_line, tmp_path):
    first = tiny.start(tmp_path, "--pause", 0.2)
    while not (tmp_path / "env.json").exists():
        assert first.poll() is None
    try:
        message = one_line(tiny(tmp_path, "--pause", 0.2))
        assert f"in use by process {first.pid}" in message
    finally:
        first.kill()
        first.communicate()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"settings": Settings(lr=0.2)}, "lr = 0.1, now it is 0.2"),
        ({"options": {"seed": 3}}, "seed = 0, now it is 3"),
        ({"options": {"variant": "paper"}}, "variant = 'authors', now it is 'paper'"),
        ({"options": {"precision": "bf16"}}, "precision = 'fp32', now it is 'bf16'"),
        ({"data": {"digits": "sha256:2"}}, "data.digits = 'sha256:1', now it is 'sha256:2'"),
        ({"options": {"section": "train"}}, "stage = 'search', now it is 'train'"),
    ],
)
def test_a_changed_setting_is_refused_by_name(changed, words, tmp_path):
    with open_run(options(tmp_path), Settings(), data={"digits": "sha256:1"}) as run:
        run.write_state({"value": 1})
    now = options(tmp_path, **changed.get("options", {}))
    message = refused(now, changed.get("settings", Settings()), data=changed.get("data", {"digits": "sha256:1"}))
    assert words in message and "--no-resume" in message
    with open_run(options(tmp_path), Settings(), data={"digits": "sha256:1"}) as run:
        assert run.read_state() == {"value": 1}  # nothing was lost by the refusal


def test_a_mistake_found_before_any_work_leaves_the_folder_usable(tmp_path):
    with pytest.raises(UserError, match="other weights"), open_run(options(tmp_path), Settings()) as run:
        assert run.read_state() is None
        raise UserError("other weights")
    for rate in (0.2, 0.3):  # neither the first command nor a second wrong one binds the folder
        with open_run(options(tmp_path), Settings(lr=rate)) as run:
            assert run.read_state() is None and run.result is None
            assert json.loads((tmp_path / "settings.json").read_text())["settings"]["lr"] == rate
        (tmp_path / "log.txt").write_text("what the shell wrote")
    with open_run(options(tmp_path), Settings(lr=0.3)) as run:
        records.write_json(tmp_path / "prior_pool.json", {})  # what a run may have written before its first state
    refused(options(tmp_path), Settings(lr=0.4), match="lr = 0.3, now it is 0.4")


def test_a_setting_that_bears_no_result_may_change(tmp_path):
    with open_run(options(tmp_path), Settings()) as run:
        run.write_state({"value": 1})
    with open_run(options(tmp_path), Settings(workers=4)) as run:
        assert run.read_state() == {"value": 1}


def test_states_without_settings_are_not_adopted(tmp_path):
    with open_run(options(tmp_path), Settings()) as run:
        run.write_state({"value": 1})
    (tmp_path / "settings.json").unlink()
    with pytest.raises(UserError, match="no settings\\.json"), open_run(options(tmp_path), Settings()):
        pass


def test_results_say_where_they_come_from(tmp_path):
    with open_run(options(tmp_path, seed=4), Settings(), data={"a": "sha256:1"}, pinned=False) as run:
        run.log(epoch=1, loss=0.1)
        result = run.finish({"metrics": {"x": 1.5}})
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert result["seed"] == 4 and result["settings"] == {"lr": 0.1, "workers": 0} and len(result["fingerprint"]) == 64
    assert result["unpinned_data"] is True and result["data"] == {"a": "sha256:1"}
    assert not any("second" in key or "time" in key for key in result)
    assert {"packages", "python", "git"} <= set(json.loads((tmp_path / "env.json").read_text()))
    timing = json.loads((tmp_path / "timing.json").read_text())
    assert timing["seconds"] >= 0 and timing["cpu_seconds"] >= 0


def test_image_sets_bring_their_pins(tmp_path):
    @dataclass
    class Set:
        pins: dict
        pinned: bool

    with open_run(options(tmp_path), Settings(), data=[Set({"a": "1"}, True), Set({"b": "2"}, False)]) as run:
        result = run.finish({"metrics": {}})
    assert result["data"] == {"a": "1", "b": "2"} and result["unpinned_data"] is True


def test_a_non_finite_metric_is_no_result(tmp_path):
    with open_run(options(tmp_path), Settings()) as run, pytest.raises(UserError, match="diverged"):
        run.finish({"metrics": {"loss": float("nan")}})
    assert not (tmp_path / "result.json").exists()


def test_non_finite_loss_stops_before_the_update(here, one_line, tmp_path):
    message = one_line(here(tmp_path, "--nan-at", 12))
    assert "loss is nan" in message and "step 2" in message and "architecture" in message
    states = sorted((tmp_path / "state").glob("*.pt"))
    before = [s.read_bytes() for s in states]
    assert len(states) == 2
    one_line(here(tmp_path, "--nan-at", 12))
    assert [s.read_bytes() for s in sorted((tmp_path / "state").glob("*.pt"))] == before
    with pytest.raises(UserError, match="inf at this step"):
        check_finite(float("inf"))


def test_out_of_memory_names_batch_size_and_setting(here, one_line, tmp_path):
    message = one_line(here(tmp_path, "--memory"))
    assert "batch_size 8" in message and "lower --batch-size" in message


def test_an_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    refused(options(tmp_path / "file" / "run"), Settings(), match="choose another --out")


def test_plain_digests_are_unpinned_unless_it_is_said(tmp_path):
    plain = {"x": "sha256:12"}
    for name, pins, said, unpinned in (("a", plain, True, False), ("b", plain, None, True), ("c", {}, None, False)):
        with open_run(options(tmp_path / name), Settings(), data=pins, pinned=said) as run:
            assert run.finish({"metrics": {}}).get("unpinned_data", False) is unpinned


def test_the_content_of_files_that_settings_name_belongs_to_the_run(tmp_path):
    @dataclass(frozen=True)
    class Train:
        arch: str = ""

    file = tmp_path / "architecture.json"
    file.write_text("1")
    with open_run(options(tmp_path / "run"), Train(str(file))) as run:
        run.write_state({})
    file.write_text("2")
    assert "files.arch = " in refused(options(tmp_path / "run"), Train(str(file)))


def test_starting_over_keeps_the_lock_and_foreign_files(tmp_path):
    with open_run(options(tmp_path), Settings()) as run:
        run.log(epoch=1)
        run.finish({"metrics": {}})
    (tmp_path / "notes.txt").write_text("mine")
    with open_run(options(tmp_path, resume=False), Settings(lr=0.3)) as run:
        assert run.read_state() is None and run.result is None
        refused(options(tmp_path), Settings(lr=0.3), match="in use by process")
        assert not (tmp_path / "result.json").exists() and not (tmp_path / "history.csv").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_of_other_tables_is_refused(tmp_path):
    (tmp_path / "sales.csv").write_text("a\n")
    for resume in (True, False):
        refused(options(tmp_path, resume=resume), Settings(), match="choose another --out")
    assert (tmp_path / "sales.csv").exists()


def finished(folder, **more):
    with open_run(options(folder, **more), Settings()) as run:
        run.log(epoch=1)
        records.write_text(folder / "weights.safetensors", "w")
        return run.finish({"metrics": {"x": 1}})


def test_a_run_knows_its_own_files(tmp_path):
    (tmp_path / "log.txt").write_text("mine")  # a shell's redirection was there first
    finished(tmp_path)
    (tmp_path / "later.log").write_text("mine")
    (tmp_path / "table.csv").write_text("mine")
    assert json.loads((tmp_path / "finished.json").read_text())["files"] == [
        "history.csv", "result.json", "weights.safetensors"
    ]  # fmt: skip
    (tmp_path / "log.txt").unlink()
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file() and p.name != ".lock"}
    with open_run(options(tmp_path), Settings()) as run:
        assert run.result["metrics"] == {"x": 1}
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file() and p.name != ".lock"} == before


def test_a_finished_run_without_its_weights_is_still_finished(tmp_path, capsys):
    finished(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    with open_run(options(tmp_path), Settings()) as run:
        assert run.result["metrics"] == {"x": 1}
    assert "already, without weights.safetensors; --no-resume repeats it" in capsys.readouterr().err
    assert (tmp_path / "history.csv").exists()


def test_a_result_that_was_taken_away_is_made_again_and_nothing_else_goes(tmp_path):
    """DVC removes the outputs of a stage before it runs it again, with other settings too."""
    finished(tmp_path)
    (tmp_path / "mine.json").write_text("{}")
    (tmp_path / "result.json").unlink()
    with open_run(options(tmp_path), Settings(lr=0.7)) as run:
        assert run.result is None and run.read_state() is None
        assert (tmp_path / "weights.safetensors").exists() and not (tmp_path / "finished.json").exists()
        run.log(epoch=1)
        run.finish({"metrics": {}})
    assert json.loads((tmp_path / "finished.json").read_text())["files"] == ["history.csv", "result.json"]
    assert (tmp_path / "mine.json").exists() and len((tmp_path / "history.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "name", ["result.json", "architecture.json", "settings.json", "plot.png", "arch_pool.1", "w.pt"]
)
@pytest.mark.parametrize("resume", [True, False])
def test_a_foreign_folder_is_refused_before_anything_is_written(name, resume, tmp_path):
    (tmp_path / name).write_text('{"mine": 1}')
    if name == "w.pt":  # no run writes such a file
        with open_run(options(tmp_path, resume=resume), Settings()):
            pass
    else:
        assert name in refused(options(tmp_path, resume=resume), Settings(), match="choose another --out")
        assert not (tmp_path / "env.json").exists()
    assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_files_of_others_are_neither_overwritten_nor_deleted(tmp_path):
    finished(tmp_path)
    (tmp_path / "cell.svg").write_text("mine")
    with open_run(options(tmp_path, resume=False), Settings(lr=0.3)) as run:
        left = {p.name for p in tmp_path.iterdir()}
        assert left == {".lock", ".written.json", "cell.svg", "settings.json", "env.json"}
        for write in (records.write_text, records.write_bytes, lambda p, _: records.append_csv(p, {"a": 1})):
            with pytest.raises(UserError, match=r"cell\.svg is no file of this suite"):
                write(run.folder / "cell.svg", "x")
    assert (tmp_path / "cell.svg").read_text() == "mine"


def test_verbs_without_a_run_overwrite_their_own_files_only(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "_folders", {})
    (tmp_path / "reduce.dot").write_text("mine")
    for text in ("one", "two"):  # a cheap verb is called again with other arguments
        outputs.leave(tmp_path)
        records.make_folder(tmp_path)
        records.write_text(tmp_path / "normal.dot", text)
        with pytest.raises(UserError, match="choose another --out"):
            records.write_text(tmp_path / "reduce.dot", text)
    assert (tmp_path / "normal.dot").read_text() == "two" and (tmp_path / "reduce.dot").read_text() == "mine"


def test_runs_from_before_there_was_a_record_are_recognised(tmp_path):
    finished(tmp_path)
    (tmp_path / ".written.json").unlink()
    (tmp_path / "log.txt").write_text("mine")
    mark = json.loads((tmp_path / "finished.json").read_text())
    (tmp_path / "finished.json").write_text(json.dumps({"files": [*mark["files"], "log.txt"]}))
    with open_run(options(tmp_path), Settings()) as run:
        assert run.result is not None
    with open_run(options(tmp_path, resume=False), Settings()) as run:
        assert not (tmp_path / "weights.safetensors").exists() and (tmp_path / "log.txt").exists()


def test_a_cheap_command_is_called_again_with_other_arguments(tmp_path):
    finished(tmp_path, cheap=True)
    (tmp_path / "mine.json").write_text("{}")
    refused(options(tmp_path), Settings(lr=0.3), match="lr = 0.1, now it is 0.3")  # a long one is not given up
    refused(options(tmp_path, section="train", cheap=True), Settings(lr=0.3), match="lr = 0.1")
    with open_run(options(tmp_path, cheap=True), Settings()) as run:
        assert run.result is not None
    with open_run(options(tmp_path, cheap=True), Settings(lr=0.3)) as run:
        assert run.result is None
        run.finish({"metrics": {"x": 2}})
    with open_run(options(tmp_path, cheap=True), Settings(lr=0.3)) as run:
        assert run.result["metrics"] == {"x": 2}
    assert (tmp_path / "mine.json").read_text() == "{}"


def test_two_spellings_of_a_path_are_one_file(tmp_path, monkeypatch):
    @dataclass(frozen=True)
    class Train:
        arch: str = ""

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "architecture.json").write_text("1")
    with open_run(options(tmp_path / "run"), Train("a/architecture.json")) as run:
        run.write_state({"value": 1})
    with open_run(options(tmp_path / "run"), Train("./a//architecture.json")) as again:
        assert again.read_state() == {"value": 1} and again.fingerprint == run.fingerprint


@pytest.mark.parametrize("spelling", ["./set@32", "{here}/set@32", "{here}/other/../set@32", "set/../set@32"])
def test_two_spellings_of_a_set_with_a_size_are_one_set(spelling, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir(), (tmp_path / "other").mkdir(), (tmp_path / "other@32").mkdir()
    there = {name: tidy({"dataset": name})["dataset"] for name in ("set@32", "./other@32", "gone/x@32", "s/x@y", "/@3")}
    assert there == {
        "set@32": "set@32", "./other@32": "other@32", "gone/x@32": "gone/x@32", "s/x@y": "s/x@y", "/@3": "/@3",
    }  # fmt: skip
    assert tidy({"dataset": spelling.format(here=tmp_path)}) == {"dataset": "set@32"}


def test_a_run_that_settings_name_belongs_to_the_run(tmp_path):
    @dataclass(frozen=True)
    class Select:
        search: str = ""

    finished(tmp_path / "search")
    with open_run(options(tmp_path / "run"), Select(str(tmp_path / "search"))) as run:
        run.write_state({})
    (tmp_path / "search" / "result.json").write_text("{}")
    assert "files.search = " in refused(options(tmp_path / "run"), Select(str(tmp_path / "search")))
