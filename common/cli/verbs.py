"""The command line of a paper: ``python -m papers.<paper> VERB [flags]``, from its table of verbs and settings.

A verb's flags are the fields of CommonFlags and of the stage's settings dataclass. Precedence, lowest first: dataclass
defaults (the published run), ``--variant`` preset, ``--profile`` section, ``--settings`` file, flags. What a user can
get wrong ends with one line on standard error and status 2; torch is imported only when a stage really runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import tyro

from common.cli import settings as settings_module
from common.cli.errors import UserError
from common.cli.parsing import check_flags, parsed_by_tyro, peek
from common.cli.settings import PROFILES, field_types, file_section, profile_section, settings_from, suggestion
from common.cli.showing import overview, show, show_plan
from common.data.names import canonical
from common.run import files as records
from common.run import outputs
from common.run.naming import default_folder, distinctions
from common.weights import published

DEVICES = Literal["auto", "cpu", "cuda"]
PRECISIONS = Literal["fp32", "bf16"]


COMPUTES = ("seed", "device", "data", "allow_unpinned", "resume")
IGNORED_BECAUSE = {
    "seed": "nothing in this command is random",
    "device": "this command computes on the CPU",
    "data": "this command reads no data",
    "allow_unpinned": "this command reads no data",
    "resume": "this command keeps no state",
}


@dataclass(frozen=True)
class CommonFlags:
    """Flags of every verb; none of them is part of a method."""

    out: Path | None = None  # folder of the run; default results/<profile>/<paper>/<stage>[-<choices>]-seed<seed>
    seed: int = 0  # seed of everything random
    device: DEVICES = "auto"  # auto takes a GPU where there is one
    precision: PRECISIONS = "fp32"  # bf16 is faster on GPUs and leaves golden tolerance; not every command has it
    data: Path | None = None  # data root; default $NAS_DATA, else data/
    allow_unpinned: bool = False  # read data that do not match their pins; results are marked
    plan: bool = False  # print steps, estimated time and memory; run nothing
    resume: bool = True  # --no-resume deletes what the folder holds and starts over
    json: bool = False  # print the result as JSON


@dataclass(frozen=True)
class RunOptions(CommonFlags):
    """The common flags, and which stage of which paper they are for.

    given: names of the settings that flags or a ``--settings`` file set; None where no command line was read. choices:
    words for what differs from the profile's and variant's run, for the default folder's name. cheap: see Stage.
    """

    profile: str = "smoke"
    variant: str = "authors"
    paper: str = ""
    section: str = ""
    given: frozenset[str] | None = field(default=None, compare=False)
    choices: tuple[str, ...] = field(default=(), compare=False)
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

    settings: frozen dataclass; run: "module:function", imported when needed, called with (settings, options); section:
    key in the params files; variants: name -> overrides ("authors", the defaults, is always there); bf16: whether
    ``--precision bf16`` changes what it computes (elsewhere the flag is refused, not ignored); plan: what ``--plan``
    calls, ``plan`` in the module of ``run`` unless said otherwise; ignores: names of common flags that do nothing here
    and are refused (COMPUTES for what counts or draws from the code alone); writes: whether it writes files by itself
    (elsewhere ``--out DIR`` keeps what it says as DIR/<section>.json); cheap: it answers soon and is called again with
    other arguments: quantities stand in the default folder's name too, and in a folder given by ``--out`` a finished
    call of it gives way to the next.
    """

    settings: type
    run: str
    section: str
    about: str
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    bf16: bool = False
    plan: str = ""
    ignores: tuple[str, ...] = ()
    writes: bool = True
    cheap: bool = False


@dataclass(frozen=True)
class Verb:
    """A verb and its stages, told apart by selector flags (first choice = default); () is the key without selectors."""

    stages: dict[tuple[str, ...], Stage]
    about: str
    selectors: dict[str, tuple[str, ...]] = field(default_factory=dict)


def main(paper: str, verbs: dict[str, Verb], argv: Sequence[str] | None = None) -> None:
    """The whole behaviour of ``python -m papers.<paper>``; leaves by SystemExit unless all went well."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, _stop)
    try:
        _run(paper, verbs, arguments)
    except UserError as error:
        _leave(str(error), 2)
    except KeyboardInterrupt:
        _leave("interrupted; the same command goes on from the last saved state", 130)
    except Stopped:
        by = "the launcher, another process of the job has ended" if "LOCAL_RANK" in os.environ else "SIGTERM"
        _leave(f"stopped by {by}; the same command goes on from the last saved state", 143)
    except BrokenPipeError:  # the reader of our output went away (… | head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    finally:
        with contextlib.suppress(ValueError, TypeError):
            signal.signal(signal.SIGTERM, before)


class Stopped(BaseException):
    """SIGTERM arrived: a scheduler, dvc or torchrun ends the job."""


def _stop(*_: Any) -> NoReturn:
    raise Stopped


def _leave(message: str, status: int) -> NoReturn:
    sys.stdout.flush()
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    raise SystemExit(status)


def _run(paper: str, verbs: dict[str, Verb], arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(overview(paper, verbs))
        return
    name, rest = arguments[0], arguments[1:]
    if name not in verbs:
        what = "flag before the verb" if name.startswith("-") else "verb"
        raise UserError(f"unknown {what} {name!r}{suggestion(name, verbs)} (python -m papers.{paper} --help)")
    stage, selected = _select(name, verbs[name], rest)
    sections = frozenset(s.section for verb in verbs.values() for s in verb.stages.values())
    settings, options = parse(paper, name, verbs[name], stage, selected, rest, sections)
    if options.plan:
        plan = _target(stage.plan or stage.run.partition(":")[0] + ":plan")
        lines = list(plan(settings, options)) if plan else [stage.about, "no estimate for this stage"]
        show_plan(lines, paper, name, options, options.folder if stage.writes or options.out else None)
        return
    first = int(os.environ.get("RANK", "0")) == 0
    outputs.own(options.folder)  # files of others in it are not written over
    try:
        result = _execute(_target(stage.run), settings, options)
        if not stage.writes and options.out is not None and first:
            records.write_json(options.out / f"{stage.section}.json", settings_module.plain(result))
    finally:
        outputs.leave(options.folder)
    if first:
        show(result, options)


def _target(name: str) -> Any:
    """The function "module:function", or None where the module has none of that name. Raises UserError."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        raise UserError(f"module {error.name!r} is missing; install the locked requirements (make venv)") from error


def _execute(function: Any, settings: Any, options: RunOptions) -> Any:
    """Run a stage inside its process group, with failures that have a remedy put into words."""
    from common.train import distributed

    try:
        distributed.setup()
        result = function(settings, options)
        distributed.close()
        return result
    except MemoryError as error:
        raise UserError(_out_of_memory("memory", settings)) from error
    except RuntimeError as error:
        text = str(error)
        if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
            device = "GPU memory" if "CUDA" in text else "memory"
            raise UserError(_out_of_memory(device, settings)) from error
        if distributed.world_size() > 1 and _lost_peer(error):
            raise UserError(
                f"process {distributed.rank()} lost another process of the job, which must have ended; look for the "
                f"first error above, then start the same command again: it goes on from the last saved state"
            ) from error
        raise


def _lost_peer(error: RuntimeError) -> bool:
    text = f"{type(error).__name__} {error}".lower()
    return any(
        word in text for word in ("gloo", "connection closed", "connection reset", "nccl", "distbackend", "timed out")
    )


def _out_of_memory(what: str, settings: Any) -> str:
    sizes = {n: getattr(settings, n) for n in field_types(settings.__class__) if "batch" in n}
    listed = ", ".join(f"{name} {value}" for name, value in sizes.items())
    peak = ""
    torch = sys.modules.get("torch")
    if torch is not None and what == "GPU memory":
        peak = f" (peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB)"
    lower = "--" + next(iter(sizes)).replace("_", "-") if sizes else "the size of the network"
    return f"out of {what}{peak} with {listed or 'these settings'}; lower {lower}: the last saved state is intact"


# -- parsing ----------------------------------------------------------------------------------------------------------


def _select(name: str, verb: Verb, arguments: Sequence[str]) -> tuple[Stage, dict[str, str]]:
    selected = {}
    for flag, choices in verb.selectors.items():
        value = peek(arguments, flag.replace("_", "-"))
        selected[flag] = choices[0] if value is None else value
        if selected[flag] not in choices:
            raise UserError(
                f"--{flag} cannot be {value!r}{suggestion(str(value), choices)} (one of {', '.join(choices)})"
            )
    key = tuple(selected.values())
    if key not in verb.stages:
        known = "; ".join(_flags(verb, k) for k in verb.stages)
        raise UserError(f"{name} has no combination {_flags(verb, key)}; there are: {known}")
    return verb.stages[key], selected


def _flags(verb: Verb, key: tuple[str, ...]) -> str:
    return " ".join(f"--{flag} {value}" for flag, value in zip(verb.selectors, key))


def parse(
    paper: str,
    name: str,
    verb: Verb,
    stage: Stage,
    selected: dict[str, str],
    arguments: list[str],
    sections: frozenset[str] = frozenset(),
) -> tuple[Any, RunOptions]:
    """Settings and options of a stage from its presets, files and flags. Raises UserError (or leaves after --help).

    sections: the paper's stages; where they are given, files may name no others.
    """
    variants: dict[str, dict[str, Any]] = {"authors": {}, **stage.variants}
    profile, variant = peek(arguments, "profile") or "smoke", peek(arguments, "variant") or "authors"
    if profile not in PROFILES:
        raise UserError(f"unknown profile {profile!r}{suggestion(profile, PROFILES)} (one of {', '.join(PROFILES)})")
    if variant not in variants:
        raise UserError(f"unknown variant {variant!r}{suggestion(variant, variants)} (one of {', '.join(variants)})")
    defaults: Any = settings_from(stage.settings, variants[variant])
    section = profile_section(profile, paper, stage.section, sections)
    preset, defaults = defaults, _changed(defaults, section, str(settings_module.PROFILES[profile]))
    usual = defaults
    in_file: dict[str, Any] = {}
    if file := peek(arguments, "settings"):
        in_file = file_section(Path(file), paper, stage.section, sections)
        defaults = _changed(defaults, in_file, file)

    fields: list[tuple[str, Any, Any]] = [
        *((flag, _choice(verb.selectors[flag], "kind of the stage"), value) for flag, value in selected.items()),
        ("profile", _choice(PROFILES, "scale and data: a section of a params file"), profile),
        ("variant", _choice(variants, "preset: what the authors ran, or the method as written"), variant),
        ("settings", Annotated[Path | None, tyro.conf.arg(help="YAML file with settings", metavar="FILE.yaml")], None),
    ]
    taken = {flag for flag, _, _ in fields}
    common = [f.name for f in dataclasses.fields(CommonFlags)]
    own = [f.name for f in dataclasses.fields(stage.settings)]
    clash = set(own) & {*taken, *common}
    if clash:
        raise TypeError(f"{stage.settings.__name__} repeats flags of every verb: {sorted(clash)}")
    top = dataclasses.make_dataclass(
        "Flags",
        [(n, t, field(default=d)) for n, t, d in fields]
        + [
            ("common", tyro.conf.OmitArgPrefixes[CommonFlags], field(default=CommonFlags())),
            ("stage", tyro.conf.OmitArgPrefixes[stage.settings], field(default=defaults)),  # type: ignore[misc,name-defined]
        ],
        frozen=True,
    )
    known = [*taken, *common, *own]
    check_flags(name, known, arguments)
    types = {**field_types(CommonFlags), **field_types(stage.settings)}
    parsed = parsed_by_tyro(top, f"python -m papers.{paper} {name}", stage.about, arguments, types)
    values = {n: getattr(parsed.common, n) for n in common}
    if not 0 <= parsed.common.seed < 2**32:
        raise UserError(f"--seed must be 0 to {2**32 - 1}, not {parsed.common.seed}")
    if parsed.common.precision != "fp32" and not stage.bf16:
        raise UserError(
            f"--precision {parsed.common.precision}: this command computes in fp32 only; leave the flag out"
        )
    for flag in stage.ignores:
        value, usual_value = getattr(parsed.common, flag), getattr(CommonFlags(), flag)
        if value != usual_value and not (flag == "device" and value == "cpu"):
            given_as = ("no-" if value is False else "") + flag.replace("_", "-")
            raise UserError(f"--{given_as} does nothing here: {IGNORED_BECAUSE[flag]}; leave the flag out")
    settings = parsed.stage
    for setting, kind in field_types(stage.settings).items():
        settings_module.coerce(getattr(settings, setting), kind, "--" + setting.replace("_", "-"))
    if isinstance(getattr(settings, "dataset", None), str):  # ImageNet16-120 and imagenet16-120 are one set
        settings = dataclasses.replace(settings, dataset=canonical(settings.dataset))
    published.check_set(settings, profile)
    if peek(arguments, "variant"):
        _say_what_profile_sets(section, preset, settings, profile, variant)
    given = frozenset(str(key).replace("-", "_") for key in in_file) | _flags_of(arguments, set(own))
    selectors = {flag: (verb.selectors[flag][0], value) for flag, value in selected.items()}
    if isinstance(settings, settings_module.Settings):
        settings.check(given)
    choices = distinctions(stage.section, selectors, usual, settings, quantities=stage.cheap)
    return settings, RunOptions(
        **values,
        profile=profile,
        variant=variant,
        paper=paper,
        section=stage.section,
        given=given,
        choices=choices,
        cheap=stage.cheap,
    )


def _flags_of(arguments: Sequence[str], settings: set[str]) -> frozenset[str]:
    """The settings that flags set, ``--no-NAME`` among them."""
    words = (word[2:].partition("=")[0].replace("-", "_") for word in arguments if word.startswith("--"))
    return frozenset(word if word in settings else word.removeprefix("no_") for word in words) & settings


def _say_what_profile_sets(section: dict[str, Any], preset: Any, settings: Any, profile: str, variant: str) -> None:
    """A profile is for scale, but some also choose between methods: whoever asks for a variant is told, on stderr."""
    names = [str(name).replace("-", "_") for name in section]
    switched = [
        f"--{name.replace('_', '-')} {getattr(settings, name)} (variant: {getattr(preset, name)})"
        for name in names
        if name not in ("dataset", "text")
        and isinstance(getattr(preset, name), str | bool)
        and getattr(settings, name) != getattr(preset, name)
    ]
    if switched:
        print(f"note: profile {profile} departs from --variant {variant}: {', '.join(switched)}", file=sys.stderr)


def _changed(defaults: Any, overrides: dict[str, Any], source: str) -> Any:
    layers = {f.name: getattr(defaults, f.name) for f in dataclasses.fields(defaults)}
    return settings_from(type(defaults), layers, settings_from_checked(type(defaults), overrides, source))


def settings_from_checked(cls: type, overrides: dict[str, Any], source: str) -> dict[str, Any]:
    """``overrides`` after the checks of ``settings_from``, as a mapping of the given settings only."""
    made: Any = settings_from(cls, overrides, source=source)
    return {str(k).replace("-", "_"): getattr(made, str(k).replace("-", "_")) for k in overrides}


def _choice(choices: Any, about: str) -> Any:
    return Annotated[Literal[tuple(choices)], tyro.conf.arg(help=about)]  # type: ignore[valid-type]
