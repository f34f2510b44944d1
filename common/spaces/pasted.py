"""What people paste, read as data: ``Genotype(...)`` calls, lists, tuples, ranges, rows of numbers. Nothing is run.

``plain`` turns text into plain values; ``given`` says what a word, file or text of the user is. Papers turn the values
into their architecture and say which element is wrong. No torch here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError
from common.run.files import read_json
from common.words import suggestion

LONGEST = 1_000_000  # characters
LONGEST_RANGE = 10_000
WEIGHTS = (".safetensors", ".pt", ".pth", ".tar", ".pkl", ".model")  # names of weight files
WRITTEN = ("architecture.json", "weights.safetensors", "best_weights.safetensors")  # what a run folder may hold
_NUMBERS = re.compile(r"[\s\d.,;+\-\[\]()]*")
_GAP = re.compile(r"(?<=[\d\])])\s*(?:[;\s])\s*(?=[\d\[(]|[+-][\d.])")
_WRAPPERS = ("list", "tuple", "array", "int", "float", "str", "int64", "int32", "float64", "float32")


class Call(NamedTuple):
    """``Name(values…, word=value…)`` as it was written."""

    name: str  # the last part of a dotted name
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def named(self, *words: str) -> dict[str, Any]:
        """The values by word, where ``words`` are those of the positional ones. Raises UserError."""
        if len(self.arguments) > len(words):
            raise UserError(f"{self.name}(…) has {len(self.arguments)} values; it takes {', '.join(words)}")
        found = dict(zip(words, self.arguments))
        for word, value in self.keywords.items():
            if word not in words:
                raise UserError(f"{self.name}(…) has no {word!r}{suggestion(word, words)}; it takes {', '.join(words)}")
            if word in found:
                raise UserError(f"{self.name}(…) says {word} twice")
            found[word] = value
        return found


def plain(text: str, source: str = "") -> Any:
    """Numbers, texts, lists, tuples, dicts and ``Call``s of pasted text. Raises UserError with the position.

    Numbers may stand with commas, semicolons or spaces between them, with or without brackets. ``name = value`` and
    what a log writes before ``Genotype(`` or behind its last bracket are passed over. ``range(2, 6)`` is a list;
    ``np.int64(3)``, ``list(…)`` and their like are what they hold.
    """
    where = f"{source}: " if source else ""
    if len(text) > LONGEST:
        raise UserError(f"{where}{len(text)} characters are no architecture; at most {LONGEST} are read")
    text = text.strip().lstrip("\ufeff")
    if not text:
        raise UserError(f"{where}the text is empty")
    if _NUMBERS.fullmatch(text):
        text = _GAP.sub(", ", text)
    elif (start := re.search(r"\b[A-Za-z_][\w.]*\(", text)) and "Genotype(" in text:
        start = re.search(r"\bGenotype\(", text) or start
        text = _balanced(text[start.start() :])
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        line, column = error.lineno or 1, error.offset or 1
        near = text.splitlines()[line - 1][max(0, column - 1) :][:20] if line <= len(text.splitlines()) else ""
        raise UserError(f"{where}line {line}, column {column}: {error.msg}, near {near!r}") from None
    except (RecursionError, MemoryError, ValueError):
        raise UserError(f"{where}the text is nested too deeply, or holds a character that is none") from None
    if len(body) != 1:
        raise UserError(f"{where}{len(body)} values stand in the text (line {body[1].lineno}: the second); give one")
    statement = body[0]
    if not isinstance(statement, (ast.Expr, ast.Assign, ast.AnnAssign)) or statement.value is None:
        raise UserError(f"{where}line 1: this is a program, not a value; give the value alone")
    try:
        return _value(statement.value, where)
    except RecursionError:
        raise UserError(f"{where}the text is nested too deeply") from None


def _balanced(text: str) -> str:
    """From the start of a call to its closing bracket; brackets inside quotes do not count."""
    depth, quote = 0, ""
    for at, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
            if not depth:
                return text[: at + 1]
    return text


def _value(node: ast.expr, where: str) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
        return node.value
    if isinstance(node, ast.List):
        return [_value(item, where) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item, where) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [_value(key, where) for key in node.keys if key is not None]
        if all(isinstance(key, (str, int)) for key in keys):
            return dict(zip(keys, (_value(item, where) for item in node.values), strict=True))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        number = _value(node.operand, where)
        if isinstance(number, (int, float)):
            return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.Call):
        return _call(node, where)
    shown = ast.unparse(node)
    said = f"{shown[:40]}{'…' if len(shown) > 40 else ''}"
    hint = "; put words in quotes" if isinstance(node, ast.Name) else ""
    raise UserError(f"{where}line {node.lineno}, column {node.col_offset + 1}: {said} is no plain value{hint}")


def _call(node: ast.Call, where: str) -> Any:
    place = f"{where}line {node.lineno}, column {node.col_offset + 1}"
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if (
        not name
        or any(isinstance(item, ast.Starred) for item in node.args)
        or any(k.arg is None for k in node.keywords)
    ):
        raise UserError(f"{place}: {ast.unparse(node)[:40]} is no plain value")
    arguments = tuple(_value(item, where) for item in node.args)
    if name == "range":
        if not 1 <= len(arguments) <= 3 or not all(isinstance(a, int) for a in arguments) or 0 in arguments[2:]:
            raise UserError(f"{place}: range takes one to three whole numbers")
        if len(found := range(*arguments)) > LONGEST_RANGE:
            raise UserError(f"{place}: a range of {len(found)} numbers is too long")
        return list(found)
    if name in _WRAPPERS and len(arguments) == 1:
        return arguments[0]
    return Call(name, arguments, {str(k.arg): _value(k.value, where) for k in node.keywords})


def is_pasted(word: str) -> bool:
    """Whether a word of the command line is pasted text, a .txt, or a JSON file of plain values: what ``given`` reads
    and ``load_architecture`` does not.
    """
    if word.endswith(".json"):
        try:
            content = read_json(Path(word))
        except UserError:
            return False  # who opens it says what is wrong
        if isinstance(content, dict):
            return bool(content) and not {"schema", "space", "architecture"} & set(content)
        return isinstance(content, (str, list))
    if word.endswith(".txt"):
        return True
    return _file(word) is None and re.search(r"[(\[{|]", word) is not None


def inside(word: str) -> str:
    """Of a run's folder the file that says its architecture; any other word as it is."""
    path = _file(word)
    found = [path / name for name in WRITTEN if (path / name).is_file()] if path is not None and path.is_dir() else []
    return str(found[0]) if found else word


class Given(NamedTuple):
    """What the user gave: a published name, or a value with the place it is from."""

    name: str = ""  # a published name; "" for all else
    value: Any = None  # plain values of a file or text; the ``architecture`` of a file that names its space
    space: str = ""  # of an architecture file or own weights
    record: dict[str, Any] = {}  # the whole document of such a file; its settings stand in ``origin`` or beside
    where: str = ""  # the file, for messages; "" for pasted text
    text: str = ""  # pasted text, as it is (``value`` is None then)


def given(source: str | Path, published: Collection[str], paper: str = "") -> Given:
    """What ``source`` is: a published name (in any case, with or without hyphens); a file (.json, .txt, weights, a run
    folder); or pasted text.

    A JSON file may be an architecture file (schema 1) or hold plain values, or pasted text as a string. paper: whose
    weights a weights file must be. Raises UserError: no such file, damaged, or a word that is neither.
    """
    word = str(source).strip() if isinstance(source, str) else str(source)
    if isinstance(source, str) and word in published:
        return Given(name=word)
    path = _file(source)
    if path is None and (same := [name for name in published if letters(name) == letters(word)]):
        return Given(name=same[0])
    if path is None:
        if not re.search(r"[\s(\[{|,;~=]", word) and not word.isdigit():
            known = f"; use a file, pasted text, or one of {', '.join(published)}" if published else ""
            raise UserError(f"unknown architecture {word!r}{suggestion(word, published)}{known}")
        return Given(text=word)
    return _read(path, paper)


def letters(name: str) -> str:
    """A name without what people spell differently: case, hyphens, underscores."""
    return re.sub(r"[-_\s]", "", name).lower()


def _file(source: str | Path) -> Path | None:
    if isinstance(source, Path):
        return source
    word = source.strip()
    try:
        if "\n" not in word and (Path(word).suffix in (".json", ".txt", *WEIGHTS) or Path(word).exists()):
            return Path(word)
    except (OSError, ValueError):
        pass
    return None


def _read(path: Path, paper: str) -> Given:
    from common.spaces.architecture import read_architecture, recorded

    if path.is_dir():
        if inside(str(path)) == str(path):
            raise UserError(f"{path} holds no {WRITTEN[0]} and no {WRITTEN[1]}; give a finished run's, or a file")
        return _read(Path(inside(str(path))), paper)
    where = str(path)
    if not path.is_file():
        raise UserError(f"no file {path}; give the path of an existing file, a published name, or pasted text")
    if path.suffix == ".safetensors":
        document, _ = recorded(where, paper)
        return Given(value=document["architecture"], space=str(document.get("space", "")), record=document, where=where)
    if path.suffix in WEIGHTS:
        raise UserError(f"{path} is a weights file that does not say its architecture; name the architecture as well")
    if path.suffix == ".json":
        content = read_json(path)
        if isinstance(content, dict) and "schema" in content:
            document = read_architecture(path)
            return Given(value=document["architecture"], space=str(document["space"]), record=document, where=where)
        return Given(text=content, where=where) if isinstance(content, str) else Given(value=content, where=where)
    try:
        if path.stat().st_size > 4 * LONGEST:
            raise UserError(f"{path} has {path.stat().st_size} bytes; at most {LONGEST} characters are an architecture")
        return Given(text=path.read_text(encoding="utf-8").strip(), where=where)
    except (OSError, ValueError):
        raise UserError(f"{path} is no text file; give .json, .txt, or own weights (.safetensors)") from None
