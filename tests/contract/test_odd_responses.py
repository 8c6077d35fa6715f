"""Answers of the Responses API as careless servers write them: never a crash, and never an empty success."""

from __future__ import annotations

from typing import Any

import pytest

from assistant_queue.backends.base import ActionRequired, RunAccepted, RunEnded
from assistant_queue.backends.responses.backend import ResponsesBackend
from assistant_queue.errors import StreamCut
from tests.contract.test_backends_parts import (
    client_of,
    http,
    message,
    request,
    responses_answered,
    sse,
    started,
)

BEGUN = ("response.created", {"response": {"id": "r1", "status": "in_progress", "output": []}})


def completed(**fields: Any) -> Any:
    return ("response.completed", {"response": {"id": "r1", "status": "completed", **fields}})


async def outcome_of(*events: Any) -> Any:
    return (await responses_answered(lambda _: sse(BEGUN, *events)))[-1]


@pytest.mark.parametrize(
    "output",
    [
        None,
        [],
        {},
        "text",
        [None, 7, "text"],
        [{}],
        [{"type": None}],
        [{"type": "reasoning", "summary": []}],
    ],
)
async def test_an_answer_without_a_word_is_no_success(output: Any) -> None:
    ended = await outcome_of(completed(output=output))
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.incomplete_reason, ended.replies) == ("incomplete", "empty", ())


@pytest.mark.parametrize(
    "content", [None, [], "", [{"type": "output_text", "text": None}], [{"type": "output_text"}]]
)
async def test_a_message_without_a_text_is_no_success(content: Any) -> None:
    ended = await outcome_of(
        completed(output=[{"type": "message", "role": "assistant", "content": content}])
    )
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.incomplete_reason) == ("incomplete", "empty")


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message", "role": "assistant", "content": "hi"},
        {"type": "message", "role": None, "content": "hi"},
        {"type": None, "content": [{"type": "output_text", "text": "hi"}]},
        {"content": [{"type": "text", "text": "hi"}, {"type": "output_text", "text": None}]},
    ],
)
async def test_a_text_is_read_in_whatever_form_it_comes(item: dict[str, Any]) -> None:
    ended = await outcome_of(completed(output=[item]))
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.replies) == ("completed", ("hi",))


@pytest.mark.parametrize(
    "output", [None, [], [{"type": "message", "role": "assistant", "content": []}]]
)
async def test_what_was_streamed_is_the_reply_where_the_end_does_not_repeat_it(output: Any) -> None:
    pieces = [
        ("response.output_text.delta", {"item_id": "m", "delta": piece}) for piece in ("h", "i")
    ]
    ended = await outcome_of(*pieces, completed(output=output))
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.replies) == ("completed", ("hi",))


@pytest.mark.parametrize("status", [None, "in_progress", "queued", 7, ["completed"]])
async def test_the_last_event_says_how_it_ended_where_the_response_does_not(status: Any) -> None:
    ended = await outcome_of(completed(status=status, output=[message("hi")]))
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.replies) == ("completed", ("hi",))


@pytest.mark.parametrize("details", [None, "max_output_tokens", [], {}])
async def test_an_incomplete_answer_may_leave_out_why(details: Any) -> None:
    over = (
        "response.incomplete",
        {"response": {"id": "r1", "output": [message("Once")], "incomplete_details": details}},
    )
    ended = await outcome_of(over)
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.incomplete_reason, ended.replies) == ("incomplete", None, ("Once",))


@pytest.mark.parametrize("error", [None, "It broke.", {"message": "It broke."}, ["It broke."]])
async def test_a_failure_is_read_in_whatever_form_it_comes(error: Any) -> None:
    ended = await outcome_of(
        ("response.failed", {"response": {"id": "r1", "status": "failed", "error": error}})
    )
    assert isinstance(ended, RunEnded)
    assert ended.status == "failed"
    assert ended.error is not None
    assert error is None or "It broke." in ended.error.message


@pytest.mark.parametrize(
    ("call", "call_id", "arguments"),
    [
        ({"call_id": "c1", "id": "fc_1", "arguments": "{}"}, "c1", "{}"),
        ({"id": "fc_1", "arguments": "{}"}, "fc_1", "{}"),
        ({"call_id": None, "id": 7, "arguments": None}, "7", "{}"),
        ({"call_id": 7, "arguments": {"a": [1]}}, "7", '{"a": [1]}'),
        ({}, "call_f", "{}"),
    ],
)
async def test_a_call_is_read_in_whatever_form_it_comes(
    call: dict[str, Any], call_id: str, arguments: str
) -> None:
    asked = await outcome_of(completed(output=[{"type": "function_call", "name": "f", **call}]))
    assert isinstance(asked, ActionRequired)
    assert [(one.id, one.function.name, one.function.arguments) for one in asked.calls] == [
        (call_id, "f", arguments)
    ]


async def test_a_call_that_comes_twice_is_one_call() -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    asked = await outcome_of(completed(output=[call, {**call, "id": "fc_2"}]))
    assert isinstance(asked, ActionRequired)
    assert [one.id for one in asked.calls] == ["c1"]


async def test_ids_may_be_numbers() -> None:
    events = await responses_answered(
        lambda _: sse(
            ("response.completed", {"response": {"id": 7, "output": [message("hi", id=8)]}})
        )
    )
    assert events[0] == RunAccepted(run_id="7")
    assert (events[-1].replies, events[-1].anchor) == (("hi",), "8")


@pytest.mark.parametrize("shown", [{"status": "completed"}, {"status": None}, {}])
async def test_a_stream_that_just_ends_is_completed_by_the_response_itself(
    shown: dict[str, Any],
) -> None:
    def answer(sent: Any) -> Any:
        if sent.method == "POST":
            return sse(BEGUN)
        return http.Response(
            200, json={"object": "response", "id": "r1", "output": [message("hi")], **shown}
        )

    backend = ResponsesBackend(client_of(answer), model="m")
    with pytest.raises(StreamCut):
        await started(backend)
    *_, ended = [event async for event in backend.follow(request("hello"), "r1")]
    await backend.close()
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.replies) == ("completed", ("hi",))
