"""Items that are written to a conversation without a run, by the backends over HTTP."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from assistant_queue.backends.base import (
    ActionRequired,
    InputItem,
    NotFound,
    RunAccepted,
    RunEnded,
    RunRequest,
)
from assistant_queue.backends.chat_completions import message_forms
from assistant_queue.backends.function.backend import FunctionBackend
from assistant_queue.backends.openai import remedies
from assistant_queue.backends.openai.sending import ASSISTANTS_HEADERS
from assistant_queue.backends.responses.conversation_items import tail_after, what_became_of
from assistant_queue.backends.responses.unordered_items import without_order
from assistant_queue.core.runs import CannotAsk
from assistant_queue.errors import ConversationBusy, OutcomeUnknown
from assistant_queue.models import Batch, Message
from assistant_queue.testing.provider import (
    Never,
    Reply,
    StandInProvider,
    ToolCalls,
    drop_connection,
    refuse,
    say_in_order,
    work_then_refuse,
)
from assistant_queue.testing.provider.state import text_of
from tests.contract.test_backends import (
    ASSISTANTS,
    CHAT,
    RESPONSES,
    THREAD,
    Rig,
    events_of,
    keeps,
    kind,
    made,
    provider,
    rig,
    sender,
)

__all__ = ["kind", "provider", "rig", "sender"]

ROLES = ("user", "user", "assistant")
TEXTS = ("one", "two", "three")


def request(rig: Rig, **fields: Any) -> RunRequest:
    """A batch of two messages and a reply of `say`."""
    items = tuple(
        InputItem(content=text, message_ids=(f"m{text}",), role=role)
        for text, role in zip(TEXTS, ROLES, strict=True)
    )
    messages = tuple(Message(id=f"m{text}", content=text) for text in TEXTS)
    attempts = fields.pop("attempts", 1)
    return RunRequest(
        batch=Batch(id="batch-2", thread_id=THREAD, messages=messages, attempts=attempts),
        conversation_id=rig.conversation,
        writes=True,
        **{"anchor": None, "items": items, **fields},
    )


def create(rig: Rig) -> str:
    return "items.create" if rig.kind == RESPONSES else "messages.create"


def said(rig: Rig) -> list[tuple[str, str]]:
    """Roles and texts of the conversation, without the warm-up."""
    rows = rig.provider.items(rig.conversation)[-3:]
    return [(row["role"], text_of(row)) for row in rows]


ALL = list(zip(ROLES, TEXTS, strict=True))


@keeps
async def test_items_are_written_in_order_and_nothing_runs(rig: Rig) -> None:
    anchor = await rig.warm_up()
    accepted, ended = await events_of(rig.backend.start(request(rig, anchor=anchor)))
    assert accepted == RunAccepted(run_id="")
    assert isinstance(ended, RunEnded)
    assert (ended.run_id, ended.status, ended.replies) == ("", "completed", ())
    assert said(rig) == ALL
    assert len(rig.provider.runs) == 1
    if rig.kind == RESPONSES:
        assert ended.anchor == rig.provider.items(rig.conversation)[-1]["id"]
        assert rig.ops().count("items.create") == 1
    assert await events_of(rig.backend.follow(request(rig), "")) == [
        accepted,
        RunEnded(run_id="", status="completed"),
    ]


@keeps
async def test_the_next_run_reads_them(rig: Rig) -> None:
    await events_of(rig.backend.start(request(rig)))
    *_, last = await rig.start("four", batch="batch-3")
    assert isinstance(last, RunEnded)
    assert rig.user_texts() == ["one", "two", "four"]


@pytest.mark.parametrize("fault", [drop_connection(accept=True), work_then_refuse(500)])
@keeps
async def test_what_was_written_and_lost_is_found(
    kind: str, provider: StandInProvider, fault: Any
) -> None:
    async with made(kind, provider) as rig:
        anchor = await rig.warm_up()
        wanted = request(rig, anchor=anchor)
        if kind == ASSISTANTS:  # the last of them; the others were posted before
            provider.fault("messages.create", fault, nth=3)
        else:
            provider.fault("items.create", fault)
        with pytest.raises(OutcomeUnknown):
            await events_of(rig.backend.start(wanted))
        found = await rig.backend.find(wanted)
        assert isinstance(found, RunEnded)
        assert (found.run_id, found.status) == ("", "completed")
        if kind == RESPONSES:
            assert found.anchor == provider.items(rig.conversation)[-1]["id"]
        assert said(rig) == ALL


@pytest.mark.parametrize("fault", [drop_connection(accept=False), refuse(503)])
@keeps
async def test_what_was_not_written_is_written_the_second_time(
    kind: str, provider: StandInProvider, fault: Any
) -> None:
    """On Assistants in the middle of the three: none is written twice."""
    async with made(kind, provider) as rig:
        anchor = await rig.warm_up()
        wanted = request(rig, anchor=anchor)
        provider.fault(create(rig), fault, nth=2 if kind == ASSISTANTS else 1)
        with pytest.raises(OutcomeUnknown):
            await events_of(rig.backend.start(wanted))
        found = await rig.backend.find(wanted)
        assert isinstance(found, NotFound)
        assert not found.holds_text
        again = request(rig, anchor=found.anchor, attempts=2, again=True)
        await events_of(rig.backend.start(again))
        assert said(rig) == ALL
        assert isinstance(await rig.backend.find(again), RunEnded)


@pytest.mark.parametrize(("role", "text"), [("assistant", "three"), ("user", "three")])
async def test_a_message_whose_metadata_the_server_may_have_dropped_parks_the_batch(
    provider: StandInProvider, role: str, text: str
) -> None:
    async with made(ASSISTANTS, provider) as rig:
        await events_of(rig.backend.start(request(rig, items=request(rig).items[:2])))
        async with aiohttp.ClientSession() as session:
            posting = session.post(
                f"{provider.base_url}/threads/{rig.conversation}/messages",
                json={"role": role, "content": text},
                headers={"Authorization": f"Bearer {provider.api_key}", **ASSISTANTS_HEADERS},
            )
            async with posting as answer:
                assert answer.ok
        found = await rig.backend.find(request(rig))
        assert isinstance(found, CannotAsk if role == "assistant" else NotFound)


@keeps
async def test_a_conversation_in_use_is_left_alone(kind: str, provider: StandInProvider) -> None:
    async with made(kind, provider) as rig:
        await rig.warm_up()
        provider.model = say_in_order(Never())
        stream = rig.backend.start(rig.request("busy", batch="other"))
        await anext(aiter(stream))
        with pytest.raises(ConversationBusy):
            await events_of(rig.backend.start(request(rig)))
        assert ALL[2] not in said(rig)


async def test_calls_that_were_left_open_are_answered_with_it(provider: StandInProvider) -> None:
    async with made(RESPONSES, provider) as rig:
        provider.model = say_in_order(ToolCalls([("weather", {})]), Reply("Fine."))
        asked = (await rig.start("weather?"))[-1]
        assert isinstance(asked, ActionRequired)
        open_calls = tuple(call.id for call in asked.calls)
        wanted = request(rig, anchor=asked.anchor, open_calls=open_calls)
        await events_of(rig.backend.start(wanted))
        assert said(rig) == ALL
        assert isinstance(await rig.backend.find(wanted), RunEnded)
        *_, last = await rig.start("and now?", batch="batch-3")
        assert isinstance(last, RunEnded)
        assert last.replies == ("Fine.",)


# --- found among items, whatever their order ------------------------------------------------------


def item(role: str, text: str, ident: str = "") -> dict[str, Any]:
    return {"id": ident or f"msg_{text}", "type": "message", "role": role, "content": text}


SAID = InputItem(content="three", message_ids=("s",), role="assistant")


def one_reply(anchor: str | None = None) -> RunRequest:
    message = Message(id="s", content="three", role="assistant", wants_reply=False)
    return RunRequest(
        batch=Batch(id="b", thread_id=THREAD, messages=(message,)),
        conversation_id="conv",
        anchor=anchor,
        items=(SAID,),
        writes=True,
    )


def test_a_users_message_with_the_text_of_a_reply_is_another() -> None:
    items = [item("user", "one"), item("user", "three")]
    found = what_became_of(tail_after("msg_one", items), one_reply("msg_one"), None, ())
    assert found == NotFound(anchor="msg_three")
    assert isinstance(without_order(items, one_reply("msg_one"), None, (), is_all=True), NotFound)


def test_after_the_anchor_it_is_there_and_without_the_anchor_nothing_is_said() -> None:
    items = [item("user", "one"), item("assistant", "three"), item("user", "four")]
    found = what_became_of(tail_after("msg_one", items), one_reply("msg_one"), None, ())
    assert isinstance(found, RunEnded)
    assert found.anchor == "msg_four"
    lost = what_became_of(tail_after("msg_gone", items[:2]), one_reply("msg_gone"), None, ())
    assert isinstance(lost, CannotAsk)


def test_without_an_order_only_an_item_that_is_alone_is_the_batch() -> None:
    alone = without_order([item("assistant", "three")], one_reply(), None, (), is_all=True)
    assert isinstance(alone, RunEnded)
    two = [item("assistant", "three"), item("assistant", "other")]
    assert isinstance(without_order(two, one_reply(), None, (), is_all=True), CannotAsk)
    assert isinstance(without_order([], one_reply(), None, (), is_all=True), NotFound)


# --- a history of our own -------------------------------------------------------------------------


async def test_a_history_of_our_own_has_it_without_a_request(provider: StandInProvider) -> None:
    async with made(CHAT, provider) as rig:
        warm = await rig.warm_up()
        before = len(provider.requests)
        accepted, ended = await events_of(rig.backend.start(request(rig, anchor=warm)))
        assert accepted == RunAccepted(run_id="")
        assert isinstance(ended, RunEnded)
        assert len(provider.requests) == before
        await rig.start("four", batch="batch-3", anchor=ended.anchor)
        sent = provider.requests[-1].body["messages"]
        assert [(one["role"], one["content"]) for one in sent[-4:]] == [*ALL, ("user", "four")]


async def test_a_function_with_a_history_is_not_called_and_remembers_it() -> None:
    def function(batch: Batch) -> str:
        raise AssertionError(batch)

    backend = FunctionBackend(function, history=10)
    assert backend.capabilities.writes
    assert not FunctionBackend(function).capabilities.writes
    _, ended = await events_of(backend.start(one_reply()))
    assert isinstance(ended, RunEnded)
    assert ended.anchor == '[["assistant","three"]]'


def test_a_conversation_that_begins_with_a_reply_is_opened_where_roles_must_alternate() -> None:
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Hi!"},
        {"role": "assistant", "content": "I am Jo."},
        {"role": "user", "content": "one"},
    ]
    found = message_forms.in_form(history, {remedies.TURNS})
    assert [(one["role"], one["content"]) for one in found] == [
        ("system", "Be brief."),
        ("user", "..."),
        ("assistant", "Hi!\n\nI am Jo."),
        ("user", "one"),
    ]
