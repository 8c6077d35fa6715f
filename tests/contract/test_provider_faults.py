"""The stand-in goes wrong in exactly the way a test asks for, and its log tells the truth about it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import openai
import pytest

from assistant_queue.testing.provider import (
    Appended,
    Never,
    Personality,
    Reply,
    RunFailure,
    StandInProvider,
    ToolCalls,
    append_late,
    cut_stream,
    delay,
    drop_connection,
    expire_now,
    ignore_cancel,
    never_answer,
    refuse,
    reply_with,
    vanish,
    work_then_refuse,
)
from tests.conftest import PATIENCE_S

pytestmark = pytest.mark.filterwarnings(
    "ignore:The Assistants API is deprecated:DeprecationWarning"
)

Serve = Callable[..., tuple[StandInProvider, openai.OpenAI]]


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as provider:
        yield provider
    assert provider.model_errors == ()


@pytest.fixture
def client(provider: StandInProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=provider.base_url, api_key=provider.api_key, max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


@pytest.fixture
def conversation(provider: StandInProvider) -> str:
    return provider.create_conversation()


def ask(client: openai.OpenAI, conversation: str, text: str = "hi", **asked: Any) -> Any:
    return client.responses.create(model="m", conversation=conversation, input=text, **asked)


def read_until_cut(events: Any) -> list[str]:
    seen: list[str] = []
    # Client libraries differ in what they raise for a body that ends early: their own error or
    # their HTTP library's.
    with pytest.raises(Exception, match=r"(?i)incomplete|connection"), events:
        for event in events:
            seen.append(event.type if hasattr(event, "type") else event.event)
    return seen


def test_a_refusal_comes_before_anything_is_done(
    provider: StandInProvider, client: openai.OpenAI, conversation: str
) -> None:
    fault = provider.fault("responses.create", refuse(429, "rate_limit_exceeded", retry_after=7))
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, conversation)
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.response.headers["retry-after"] == "7"
    assert (fault.matched, fault.acted, provider.runs) == (1, 1, ())
    assert [(refusal.status, refusal.scripted) for refusal in provider.refusals] == [(429, True)]
    assert ask(client, conversation).status == "completed"
    assert provider.user_texts(conversation) == ["hi"]


@pytest.mark.parametrize("body", [{"detail": "no"}, {"errors": [{"message": "no"}]}])
def test_a_refusal_can_have_a_foreign_body(
    provider: StandInProvider, client: openai.OpenAI, conversation: str, body: Any
) -> None:
    provider.fault("responses.create", refuse(422, body=body))
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ask(client, conversation)
    assert caught.value.code is None
    assert caught.value.response.json() == body


def test_the_work_can_be_done_behind_an_error(
    provider: StandInProvider, client: openai.OpenAI, conversation: str
) -> None:
    provider.fault("responses.create", work_then_refuse(502))
    with pytest.raises(openai.InternalServerError):
        ask(client, conversation)
    assert provider.user_texts(conversation) == ["hi"]
    assert provider.runs[0].status == "completed"


def test_the_work_continues_when_the_client_times_out(
    provider: StandInProvider, client: openai.OpenAI, conversation: str
) -> None:
    provider.fault("responses.create", never_answer())
    with provider.hold("completing") as gate:
        with pytest.raises(openai.APITimeoutError):
            ask(client.with_options(timeout=0.2), conversation)
        gate.wait_reached()
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, conversation, "second")
        assert caught.value.code == "conversation_locked"
    provider.wait_for(runs_ended=1)
    assert provider.user_texts(conversation) == ["hi"]


def test_a_request_can_be_swallowed_without_being_accepted(
    provider: StandInProvider, client: openai.OpenAI, conversation: str
) -> None:
    provider.fault("responses.create", never_answer(accept=False))
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=0.2), conversation)
    assert provider.runs == ()


@pytest.mark.parametrize("accept", [False, True])
def test_a_connection_can_be_dropped(
    provider: StandInProvider, client: openai.OpenAI, conversation: str, accept: bool
) -> None:
    provider.fault("responses.create", drop_connection(accept=accept))
    with pytest.raises(openai.APIConnectionError):
        ask(client, conversation)
    assert provider.user_texts(conversation) == (["hi"] if accept else [])
    provider.wait_for(lambda provider: [answer.how for answer in provider.answers] == ["dropped"])


def test_items_can_join_long_after_the_client_has_given_up(
    provider: StandInProvider, client: openai.OpenAI, conversation: str
) -> None:
    provider.fault("responses.create", append_late(0.01), never_answer())
    with provider.hold("appending") as gate:
        with pytest.raises(openai.APITimeoutError):
            ask(client.with_options(timeout=0.2), conversation)
        gate.wait_reached()
        assert provider.runs[0].status == "completed"
        assert client.conversations.items.list(conversation).data == []
    provider.wait_for(lambda provider: any(isinstance(record, Appended) for record in provider.log))
    assert provider.user_texts(conversation) == ["hi"]


def test_messages_of_a_run_can_join_late(provider: StandInProvider, client: openai.OpenAI) -> None:
    thread = provider.create_thread()
    provider.fault("runs.create", append_late(0.01))
    with provider.hold("appending") as gate:
        messages: Any = [{"role": "user", "content": "hi"}]
        client.beta.threads.runs.create(
            thread, assistant_id=provider.assistant_id, additional_messages=messages
        )
        gate.wait_reached(2)
        assert provider.runs[0].status == "completed"
        assert provider.items(thread) == []
    provider.wait_for(lambda provider: len(provider.items(thread)) == 2)
    assert provider.runs[0].user_texts == ("hi",)


@pytest.mark.parametrize(("abort", "stored"), [(False, ["hi"]), (True, [])])
def test_a_stream_can_be_cut_after_some_events(
    provider: StandInProvider,
    client: openai.OpenAI,
    conversation: str,
    abort: bool,
    stored: list[str],
) -> None:
    provider.fault("responses.create", cut_stream(after_events=2, abort=abort))
    assert read_until_cut(ask(client, conversation, stream=True)) == [
        "response.created",
        "response.in_progress",
    ]
    provider.wait_for(runs_ended=1)
    assert provider.runs[0].status == ("failed" if abort else "completed")
    assert provider.user_texts(conversation) == stored


@pytest.mark.parametrize("events", [1, 2, 3, 4])
def test_work_that_ends_with_its_client_ends_at_whatever_event(
    provider: StandInProvider, client: openai.OpenAI, conversation: str, events: int
) -> None:
    provider.fault("responses.create", cut_stream(after_events=events, abort=True))
    assert len(read_until_cut(ask(client, conversation, stream=True, background=True))) == events
    provider.wait_for(runs_ended=1)
    assert provider.runs[0].status == "failed"
    assert client.responses.retrieve(provider.runs[0].id).status == "failed"


@pytest.mark.parametrize("events", [1, 2, 3])
def test_a_run_that_ends_with_its_client_ends_at_whatever_event(
    provider: StandInProvider, client: openai.OpenAI, events: int
) -> None:
    provider.fault("runs.create", cut_stream(after_events=events, abort=True))
    thread = provider.create_thread()
    created = client.beta.threads.runs.create(
        thread, assistant_id=provider.assistant_id, stream=True
    )
    assert len(read_until_cut(created)) == events
    provider.wait_for(runs_ended=1)
    assert provider.runs[0].status == "failed"


def test_a_stream_can_be_cut_within_an_event(
    provider: StandInProvider, client: openai.OpenAI, conversation: str
) -> None:
    provider.fault("responses.create", cut_stream(after_bytes=40))
    assert read_until_cut(ask(client, conversation, stream=True)) == []
    provider.wait_for(runs_ended=1)
    assert provider.user_texts(conversation) == ["hi"]


CUTS = {
    "before": (rb"output_text\.done", 5, b"}\n\n"),
    "at": (rb"\xa0", 5, b"voil\xc3"),
    "after": (rb"response\.completed", 9, b"}\n\n"),
}
"""Place of the cut, number of events begun before it, and the last bytes."""


@pytest.mark.parametrize("orderly", [False, True])
@pytest.mark.parametrize("side", CUTS)
def test_a_stream_can_be_cut_where_something_stands(
    provider: StandInProvider, client: openai.OpenAI, side: str, orderly: bool
) -> None:
    found, events, last = CUTS[side]
    provider.model = lambda _turn: Reply("voil\u00e0", chunks=1)
    provider.fault("responses.create", cut_stream(**{side: found}, orderly=orderly))
    said = bytearray()
    breaks = (
        nullcontext() if orderly else pytest.raises(Exception, match=r"(?i)incomplete|connection")
    )
    with (
        client.responses.with_streaming_response.create(
            model="m", input="hi", stream=True
        ) as answer,
        breaks,
    ):
        for chunk in answer.iter_bytes():
            said += chunk
    assert (said.count(b"event: "), said.endswith(last)) == (events, True)
    provider.wait_for(lambda oracle: [one.how for one in oracle.answers] == ["cut"])


@pytest.mark.parametrize(
    "given", [{}, {"after_events": 1, "at": b"x"}, {"before": b"x", "after": b"x"}]
)
def test_a_cut_has_one_place(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give one of"):
        cut_stream(**given)


def test_a_run_stream_can_be_cut_too(provider: StandInProvider, client: openai.OpenAI) -> None:
    thread = provider.create_thread()
    provider.fault("runs.create", cut_stream(after_events=1))
    events = client.beta.threads.runs.create(
        thread, assistant_id=provider.assistant_id, stream=True
    )
    assert read_until_cut(events) == ["thread.run.created"]
    provider.wait_for(runs_ended=1)
    assert provider.runs[0].status == "completed"


def test_an_accepted_response_can_vanish(
    provider: StandInProvider, client: openai.OpenAI, conversation: str
) -> None:
    provider.fault("responses.create", vanish())
    response = ask(client, conversation, background=True)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    assert (provider.runs[0].status, provider.items(conversation)) == ("vanished", [])
    provider.model = lambda _turn: Never()
    later = ask(client, conversation, background=True)
    provider.vanish(later.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(later.id)


def test_a_run_can_expire_on_command(provider: StandInProvider, client: openai.OpenAI) -> None:
    runs = client.beta.threads.runs
    thread = provider.create_thread()
    provider.model = lambda _turn: Never()
    provider.fault("runs.create", expire_now())
    first = runs.create(thread, assistant_id=provider.assistant_id)
    assert runs.retrieve(first.id, thread_id=thread).status == "expired"
    second = runs.create(thread, assistant_id=provider.assistant_id)
    provider.expire(second.id)
    assert runs.retrieve(second.id, thread_id=thread).status == "expired"


def test_a_cancel_can_be_ignored(provider: StandInProvider, client: openai.OpenAI) -> None:
    thread = provider.create_thread()
    provider.fault("runs.cancel", ignore_cancel())
    with provider.hold() as gate:
        run = client.beta.threads.runs.create(thread, assistant_id=provider.assistant_id)
        gate.wait_reached()
        assert client.beta.threads.runs.cancel(run.id, thread_id=thread).status == "cancelling"
    provider.wait_for(runs_ended=1)
    assert provider.runs[0].status == "completed"


def test_a_failure_can_come_inside_a_successful_answer(
    provider: StandInProvider, client: openai.OpenAI, conversation: str
) -> None:
    provider.fault("responses.create", reply_with(RunFailure("server_error")))
    assert ask(client, conversation).status == "failed"
    assert ask(client, conversation).status == "completed"


def test_a_fault_is_for_the_requests_it_names(
    provider: StandInProvider, client: openai.OpenAI, conversation: str
) -> None:
    other = provider.create_conversation()
    provider.fault("responses.*", refuse(500), conversation_id=conversation, nth=2, times=1)
    provider.fault(
        "*",
        refuse(503),
        times=None,
        when=lambda request: (request.body or {}).get("input") == "bad",
    )
    assert ask(client, conversation).status == "completed"
    with pytest.raises(openai.InternalServerError):
        ask(client, conversation)
    assert ask(client, conversation).status == "completed"
    assert ask(client, other).status == "completed"
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            ask(client, other, "bad")
    provider.clear_faults()
    assert ask(client, other, "bad").status == "completed"
    assert len(provider.calls("responses.create", conversation)) == 3


def test_the_alias_submit_and_the_protocol_select_requests(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    thread = provider.create_thread()
    provider.model = lambda turn: Reply("done") if turn.round else ToolCalls([("f", {})])
    provider.fault("*", refuse(500), protocol="responses", times=None)
    provider.fault("submit", refuse(500))
    runs = client.beta.threads.runs
    run = runs.create(thread, assistant_id=provider.assistant_id)
    provider.wait_for(lambda provider: provider.runs[0].status == "requires_action")
    action = runs.retrieve(run.id, thread_id=thread).required_action
    assert action is not None
    outputs: Any = [
        {"tool_call_id": call.id, "output": ""} for call in action.submit_tool_outputs.tool_calls
    ]
    with pytest.raises(openai.InternalServerError):
        runs.submit_tool_outputs(run.id, thread_id=thread, tool_outputs=outputs)
    runs.submit_tool_outputs(run.id, thread_id=thread, tool_outputs=outputs)
    provider.wait_for(runs_ended=1)


def test_the_log_counts_the_client_librarys_own_retries(
    provider: StandInProvider, client: openai.OpenAI, conversation: str
) -> None:
    provider.fault("responses.create", work_then_refuse(500), delay(before=0.001, after=0.001))
    ask(client.with_options(max_retries=1), conversation)
    assert [request.retry_count for request in provider.calls("responses.create")] == [0, 1]
    assert provider.user_texts(conversation) == ["hi", "hi"]


def test_a_server_without_a_lock_interleaves_and_the_log_says_so(
    client: openai.OpenAI, provider: StandInProvider, conversation: str
) -> None:
    provider.personality = Personality(lock="none")
    with provider.hold() as gate:
        first = ask(client, conversation, "a", background=True)
        second = ask(client, conversation, "b", background=True)
        gate.wait_reached(2)
    provider.wait_for(runs_ended=2)
    assert [(overlap.run_id, overlap.active_ids) for overlap in provider.overlaps] == [
        (second.id, (first.id,))
    ]
    assert provider.user_texts(conversation) == ["a", "b"]


def test_a_lock_can_be_a_conflict(
    client: openai.OpenAI, provider: StandInProvider, conversation: str
) -> None:
    provider.personality = Personality(lock="conflict")
    with provider.hold() as gate:
        ask(client, conversation, background=True)
        gate.wait_reached()
        with pytest.raises(openai.ConflictError) as caught:
            ask(client, conversation)
    assert caught.value.code == "conversation_locked"


def test_a_careless_server_ignores_filters_order_and_messages(
    client: openai.OpenAI, provider: StandInProvider
) -> None:
    threads = client.beta.threads
    thread = provider.create_thread()
    ids = [
        threads.messages.create(thread, role="user", content=str(number)).id for number in range(8)
    ]
    provider.personality = Personality(
        ignores_run_id_filter=True, ignores_order=True, ignores_additional_messages=True
    )
    messages: Any = [{"role": "user", "content": "lost"}]
    run = threads.runs.create(
        thread, assistant_id=provider.assistant_id, additional_messages=messages
    )
    provider.wait_for(runs_ended=1)
    listed = [
        message.id for message in threads.messages.list(thread, run_id=run.id, order="asc").data
    ]
    assert listed[1:] == ids[::-1]
    assert "lost" not in provider.user_texts(thread)
    provider.personality = Personality(unsorted_lists=True)
    listed = [message.id for message in threads.messages.list(thread, order="asc").data]
    own = [ident for ident in listed if ident in ids]
    assert sorted(own) == sorted(ids)
    assert own not in (ids, ids[::-1])


@pytest.mark.parametrize(("shown", "expected"), [("null", None), ("zero", 0)])
def test_a_run_may_hide_when_it_expires(
    client: openai.OpenAI, provider: StandInProvider, shown: Any, expected: Any
) -> None:
    provider.personality = Personality(expires_at=shown, omits_usage=True)
    thread = provider.create_thread()
    run = client.beta.threads.runs.create(thread, assistant_id=provider.assistant_id)
    assert run.expires_at == expected
    provider.wait_for(runs_ended=1)
    assert client.beta.threads.runs.retrieve(run.id, thread_id=thread).usage is None


def test_a_response_may_lack_usage_and_conversation(
    client: openai.OpenAI, provider: StandInProvider, conversation: str
) -> None:
    provider.personality = Personality(omits_usage=True, omits_conversation=True)
    response = ask(client, conversation)
    assert (response.usage, response.conversation) == (None, None)


def test_background_may_be_refused_or_answered_at_once(
    client: openai.OpenAI, provider: StandInProvider, conversation: str
) -> None:
    provider.personality = Personality(background="refused")
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, conversation, background=True)
    assert caught.value.param == "background"
    provider.personality = Personality(background="completes_at_once")
    assert ask(client, conversation, background=True).status == "completed"


@pytest.mark.parametrize(("shape", "key"), [("detail", "detail"), ("errors", "errors")])
def test_all_errors_may_have_a_foreign_shape(
    client: openai.OpenAI, provider: StandInProvider, shape: Any, key: str
) -> None:
    provider.personality = Personality(error_body=shape)
    with pytest.raises(openai.NotFoundError) as caught:
        client.conversations.retrieve("conv_x")
    assert key in caught.value.response.json()


def test_a_gate_can_hold_one_conversation_or_a_number_of_runs(
    client: openai.OpenAI, provider: StandInProvider, conversation: str
) -> None:
    other = provider.create_conversation()
    with provider.hold(conversation_id=conversation, times=1) as gate:
        assert ask(client, other).status == "completed"
        held = ask(client, conversation, background=True)
        assert gate.wait_reached() == (held.id,)
        assert ask(client, other).status == "completed"
        with pytest.raises(TimeoutError):
            gate.wait_reached(2, timeout=0.01)
    provider.wait_for(runs_ended=2)
    assert gate.reached == (held.id,)


def test_stopping_ends_requests_that_wait_for_an_answer(conversation: str) -> None:
    errors: list[Exception] = []
    with StandInProvider(lambda _turn: Never(), latency=0) as provider:
        gate = provider.hold()

        def wait_for_ever() -> None:
            with openai.OpenAI(
                base_url=provider.base_url, api_key=provider.api_key, max_retries=0
            ) as client:
                try:
                    client.responses.create(model="m", input="hi")
                except openai.APIConnectionError as error:
                    errors.append(error)

        waiting = threading.Thread(target=wait_for_ever)
        waiting.start()
        gate.wait_reached()
    waiting.join(timeout=PATIENCE_S)
    assert len(errors) == 1
    gate.release()
    assert provider.runs[0].is_active
    provider.stop()
