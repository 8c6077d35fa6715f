"""The strict stand-in speaks the Assistants protocol to the real client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from assistant_queue.testing.provider import (
    IncompleteReply,
    Never,
    Reply,
    RunFailure,
    StandInProvider,
    ToolCalls,
    Turn,
    say_in_order,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]

TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as provider:
        yield provider
    assert provider.model_errors == ()


@pytest.fixture
def client(provider: StandInProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=provider.base_url, api_key=provider.api_key, max_retries=0
    ) as client:
        yield client


@pytest.fixture
def threads(client: openai.OpenAI) -> Any:
    return client.beta.threads


@pytest.fixture
def thread_id(threads: Any) -> str:
    return str(threads.create().id)


def said(text: str, **metadata: str) -> dict[str, Any]:
    return {"role": "user", "content": text, "metadata": metadata}


def stream(call: Any, *args: Any, **asked: Any) -> list[Any]:
    with call(*args, stream=True, **asked) as events:
        return list(events)


def refused(call: Any, *args: Any, **asked: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        call(*args, **asked)
    return caught.value


def has_status(status: str) -> Any:
    return lambda provider: provider.runs[-1].status == status


def test_a_run_answers_all_unanswered_messages(
    provider: StandInProvider, threads: Any, thread_id: str
) -> None:
    threads.messages.create(thread_id, role="user", content="hi", metadata={"n": "1"})
    run = threads.runs.create(
        thread_id,
        assistant_id=provider.assistant_id,
        additional_messages=[said("one question", n="2")],
        additional_instructions="Be brief.",
        metadata={"batch": "b"},
    )
    assert run.status == "queued"
    assert run.usage is None
    assert 590 < run.expires_at - run.created_at < 610
    provider.wait_for(runs_ended=1)
    ended = threads.runs.retrieve(run.id, thread_id=thread_id)
    assert (ended.status, ended.metadata, ended.usage.prompt_tokens) == (
        "completed",
        {"batch": "b"},
        3,
    )
    reply = threads.messages.list(thread_id, run_id=run.id, order="asc").data
    assert [message.content[0].text.value for message in reply] == ["You said: hi | one question"]
    record = provider.runs[0]
    assert record.user_texts == ("hi", "one question")
    assert record.message_metadata == ({"n": "1"}, {"n": "2"})
    assert record.instructions == "Be brief."


def test_a_stream_has_the_documented_events_in_order(
    provider: StandInProvider, threads: Any, thread_id: str
) -> None:
    events = stream(
        threads.runs.create,
        thread_id,
        assistant_id=provider.assistant_id,
        additional_messages=[said("hi")],
    )
    assert [event.event for event in events] == [
        "thread.run.created",
        "thread.run.queued",
        "thread.run.in_progress",
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.message.created",
        "thread.message.in_progress",
        "thread.message.delta",
        "thread.message.delta",
        "thread.message.completed",
        "thread.run.step.completed",
        "thread.run.completed",
    ]
    deltas = [
        event.data.delta.content[0].text.value
        for event in events
        if event.event == "thread.message.delta"
    ]
    assert "".join(deltas) == "You said: hi"


def test_a_thread_and_its_run_can_be_made_in_one_call(
    provider: StandInProvider, threads: Any
) -> None:
    events = stream(
        threads.create_and_run,
        assistant_id=provider.assistant_id,
        thread={"messages": [said("hi")]},
    )
    assert [event.event for event in events[:2]] == ["thread.created", "thread.run.created"]
    assert provider.user_texts(events[0].data.id) == ["hi"]


def test_an_active_run_locks_its_thread_even_while_it_waits_for_outputs(
    provider: StandInProvider, threads: Any, thread_id: str
) -> None:
    provider.model = say_in_order(ToolCalls([("weather", {})]), Reply("done"))
    run = threads.runs.create(thread_id, assistant_id=provider.assistant_id)
    provider.wait_for(has_status("requires_action"))
    error = refused(threads.messages.create, thread_id, role="user", content="more")
    assert (error.status_code, error.type, error.code) == (400, "invalid_request_error", None)
    assert f"Can't add messages to {thread_id} while a run {run.id} is active." in str(error)
    error = refused(threads.runs.create, thread_id, assistant_id=provider.assistant_id)
    assert f"Thread {thread_id} already has an active run {run.id}." in str(error)
    assert [refusal.op for refusal in provider.refusals] == ["messages.create", "runs.create"]


def test_tool_outputs_are_taken_all_at_once_and_once_only(
    provider: StandInProvider, threads: Any, thread_id: str
) -> None:
    seen: list[Turn] = []

    def model(turn: Turn) -> ToolCalls | Reply:
        seen.append(turn)
        return (
            Reply("Sunny")
            if turn.round
            else ToolCalls([("weather", {"city": "Rome"}), ("weather", '{"city": ')])
        )

    provider.model = model
    threads.messages.create(thread_id, role="user", content="Weather?")
    events = stream(
        threads.runs.create, thread_id, assistant_id=provider.assistant_id, tools=[TOOL]
    )
    assert events[-1].event == "thread.run.requires_action"
    run = events[-1].data
    calls = run.required_action.submit_tool_outputs.tool_calls
    assert [call.function.arguments for call in calls] == ['{"city": "Rome"}', '{"city": ']
    outputs = [{"tool_call_id": call.id, "output": "warm"} for call in calls]
    submit = threads.runs.submit_tool_outputs
    error = refused(submit, run.id, thread_id=thread_id, tool_outputs=outputs[:1])
    assert (
        f"Expected tool outputs for call_ids ['{calls[0].id}', '{calls[1].id}'], got ['{calls[0].id}']"
        in str(error)
    )
    events = stream(submit, run.id, thread_id=thread_id, tool_outputs=outputs)
    assert [event.event for event in events[:2]] == [
        "thread.run.step.completed",
        "thread.run.queued",
    ]
    assert events[-1].event == "thread.run.completed"
    error = refused(submit, run.id, thread_id=thread_id, tool_outputs=outputs)
    assert 'Runs in status "completed" do not accept tool outputs.' in str(error)
    assert [(turn.round, turn.user_texts, turn.tools) for turn in seen] == [
        (round_, ("Weather?",), ("weather",)) for round_ in (0, 1)
    ]
    assert [(given.name, given.output) for given in provider.runs[0].outputs] == [
        ("weather", "warm")
    ] * 2
    steps = threads.runs.steps.list(run.id, thread_id=thread_id, order="asc").data
    assert [step.type for step in steps] == ["tool_calls", "message_creation"]


@pytest.mark.parametrize("waits_for_outputs", [False, True])
def test_a_cancelled_run_goes_through_cancelling_and_frees_the_thread(
    provider: StandInProvider, threads: Any, thread_id: str, waits_for_outputs: bool
) -> None:
    provider.model = lambda _turn: ToolCalls([("weather", {})]) if waits_for_outputs else Never()
    run = threads.runs.create(thread_id, assistant_id=provider.assistant_id)
    provider.wait_for(has_status("requires_action" if waits_for_outputs else "in_progress"))
    assert threads.runs.cancel(run.id, thread_id=thread_id).status == "cancelling"
    provider.wait_for(has_status("cancelled"))
    assert threads.runs.retrieve(run.id, thread_id=thread_id).status == "cancelled"
    assert "Cannot cancel run with status 'cancelled'." in str(
        refused(threads.runs.cancel, run.id, thread_id=thread_id)
    )
    threads.messages.create(thread_id, role="user", content="next")


def test_a_run_expires_in_any_active_state_and_refuses_late_outputs(client: openai.OpenAI) -> None:
    with StandInProvider(
        say_in_order(ToolCalls([("weather", {})])), latency=0, run_expires_after=0.05
    ) as provider:
        threads = client.with_options(
            base_url=provider.base_url, api_key=provider.api_key
        ).beta.threads
        run = threads.create_and_run(assistant_id=provider.assistant_id)
        provider.wait_for(has_status("expired"))
        outputs: Any = [{"tool_call_id": "call_x", "output": ""}]
        error = refused(
            threads.runs.submit_tool_outputs, run.id, thread_id=run.thread_id, tool_outputs=outputs
        )
        assert 'Runs in status "expired" do not accept tool outputs.' in str(error)
        provider.model = lambda _turn: Never()
        threads.runs.create(run.thread_id, assistant_id=provider.assistant_id)
        provider.wait_for(runs_ended=2)
    assert [record.status for record in provider.runs] == ["expired", "expired"]


def test_a_failed_run_leaves_its_text_for_the_next_run(
    provider: StandInProvider, threads: Any, thread_id: str
) -> None:
    provider.model = say_in_order(RunFailure("rate_limit_exceeded", "slow down"), Reply("fine"))
    create = threads.runs.create
    events = stream(
        create, thread_id, assistant_id=provider.assistant_id, additional_messages=[said("hi")]
    )
    assert events[-1].event == "thread.run.failed"
    assert events[-1].data.last_error.code == "rate_limit_exceeded"
    stream(create, thread_id, assistant_id=provider.assistant_id)
    stream(
        create, thread_id, assistant_id=provider.assistant_id, additional_messages=[said("again")]
    )
    texts = [(record.status, record.user_texts) for record in provider.runs]
    assert texts == [("failed", ("hi",)), ("completed", ("hi",)), ("completed", ("again",))]
    assert provider.user_texts(thread_id) == ["hi", "again"]


def test_an_incomplete_run_names_its_reason(
    provider: StandInProvider, threads: Any, thread_id: str
) -> None:
    provider.model = lambda _turn: IncompleteReply()
    events = stream(threads.runs.create, thread_id, assistant_id=provider.assistant_id)
    assert events[-1].event == "thread.run.incomplete"
    assert events[-1].data.incomplete_details.reason == "max_completion_tokens"
    assert threads.messages.list(thread_id).data[0].status == "incomplete"


def test_messages_are_paged_newest_first_in_either_direction(threads: Any, thread_id: str) -> None:
    for number in range(5):
        threads.messages.create(thread_id, role="user", content=str(number))
    newest_first = threads.messages.list(thread_id).data
    assert [message.content[0].text.value for message in newest_first] == ["4", "3", "2", "1", "0"]
    ids = [message.id for message in newest_first]
    assert [
        message.id for message in threads.messages.list(thread_id, limit=2, after=ids[1]).data
    ] == ids[2:4]
    assert [
        message.id for message in threads.messages.list(thread_id, limit=2, before=ids[4]).data
    ] == ids[2:4]
    assert [message.id for message in threads.messages.list(thread_id, limit=2)] == ids
    assert threads.messages.retrieve(ids[0], thread_id=thread_id).id == ids[0]
    assert refused(threads.messages.list, thread_id, limit=0).code == "integer_below_min_value"
    assert refused(threads.messages.list, thread_id, after="msg_none").status_code == 400


def test_limits_of_messages_and_runs_are_kept(
    provider: StandInProvider, threads: Any, thread_id: str
) -> None:
    most = "x" * 256_000
    assert (
        threads.messages.create(thread_id, role="user", content=most).content[0].text.value == most
    )
    assert (
        refused(threads.messages.create, thread_id, role="user", content=most + "x").code
        == "string_above_max_length"
    )
    assert refused(threads.messages.create, thread_id, role="user", content=" ").status_code == 400
    assert (
        refused(threads.messages.create, thread_id, role="system", content="x").code
        == "invalid_value"
    )
    create = threads.runs.create
    many = [said("x")] * 33
    assert (
        refused(
            create, thread_id, assistant_id=provider.assistant_id, additional_messages=many
        ).code
        == "array_above_max_length"
    )
    flat = {"type": "function", "name": "weather"}
    assert (
        refused(create, thread_id, assistant_id=provider.assistant_id, tools=[flat]).status_code
        == 400
    )
    assert (
        refused(create, thread_id, assistant_id=provider.assistant_id, extra_body={"mood": 1}).param
        == "mood"
    )
    assert provider.runs == ()


def test_unknown_ids_are_not_found(client: openai.OpenAI, threads: Any, thread_id: str) -> None:
    assert "No thread found with id 'thread_x'." in str(refused(threads.retrieve, "thread_x"))
    assert "No run found with id 'run_x'." in str(
        refused(threads.runs.retrieve, "run_x", thread_id=thread_id)
    )
    assert "No assistant found with id 'asst_x'." in str(
        refused(threads.runs.create, thread_id, assistant_id="asst_x")
    )
    assert refused(threads.messages.retrieve, "msg_x", thread_id=thread_id).status_code == 404
    assert threads.delete(thread_id).deleted
    assert refused(threads.retrieve, thread_id).status_code == 404
    assistant = client.beta.assistants.create(model="m", name="Ann")
    assert client.beta.assistants.retrieve(assistant.id).name == "Ann"


def test_waiting_says_how_far_things_had_come(
    provider: StandInProvider, threads: Any, thread_id: str
) -> None:
    provider.model = lambda _turn: Never()
    threads.runs.create(thread_id, assistant_id=provider.assistant_id)
    provider.wait_for(has_status("in_progress"))
    with pytest.raises(TimeoutError, match=r"in_progress.: 1"):
        provider.wait_for(runs_ended=1, timeout=0.01)
