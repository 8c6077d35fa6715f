"""Whatever stands in the place of a field, the readers of the three protocols do not stumble."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.backends.assistants import parser as assistants
from assistant_queue.backends.assistants.parser import RunReader
from assistant_queue.backends.chat_completions.parser import ChatReader, tool_call, with_ids
from assistant_queue.backends.openai.content import same_content
from assistant_queue.backends.openai.message_reader import message_of
from assistant_queue.backends.openai.wire_events import WireEvent, name_of
from assistant_queue.backends.reasoning_tags import ReasoningTags
from assistant_queue.backends.responses.parser import ResponseReader, answer_of
from assistant_queue.core.runs import RunEnded, TextChunk
from assistant_queue.errors import BackendError

Event = tuple[str, dict[str, Any]]

MESSAGE = {
    "id": "m",
    "type": "message",
    "object": "thread.message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "hi"}],
    "metadata": {"a": "b"},
    "created_at": 1,
}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESPONSE = {
    "id": "r",
    "object": "response",
    "status": "completed",
    "background": True,
    "output": [
        {"id": "rs", "type": "reasoning", "summary": []},
        MESSAGE,
        {"id": "fc", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    ],
    "usage": {"input_tokens": 1, "output_tokens": 2, "output_tokens_details": {"cached": 1}},
    "incomplete_details": {"reason": "max_output_tokens"},
}
RUN = {
    "id": "run",
    "object": "thread.run",
    "status": "completed",
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    "required_action": {"submit_tool_outputs": {"tool_calls": [CALL]}},
    "incomplete_details": {"reason": "max_completion_tokens"},
}
OF_RESPONSES: list[Event] = [
    ("response.created", {"response": {**RESPONSE, "status": "in_progress"}}),
    ("response.output_text.delta", {"item_id": "m", "delta": "hi", "sequence_number": 2}),
    ("response.output_item.done", {"item": MESSAGE}),
    ("response.completed", {"response": RESPONSE}),
    ("response.incomplete", {"response": {**RESPONSE, "status": "incomplete", "output": []}}),
    ("error", {"error": {"message": "no", "code": "rate_limit_exceeded"}}),
]
OF_ASSISTANTS: list[Event] = [
    ("thread.run.created", {**RUN, "status": "queued"}),
    (
        "thread.message.delta",
        {
            "id": "m",
            "object": "thread.message.delta",
            "delta": {"content": [{"type": "text", "text": {"value": "hi"}}]},
        },
    ),
    ("thread.message.completed", MESSAGE),
    ("thread.run.requires_action", {**RUN, "status": "requires_action"}),
    ("thread.run.completed", RUN),
    ("thread.run.failed", {**RUN, "status": "failed", "last_error": {"code": "server_error"}}),
]
OF_CHAT: list[Event] = [
    ("", {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}}]}),
    ("", {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **CALL}]}}]}),
    ("", {"id": "c", "choices": [{"index": 0, "delta": {"reasoning_details": [{"text": "t"}]}}]}),
    ("", {"id": "c", "choices": [{"delta": {}, "finish_reason": "stop"}], "usage": RUN["usage"]}),
    ("", {"choices": [{"message": {"content": "hi", "tool_calls": [CALL]}}]}),
    ("", {"error": {"message": "no", "code": 500}}),
]

odd = st.sampled_from(
    [None, True, 0, -1, 1.5, 10**30, "", "x", "stop", [], {}, [None], ["a"], [{}], [["x"]],
     {"a": 1}, {"text": "q"}, [{"type": "text", "text": None}], "<think>"]
)  # fmt: skip


@st.composite
def events(draw: st.DrawFn, usual: list[Event]) -> list[Event]:
    """Events of which some fields hold something else."""
    found = []
    for name, data in draw(st.lists(st.sampled_from(usual), min_size=1, max_size=4)):
        changed = json.loads(json.dumps(data))
        for _ in range(draw(st.integers(0, 2))):
            places = list(places_in(changed))
            holder, key = places[draw(st.integers(0, len(places) - 1))]
            holder[key] = json.loads(json.dumps(draw(odd)))
        found.append((name, changed))
    return found


def places_in(value: Any) -> Any:
    for key, one in (
        value.items() if isinstance(value, dict) else enumerate(value)
        if isinstance(value, list) else ()
    ):  # fmt: skip
        yield value, key
        yield from places_in(one)


def heard(reader: Any, seen: list[Event]) -> None:
    for name, data in seen:
        for event in reader.read(WireEvent(name_of(name, data), data)):
            assert not isinstance(event, TextChunk) or isinstance(event.text, str)


def ended_by(reader: Any, seen: list[Event]) -> RunEnded | None:
    """Return the end that the events tell of, if they can be read and tell of one."""
    try:
        heard(reader, seen)
    except BackendError:
        return None
    return reader.outcome if isinstance(reader.outcome, RunEnded) else None


@given(events(OF_RESPONSES))
def test_a_response_is_read_whatever_it_holds(seen: list[Event]) -> None:
    ended = ended_by(ResponseReader("t"), seen)
    if ended is not None:
        assert isinstance(ended.incomplete_reason, str | None)
        assert all(isinstance(reply, str) for reply in ended.replies)


@given(events(OF_ASSISTANTS))
def test_a_run_is_read_whatever_it_holds(seen: list[Event]) -> None:
    ended = ended_by(RunReader("t"), seen)
    if ended is not None:
        assert isinstance(ended.incomplete_reason, str | None)


@given(events(OF_CHAT), st.booleans())
def test_a_completion_is_read_whatever_it_holds(seen: list[Event], is_done: bool) -> None:
    reader = ChatReader("t", unnamed="u", tags=ReasoningTags())
    try:
        heard(reader, seen)
    except BackendError:
        return
    reader.start()
    reader.close(is_done=is_done)
    found = reader.completion
    json.dumps([found.text, found.calls, found.fields, found.reason], allow_nan=False)
    for call in with_ids(found.calls, ()):
        tool_call(call)


@given(events([("", MESSAGE), ("", RUN), ("", RESPONSE)]))
def test_stored_objects_are_read_whatever_they_hold(seen: list[Event]) -> None:
    objects = [data for _, data in seen]
    assistants.texts_of(objects)
    for one in objects:
        assert isinstance(message_of(one).text, str)
        assert same_content(one.get("content"), "hi") in {True, False}
        answer_of(one)
        if not assistants.is_open(one):
            assistants.outcome_of(one)


@pytest.mark.parametrize("stored", ["hi", ["hi"], [{"text": "hi", "type": "input_text"}]])
def test_a_stored_text_is_the_one_that_was_sent_in_whatever_form(stored: Any) -> None:
    assert same_content(stored, "hi ")
