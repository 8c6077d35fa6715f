"""One suite for every server, inherited by the tests of each project."""

from __future__ import annotations

import queue as queues
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, BatchFailed, RunResult
from assistant_queue.events import AttemptFailed, ReplyReady, TextDelta
from assistant_queue.models import MessageStatus
from assistant_queue.testing.provider import Never, Reply, RunFailure, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome
from tests.conftest import PATIENCE_S

ORDER_STATUS = {
    "type": "function",
    "name": "order_status",
    "description": "Where an order is.",
    "parameters": {
        "type": "object",
        "properties": {"order": {"type": "integer"}},
        "required": ["order"],
    },
}

MakeQueue = Callable[..., AssistantMessageQueue]
Doctor = Callable[[dict[str, Any]], str]


@dataclass(kw_only=True)
class Foreign:
    """A server that runs, how a queue talks to it, and what its model says.

    Attributes:
        options: For the queue: address, key, model, protocol.
        says_first: The answer to a thread's first batch, of its texts.
        says_next: The answer to a later one.
        found: The answer to the output "on its way" of a tool.
        has_deltas: The text comes in pieces.
        requests: How many requests the model has been asked with so far.
    """

    options: dict[str, Any]
    says_first: Callable[..., str]
    says_next: Callable[..., str]
    found: str
    requests: Callable[[], int]
    has_deltas: bool = True


class Delivered:
    """Receives what `on_reply` is given; the worker calls it after the reply can be read."""

    def __init__(self) -> None:
        self._results: queues.Queue[RunResult] = queues.Queue()

    def __call__(self, result: RunResult) -> None:
        self._results.put(result)

    def one(self) -> RunResult:
        """Return the next result, and see that no other is there."""
        result = self._results.get(timeout=PATIENCE_S)
        assert self._results.empty()
        return result


def says(turn: Turn) -> Outcome:
    """Answer as a model behind a proxy: an order is looked up by the tool, everything else is repeated."""
    said = turn.user_texts[-1] if turn.user_texts else ""
    if turn.tool_outputs:
        return f"found: {turn.tool_outputs[-1].output}"
    if turn.tools and "order" in said:
        return ToolCalls([("order_status", {"order": 7})])
    return f"You said: {' | '.join(turn.user_texts)}"


class Once:
    """Return a model that answers the given outcome first, and then as usual."""

    def __init__(self, first: Outcome) -> None:
        self._outcomes = [first]

    def __call__(self, turn: Turn) -> Outcome:
        return self._outcomes.pop() if self._outcomes else says(turn)


SLOWLY = Reply("one two three four five six", chunks=6, delay=6.0)
"""A long answer, for tests that act in the middle of it."""

NEVER = Never()
CRASH = RunFailure("server_error", "the model crashed")


def failure_of(queue: AssistantMessageQueue, thread: str, content: Any) -> str:
    """Add a message that has to fail, and return its failure."""
    with pytest.raises(BatchFailed) as failed:
        queue.ask(thread, content, timeout=PATIENCE_S)
    return str(failed.value)


def first_error(queue: AssistantMessageQueue, message_id: str) -> MessageStatus:
    """Wait until a message has met its first failure."""
    until = time.monotonic() + PATIENCE_S
    while True:
        status = queue.get_message(message_id)
        assert status is not None
        if status.error is not None:
            return status
        assert time.monotonic() < until, status
        time.sleep(0.02)


def keeps_its_backlog(queue: AssistantMessageQueue, *advice: str) -> None:
    """See that at this address a message waits instead of failing, and that its error tells what to correct."""
    receipt = queue.add_message_to_thread("ann", "hi")
    status = first_error(queue, receipt.message_id)
    assert status.status in {"queued", "processing"}, status
    assert status.error is not None
    for words in advice:
        assert words in status.error.message, status.error.message
    assert queue.list_failed() == []


class UsualBehaviour:
    """Plain batches, bursts, tools, deltas, several threads: a module's tests inherit it and give the fixture `foreign`."""

    def test_a_message_is_answered_with_its_usage(
        self, make_queue: MakeQueue, foreign: Foreign
    ) -> None:
        delivered = Delivered()
        queue = make_queue(**foreign.options, on_reply=delivered)
        receipt = queue.add_message_to_thread("ann", "hi")
        assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == foreign.says_first("hi")
        status = queue.get_message(receipt.message_id)
        assert status is not None
        assert (status.status, status.attempts, bool(status.run_id)) == ("completed", 1, True)
        usage = delivered.one().usage
        assert usage is not None
        assert usage.input_tokens > 0
        assert usage.output_tokens > 0

    def test_a_burst_is_one_request(self, make_queue: MakeQueue, foreign: Foreign) -> None:
        queue = make_queue(**foreign.options, message_delay=0.5)
        before = foreign.requests()
        receipts = [
            queue.add_message_to_thread("ann", text)
            for text in ("hi", "my lamp is broken", "can you help?")
        ]
        replies = {queue.wait_for_reply(receipt.message_id, PATIENCE_S) for receipt in receipts}
        assert replies == {foreign.says_first("hi", "my lamp is broken", "can you help?")}
        assert foreign.requests() == before + 1

    def test_the_conversation_continues(self, make_queue: MakeQueue, foreign: Foreign) -> None:
        queue = make_queue(**foreign.options)
        assert queue.ask("ann", "hi", timeout=PATIENCE_S) == foreign.says_first("hi")
        assert queue.ask("ann", "anybody?", timeout=PATIENCE_S) == foreign.says_next("anybody?")
        assert queue.ask("bob", "hi", timeout=PATIENCE_S) == foreign.says_first("hi")

    def test_a_function_is_called_once_and_its_output_answered(
        self, make_queue: MakeQueue, foreign: Foreign
    ) -> None:
        called: list[tuple[str, str]] = []

        def handle(_thread: str, _run: str, calls: Any) -> Any:
            called.extend((call.function.name, call.function.arguments) for call in calls)
            return [{"tool_call_id": call.id, "output": "on its way"} for call in calls]

        queue = make_queue(**foreign.options, tools=[ORDER_STATUS], handle_requires_action=handle)
        assert queue.ask("ann", "where is my order?", timeout=PATIENCE_S) == foreign.found
        assert [(name, arguments.replace(" ", "")) for name, arguments in called] == [
            ("order_status", '{"order":7}')
        ]
        # The round is a part of what is remembered: the server takes it again.
        assert queue.ask("ann", "thank you", timeout=PATIENCE_S) == foreign.says_next("thank you")

    def test_calls_that_a_failed_batch_left_open_do_not_stop_the_thread(
        self, make_queue: MakeQueue, foreign: Foreign
    ) -> None:
        queue = make_queue(
            **foreign.options,
            tools=[ORDER_STATUS],
            handle_requires_action=lambda *_: "this is no list of outputs",
            max_attempts=2,
        )
        failure_of(queue, "ann", "where is my order?")
        assert queue.ask("ann", "hello again", timeout=PATIENCE_S)

    def test_the_text_arrives_in_pieces_that_make_the_reply(
        self, make_queue: MakeQueue, foreign: Foreign
    ) -> None:
        queue = make_queue(**foreign.options)
        begin = queue.open_events("ann")
        queue.add_message_to_thread("ann", "hi")
        pieces: list[str] = []
        for event in queue.events("ann", after=begin, timeout=PATIENCE_S):
            assert not isinstance(event, AttemptFailed), event
            if isinstance(event, TextDelta):
                pieces.append(event.text)
            if isinstance(event, ReplyReady):
                assert event.reply == foreign.says_first("hi")
                break
        assert "".join(pieces) in {foreign.says_first("hi"), "" if not foreign.has_deltas else None}

    def test_many_threads_at_once_are_answered_once_each(
        self, make_queue: MakeQueue, foreign: Foreign
    ) -> None:
        queue = make_queue(**foreign.options, concurrency=8)
        before = foreign.requests()
        receipts = [queue.add_message_to_thread(f"thread-{number}", "hi") for number in range(12)]
        replies = [queue.wait_for_reply(receipt.message_id, PATIENCE_S) for receipt in receipts]
        assert replies == [foreign.says_first("hi")] * 12
        assert foreign.requests() == before + 12

    def test_the_doctor_finds_nothing_bad_at_the_server(
        self, doctor: Doctor, foreign: Foreign
    ) -> None:
        said = doctor(foreign.options)
        assert "ok  the model answered a question" in said
        assert [
            line
            for line in said.splitlines()
            if line.lstrip().startswith("bad") and "no worker is alive" not in line
        ] == []
