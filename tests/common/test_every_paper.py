"""Every verb of every paper: flags, profiles, variants and targets hold together."""

import dataclasses
import importlib
import re
import shlex
from pathlib import Path

import pytest

from common.cli.verbs import main, parse
from common.errors import UserError
from common.outside import load_yaml
from common.papers import PAPERS
from common.settings import PROFILES


def verbs_of(paper):
    return importlib.import_module(f"papers.{paper}.__main__").VERBS


def stages(paper):
    """(words that choose it, stage) of every stage."""
    for name, verb in verbs_of(paper).items():
        for key, stage in verb.stages.items():
            selectors = zip(verb.selectors, key)
            yield [name, *(word for flag, v in selectors for word in (f"--{flag.replace('_', '-')}", v))], stage


@pytest.mark.parametrize("paper", PAPERS)
def test_every_profile_and_variant_gives_settings(paper):
    for words, stage in stages(paper):
        for profile in PROFILES:
            for variant in ("authors", *stage.variants):
                found, settings, options = parse(
                    paper, verbs_of(paper), [*words, "--profile", profile, "--variant", variant]
                )
                assert found is stage and isinstance(settings, stage.settings) and options.section == stage.section


@pytest.mark.parametrize("paper", PAPERS)
def test_bf16_is_refused_where_it_would_be_ignored(paper):
    taken = set()
    for words, stage in stages(paper):
        words = [*words, "--precision", "bf16"]
        if stage.bf16:
            taken.add(words[0])
            assert parse(paper, verbs_of(paper), words)[2].precision == "bf16"
        else:
            with pytest.raises(UserError, match="--precision bf16: this command computes in fp32 only"):
                parse(paper, verbs_of(paper), words)
    assert {"train", "evaluate"} <= taken


@pytest.mark.parametrize("paper", PAPERS)
def test_every_target_exists(paper):
    for _, stage in stages(paper):
        module, _, function = stage.run.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), stage.run


@pytest.mark.parametrize("paper", PAPERS)
def test_profiles_name_stages_that_exist(paper):
    known = {stage.section for _, stage in stages(paper)}
    for profile, path in PROFILES.items():
        sections = set((load_yaml(path).get(paper) or {}) if path.exists() else {})
        assert sections <= known, f"{profile}: {sorted(sections - known)}"


@pytest.mark.parametrize("paper", PAPERS)
def test_help_of_every_verb(paper, capsys):
    verbs = verbs_of(paper)
    for words, stage in stages(paper):
        with pytest.raises(SystemExit) as leaving:
            main(paper, verbs, [*words, "--help"])
        assert not leaving.value.code
        shown = capsys.readouterr().out
        flags = re.findall(r"^  (--[\w-]+|[A-Z]+)", shown, re.MULTILINE)
        common = {"--profile", "--variant", "--out", "--seed", "--data", "--plan"}
        own = [flag for flag in flags if flag not in common and flag[2:] not in verbs[words[0]].selectors]
        names = {f.name for f in dataclasses.fields(stage.settings)}
        known = {f"--{name.replace('_', '-')}" for name in names} | {name.upper() for name in names}  # ARCH, IMAGES, …
        assert len(own) <= 5 and set(own) <= known and stage.about.split()[0] in shown, words
    for name in verbs:
        with pytest.raises(SystemExit) as leaving:
            main(paper, verbs, [name, "--help-all"])
        assert not leaving.value.code
        assert "--seed INT" in capsys.readouterr().out


@pytest.mark.parametrize("paper", PAPERS)
def test_a_picture_cannot_go_into_a_file(paper, tmp_path, capsys):
    (tmp_path / "taken").touch()
    verbs = verbs_of(paper)
    for name in {"draw", "figures"} & set(verbs):
        with pytest.raises(SystemExit) as left:
            main(paper, verbs, [name, "--out", str(tmp_path / "taken")])
        error = capsys.readouterr().err
        assert left.value.code == 2 and "taken as a folder" in error and error.count("\n") == 1


@pytest.mark.parametrize("paper", PAPERS)
def test_common_flags_that_do_nothing_are_refused(paper):
    """Whatever computes from the code alone has no chance, device, data or state to choose."""
    flags = {"seed": ["--seed", "7"], "device": ["--device", "cuda"], "data": ["--data", "x"],
             "allow_unpinned": ["--allow-unpinned"], "resume": ["--no-resume"]}  # fmt: skip
    for words, stage in stages(paper):
        if words[0] in ("describe", "draw", "figures"):
            assert set(stage.ignores) == set(flags) and stage.writes is (words[0] != "describe")
        for flag in stage.ignores:
            with pytest.raises(UserError, match=f"{flags[flag][0]} does nothing here"):
                parse(paper, verbs_of(paper), [*words, *flags[flag]])


def documented(paper):
    """The commands of a paper's README, with and without what stands in brackets; not those with placeholders."""
    text = (Path(__file__).resolve().parents[2] / "papers" / paper / "README.md").read_text(encoding="utf-8")
    for found in re.finditer(rf"python -m papers\.{paper} ([^`\n#;]+)", text):
        for command in {re.sub(r"\[[^]]*\]", "", found[1]), re.sub(r"[\[\]]", "", found[1])}:
            if not re.search(r"[|…<>\\$&]|(?<![\w/.-])(?!ND\b)[A-Z]+(?![\w.-])", command):
                yield shlex.split(command)


@pytest.mark.parametrize("paper", PAPERS)
def test_documented_commands_do_not_meet_in_one_folder(paper):
    """Any two of them can be run one after the other: the default folder tells them apart."""
    folders = {}
    for words in documented(paper):
        stage, settings, options = parse(paper, verbs_of(paper), words)
        if stage.writes and not options.plan:
            run = (settings, options.profile, options.variant, options.precision)
            assert folders.setdefault(options.folder, run) == run, (options.folder, words)
    assert folders
