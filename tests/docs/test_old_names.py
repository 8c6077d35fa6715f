"""Imports and calls of the documentation of commit 780ee65 still run, and old names warn.

`tests/fixtures/documents_780ee65.json` holds the Python blocks of that commit's README and docs, and
its examples.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import assistant_queue
from assistant_queue import deprecated, jobs
from assistant_queue.errors import MissingExtra
from tests import fork_server
from tests.conftest import PATIENCE_S, RedisServer
from tests.docs.blocks import Block, close_all
from tests.docs.generated import ROOT
from tests.docs.test_blocks import PYTHON
from tests.docs.test_examples import OURS

OLD = json.loads((ROOT / "tests/fixtures/documents_780ee65.json").read_text(encoding="utf-8"))
BLOCKS = [Block(**{**row, "needs": tuple(row["needs"])}) for row in OLD["blocks"]]
PRESENT = {
    ast.dump(ast.parse(code))
    for code in [
        *(block.code for block in PYTHON),
        *(path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")),
    ]
}
"""Code of the present documents and examples: other tests run it."""


def is_present(code: str) -> bool:
    return ast.dump(ast.parse(code)) in PRESENT


RUNNABLE = [
    block
    for block in BLOCKS
    if block.language == "python" and block.file is None and not is_present(block.code)
]
FILES = [block for block in BLOCKS if block.language == "python" and block.file is not None]
EXAMPLES: dict[str, str] = OLD["examples"]
PROGRAMS = {
    "basic.py": (),
    "classic_chat.py": (),
    "fastapi_app.py": ("fastapi",),
    "function_calling.py": (),
    "many_redis.py": (),
    "openai_agents.py": ("agents",),
    "pydantic_ai_agent.py": ("pydantic_ai",),
    "shared_room.py": (),
}
"""Examples that are programs, and the modules they need besides the extras `demo` and `web`."""

REPLACEMENTS = {
    "assistant_queue.event_models.AttemptFailed": "assistant_queue.events.AttemptFailed",
    "assistant_queue.event_models.MessageQueued": "assistant_queue.events.MessageQueued",
    "assistant_queue.event_models.ReplyReady": "assistant_queue.events.ReplyReady",
    "assistant_queue.event_models.RunStarted": "assistant_queue.events.RunStarted",
    "assistant_queue.event_models.TextDelta": "assistant_queue.events.TextDelta",
    "assistant_queue.backends.base.RunStarted": "assistant_queue.backends.base.RunAccepted",
    "assistant_queue.cli.demo.redis.private_redis": (
        "assistant_queue.cli.demo.redis_server.private_redis"
    ),
}
"""Deprecated names that the documents import, and what each warning names."""

MORE_REPLACEMENTS = {
    "assistant_queue.aio.AsyncAssistantMessageQueue": "assistant_queue.AsyncAssistantMessageQueue",
    "assistant_queue.backends.base.TextDelta": "assistant_queue.backends.base.TextChunk",
    "assistant_queue.backends.direct.DirectBackend": (
        "assistant_queue.backends.provider_calls.DirectBackend"
    ),
    "assistant_queue.backends.function.Said": "assistant_queue.Said",
    "assistant_queue.backends.responses.ResponsesBackend": (
        "assistant_queue.backends.responses.backend.ResponsesBackend"
    ),
    "assistant_queue.event_models.MessageCancelled": "assistant_queue.events.MessageWithdrawn",
    "assistant_queue.events.MessageCancelled": "assistant_queue.events.MessageWithdrawn",
    "assistant_queue.queue.AssistantMessageQueue": "assistant_queue.AssistantMessageQueue",
    "assistant_queue.testing.chaos.Settings": "assistant_queue.testing.chaos.ChaosSettings",
    "assistant_queue.validation.max_length": "assistant_queue.max_length",
    "assistant_queue.worker.rq_worker.Worker": "assistant_queue.Worker",
}

ALL = {**REPLACEMENTS, **MORE_REPLACEMENTS}


def imports_of(code: str) -> Iterator[tuple[int, str, str]]:
    """The imports of our names in a piece of code: line, module, name."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "assistant_queue":
            for one in node.names:
                yield node.lineno, str(node.module), one.name


def used_in(code: str) -> set[str]:
    return {f"{module}.{name}" for _, module, name in imports_of(code)} & REPLACEMENTS.keys()


def said_about(name: str) -> str:
    return f"{name} is deprecated: use {ALL[name]}"


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    for name, text in EXAMPLES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_documents_use_the_old_names_that_are_checked_here() -> None:
    codes = [block.code for block in BLOCKS]
    used = set().union(*(used_in(code) for code in [*codes, *_python(EXAMPLES)]))
    assert used == REPLACEMENTS.keys()


def _python(files: dict[str, str]) -> list[str]:
    return [text for name, text in files.items() if name.endswith(".py")]


@pytest.mark.parametrize("name", sorted(ALL))
def test_an_old_name_is_the_new_one_and_warns_at_the_line_that_imports_it(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    code = compile(f"\n\nfrom {module} import {attribute} as found", "a_program.py", "exec")
    namespace: dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(code, namespace)
    new_module, _, new_name = ALL[name].rpartition(".")
    assert namespace["found"] is getattr(importlib.import_module(new_module), new_name)
    assert {(str(one.message), one.filename, one.lineno) for one in caught} == {
        (said_about(name), "a_program.py", 3)
    }
    assert {one.category for one in caught} == {DeprecationWarning}


@pytest.mark.parametrize(
    "code",
    [*(block.code for block in BLOCKS), *_python(EXAMPLES)],
    ids=[*(block.place for block in BLOCKS), *(one for one in EXAMPLES if one.endswith(".py"))],
)
def test_every_import_works_and_only_old_names_warn(code: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        for _, module, name in imports_of(code):
            exec(f"from {module} import {name}", {})
    ours = {str(one.message) for one in caught if "assistant_queue" in str(one.message)}
    assert ours == {said_about(name) for name in used_in(code)}


@pytest.mark.filterwarnings("ignore:assistant_queue:DeprecationWarning")
@pytest.mark.parametrize("block", RUNNABLE, ids=lambda block: block.place)
def test_every_block_runs(block: Block, reader: Callable[[str], dict[str, Any]]) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for need in block.needs:
        namespace.update(reader(need))
    try:
        exec(compile(block.code, block.place, "exec"), namespace)
    finally:
        close_all(namespace)


def surroundings() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    kept = {name: value for name, value in kept.items() if not name.startswith("PYTEST_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def run(code: str, cwd: Path, warns: str = "error", **variables: str) -> Any:
    """Run code where warnings about our names are errors, or are written."""
    return fork_server.run(
        [sys.executable, "-c", f"{_FILTER.format(warns)}\n{code}"],
        cwd=cwd,
        env={**surroundings(), **variables},
        timeout=PATIENCE_S,
    )


_FILTER = """
import warnings
warnings.filterwarnings({!r}, "assistant_queue", DeprecationWarning)
"""
"""As the option `-W`, which is the interpreter's."""


def test_the_test_suites_of_a_page_pass(tmp_path: Path) -> None:
    assert {block.document for block in FILES} == {"docs/testing-your-bot.md"}
    for block in FILES:
        (tmp_path / str(block.file)).write_text(block.code, encoding="utf-8")
    options = ("-q", "-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function")
    filters = ("-W", "error:assistant_queue:DeprecationWarning")
    done = subprocess.run(
        [sys.executable, *filters, "-m", "pytest", *options],
        cwd=tmp_path,
        env=surroundings(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", [name for name in PROGRAMS if not is_present(EXAMPLES[name])])
def test_every_example_runs_and_says_which_names_are_old(
    name: str, examples: Path, docs_redis: RedisServer
) -> None:
    for module in PROGRAMS[name]:
        pytest.importorskip(module, reason=f"{module} is not installed", exc_type=ImportError)
    old = tuple(
        sorted(
            said_about(one)
            for file in (name, "surroundings.py")
            for one in used_in(EXAMPLES[file])
            if file == name or "surroundings" in EXAMPLES[name]
        )
    )
    done = run(
        f"import runpy\nrunpy.run_path({name!r}, run_name='__main__')",
        examples,
        warns="default" if old else "error",
        REDIS_URL=docs_redis.url.replace("/0", "/4"),
    )
    assert done.returncode == 0, done.stderr
    warned = set(re.findall(r"assistant_queue\S+ is deprecated: use \S+", done.stderr))
    assert warned == set(old)


@pytest.mark.parametrize("name", ["cookie_access.py", "jwt_access.py", "app.py"])
def test_modules_among_the_examples_are_imported_without_a_warning(
    name: str, examples: Path
) -> None:
    done = run(f"import {name.removesuffix('.py')}", examples)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("old", sorted(deprecated.MODULES))
def test_every_module_that_moved_is_where_the_table_says(old: str) -> None:
    try:
        assert importlib.util.find_spec(f"assistant_queue.{deprecated.MODULES[old]}") is not None
    except MissingExtra as error:
        pytest.skip(str(error))
    assert not (ROOT / f"assistant_queue/{old.replace('.', '/')}.py").exists()
    assert importlib.import_module(f"assistant_queue.{old}").__name__ == f"assistant_queue.{old}"


def test_every_name_in_the_table_is_where_it_says() -> None:
    for module, names in deprecated.NAMES.items():
        for old, new in names.items():
            assert old not in vars(importlib.import_module(f"assistant_queue.{module}"))
            where, _, name = f"assistant_queue.{new}".rpartition(".")
            assert hasattr(importlib.import_module(where), name), new


def test_what_is_no_old_name_is_an_error_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match="nonsense"):
        importlib.import_module("assistant_queue.nonsense")
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(importlib.import_module("assistant_queue.aio"), "nonsense")  # noqa: B009
    with pytest.raises(ImportError, match="nonsense"):
        exec("from assistant_queue.events import nonsense")
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(assistant_queue, "nonsense")  # noqa: B009


def test_stored_and_configured_names_never_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in assistant_queue.__all__:
            assert getattr(assistant_queue, name) is not None
        assert callable(jobs.wake)


def test_aliases_are_no_files() -> None:
    files = {path.stem for path in (ROOT / "assistant_queue").glob("*.py")}
    assert files & deprecated.MODULES.keys() == set()
