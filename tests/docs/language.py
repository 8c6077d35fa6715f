"""Count what the language rules of docs/contributing.md forbid.

`python -m tests.docs.language [PATH ...]` lists each finding with its place; without a path, those
of the package, the documents and the examples.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "assistant_queue"

PERSONS = re.compile(
    r"\b(who|whom|whose|whoever|somebody|someone|nobody|anybody|everybody)\b", re.IGNORECASE
)
"""Pronouns of persons: the subject of a sentence is code."""

OPENINGS = re.compile(r"(What|Who|Whose|Whoever|How|Where|When|Which|If|That)\b")
"""First words that make a docstring a clause instead of a summary (PEP 257)."""

RETIRED = re.compile(
    r"\b(told|of ours|of (?:its|their|his) own|go(?:es)? on|going on|went on|mend(?:s|ed|ing)?"
    r"|watchm[ae]n)\b",
    re.IGNORECASE,
)
"""Words of the private English that this package once had; contributing.md names the others."""

_DEFINED = re.compile(r"\s*(?:async def|def|class) (\w+)")
_NOT_IN_NAMES = re.compile(
    rf"{RETIRED.pattern}|\b(doors?|who|whom|whoever|somebody|someone|nobody|anybody|everybody)\b",
    re.IGNORECASE,
)
"""The same in names, and persons; `whose` of a thing stays: a name has no room for a sentence."""

LONGEST = 100
"""Columns of a line. Source: the formatter's setting in pyproject.toml."""

SIBLINGS = frozenset(
    {"__init__", "__main__", "backend", "requests", "parser", "provider_calls", "base"}
)
"""Module names that sibling packages share."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One place that breaks a rule."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Prose:
    """A comment, docstring or paragraph."""

    path: Path
    line: int
    text: str
    opens: bool = False


def python_files(*roots: Path) -> Iterator[Path]:
    """Python files below the roots."""
    for root in roots:
        yield from sorted(root.rglob("*.py")) if root.is_dir() else [root]


def documents() -> list[Path]:
    """Markdown files of the project."""
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "examples").glob("*.md")),
    ]


@functools.cache
def prose_of(path: Path) -> tuple[Prose, ...]:
    """Comments and docstrings of a Python or Lua file, text of a document outside its code."""
    return tuple(_read_prose(path))


def _read_prose(path: Path) -> Iterator[Prose]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _docstrings(path, text)
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield Prose(path, token.start[0], token.string)
    elif path.suffix == ".lua":
        for number, line in enumerate(text.splitlines(), start=1):
            if "--" in line:
                yield Prose(path, number, line.partition("--")[2])
    else:
        in_code = False
        for number, line in enumerate(text.splitlines(), start=1):
            if line.lstrip().startswith("```"):
                in_code = not in_code
            elif not in_code:
                yield Prose(path, number, re.sub(r"`[^`]*`|\]\([^)]*\)", "", line))


def _docstrings(path: Path, text: str) -> Iterator[Prose]:
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            if (
                isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and isinstance(statement.value.value, str)
            ):
                lines = statement.value.value.splitlines() or [""]
                for offset, line in enumerate(lines):
                    plain = re.sub(r"`[^`]*`", "", line)
                    yield Prose(path, statement.lineno + offset, plain, opens=offset == 0)


def persons(paths: list[Path]) -> tuple[list[Finding], float]:
    """Pronouns of persons in prose, and their number per 10,000 words."""
    found = []
    words = 0
    for path in paths:
        for prose in prose_of(path):
            words += len(prose.text.split())
            found += [Finding(path, prose.line, match[0]) for match in PERSONS.finditer(prose.text)]
    return found, 10_000 * len(found) / max(words, 1)


def retired(paths: list[Path]) -> list[Finding]:
    """Words in prose that were given up."""
    return [
        Finding(path, prose.line, match[0])
        for path in paths
        for prose in prose_of(path)
        for match in RETIRED.finditer(prose.text)
    ]


def retired_names(paths: list[Path]) -> list[Finding]:
    """Functions and classes of Python files that have such a word, or a person, in their names."""
    return [
        Finding(path, number, match[1])
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if (match := _DEFINED.match(line)) and _NOT_IN_NAMES.search(match[1].replace("_", " "))
    ]


def openings(paths: list[Path]) -> list[Finding]:
    """Docstrings that open with a clause."""
    return [
        Finding(path, prose.line, prose.text[:60])
        for path in paths
        for prose in prose_of(path)
        if prose.opens and OPENINGS.match(prose.text)
    ]


def long_lines(paths: list[Path]) -> tuple[list[Finding], float]:
    """Lines of more than `LONGEST` columns, and their share of all lines."""
    found = []
    total = 0
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            total += 1
            if len(line) > LONGEST:
                found.append(Finding(path, number, f"{len(line)} columns"))
    return found, len(found) / max(total, 1)


def tuple_assignments(paths: list[Path]) -> list[Finding]:
    """Assignments of several values to several names that have nothing to do with each other.

    Related are values that read one another's targets (a swap, taking a value while clearing its
    place) and values that one callable makes (a pair). Unpacking one value is never a finding.
    """
    return [
        Finding(path, node.lineno, ast.unparse(node)[:LONGEST])
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Tuple)
        and any(
            isinstance(target, ast.Tuple) and not _are_related(target.elts, node.value.elts)
            for target in node.targets
        )
    ]


def _are_related(targets: list[ast.expr], values: list[ast.expr]) -> bool:
    if any(
        ast.unparse(target) in _names_in(value)
        for place, target in enumerate(targets)
        for other, value in enumerate(values)
        if place != other
    ):
        return True
    calls = [value.value if isinstance(value, ast.Await) else value for value in values]
    callables = {ast.unparse(call.func) for call in calls if isinstance(call, ast.Call)}
    return len(callables) == 1 and all(isinstance(call, ast.Call) for call in calls)


def _names_in(value: ast.expr) -> set[str]:
    names = (ast.Name, ast.Attribute, ast.Subscript)
    return {ast.unparse(node) for node in ast.walk(value) if isinstance(node, names)}


def code_lines(path: Path) -> int:
    """Lines of a module with code: without docstrings, comments and blank lines."""
    text = path.read_text(encoding="utf-8")
    no_code = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines = {
        number
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in no_code
        for number in range(token.start[0], token.end[0] + 1)
    }
    for prose in _docstrings(path, text):
        lines.discard(prose.line)
    return len(lines)


def classes_defined_twice() -> dict[str, list[str]]:
    """Public class names of the package that two modules define."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in python_files(PACKAGE):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(PACKAGE)))
    return {name: found for name, found in places.items() if len(found) > 1}


def modules_named_twice() -> dict[str, list[str]]:
    """Module names of the package that are used twice, except for `SIBLINGS`."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in python_files(PACKAGE):
        if path.stem not in SIBLINGS:
            places[path.stem].append(str(path.relative_to(PACKAGE)))
    return {name: found for name, found in places.items() if len(found) > 1}


def sources() -> list[Path]:
    """Python and Lua files of the package, and the examples."""
    return [*python_files(PACKAGE, ROOT / "examples"), *sorted(PACKAGE.rglob("*.lua"))]


def main() -> None:
    """Print findings and figures."""
    given = [Path(name).resolve() for name in sys.argv[1:]]
    paths = [
        path
        for root in given or [PACKAGE, ROOT / "docs", ROOT / "README.md", ROOT / "examples"]
        for path in ([root] if root.is_file() else sorted(root.rglob("*")))
        if path.suffix in {".py", ".lua", ".md"}
    ]
    people, rate = persons(paths)
    opened = openings([path for path in paths if path.suffix == ".py"])
    long, share = long_lines(paths)
    tuples = tuple_assignments([path for path in paths if path.suffix == ".py"])
    old = retired(paths)
    named = retired_names([path for path in paths if path.suffix == ".py"])
    titles = ("person", "retired", "name", "opening", "long", "tuple")
    for title, found in zip(titles, (people, old, named, opened, long, tuples), strict=True):
        for finding in found:
            print(f"{title}: {finding}")
    print(f"{len(people)} pronouns of persons: {rate:.1f} per 10,000 words")
    print(f"{len(old)} retired words, {len(named)} in names")
    print(f"{len(opened)} docstrings open with a clause")
    print(f"{len(long)} lines over {LONGEST} columns: {share:.2%}")
    print(f"{len(tuples)} tuple assignments of unrelated names")
    print("classes defined twice:", classes_defined_twice() or "none")
    print("modules named twice:", modules_named_twice() or "none")


if __name__ == "__main__":
    main()
