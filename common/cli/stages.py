"""What a paper can run: its verbs, their stages, the flags that every verb has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from common.cli.naming import default_folder
from common.run.device import check_name
from common.settings import setting

PRECISIONS = Literal["fp32", "bf16"]
COMPUTES = ("seed", "device", "data", "allow_unpinned", "resume")
NO_RUN = ("seed", "data", "allow_unpinned", "resume")
IGNORED_BECAUSE = {
    "seed": "this command draws nothing by a seed of its own",
    "device": "this command computes on the CPU",
    "data": "this command reads no data set",
    "allow_unpinned": "this command reads no data set",
    "resume": "this command keeps no state",
}


@dataclass(frozen=True)
class CommonFlags:
    """Flags of every verb; none of them is part of a method."""

    out: Path | None = setting(
        None, "folder that the run writes to; default results/<profile>/<paper>/<stage>[-<choices>]-seed<seed>"
    )
    seed: int = setting(0, "seed of everything random, 0 to 4294967295")
    device: str = setting(
        "auto", "where to compute: auto (a CUDA GPU where there is one), cpu, cuda, cuda:N or mps (the GPU of a Mac)"
    )
    precision: PRECISIONS = setting(
        "fp32", "bf16 is faster on GPUs and leaves golden tolerance; not every command has it"
    )
    compile: bool = setting(
        False,
        "compile networks first (on GPUs; takes minutes, needs triton): their kernels round otherwise; not every "
        "command has it, and --plan tells the time without it",
    )
    data: Path | None = setting(None, "folder of the data sets; default $NAS_DATA, else data/")
    allow_unpinned: bool = setting(False, "also read data that do not match their pins; results are marked")
    plan: bool = setting(False, "rehearse the run: every setting, the steps, time and memory; keep nothing")
    resume: bool = setting(
        True, "go on from the last saved state; --no-resume deletes what the folder holds and starts over"
    )
    json: bool = setting(False, "print the result as JSON on standard output")

    def __post_init__(self) -> None:
        check_name(self.device)


@dataclass(frozen=True)
class FileFlags(CommonFlags):
    """Flags of a verb that writes one file."""

    out: Path | None = setting(None, "file to write; one that this suite did not write is not overwritten")


@dataclass(frozen=True)
class RunOptions(CommonFlags):
    """The common flags, and which stage of which paper they are for.

    given: names of the settings that flags or a ``--settings`` file set; None where no command line was read. choices:
    words for what differs from the profile's and variant's run, for the default folder's name. sources: setting ->
    where its value is from (published, variant, profile, file, flag). cheap: see Stage.
    """

    profile: str = "smoke"
    variant: str = "authors"
    paper: str = ""
    section: str = ""
    given: frozenset[str] | None = field(default=None, compare=False)
    choices: tuple[str, ...] = field(default=(), compare=False)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    cheap: bool = field(default=False, compare=False)

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        if self.out is not None:
            return self.out
        return default_folder(self.profile, self.paper, self.section, self.variant, self.choices, self.seed)


@dataclass(frozen=True)
class Stage:
    """One thing a paper can run.

    settings: frozen dataclass; run: "module:function", imported when needed, called with (settings, options);
    section: key in the params files; variants: name -> overrides ("authors", the defaults, is always there); bf16:
    whether ``--precision bf16`` changes what it computes, compiles: whether ``--compile`` does (elsewhere the flag is
    refused, not ignored); ignores: names of common flags that do nothing here and are refused (COMPUTES for what counts
    or draws from the code alone); writes: whether it writes files by itself (elsewhere ``--out DIR`` keeps what it says
    as DIR/<section>.json); cheap: it answers soon and is called again with other arguments: quantities stand in the
    default folder's name too, and in a folder given by ``--out`` a finished call of it gives way to the next;
    usual: settings that stand in the short help (about five), the rest in --help-all; ending: "module:function"
    that says what a run found, (result, settings, options) -> common.cli.ending.Ending; file: ``--out`` names the
    one file that it writes, not a folder.
    """

    settings: type
    run: str
    section: str
    about: str
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    bf16: bool = False
    compiles: bool = False
    ignores: tuple[str, ...] = ()
    writes: bool = True
    cheap: bool = False
    usual: tuple[str, ...] = ()
    file: bool = False
    ending: str = ""


@dataclass(frozen=True)
class Verb:
    """A verb and its stages, told apart by selector flags; () is the key without selectors.

    selectors: flag -> its choices, each with what it selects; the first is the default.
    """

    stages: dict[tuple[str, ...], Stage]
    about: str
    selectors: dict[str, Mapping[str, str]] = field(default_factory=dict)


def alone(stage: Stage) -> Verb:
    """A verb of one stage."""
    return Verb({(): stage}, stage.about)
