"""Conversations that would refuse every batch as they are, against the strict stand-in: repaired, and the batch answered at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue.backends.base import ActionRequired, RunEnded
from assistant_queue.backends.provider_calls import Place, RunOptions
from assistant_queue.errors import ConversationBusy, RequestRefused, UnknownThread
from assistant_queue.testing.provider import (
    OutputItems,
    Personality,
    Reply,
    StandInProvider,
    ToolCalls,
    cut_stream,
    refuse,
    say_in_order,
    work_then_refuse,
)
from tests.contract.test_backends import (
    ASSISTANTS,
    RESPONSES,
    THREAD,
    Rig,
    asked_for_tools,
    events_of,
    made,
    outputs_for,
    until_lost,
)

REASONING = {"id": "rs_1", "type": "reasoning", "summary": []}
FOREIGN: dict[str, dict[str, Any]] = {
    "custom_tool_call": {
        "id": "ctc_1",
        "type": "custom_tool_call",
        "call_id": "call_1",
        "name": "grep",
        "input": "x",
    },
    "mcp_approval_request": {
        "id": "mcpr_1",
        "type": "mcp_approval_request",
        "server_label": "s",
        "name": "pay",
        "arguments": "{}",
    },
    "local_shell_call": {
        "id": "lsh_1",
        "type": "local_shell_call",
        "call_id": "call_1",
        "action": {},
        "status": "completed",
    },
    "shell_call": {
        "id": "sh_1",
        "type": "shell_call",
        "call_id": "call_1",
        "action": {},
        "status": "completed",
    },
    "apply_patch_call": {
        "id": "ap_1",
        "type": "apply_patch_call",
        "call_id": "call_1",
        "operation": {},
        "status": "completed",
    },
    "computer_call": {
        "id": "cu_1",
        "type": "computer_call",
        "call_id": "call_1",
        "action": {},
        "status": "completed",
    },
}


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as running:
        yield running
        assert not running.model_errors


def put(rig: Rig, *items: dict[str, Any]) -> None:
    """Items of another writer's, or of a provider that stored half of a response."""
    rig.provider._world.conversations[rig.conversation].items.extend(items)


def kinds(rig: Rig) -> list[str]:
    return [item["type"] for item in rig.provider.items(rig.conversation)]


# --- items without the ones they belong to --------------------------------------------------------


@pytest.mark.parametrize("orphans", [1, 3])
async def test_reasoning_without_its_follower_is_removed(
    provider: StandInProvider, caplog: pytest.LogCaptureFixture, orphans: int
) -> None:
    async with made(RESPONSES, provider) as rig:
        for number in range(orphans):
            put(rig, {**REASONING, "id": f"rs_{number}"})
        with caplog.at_level(logging.WARNING):
            ended = (await rig.start("hello"))[-1]
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("You said: hello",)
        assert kinds(rig) == ["message", "message"]
        assert [f"rs_{number}" in caplog.text for number in range(orphans)] == [True] * orphans
        assert rig.ops() == ["responses.create", *(["items.delete", "responses.create"] * orphans)]


async def test_a_conversation_is_as_it_was_but_for_the_orphan(provider: StandInProvider) -> None:
    provider.model = say_in_order(OutputItems([REASONING, message("one")]), Reply("two"))
    async with made(RESPONSES, provider) as rig:
        await rig.start("first", batch="b1")
        put(rig, {**REASONING, "id": "rs_2"})
        await rig.start("second", batch="b2")
        assert kinds(rig) == ["message", "reasoning", "message", "message", "message"]


def message(text: str) -> dict[str, Any]:
    return {
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text}],
    }


def lacks_reasoning(item: dict[str, Any]) -> str:
    return f"Item '{item['id']}' of type '{item['type']}' was provided without its required 'reasoning' item: 'rs_9'."


async def test_a_message_without_its_reasoning_is_removed(provider: StandInProvider) -> None:
    async with made(RESPONSES, provider) as rig:
        put(rig, {**message("old"), "id": "msg_9"})
        provider.fault(
            "responses.create",
            refuse(400, message=lacks_reasoning({"id": "msg_9", "type": "message"})),
        )
        ended = (await rig.start("hello"))[-1]
        assert isinstance(ended, RunEnded)
        assert "msg_9" not in [item["id"] for item in provider.items(rig.conversation)]


async def test_a_call_without_its_reasoning_is_removed_with_its_output(
    provider: StandInProvider,
) -> None:
    call = {
        "id": "fc_9",
        "type": "function_call",
        "call_id": "call_9",
        "name": "f",
        "arguments": "{}",
    }
    output = {"id": "fco_9", "type": "function_call_output", "call_id": "call_9", "output": "x"}
    async with made(RESPONSES, provider) as rig:
        put(rig, call, output)
        provider.fault("responses.create", refuse(400, message=lacks_reasoning(call)))
        ended = (await rig.start("hello"))[-1]
        assert isinstance(ended, RunEnded)
        assert kinds(rig) == ["message", "message"]


async def test_outputs_for_a_call_that_had_to_be_removed_are_refused_and_the_next_batch_is_answered(
    provider: StandInProvider,
) -> None:
    provider.model = say_in_order(ToolCalls([("weather", {})]), Reply("Hello again."))
    async with made(RESPONSES, provider) as rig:
        request = rig.request("weather?")
        asked = await asked_for_tools(rig, request)
        call = provider.items(rig.conversation)[-1]
        provider.fault("responses.create", refuse(400, message=lacks_reasoning(call)))
        with pytest.raises(RequestRefused):
            await events_of(
                rig.backend.submit(request, asked.run_id, asked.calls, outputs_for(asked))
            )
        ended = (await rig.start("hello", batch="next"))[-1]
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("Hello again.",)


async def test_an_item_that_cannot_be_removed_refuses_the_batch_once(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider) as rig:
        put(rig, REASONING)
        provider.fault("items.delete", refuse(403), times=None)
        with pytest.raises(RequestRefused) as caught:
            await rig.start("hello")
        assert caught.value.status_code == 400
        assert rig.ops() == ["responses.create", "items.delete"]


async def test_an_item_that_is_named_again_after_its_removal_is_not_removed_twice(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider) as rig:
        provider.fault(
            "responses.create",
            refuse(400, message=lacks_reasoning({"id": "msg_9", "type": "message"})),
            times=None,
        )
        with pytest.raises(RequestRefused):
            await rig.start("hello")
        assert rig.ops() == ["responses.create", "items.delete", "responses.create"]


# --- calls that no function answers ---------------------------------------------------------------


@pytest.mark.parametrize("kind", FOREIGN)
async def test_a_call_that_cannot_be_answered_ends_the_batch_with_its_name_and_leaves_the_conversation_usable(
    provider: StandInProvider, kind: str
) -> None:
    provider.model = say_in_order(OutputItems([FOREIGN[kind]]), Reply("Hello again."))
    async with made(RESPONSES, provider) as rig:
        request = rig.request("hello")
        ended = (await events_of(rig.backend.start(request)))[-1]
        assert isinstance(ended, RunEnded)
        assert (ended.status, ended.error.code, ended.retryable) == (
            "failed",
            "unsupported_tool_call",
            False,
        )
        assert kind in ended.error.message
        found = await rig.backend.find(request)
        assert isinstance(found, RunEnded)
        assert (found.status, found.error) == (ended.status, ended.error)
        following = (await rig.start("next", batch="b2"))[-1]
        assert isinstance(following, RunEnded)
        assert following.replies == ("Hello again.",)
        assert rig.ops().count("responses.create") == 2, "no refusal in between"


async def test_an_approval_is_denied(provider: StandInProvider) -> None:
    provider.model = say_in_order(OutputItems([message("May I?"), FOREIGN["mcp_approval_request"]]))
    async with made(RESPONSES, provider) as rig:
        await rig.start("pay")
        answer = provider.items(rig.conversation)[-1]
        assert (answer["type"], answer["approval_request_id"], answer["approve"]) == (
            "mcp_approval_response",
            "mcpr_1",
            False,
        )


@pytest.mark.parametrize("kind", ["custom_tool_call", "apply_patch_call"])
async def test_what_could_not_be_refused_is_refused_by_the_next_batch(
    provider: StandInProvider, kind: str
) -> None:
    provider.model = say_in_order(OutputItems([FOREIGN[kind]]), Reply("Hello again."))
    async with made(RESPONSES, provider) as rig:
        provider.fault("items.create", refuse(500))
        await rig.start("hello")
        ended = (await rig.start("next", batch="b2"))[-1]
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("Hello again.",)


async def test_functions_beside_such_a_call_are_not_left_open(provider: StandInProvider) -> None:
    call = {
        "type": "function_call",
        "call_id": "call_f",
        "name": "weather",
        "arguments": "{}",
        "status": "completed",
    }
    provider.model = say_in_order(
        OutputItems([call, FOREIGN["custom_tool_call"]]), Reply("Hello again.")
    )
    async with made(RESPONSES, provider) as rig:
        ended = (await rig.start("hello"))[-1]
        assert isinstance(ended, RunEnded)
        assert ended.error.code == "unsupported_tool_call"
        await rig.start("next", batch="b2")
        assert rig.ops() == ["responses.create", "items.create", "responses.create"]


async def test_a_call_that_cannot_be_answered_is_named_however_it_is_found(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider) as rig:
        for number, cut in enumerate((cut_stream(after_events=1), work_then_refuse(500))):
            provider.model = say_in_order(
                OutputItems(
                    [
                        {
                            **FOREIGN["custom_tool_call"],
                            "id": f"ctc_{number}",
                            "call_id": f"call_{number}",
                        }
                    ]
                )
            )
            request = rig.request(f"hello {number}", batch=f"b{number}")
            provider.fault("responses.create", cut)
            seen, _ = await until_lost(rig.backend.start(request))
            provider.wait_for(runs_ended=number + 1)
            found = (
                (await events_of(rig.backend.follow(request, seen[0].run_id)))[-1]
                if seen
                else await rig.backend.find(request)
            )
            assert isinstance(found, RunEnded)
            assert found.error.code == "unsupported_tool_call"


async def test_tools_that_the_provider_runs_itself_are_no_such_calls(
    provider: StandInProvider,
) -> None:
    shell = FOREIGN["shell_call"]
    made_there = [
        {"type": "web_search_call", "status": "completed", "action": {}},
        {"type": "mcp_call", "name": "f", "arguments": "{}", "output": "x", "server_label": "s"},
        shell,
        {"type": "shell_call_output", "call_id": shell["call_id"], "output": []},
    ]
    provider.model = lambda _: OutputItems([*made_there, message("Found it.")])
    async with made(RESPONSES, provider) as rig:
        ended = (await rig.start("hello"))[-1]
        assert isinstance(ended, RunEnded)
        assert (ended.status, ended.replies) == ("completed", ("Found it.",))


async def test_functions_are_asked_for_once_however_often_they_are_listed(
    provider: StandInProvider,
) -> None:
    call = {"type": "function_call", "call_id": 7, "name": "weather", "arguments": {"city": "Rome"}}
    provider.model = say_in_order(OutputItems([call, call]))
    async with made(RESPONSES, provider) as rig:
        asked = (await rig.start("hello"))[-1]
        assert isinstance(asked, ActionRequired)
        assert [(one.id, one.function.arguments) for one in asked.calls] == [
            ("7", '{"city": "Rome"}')
        ]


# --- a run of a direct call that nothing answers --------------------------------------------------


async def left_waiting(rig: Rig) -> str:
    """A run of a direct call that waits for outputs."""
    rig.provider.model = lambda _: ToolCalls([("weather", {})])
    place = Place(thread_id=THREAD, conversation_id=rig.conversation)
    run = await rig.backend.direct().create_run(
        place, RunOptions(instructions=None, tools=None, metadata={}, within_s=5.0)
    )  # type: ignore[attr-defined]
    await asyncio.to_thread(
        rig.provider.wait_for, lambda held: held.runs[-1].status == "requires_action"
    )
    rig.provider.model = lambda _: Reply("Hello again.")
    return str(run.id)


async def test_a_run_of_a_direct_call_that_waits_for_outputs_for_long_is_stopped(
    provider: StandInProvider,
) -> None:
    async with made(ASSISTANTS, provider) as rig:
        run_id = await left_waiting(rig)
        provider._world.threads[rig.conversation].runs[run_id].created_at -= 60
        ended = (await rig.start("hello"))[-1]
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("Hello again.",)
        assert [run.status for run in provider.runs] == ["cancelled", "completed"]
        assert provider.user_texts(rig.conversation) == ["hello"]


async def test_outputs_of_a_direct_call_have_the_time_of_a_request(
    provider: StandInProvider,
) -> None:
    async with made(ASSISTANTS, provider) as rig:
        await left_waiting(rig)
        with pytest.raises(ConversationBusy):
            await rig.start("hello")
        assert [run.status for run in provider.runs] == ["requires_action"]


async def test_a_run_of_another_queue_is_never_stopped(provider: StandInProvider) -> None:
    provider.model = lambda _: ToolCalls([("weather", {})])
    async with made(ASSISTANTS, provider) as rig:
        asked = await asked_for_tools(rig, rig.request("weather?", batch="of another queue"))
        provider._world.threads[rig.conversation].runs[asked.run_id].created_at -= 60
        with pytest.raises(ConversationBusy):
            await rig.start("hello")
        assert [run.status for run in provider.runs] == ["requires_action"]


@pytest.mark.parametrize("shape", ["openai", "detail"])
async def test_an_id_that_the_provider_takes_for_none_says_what_to_do(
    provider: StandInProvider, shape: Any
) -> None:
    async with made(RESPONSES, provider) as rig:
        provider.personality = Personality(error_body=shape)
        provider.fault(
            "items.list",
            refuse(
                400,
                message="Invalid value for conversation_id: expected 'conv_' and 48 hex characters",
            ),
        )
        with pytest.raises(UnknownThread, match="thread_ids='mapped'"):
            await rig.backend.locate("conv_" + "0" * 32)
