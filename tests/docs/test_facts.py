"""Statements of the documentation, compared with the code."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path
from typing import get_args

import pytest

import assistant_queue
from assistant_queue import AssistantMessageQueue, RunResult, errors
from assistant_queue.config import Config, configure
from assistant_queue.core.runs import Capabilities
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
    options_list,
    refreshed,
    thread_diagram,
)
from tests.each import each

PUBLIC = [
    "Approval",
    "ApprovalKind",
    "ApprovalLinks",
    "ApprovalNotFound",
    "AnswerLater",
    "AssistantMessageQueue",
    "AssistantQueueError",
    "AsyncAssistantMessageQueue",
    "AttemptInfo",
    "BackendError",
    "BackoffKeywords",
    "Batch",
    "BatchFailed",
    "BatchNotFound",
    "BatchOutcome",
    "BatchRecord",
    "CallbackError",
    "CompletedListener",
    "ConcurrentWorker",
    "ConfigurationError",
    "ConfigurationMismatch",
    "Content",
    "ConversationBusy",
    "DeliveredReply",
    "DeliveryError",
    "DeliveryRecord",
    "DeliveryStatus",
    "DeliveryUnknown",
    "ErrorInfo",
    "Event",
    "Explanation",
    "ExplanationVerdict",
    "FailedBatch",
    "FailedListener",
    "FailureReason",
    "FallbackReply",
    "FlushCallable",
    "FormatTooNew",
    "FunctionBackend",
    "FunctionCall",
    "GuestCall",
    "Histogram",
    "InstructionsCallable",
    "InvalidArgument",
    "InvalidToolResult",
    "LeaseLost",
    "LoopWorkerHandle",
    "Message",
    "MessageCancelled",
    "MessageIdConflict",
    "MessageNotFound",
    "MessageRefused",
    "MessageRow",
    "MessageState",
    "MessageStateName",
    "MessageStatus",
    "Metrics",
    "NotConfigured",
    "NotPermitted",
    "NotReplicated",
    "NotSupported",
    "OnReply",
    "OpenCalls",
    "OutcomeUnknown",
    "PostponedBatch",
    "QueueError",
    "QueueStatus",
    "Receipt",
    "RequestRefused",
    "RequiresActionHandler",
    "ResultStatus",
    "RetryLater",
    "RunContext",
    "RunInfo",
    "RunResult",
    "RunVanished",
    "Said",
    "SettledCall",
    "ShareCallable",
    "StateTooLarge",
    "StoreError",
    "StoreUnavailable",
    "ThreadBusy",
    "ThreadFull",
    "ThreadInfo",
    "ThreadMessage",
    "ThreadFilter",
    "ThreadOrder",
    "ThreadStateName",
    "ThreadStatus",
    "ThreadTakenOver",
    "Timeline",
    "TokenMetrics",
    "ToolMetrics",
    "ToolCall",
    "ToolCallRecord",
    "ToolContext",
    "ToolOutput",
    "Undeliverable",
    "UnknownOption",
    "UnknownThread",
    "Usage",
    "Validator",
    "Worker",
    "WorkerHandle",
    "WorkerMetrics",
    "max_length",
    "no_markup",
]

TYPE_ALIASES = {
    "ApprovalKind",
    "BatchOutcome",
    "Content",
    "DeliveryStatus",
    "Event",
    "FailureReason",
    "MessageStateName",
    "ResultStatus",
    "ThreadFilter",
    "ThreadOrder",
    "ThreadStateName",
}


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
    for name in set(PUBLIC) - TYPE_ALIASES:
        assert getattr(assistant_queue, name).__name__ == name
    for name in TYPE_ALIASES:
        assert get_args(getattr(assistant_queue, name))


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_generated_parts_are_fresh(document: object) -> None:
    text = document.read_text(encoding="utf-8")
    assert refreshed(text) == text, "run: python -m tests.docs.generated"
    assert len(names_in(text)) == text.count("<!-- generated:")


def test_the_generated_parts_are_where_readers_look() -> None:
    assert names_in(read("README.md")) == []
    assert names_in(read("docs/configuration.md")) == ["options"]
    assert names_in(read("docs/thread-life.md")) == ["thread-diagram", "failure-reasons"]
    assert names_in(read("docs/reliability.md")) == [
        "fates",
        "failures",
        "delivery-failures",
        "request-outcomes",
        "listing-outcomes",
        "chat-outcomes",
    ]
    assert names_in(read("docs/troubleshooting.md")) == ["explanation", "verdicts"]
    assert names_in(read("docs/events.md")) == ["events"]
    assert names_in(read("docs/backends.md")) == ["remedies", "servers"]
    assert names_in(read("docs/testing-your-bot.md")) == ["troubles"]
    assert names_in(read("docs/metrics.md")) == ["metrics", "alerts"]


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


def test_the_list_of_options_has_every_option_and_no_other() -> None:
    assert re.findall(r"^- `(\w+)` \(", options_list(), re.MULTILINE) == list(Config.model_fields)
    assert max(len(line) for line in options_list().splitlines()) <= 100


@pytest.mark.parametrize(
    "name", [name for name in Config.model_fields if environment_variable(name)]
)
def test_the_variable_that_is_documented_is_the_one_that_is_read(
    name: str, no_options: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = getattr(configure({}), name)
    monkeypatch.setenv(str(environment_variable(name)), "[[7")
    try:
        after = getattr(configure({}), name)
    except ConfigurationError:
        return
    assert after != before


def test_every_capability_is_explained_and_no_other() -> None:
    text = section("docs/backends.md", "## Capabilities")
    fields = [field.name for field in dataclasses.fields(Capabilities)]
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == fields
    assert re.findall(r"^- `(\w+)`:", text, re.MULTILINE) == fields


def test_the_fields_of_a_result_are_all_explained() -> None:
    text = section("docs/getting-started.md", "### What a result holds").split("\n## ")[0]
    terms = re.findall(r"^- \W*(`[^:]*):", text, re.MULTILINE)
    explained = {name for term in terms for name in re.findall(r"\b[a-z_]+\b", term)}
    assert explained == {field.name for field in dataclasses.fields(RunResult)}


def test_a_reply_that_is_not_delivered_can_be_read_and_delivered_from_the_failed_list() -> None:
    tried: list[tuple[str, bool]] = []
    is_away = True

    def send(result: RunResult) -> None:
        tried.append((result.batch_id, result.late))
        if is_away:
            raise ConnectionError("the chat platform is away")

    queue = AssistantMessageQueue(model="any", delivery_attempts=2, on_reply=send)
    with Rehearsal(queue) as play:
        receipt = play.say("ann", "Hello")
        play.run_until_idle()
        status = play.status(receipt)
        assert status is not None
        assert (status.status, status.reply) == ("completed", "You said: Hello")
        assert status.delivery == "undelivered"
        (failed,) = play.queue.list_failed()
        assert (failed.reason, failed.attempts) == ("undelivered", 2)
        is_away = False
        play.queue.retry_failed(failed.batch_id)
        play.run_until_idle()
        again = play.status(receipt)
        assert again is not None
        assert again.delivery == "delivered"
        assert again.timeline.delivered_at is not None
        assert play.queue.list_failed() == []
    assert [is_late for _, is_late in tried] == [False, False, True]
    assert len({batch_id for batch_id, _ in tried}) == 1


def error_classes() -> list[type[errors.AssistantQueueError]]:
    found = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.AssistantQueueError)
    ]
    assert len(found) > 20
    return found


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn: dict[str, str | None] = {}
    path: list[tuple[int, str]] = []
    for line in str(errors.__doc__).splitlines():
        found = re.match(r"    ([ │├└─]*)([A-Z][A-Za-z]+)\b", line)
        if found is None:
            continue
        depth = len(found[1])
        name = found[2]
        while path and path[-1][0] >= depth:
            path.pop()
        drawn[name] = path[-1][1] if path else None
        path.append((depth, name))
    real = {
        cls.__name__: cls.__bases__[0].__name__ if cls is not errors.AssistantQueueError else None
        for cls in error_classes()
    }
    assert drawn == real


def test_every_error_says_what_happened_in_a_word_and_a_sentence() -> None:
    for cls in error_classes():
        assert cls.__doc__, cls
        assert re.fullmatch(r"[a-z_]+", cls.code), cls


def test_the_layers_of_the_page_on_architecture_are_the_contracts() -> None:
    contracts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    layers = re.findall(r'"([^"]+)"', contracts.split("layers = [")[1].split("]")[0])
    drawn = section("docs/architecture.md", "## Layers").split("```text\n")[1].split("```")[0]
    assert drawn.splitlines() == layers


def test_the_layout_of_the_page_on_architecture_names_each_part() -> None:
    package = ROOT / "assistant_queue"
    text = section("docs/architecture.md", "## Layout")
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    named = {name.split("/")[0] for name in re.findall(r"`([a-z_]+/[a-z_/]*)`", text)}
    assert folders <= named
    modules = {path.name for path in package.glob("*.py")} - {"__init__.py", "deprecated.py"}
    assert modules <= set(re.findall(r"`([a-z_]+\.py)`", text))


def test_files_that_the_page_on_architecture_names_exist() -> None:
    package = ROOT / "assistant_queue"
    files = [path.relative_to(package) for path in package.rglob("*") if path.is_file()]
    text = re.sub(r"(?s)## Figures.*", "", read("docs/architecture.md"))
    named = re.findall(r"(?:[a-z_]+/)*[a-z_]+\.(?:py|lua)\b", text.replace("tests/docs/", ""))
    assert len(named) > 60
    known = {str(Path(*path.parts[start:])) for path in files for start in range(len(path.parts))}
    assert [name for name in named if name not in known | {"test_facts.py"}] == []


def functions_of(path: str) -> set[str]:
    tree = ast.parse(read(path))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


TEXTS = [document.read_text(encoding="utf-8") for document in documents()]
NAMED_TESTS = sorted(
    {name for text in TEXTS for name in re.findall(r"`(tests/\S+\.py::test_\w+)`", text)}
)


def test_promises_name_the_tests_that_show_them() -> None:
    assert len(NAMED_TESTS) > 15


@each("name", NAMED_TESTS)
def test_a_test_that_is_named_exists(name: str) -> None:
    path, test = name.split("::")
    assert test in functions_of(path)


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_links_lead_somewhere(document: object) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    plain = re.sub(r"(?ms)^```.*?^```", "", text)
    titles = re.findall(r"^#+ (.*)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_links_lead_to_headings(document: object) -> None:
    text = document.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]*)\)", text):
        if not target.startswith("http"):
            page = document.parent / target if target else document
            assert anchor in anchors(page.read_text(encoding="utf-8")), f"{target}#{anchor}"


def test_documents_that_the_code_refers_to_exist() -> None:
    sources = [
        path.read_text(encoding="utf-8") for path in (ROOT / "assistant_queue").rglob("*.py")
    ]
    named = {name for source in sources for name in re.findall(r"docs/[a-z-]+\.md", source)}
    assert "docs/reliability.md" in named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= 120


def test_what_the_readme_says_is_missing_is_missing() -> None:
    missing = read("README.md").split("<!-- not yet -->\n", 1)[1].split("\n\n", 1)[0]
    names = re.findall(r"`queue\.(\w+)`", missing)
    for name in names:
        assert not hasattr(AssistantMessageQueue, name), (
            f"{name} is there: take it out of README's list"
        )
