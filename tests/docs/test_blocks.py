"""The code in the documentation runs."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from assistant_queue import AsyncAssistantMessageQueue
from assistant_queue.cli import main
from tests.conftest import PATIENCE_S
from tests.docs.blocks import Block, blocks_of, close_all
from tests.docs.generated import ROOT, documents

BLOCKS = [block for document in documents() for block in blocks_of(document, ROOT)]
PYTHON = [block for block in BLOCKS if block.language == "python" and block.file is None]
FILES = [block for block in BLOCKS if block.language == "python" and block.file is not None]
FOREIGN = [block for block in BLOCKS if block.language == "py"]
SHELL = [block for block in BLOCKS if block.language in {"sh", "bash", "shell"}]


def test_the_documentation_has_blocks_of_known_languages_only() -> None:
    assert {block.language for block in BLOCKS} <= {"python", "py", "sh", "text", "mermaid"}
    assert len(PYTHON) >= 10
    assert len(SHELL) >= 8


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_python_runs(
    block: Block, reader: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for need in block.needs:
        namespace.update(reader(need))
    # Blank lines put the block where it stands in its document, so that a traceback names the line.
    code = compile("\n" * (block.line - 1) + block.code, str(ROOT / block.document), "exec")
    try:
        exec(code, namespace)
    finally:
        close_all(namespace)
    if "print(" in block.code and "def " not in block.code:
        assert capsys.readouterr().out.strip(), "it says that it prints"


@pytest.mark.parametrize("document", sorted({block.document for block in FILES}))
def test_files_of_a_page_are_a_suite_that_passes(document: str, tmp_path: Path) -> None:
    for block in FILES:
        if block.document == document:
            (tmp_path / str(block.file)).write_text(block.code, encoding="utf-8")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ASSISTANT_QUEUE_", "OPENAI_", "REDIS_", "PYTEST_"))
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-W",
            "error",
            "-o",
            "asyncio_default_fixture_loop_scope=function",
        ],
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("block", FOREIGN, ids=lambda block: block.place)
def test_code_for_frameworks_that_are_not_installed_names_what_there_is(block: Block) -> None:
    tree = ast.parse(block.code)
    ours = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "assistant_queue"
    ]
    assert ours
    for node in ours:
        for one in node.names:
            assert hasattr(importlib.import_module(str(node.module)), one.name), one.name
    calls = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"queue", "self.queue"}
    }
    assert calls
    assert [name for name in calls if not hasattr(AsyncAssistantMessageQueue, name)] == []


def commands(block: Block) -> list[list[str]]:
    """The commands of a shell block: one or several a line, without assignments before them."""
    found = []
    for line in re.sub(r"\\\n", " ", block.code).splitlines():
        for part in re.split(r"&&|\|", line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                found.append([Path(words[0]).name, *words[1:]])
    return found


COMMANDS = [(block.place, command) for block in SHELL for command in commands(block)]


def test_only_programs_that_a_reader_has_are_used() -> None:
    known = {
        "assistant-queue",
        "python",
        "python3",
        "pip",
        "rq",
        "docker",
        "export",
        "cd",
        "ruff",
        "mypy",
        "lint-imports",
        "run",
        "matrix",
    }
    assert {command[0] for _, command in COMMANDS} <= known


@pytest.mark.parametrize(
    ("place", "command"), [row for row in COMMANDS if "assistant-queue" in row[1][:5]]
)
def test_our_command_has_what_the_documentation_says(place: str, command: list[str]) -> None:
    words = command[command.index("assistant-queue") + 1 :]
    path: list[str] = []
    group: click.Command = main
    while words and isinstance(group, click.Group):
        found = group.get_command(click.Context(group), words[0])
        if found is None:
            break
        path.append(words.pop(0))
        group = found
    assert path, f"{place}: {command} names no command of ours"
    assert CliRunner().invoke(main, [*path, "--help"]).exit_code == 0
    known = {name for parameter in group.params for name in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("-") and word != "-"} <= known, place


@pytest.mark.parametrize(("place", "command"), [row for row in COMMANDS if row[1][0] == "rq"])
def test_rq_has_the_options_that_the_documentation_says(place: str, command: list[str]) -> None:
    from rq.cli import main as rq_main

    worker = rq_main.commands[command[1]]
    known = {name for parameter in worker.params for name in parameter.opts}
    assert {word for word in command[2:] if word.startswith("-")} <= known, place


@pytest.mark.parametrize(
    ("place", "command"), [row for row in COMMANDS if "assistant_queue.testing.provider" in row[1]]
)
def test_the_stand_in_has_the_options_that_the_documentation_says(
    place: str, command: list[str]
) -> None:
    told = subprocess.run(
        [sys.executable, *command[1:3], "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    ).stdout
    assert {word for word in command[3:] if word.startswith("-")} <= set(
        re.findall(r"--[a-z-]+", told)
    ), place


def test_the_extras_that_are_installed_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    used = {
        extra
        for _, command in COMMANDS
        if command[:2] == ["pip", "install"]
        for word in command
        for extra in re.findall(r"^(?:\.|assistant-queue)\[([a-z,]+)\]", word)
    }
    assert used == {"demo", "dev", "opentelemetry", "speed", "testing", "web"}
    assert used <= project["optional-dependencies"].keys()


def test_the_readme_has_the_two_commands_that_do_everything() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    first, second = [line for line in lines if "pip install" in line]
    assert "assistant-queue demo" in first
    assert "pytest" in second
    assert not {"pytest"} & set(first.split())
