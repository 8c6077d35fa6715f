"""The language rules of docs/contributing.md, counted."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import language

MOST_PERSONS = 2.0
"""Pronouns of persons per 10,000 words. Chosen: the peers of docs/contributing.md have up to one."""

MOST_LONG = 0.01
"""Share of lines over 100 columns: addresses, tables of cases, and strings that are compared whole."""

MOST_CODE = 300
"""Lines of code in a module, without docstrings and comments."""

LONGER = {
    "config/options.py",
    "backends/assistants/backend.py",
    "backends/responses/backend.py",
    "backends/chat_completions/parser.py",
    "backends/openai/remedies.py",
    "testing/provider/words_of_servers.py",
}
"""Modules that docs/architecture.md excuses: a model, three classes, two tables."""

QUOTES_THEM = {"contributing.md", "glossary.md", "tell.lua", "_common.lua"}
"""Files that list the words, and scripts with a stored field `told`."""

FIRST_COMMIT = "b639c7e"
"""The commit since which the rule for subjects holds."""


@pytest.mark.parametrize("where", ["package", "documents", "examples", "tests"])
def test_the_subject_of_a_sentence_is_code(where: str) -> None:
    found, rate = language.persons(PLACES[where])
    assert rate <= MOST_PERSONS, "\n".join(map(str, found))


@pytest.mark.parametrize("where", ["package", "documents", "examples", "tests"])
def test_words_that_were_given_up_stay_away(where: str) -> None:
    paths = [path for path in PLACES[where] if path.name not in QUOTES_THEM]
    assert not (found := language.retired(paths)), "\n".join(map(str, found))


@pytest.mark.parametrize("where", ["package", "examples", "tests"])
def test_no_function_or_class_is_called_by_one(where: str) -> None:
    paths = [path for path in PLACES[where] if path.suffix == ".py"]
    assert not (found := language.retired_names(paths)), "\n".join(map(str, found))


@pytest.mark.parametrize("where", ["package", "examples", "tests"])
def test_a_docstring_opens_with_a_verb_or_a_noun(where: str) -> None:
    assert not (found := language.openings(PLACES[where])), "\n".join(map(str, found))


def test_lines_are_short() -> None:
    found, share = language.long_lines([path for paths in PLACES.values() for path in paths])
    assert share < MOST_LONG, "\n".join(map(str, found))


def test_examples_fit() -> None:
    found, _ = language.long_lines(PLACES["examples"])
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize("where", ["package", "examples", "tests"])
def test_a_statement_assigns_names_that_belong_together(where: str) -> None:
    paths = [path for path in PLACES[where] if path.suffix == ".py"]
    assert not (found := language.tuple_assignments(paths)), "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("statement", "is_found"),
    [
        ("a, b = 1, 2", True),
        ("self.a, self.b = a, b", True),
        ("self.a, self.b = core.a, core.b", True),
        ("a, b = f(1), g(2)", True),
        ("a, b = f(1), 2", True),
        ("c = a, b = 1, 2", True),
        ("a, b = f(1), f(2)", False),
        ("a, b = await f(1), await f(2)", False),
        ("a, b = b, a", False),
        ("taken, self.kept = self.kept, []", False),
        ("host, port = address", False),
        ("c = 1, 2", False),
    ],
)
def test_what_belongs_together_is_distinguished_from_what_does_not(
    tmp_path: Path, statement: str, *, is_found: bool
) -> None:
    path = tmp_path / "module.py"
    path.write_text(statement, encoding="utf-8")
    assert bool(language.tuple_assignments([path])) is is_found


def wrapped_lines(document: Path) -> Iterator[str]:
    """Lines of prose: without generated parts, code, tables, and names that cannot be broken."""
    text = document.read_text(encoding="utf-8")
    text = re.sub(r"(?ms)^<!-- generated:.*?^<!-- end -->", "", text)
    for line in re.sub(r"(?ms)^```.*?^```", "", text).splitlines():
        words = re.findall(r"(?:`[^`]*`|[^\s`])+", line)
        if not line.startswith("|") and len(words) > 1:
            yield line


@pytest.mark.parametrize("document", language.documents(), ids=lambda path: path.name)
def test_prose_is_wrapped(document: Path) -> None:
    long = [
        line
        for line in wrapped_lines(document)
        if len(line) > language.LONGEST and "tests/" not in line
    ]
    assert long == []


def test_a_module_is_read_in_one_sitting() -> None:
    long = {
        path.relative_to(language.PACKAGE).as_posix()
        for path in language.python_files(language.PACKAGE)
        if language.code_lines(path) > MOST_CODE
    }
    assert long <= LONGER
    architecture = (language.ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [name for name in sorted(LONGER) if f"`{name}`" not in architecture] == []


def test_a_name_means_one_thing() -> None:
    assert language.classes_defined_twice() == {}
    assert language.modules_named_twice() == {}


def test_subjects_of_commits_fit_a_line() -> None:
    log = ["git", "log", "--no-merges", "--format=%s", f"{FIRST_COMMIT}..HEAD"]
    answer = subprocess.run(log, cwd=language.ROOT, capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip("not a checkout with that commit")
    assert not [subject for subject in answer.stdout.splitlines() if len(subject) > 72]


PLACES = {
    "package": language.sources(),
    "documents": language.documents(),
    "examples": list(language.python_files(language.ROOT / "examples")),
    "tests": list(language.python_files(language.ROOT / "tests")),
}
