"""From the words of a command line to a stage, its settings and options; tyro's messages in one line.

A verb's flags are the fields of CommonFlags and of the stage's settings dataclass.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from common.cli.helping import PROFILES_ARE, short_help, variants_are
from common.cli.naming import distinctions
from common.cli.stages import IGNORED_BECAUSE, CommonFlags, FileFlags, RunOptions, Stage, Verb
from common.data.names import canonical
from common.errors import UserError
from common.settings import (
    PROFILES,
    Settings,
    coerce,
    field_types,
    file_section,
    profile_section,
    settings_from,
)
from common.weights import published
from common.words import hint, suggestion


def select(verbs: dict[str, Verb], words: Sequence[str]) -> tuple[Stage, dict[str, str]]:
    """The stage that a command means, and what its selectors are. Raises UserError."""
    name = words[0]
    if name not in verbs:
        what = "flag before the verb" if name.startswith("-") else "verb"
        raise UserError(f"unknown {what} {name!r}{suggestion(name, verbs)} (--help lists the verbs)")
    verb, selected = verbs[name], {}
    for flag, choices in verb.selectors.items():
        value = peek(words, flag.replace("_", "-"))
        selected[flag] = next(iter(choices)) if value is None else value
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


def parse(paper: str, verbs: dict[str, Verb], words: Sequence[str]) -> tuple[Stage, Any, RunOptions]:
    """Stage, settings and options of ``VERB [flags]``. Raises UserError, or leaves after --help and --help-all.

    Precedence, lowest first: dataclass defaults (the published run), ``--variant`` preset, ``--profile`` section,
    ``--settings`` file, flags.
    """
    stage, selected = select(verbs, words)
    name, arguments = words[0], list(words[1:])
    verb, layers = verbs[name], _layers(paper, verbs, stage, arguments)
    program = f"python -m papers.{paper} {name}"
    if {"--help", "-h"} & set(arguments):
        print(short_help(program, verb, stage, selected, layers))
        raise SystemExit(0)
    parsed = _flags_over(layers.settings, program, stage, _own_flags(verb, stage, selected, layers), arguments)
    _check_common(stage, parsed.common)
    settings = parsed.stage
    _check_texts(arguments, stage.settings)
    for setting, kind in field_types(stage.settings).items():
        coerce(getattr(settings, setting), kind, "--" + setting.replace("_", "-"))
    if isinstance(getattr(settings, "dataset", None), str):  # ImageNet16-120 and imagenet16-120 are one set
        settings = dataclasses.replace(settings, dataset=canonical(settings.dataset))
    if name == "evaluate":
        published.check_set(settings, layers.profile)
    if peek(arguments, "variant"):
        layers.say_what_profile_sets(settings)
    names = {f.name for f in dataclasses.fields(stage.settings)}
    placed = {name for name in names if getattr(parsed.stage, name) != getattr(layers.settings, name)}  # without a flag
    flags = _flags_of(arguments, names) | placed
    given = layers.in_file | flags
    if isinstance(settings, Settings):
        settings.check(given)
    selectors = {flag: (next(iter(verb.selectors[flag])), value) for flag, value in selected.items()}
    return (
        stage,
        settings,
        RunOptions(
            **vars(parsed.common),
            profile=layers.profile,
            variant=layers.variant,
            paper=paper,
            section=stage.section,
            given=given,
            choices=distinctions(stage.section, selectors, layers.usual, settings, quantities=stage.cheap),
            cheap=stage.cheap,
            sources=layers.sources(flags),
        ),
    )


@dataclass(frozen=True)
class _Layers:
    """What the flags stand on: variant, then profile (``usual``), then settings file (``settings``)."""

    profile: str
    variant: str
    variants: tuple[str, ...]
    preset: Any  # settings of the variant
    section: dict[str, Any]  # what the profile says
    usual: Any  # both
    in_file: frozenset[str]  # names that a settings file sets
    settings: Any  # all of it

    def sources(self, flags: frozenset[str]) -> dict[str, str]:
        """Where the value of every setting is from: the uppermost layer that names it."""
        fields = dataclasses.fields(self.preset)
        found = {f.name: "variant" if getattr(self.preset, f.name) != f.default else "published" for f in fields}
        found |= dict.fromkeys((str(key).replace("-", "_") for key in self.section), "profile")
        return found | dict.fromkeys(self.in_file, "file") | dict.fromkeys(flags, "flag")

    def say_what_profile_sets(self, settings: Any) -> None:
        """A profile is for scale, but some also choose between methods: who asks for a variant is told, on stderr."""
        switched = [
            f"--{name.replace('_', '-')} {getattr(settings, name)} (variant: {getattr(self.preset, name)})"
            for name in (str(key).replace("-", "_") for key in self.section)
            if name not in ("dataset", "text")
            and isinstance(getattr(self.preset, name), str | bool)
            and getattr(settings, name) != getattr(self.preset, name)
        ]
        if switched:
            listed = ", ".join(switched)
            print(f"note: profile {self.profile} departs from --variant {self.variant}: {listed}", file=sys.stderr)


def _layers(paper: str, verbs: dict[str, Verb], stage: Stage, arguments: Sequence[str]) -> _Layers:
    variants: dict[str, dict[str, Any]] = {"authors": {}, **stage.variants}
    profile, variant = peek(arguments, "profile") or "smoke", peek(arguments, "variant") or "authors"
    for kind, word, known in (("profile", profile, PROFILES), ("variant", variant, variants)):
        if word not in known:
            raise UserError(f"unknown {kind} {word!r}{suggestion(word, known)} (one of {', '.join(known)})")
    sections = {s.section for verb in verbs.values() for s in verb.stages.values()}
    preset: Any = settings_from(stage.settings, variants[variant])
    section = profile_section(profile, paper, stage.section, sections)
    usual = settings = changed(preset, section, str(PROFILES[profile]))
    in_file: dict[str, Any] = {}
    if (file := peek(arguments, "settings")) is not None:
        if not file:
            raise UserError("--settings is empty; give a YAML file, or leave the flag out")
        in_file = file_section(Path(file), paper, stage.section, sections)
        settings = changed(usual, in_file, file)
    names = frozenset(str(key).replace("-", "_") for key in in_file)
    return _Layers(profile, variant, tuple(variants), preset, section, usual, names, settings)


def _own_flags(verb: Verb, stage: Stage, selected: dict[str, str], layers: _Layers) -> list[tuple[str, Any, Any]]:
    """(name, type, default) of the flags that are neither common nor settings."""

    def said(choices: Mapping[str, str]) -> str:
        return "; ".join(f"{name}: {about}" for name, about in choices.items())

    file = Annotated[Path | None, tyro.conf.arg(help="YAML file with settings", metavar="FILE.yaml")]
    return [
        *((flag, _choice(verb.selectors[flag], said(verb.selectors[flag])), value) for flag, value in selected.items()),
        ("profile", _choice(PROFILES, f"scale and data: {said(PROFILES_ARE)}"), layers.profile),
        ("variant", _choice(layers.variants, said(variants_are(stage))), layers.variant),
        ("settings", file, None),
    ]


def _flags_over(
    defaults: Any, program: str, stage: Stage, own: list[tuple[str, Any, Any]], arguments: list[str]
) -> Any:
    """What tyro makes of the flags: an object with ``common`` and ``stage`` (the settings). Raises UserError."""
    taken = [name for name, _, _ in own]
    shared = FileFlags if stage.file else CommonFlags
    common = [f.name for f in dataclasses.fields(CommonFlags)]
    settings = [f.name for f in dataclasses.fields(stage.settings)]
    if clash := set(settings) & {*taken, *common}:
        raise TypeError(f"{stage.settings.__name__} repeats flags of every verb: {sorted(clash)}")
    top = dataclasses.make_dataclass(
        "Flags",
        [(n, t, dataclasses.field(default=d)) for n, t, d in own]
        + [
            ("common", tyro.conf.OmitArgPrefixes[shared], dataclasses.field(default=shared())),  # type: ignore[misc,valid-type]
            ("stage", tyro.conf.OmitArgPrefixes[stage.settings], dataclasses.field(default=defaults)),  # type: ignore[misc,name-defined]
        ],
        frozen=True,
    )
    check_flags(program.rpartition(" ")[2], [*taken, *common, *settings], arguments)
    types = {**field_types(CommonFlags), **field_types(stage.settings)}
    return parsed_by_tyro(top, program, stage.about, arguments, types)


def _check_common(stage: Stage, common: CommonFlags) -> None:
    if not 0 <= common.seed < 2**32:
        raise UserError(f"--seed must be 0 to {2**32 - 1}, not {common.seed}")
    if common.precision != "fp32" and not stage.bf16:
        raise UserError(f"--precision {common.precision}: this command computes in fp32 only; leave the flag out")
    if common.compile and not stage.compiles:
        raise UserError("--compile: this command compiles nothing; leave the flag out")
    for flag in stage.ignores:
        value, usual = getattr(common, flag), getattr(CommonFlags(), flag)
        if value != usual and not (flag == "device" and value == "cpu"):
            given_as = ("no-" if value is False else "") + flag.replace("_", "-")
            raise UserError(f"--{given_as} does nothing here: {IGNORED_BECAUSE[flag]}; leave the flag out")


def _check_texts(arguments: Sequence[str], settings: type) -> None:
    """Raises UserError for an empty text where one is needed: a path, a set, whatever has another default than it."""
    defaults = {f.name: f.default for f in dataclasses.fields(settings)}
    paths = ("out", "data", "settings", "device")
    for name in (*paths, *(n for n, kind in field_types(settings).items() if kind is str and defaults[n])):
        if peek(arguments, flag := name.replace("_", "-")) == "":
            raise UserError(f"--{flag} is empty; give a value, or leave the flag out")


def _flags_of(arguments: Sequence[str], settings: set[str]) -> frozenset[str]:
    """The settings that flags set, ``--no-NAME`` among them."""
    words = (word[2:].partition("=")[0].replace("-", "_") for word in arguments if word.startswith("--"))
    return frozenset(word if word in settings else word.removeprefix("no_") for word in words) & settings


def changed(settings: Any, overrides: dict[str, Any], source: str) -> Any:
    """The settings with those of a file over them. Raises UserError, which names the file."""
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    made: Any = settings_from(type(settings), overrides, source=source)
    names = [str(key).replace("-", "_") for key in overrides]
    return settings_from(type(settings), values, {name: getattr(made, name) for name in names})


def _choice(choices: Any, about: str) -> Any:
    return Annotated[Literal[tuple(choices)], tyro.conf.arg(help=about)]  # type: ignore[valid-type]


# -- words ----------------------------------------------------------------------------------------------------------


def peek(arguments: Sequence[str], flag: str) -> str | None:
    """The last value given to a flag, before the real parsing."""
    found = None
    for position, word in enumerate(arguments):
        if word == f"--{flag}" and position + 1 < len(arguments):
            found = arguments[position + 1]
        elif word.startswith(f"--{flag}="):
            found = word.partition("=")[2]
    return found


def check_flags(verb: str, known: list[str], arguments: list[str]) -> None:
    flags = {n.replace("_", "-") for n in known}
    for word in arguments:
        if word.startswith("--") and len(word) > 2:
            flag = word[2:].partition("=")[0].replace("_", "-")
            if flag not in flags and flag.removeprefix("no-") not in flags and flag not in ("help", "help-all"):
                near = hint(flag, flags).replace("'", "'--", 1)
                raise UserError(f"unknown flag --{flag} of {verb}{near} (--help-all lists all)")


def parsed_by_tyro(top: type, program: str, about: str, arguments: list[str], types: dict[str, Any]) -> Any:
    """tyro's parsing, with its boxed messages turned into one line."""
    wants_help = "--help-all" in arguments
    arguments = ["--help" if word == "--help-all" else word for word in arguments]
    caught = io.StringIO()
    try:
        if wants_help:
            return tyro.cli(top, prog=program, description=about, args=arguments)
        with contextlib.redirect_stderr(caught), contextlib.redirect_stdout(caught):
            return tyro.cli(top, prog=program, description=about, args=arguments)
    except SystemExit as leaving:
        if wants_help or not leaving.code:
            raise
        raise UserError(_flatten(caught.getvalue(), types) or "the flags could not be read; see --help") from None


def _flatten(boxed: str, types: dict[str, Any]) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", boxed)
    lines = [re.sub(r"[│┃╭╮╰╯─━┌┐└┘|]+", " ", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line and set(line) != {"-"}]
    words = re.sub(r"\s*(Argument helptext|For full helptext|Perhaps you meant).*", "", " ".join(lines))
    words = re.sub(r"^(Value error|Invalid choice|Missing argument|Unrecognized options|Parsing error)\s*", "", words)
    words = re.sub(r"(\s|-{3,})+", " ", words).strip()
    if extra := re.fullmatch(r"Unrecognized options?: (.*)", words):
        return f"{extra[1]!r} follows no flag; give every value as --FLAG VALUE (--help lists the flags)"
    if bad := re.match(r"invalid choice '(.*)' for argument '(--[\w-]+)'\. Expected one of \((.*)\)", words):
        known = re.findall(r"[^\s',]+", bad[3])
        return f"{bad[2]} cannot be {bad[1]!r}{hint(bad[1], known)} (one of {', '.join(known)})"
    if bad := re.match(r"Error parsing --([\w-]+):.*?('[^']*'|\[.*\])", words):
        kind = types.get(bad[1].replace("-", "_"))
        name = kind.__name__ if isinstance(kind, type) and not getattr(kind, "__args__", None) else str(kind)
        return f"--{bad[1]} must be {name}, not {bad[2]}"
    return words
