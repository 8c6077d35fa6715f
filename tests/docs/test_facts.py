"""What the documentation says is so."""

from __future__ import annotations

import ast
import dataclasses
import re

import pytest

import assistant_queue
from assistant_queue import AssistantMessageQueue, RunResult, errors
from assistant_queue.config import Config, configure
from assistant_queue.core.thread_state import Phase, ThreadEvent, ThreadState, diagram
from assistant_queue.errors import ConfigurationError
from assistant_queue.testing.provider.wordings import KINDS
from assistant_queue.testing.rehearsal import Rehearsal
from tests.docs.generated import (
    ROOT,
    TROUBLES,
    documents,
    environment_variable,
    names_in,
    options_table,
    refreshed,
    thread_diagram,
)

PUBLIC = [
    "AssistantMessageQueue",
    "AssistantQueueError",
    "AsyncAssistantMessageQueue",
    "BackendError",
    "Batch",
    "BatchFailed",
    "BatchNotFound",
    "CallbackError",
    "ConcurrentWorker",
    "ConfigurationError",
    "ConfigurationMismatch",
    "ConversationBusy",
    "ErrorInfo",
    "FailedBatch",
    "FormatTooNew",
    "FunctionBackend",
    "FunctionCall",
    "InvalidArgument",
    "InvalidToolResult",
    "LeaseLost",
    "Message",
    "MessageCancelled",
    "MessageIdConflict",
    "MessageNotFound",
    "MessageRefused",
    "MessageStatus",
    "NotConfigured",
    "NotPermitted",
    "NotReplicated",
    "NotSupported",
    "OutcomeUnknown",
    "QueueError",
    "QueueStatus",
    "Receipt",
    "RequestRefused",
    "RunContext",
    "RunInfo",
    "RunResult",
    "Said",
    "RunVanished",
    "StoreError",
    "StoreUnavailable",
    "ThreadBusy",
    "ThreadFull",
    "ThreadInfo",
    "ThreadMessage",
    "ThreadStatus",
    "ToolContext",
    "ToolCall",
    "ToolOutput",
    "UnknownOption",
    "UnknownThread",
    "Usage",
    "Worker",
    "max_length",
    "no_markup",
]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(name: str, title: str) -> str:
    """The text under a heading, up to the next one of its level."""
    text = read(name)
    level = title.split(" ", maxsplit=1)[0]
    return text.split(f"\n{title}\n", 1)[1].split(f"\n{level} ", 1)[0]


def first_cells(text: str) -> set[str]:
    """The first column of the tables in a text, without its ornaments."""
    rows = [line.split("|")[1].strip(" `*") for line in text.splitlines() if line.startswith("| ")]
    return {cell for cell in rows if cell and not set(cell) <= {"-"}}


def test_the_public_names_are_these() -> None:
    assert sorted(assistant_queue.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(assistant_queue, name).__name__ == name


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_generated_parts_are_fresh(document: object) -> None:
    text = document.read_text(encoding="utf-8")
    assert refreshed(text) == text, "run: python -m tests.docs.generated"
    assert len(names_in(text)) == text.count("<!-- generated:")


def test_the_generated_parts_are_where_readers_look() -> None:
    assert names_in(read("README.md")) == []
    assert names_in(read("docs/configuration.md")) == ["options"]
    assert names_in(read("docs/thread-life.md")) == ["thread-diagram"]
    assert names_in(read("docs/reliability.md")) == ["fates", "request-outcomes", "listing-outcomes", "chat-outcomes"]
    assert names_in(read("docs/events.md")) == ["events"]
    assert names_in(read("docs/backends.md")) == ["remedies", "servers"]
    assert names_in(read("docs/testing-your-bot.md")) == ["troubles"]


def test_every_kind_of_trouble_is_explained() -> None:
    forms = {"turns", "null_content"}  # of a request: refused by flags, not by a fault
    assert set(TROUBLES) == set(KINDS) - forms


def test_the_diagram_in_the_documentation_is_the_table() -> None:
    assert f"```mermaid\n{diagram()}\n```" == thread_diagram()
    assert thread_diagram() in read("docs/thread-life.md")


def test_every_state_event_and_phase_is_explained() -> None:
    states = first_cells(section("docs/thread-life.md", "## States"))
    assert states == {"state", *(state.value for state in ThreadState)}
    events = first_cells(section("docs/thread-life.md", "## Events"))
    assert events == {"event", *(event.value for event in ThreadEvent)}
    phases = first_cells(section("docs/thread-life.md", "## Phases"))
    assert phases == {"phase", *(phase.value for phase in Phase)}


def test_the_options_table_has_every_option_and_no_other() -> None:
    rows = options_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(Config.model_fields)
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) == 8, row


@pytest.mark.parametrize("name", [name for name in Config.model_fields if environment_variable(name)])
def test_the_variable_that_is_documented_is_the_one_that_is_read(name: str, no_options: None, monkeypatch: pytest.MonkeyPatch) -> None:
    before = getattr(configure({}), name)
    monkeypatch.setenv(str(environment_variable(name)), "[[7")
    try:
        after = getattr(configure({}), name)
    except ConfigurationError:
        return
    assert after != before


def test_the_fields_of_a_result_are_all_explained() -> None:
    text = section("docs/getting-started.md", "### What a result holds").split("\n## ")[0]
    explained = {name for cell in first_cells(text) for name in re.findall(r"\b[a-z_]+\b", cell)}
    assert explained == {field.name for field in dataclasses.fields(RunResult)}


def test_after_the_last_delivery_a_reply_can_be_read_and_its_batch_has_not_failed(caplog: pytest.LogCaptureFixture) -> None:
    tried: list[str] = []

    def send(result: RunResult) -> None:
        tried.append(result.batch_id)
        raise ConnectionError("the chat platform is away")

    with Rehearsal(AssistantMessageQueue(model="any", max_attempts=2, on_reply=send)) as play:
        assert play.ask("ann", "Hello") == "You said: Hello"
        receipt = play.say("ann", "And now?")
        play.run_until_idle()
        status = play.status(receipt)
        assert status is not None
        assert (status.status, status.reply) == ("completed", "You said: And now?")
        assert play.queue.list_failed() == []
    assert len(tried) == 4
    assert len(set(tried)) == 2
    assert caplog.text.count("was not delivered and will not be tried again") == 2


def error_classes() -> list[type[errors.AssistantQueueError]]:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.AssistantQueueError)]
    assert len(found) > 20
    return found


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn: dict[str, str | None] = {}
    path: list[tuple[int, str]] = []
    for line in str(errors.__doc__).splitlines():
        found = re.match(r"    ([ │├└─]*)([A-Z][A-Za-z]+)\b", line)
        if found is None:
            continue
        depth, name = len(found[1]), found[2]
        while path and path[-1][0] >= depth:
            path.pop()
        drawn[name] = path[-1][1] if path else None
        path.append((depth, name))
    real = {cls.__name__: cls.__bases__[0].__name__ if cls is not errors.AssistantQueueError else None for cls in error_classes()}
    assert drawn == real


def test_every_error_says_what_happened_in_a_word_and_a_sentence() -> None:
    for cls in error_classes():
        assert cls.__doc__, cls
        assert re.fullmatch(r"[a-z_]+", cls.code), cls


def floors() -> list[set[str]]:
    """The floors that import-linter keeps, from the top."""
    layers = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("layers = [")[1].split("]")[0]
    return [{part.strip() for part in re.split(r"[:|]", floor)} for floor in re.findall(r'"([^"]+)"', layers)]


def imports_of(name: str) -> set[str]:
    """The parts of the package that a part imports."""
    package = ROOT / "assistant_queue"
    found = set()
    for path in (package / name).rglob("*.py") if (package / name).is_dir() else [package / f"{name}.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("assistant_queue."):
                found.add(str(node.module).split(".")[1])
    return found - {name}


def test_each_part_imports_what_the_page_on_architecture_allows() -> None:
    below = floors()
    told: dict[str, set[str]] = {}
    for line in section("docs/architecture.md", "## The house").splitlines():
        if not line.startswith("| `"):
            continue
        _, parts, _, may, *_ = line.split("|")
        names = [re.sub(r"/.*|\.py$", "", part) for part in re.findall(r"`([^`]+)`", parts)]
        allowed = set(re.findall(r"`([^`]+)`", may))
        floor = next((number for number, one in enumerate(below) if names[0] in one), 0)
        if re.search("everything|each other|anything", may):
            allowed |= set().union(*below[floor:])  # of its own floor, too
        if "and below" in may:
            allowed |= set().union(*below[min(number for number, one in enumerate(below) if one & allowed) :])
        told.update(dict.fromkeys(names, allowed))
    assert told.keys() == set().union(*below) | {"testing"}
    assert {name: imports_of(name) - allowed for name, allowed in told.items() if imports_of(name) - allowed} == {}


def functions_of(path: str) -> set[str]:
    tree = ast.parse(read(path))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


TEXTS = [document.read_text(encoding="utf-8") for document in documents()]
NAMED_TESTS = sorted({name for text in TEXTS for name in re.findall(r"`(tests/\S+\.py::test_\w+)`", text)})


def test_promises_name_the_tests_that_show_them() -> None:
    assert len(NAMED_TESTS) > 15


@pytest.mark.parametrize("name", NAMED_TESTS)
def test_a_test_that_is_named_exists(name: str) -> None:
    path, test = name.split("::")
    assert test in functions_of(path)


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_links_lead_somewhere(document: object) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_documents_that_the_code_refers_to_exist() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "assistant_queue").rglob("*.py")]
    named = {name for source in sources for name in re.findall(r"docs/[a-z-]+\.md", source)}
    assert "docs/reliability.md" in named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= 120


def test_what_the_readme_says_is_missing_is_missing() -> None:
    missing = read("README.md").split("<!-- not yet -->\n", 1)[1].split("\n\n", 1)[0]
    names = re.findall(r"`queue\.(\w+)`", missing)
    for name in names:
        assert not hasattr(AssistantMessageQueue, name), f"{name} is there: take it out of README's list"
