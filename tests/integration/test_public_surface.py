"""The public API, name by name: what is promised is there, and each argument of each name is checked.

A name that is new and not in these tables turns a test red.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import redis

import assistant_queue
from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    BatchNotFound,
    ConfigurationError,
    InvalidArgument,
    MessageNotFound,
    UnknownOption,
)
from assistant_queue.testing import StandInProvider
from tests.conftest import RedisServer

CLASSES = {"blocking": AssistantMessageQueue, "asyncio": AsyncAssistantMessageQueue}

OPTIONS = {
    "redis_url": "redis://localhost:6379/0",
    "redis": None,
    "openai_api_key": None,
    "openai_base_url": None,
    "openai_client": None,
    "assistant_id": None,
    "model": None,
    "prompt": None,
    "tools": None,
    "backend": None,
    "queue_prefix": "assistant",
    "message_delay": 10.0,
    "window": "fixed",
    "max_wait": None,
    "max_batch_size": None,
    "after_run": "immediate",
    "max_pending": None,
    "max_attempts": 3,
    "retry_for": 600.0,
    "concurrency": 5,
    "lock_duration": 30.0,
    "run_timeout": 600.0,
    "request_timeout": 30.0,
    "stream_idle_timeout": 120.0,
    "on_context_overflow": "truncate",
    "default_instructions": "Reply to all messages logically.",
    "run_options": {},
    "remove_on_complete": True,
    "result_ttl": 86400.0,
    "thread_ids": "auto",
    "handle_requires_action": None,
    "on_reply": None,
}
"""The constructor's promised keywords and defaults (`backoff` is compared below)."""

PARAMETERS = {
    "add_message_to_thread": [
        "thread_id",
        "message",
        "instructions",
        "message_id",
        "author",
        "metadata",
        "tenant",
        "wants_reply",
        "message_delay",
        "hold",
        "mid_run",
    ],
    "ask": [
        "thread_id",
        "message",
        "instructions",
        "timeout",
        "message_id",
        "author",
        "metadata",
        "tenant",
        "message_delay",
        "mid_run",
    ],
    "say": ["thread_id", "text", "author", "kind"],
    "get_message": ["message_id"],
    "wait_for_reply": ["message_id", "timeout"],
    "cancel": ["message_id", "running"],
    "get_queue_status": [],
    "get_metrics": [],
    "get_thread_status": ["thread_id"],
    "start_worker": [],
    "list_failed": ["limit", "after"],
    "retry_failed": ["batch_id"],
    "discard_failed": ["batch_id"],
    "retry_failed_all": ["reason", "thread_id"],
    "discard_failed_all": ["reason", "thread_id"],
    "pause": ["thread_id"],
    "resume": ["thread_id"],
    "flush": ["thread_id"],
    "stop": ["thread_id"],
    "take_over": ["thread_id", "by", "instead_of", "stop"],
    "hand_back": ["thread_id"],
    "promote": ["message_id", "mid_run"],
    "forget_thread": ["thread_id"],
    "create_thread": ["metadata"],
    "get_thread": ["thread_id"],
    "create_message": ["thread_id", "content"],
    "list_messages": ["thread_id", "limit", "order", "after", "before"],
    "create_run": ["thread_id", "instructions", "tools", "metadata"],
    "cancel_run": ["thread_id", "run_id"],
    "submit_tool_outputs": ["thread_id", "run_id", "outputs"],
    "get_queue": [],
    "get_jobs_by_thread_id": ["thread_id"],
    "close": [],
    "list_approvals": ["limit", "after", "thread_id"],
    "approve": ["call_id", "by", "arguments"],
    "deny": ["call_id", "by", "reason"],
    "answer_tool": ["call_id", "output", "by"],
    "tool": ["function", "name", "description", "timeout", "interruptible", "approval"],
    "on": ["name", "function"],
    "explain": ["message_or_thread_id"],
    "get_timeline": ["thread_id", "limit", "before"],
    "list_threads": ["state", "limit", "after", "order"],
    # Beyond what was promised.
    "add_messages": ["messages"],
    "edit_message": ["message_id", "message", "running"],
    "get_run": ["thread_id", "run_id"],
    "get_messages_by_job_id": ["job_id"],
    "events": ["thread_id", "after", "timeout"],
    "open_events": ["thread_id"],
    "feed": ["after", "timeout"],
    "typing": ["thread_id", "author"],
    "handle_provider_webhook": ["body", "headers"],
    "approval_links": ["call_id", "base_url", "by", "expires_in"],
}

FIELDS = {
    "Receipt": ["message_id", "thread_id", "job_id", "due_at", "duplicate"],
    "MessageStatus": ["status", "thread_id", "run_id", "reply", "replies", "attempts", "error", "batch_id"],
    "QueueStatus": ["active_count", "waiting_count", "delayed_count", "completed_count", "failed_count"],
    "ThreadStatus": ["state", "pending_count", "batch_id", "run_id", "due_at", "attempts", "paused"],
    "FailedBatch": ["batch_id", "thread_id", "message_ids", "reason", "error", "attempts", "known_run_id", "failed_at"],
    "RunResult": [
        "thread_id", "run_id", "batch_id", "message_ids", "messages_processed", "status", "incomplete_reason", "reply", "replies",
        "usage", "attempts", "started_at", "ended_at",
    ],
    "ToolOutput": ["tool_call_id", "output"],
}  # fmt: skip

BAD_ID = ["", "x" * 513, 7, None, b"bytes", "\ud800"]
BAD_TEXT = ["", " \n", 7, None, b"bytes", [], [{"no": "type"}], "x" * 256_001]
BAD_METADATA = [
    7,
    {"a": 1},
    {"": "b"},
    {"k" * 65: "v"},
    {"k": "v" * 513},
    {str(n): "" for n in range(15)},
]
BAD_TIMEOUT = [-1, "soon", True, float("inf"), float("nan"), None]

GOOD = {
    "thread_id": "t",
    "message": "text",
    "content": "text",
    "message_id": "m",
    "message_or_thread_id": "m",
    "batch_id": "b",
    "job_id": "0123456789abcdef",
    "run_id": "run_1",
    "timeout": 0,
    "messages": [{"thread_id": "t", "message": "text"}],
    "outputs": [],
    "text": "text",
    "kind": "notice",
    "name": "completed",
    "body": b"{}",
    "headers": {},
    "by": "Jo",
    "call_id": "c",
    "base_url": "https://chat.example.com",
    "output": "text",
}
BAD: dict[str, list[Any]] = {
    "thread_id": BAD_ID,
    "message": BAD_TEXT,
    "content": BAD_TEXT,
    "text": ["", " ", 7, None, b"bytes", "x" * 256_001],
    "kind": ["note", "", 7, None],
    "instructions": ["", " ", 7, b"bytes", "x" * 256_001],
    "message_id": BAD_ID,
    "message_or_thread_id": BAD_ID,
    "author": ["", " ", 7, "two\nlines", "x" * 129],
    "tenant": ["", " ", 7, "two\nlines", "x" * 129],
    "wants_reply": [None, 0, 1, "no"],
    "message_delay": [-1, 1e10, "soon", True],
    "hold": [-1, 61, "soon", True],
    "mid_run": ["stop", "", 5, True],
    "interruptible": [None, 1, "no"],
    "running": [None, 1, "yes"],
    "by": ["", " ", 7, None, "two\nlines", "x" * 129],
    "instead_of": ["", " ", 7, "two\nlines", "x" * 129],
    "stop": [None, 1, "no"],
    "metadata": BAD_METADATA,
    "timeout": BAD_TIMEOUT,
    "limit": [0, -1, 1001, "ten", True, 2.5, None],
    "after": ["", 7, "x" * 513],
    "before": ["", 7, "x" * 513],
    "order": ["up", "", 7, None],
    "state": ["idle", "", 7, []],
    "batch_id": BAD_ID,
    "job_id": BAD_ID,
    "run_id": ["", 7, None, "x" * 513],
    "tools": [7, "name", [7]],
    "outputs": [7, "text", None, [7], [{"tool_call_id": "c"}], [{"output": "x"}]],
    "messages": [
        7,
        [7],
        [{"thread_id": "t"}],
        [{"thread_id": "t", "message": ""}],
        [{"thread_id": "t", "message": "x", "spelled": 1}],
    ],
    "reason": ["", 7, "lost", b"attempts"],
    "function": [7, "name"],
    "name": ["two words", "", 7],
    "description": [7],
    "body": [7, None, {}],
    "headers": [7, None, "webhook-id: 1"],
    "approval": [7, "{", "{nothing}", " "],
    "call_id": ["", 7, None, "x" * 513],
    "arguments": [7, "text", [1], {"amount": object()}],
    "base_url": [
        7,
        None,
        "",
        "chat.example.com",
        "ftp://x",
        "https://",
        "https://a/?q",
        "http://[",
        "https://a b",
        "https://u@a",
        "https://ä",
    ],
    "expires_in": [0, -1, True, "soon", float("nan"), 1e9],
    "output": [object()],
}
OPTIONAL = {"message_id": {None}, "thread_id": {None}}
"""Parameters that accept None as a value: a message's generated id, the whole queue."""
ANY_THREAD = {"list_approvals", "pause", "resume", "retry_failed_all", "discard_failed_all"}
"""Calls whose thread may be None."""


NO_NAME = {"approve", "deny", "answer_tool", "approval_links"}
"""Calls with a `by` that may be None."""


def public_names(queue_class: type) -> list[str]:
    return [name for name in dir(queue_class) if not name.startswith("_")]


@pytest.mark.parametrize("queue_class", CLASSES.values(), ids=CLASSES)
def test_every_promised_name_is_there_with_its_parameters_and_nothing_is_unknown_here(
    queue_class: type,
) -> None:
    found = {
        name: list(inspect.signature(getattr(queue_class, name)).parameters)[1:]
        for name in public_names(queue_class)
    }
    assert found == PARAMETERS


@pytest.mark.parametrize("queue_class", CLASSES.values(), ids=CLASSES)
def test_the_constructor_has_the_promised_keywords_and_defaults(queue_class: type) -> None:
    parameters = inspect.signature(queue_class).parameters
    assert {name: parameters[name].default for name in OPTIONS} == OPTIONS
    for name, default in OPTIONS.items():
        assert f"\n        {name} ({default!r}" in str(queue_class.__doc__), (
            "help() has every option"
        )
    assert parameters["backoff"].default == {"type": "exponential", "delay": 5.0}
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


def test_every_call_of_the_asyncio_class_is_awaited() -> None:
    plain = {
        name
        for name in public_names(AsyncAssistantMessageQueue)
        if not inspect.iscoroutinefunction(getattr(AsyncAssistantMessageQueue, name))
    }
    assert plain == {"tool", "on", "events", "feed"}, "decorators, and iterators"


@pytest.mark.parametrize(("name", "fields"), FIELDS.items(), ids=FIELDS)
def test_the_values_have_the_promised_fields_and_are_frozen(name: str, fields: list[str]) -> None:
    kind = getattr(assistant_queue, name)
    assert set(fields) <= {field.name for field in dataclasses.fields(kind)}
    assert kind.__dataclass_params__.frozen


def bad_calls() -> Iterator[tuple[str, str, Any]]:
    """Each call, with each of its parameters, with each bad value of it."""
    for name, parameters in PARAMETERS.items():
        for parameter in parameters:
            for value in BAD[parameter]:
                if (
                    value is None
                    and name in {"add_message_to_thread", "ask"}
                    and parameter == "message_id"
                ):
                    continue
                if value is None and name in ANY_THREAD and parameter == "thread_id":
                    continue
                if value is None and name in {"events", "feed"} and parameter == "timeout":
                    continue
                if (name, value) == ("deny", "lost"):
                    continue
                if value is None and parameter == "by" and name in NO_NAME:
                    continue
                if name == "tool" and parameter != "function" and value is None:
                    continue
                yield name, parameter, value


@pytest.fixture(params=sorted(CLASSES))
async def queue(
    request: pytest.FixtureRequest, one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> Any:
    made = CLASSES[request.param](
        redis_url=one_redis.url,
        queue_prefix=prefix,
        openai_api_key=provider.api_key,
        openai_base_url=provider.base_url,
        model="m",
    )
    yield made
    closed = made.close()
    if inspect.isawaitable(closed):
        await closed


async def call_with(queue: Any, name: str, parameter: str, value: Any) -> None:
    needed = {
        one.name: GOOD[one.name]
        for one in inspect.signature(getattr(queue, name)).parameters.values()
        if one.default is inspect.Parameter.empty and one.name != parameter
    }
    result = getattr(queue, name)(**needed, **{parameter: value})
    if inspect.isawaitable(result):
        await result
    if name == "tool" and parameter != "function":
        result(lambda: None)


async def test_a_bad_argument_of_any_call_is_a_typed_error_with_nothing_changed(
    queue: Any, provider: StandInProvider
) -> None:
    wrong = []
    before: tuple[set[bytes], int] = (set(), 0)
    with redis.Redis.from_url(queue.config.redis_url) as client:
        for name, parameter, value in bad_calls():
            expected = ConfigurationError if name == "tool" else InvalidArgument
            said = "accepted"
            try:
                await call_with(queue, name, parameter, value)
            except Exception as error:
                said = "" if isinstance(error, expected) and str(error) else repr(error)
            keys = set(client.scan_iter(f"{queue.config.queue_prefix}:*", count=1000))
            after = (keys, len(provider.requests))
            if said or after != before:
                wrong.append(f"{name}({parameter}={str(value)[:20]!r}): {said} {after}")
            before = after
    assert wrong == [], "\n".join(wrong)


async def test_what_is_not_there_is_said_so(queue: Any) -> None:
    async def call(name: str, *args: Any) -> Any:
        result = getattr(queue, name)(*args)
        return await result if inspect.isawaitable(result) else result

    for name in ("retry_failed", "discard_failed"):
        with pytest.raises(BatchNotFound):
            await call(name, "unknown")
    with pytest.raises(BatchNotFound):
        await call("list_failed", 10, "unknown")
    for arguments in (("wait_for_reply", "unknown", 0), ("edit_message", "unknown", "text")):
        with pytest.raises(MessageNotFound):
            await call(*arguments)
    assert await call("get_message", "unknown") is None
    assert (await call("get_metrics")).messages["queued"] == 0
    assert await call("cancel", "unknown") is False
    assert (await call("get_thread_status", "unknown")).state == "idle"
    assert await call("get_jobs_by_thread_id", "unknown") == []
    assert await call("get_messages_by_job_id", "unknown") == []


@pytest.mark.parametrize("queue_class", CLASSES.values(), ids=CLASSES)
def test_an_unknown_option_names_the_nearest(queue_class: type) -> None:
    with pytest.raises(UnknownOption, match="message_delay"):
        queue_class(mesage_delay=3)
    with pytest.raises(TypeError):
        queue_class("redis://localhost")
