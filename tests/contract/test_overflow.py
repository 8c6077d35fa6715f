"""Conversations that are too long: shortened by the server, else renewed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from assistant_queue.backends.base import (
    ActionRequired,
    RenewsConversations,
    RunAccepted,
    RunEnded,
    RunEvent,
)
from assistant_queue.backends.openai.conversation_renewal import (
    MAX_ITEMS,
    copied,
    later_half,
    split_at_batch,
)
from assistant_queue.backends.openai.overflow import LAST_MESSAGES, Noted
from assistant_queue.errors import BackendError, RequestRefused
from assistant_queue.models import ToolCall
from assistant_queue.testing.provider import (
    Personality,
    Reply,
    StandInProvider,
    ToolCalls,
    refuse,
    say_in_order,
)
from tests.contract.test_backends import ASSISTANTS, CHAT, RESPONSES, Rig, events_of, made
from tests.contract.test_backends_parts import call, message, output, request

LONG = "eleven words that the model has to read in any case"
LIMIT = 30
"""Words: a first turn of 11 and 13 of them fits, another question behind it does not."""


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as running:
        yield running
        assert not running.model_errors


async def with_history(rig: Rig) -> str | None:
    """One turn of 24 words in the rig's conversation; its end."""
    *_, ended = await rig.start(LONG, batch="first")
    assert isinstance(ended, RunEnded)
    return ended.anchor


def limited(**flags: Any) -> Personality:
    return Personality(context_words=LIMIT, **flags)


async def end_of(rig: Rig, *texts: str, **fields: Any) -> RunEnded:
    *_, ended = await rig.start(*(texts or (LONG,)), **fields)
    assert isinstance(ended, RunEnded)
    return ended


async def refusal_of(rig: Rig, *texts: str, **fields: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        await rig.start(*(texts or (LONG,)), **fields)
    return caught.value


def asked(rig: Rig, name: str, since: int = 0) -> list[Any]:
    """A field of each request that started work, from one on."""
    return [(one.body or {}).get(name) for one in rig.provider.calls(rig.create)[since:]]


# --- Responses: the server shortens ---------------------------------------------------------------


async def test_a_server_that_truncates_is_asked_to_and_this_is_remembered_and_said_once(
    provider: StandInProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with made(RESPONSES, provider) as rig:
        anchor = await with_history(rig)
        provider.personality = limited()
        ended = await end_of(rig, anchor=anchor)
        assert (ended.status, ended.replies) == ("completed", (f"You said: {LONG}",))
        assert asked(rig, "truncation") == [None, None, "auto"]
        assert (await end_of(rig, batch="third", anchor=ended.anchor)).status == "completed"
        assert asked(rig, "truncation", 3) == ["auto"], "no request more"
    assert [
        record.message.partition(": ")[2]
        for record in caplog.records
        if "cut by the server" in record.message
    ] == [
        "conversations that outgrow the model are cut by the server: it leaves out what is oldest"
    ]


@pytest.mark.parametrize(
    "refusal",
    [
        refuse(400, message="Bad request."),
        refuse(422, body={"detail": "no"}),
        refuse(400, body=""),
        refuse(413, body="<html><h1>413 Request Entity Too Large</h1></html>"),
        refuse(400, body={"error": {"message": "Invalid.", "param": "input"}}),
        refuse(500, "context_length_exceeded"),
        refuse(
            400,
            message="The input token count (2000) exceeds the maximum number of tokens allowed (1000).",
        ),
    ],
)
async def test_a_refusal_that_is_or_may_be_about_the_length_is_met_with_less(
    provider: StandInProvider, refusal: Any
) -> None:
    async with made(RESPONSES, provider) as rig:
        anchor = await with_history(rig)
        provider.fault(rig.create, refusal)
        assert (await end_of(rig, anchor=anchor)).status == "completed"
        assert asked(rig, "truncation", 1) == [None, "auto"]


async def test_a_refusal_without_words_of_a_first_batch_is_no_question_of_length(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider) as rig:
        provider.fault(rig.create, refuse(400, message="Bad request."))
        refusal = await refusal_of(rig)
    assert (len(provider.calls(rig.create)), refusal.outgrown) == (1, False)


@pytest.mark.parametrize("kind", [RESPONSES, ASSISTANTS])
async def test_a_refusal_that_names_a_field_is_not_about_the_length(
    provider: StandInProvider, kind: str
) -> None:
    async with made(kind, provider) as rig:
        anchor = await with_history(rig)
        provider.fault(
            rig.create,
            refuse(400, body={"error": {"message": "Invalid value.", "param": "temperature"}}),
        )
        refusal = await refusal_of(rig, anchor=anchor)
    assert (len(provider.calls(rig.create)), refusal.outgrown) == (2, False)


@pytest.mark.parametrize(
    ("flags", "requests"),
    [({"truncation": "refused"}, [None, "auto"]), ({"truncation": "ignored"}, [None, "auto"])],
    ids=str,
)
async def test_a_server_that_does_not_truncate_leaves_the_conversation_outgrown_and_is_asked_again_next_time(
    provider: StandInProvider, flags: dict[str, Any], requests: list[Any]
) -> None:
    async with made(RESPONSES, provider) as rig:
        anchor = await with_history(rig)
        provider.personality = limited(**flags)
        refusal = await refusal_of(rig, anchor=anchor)
        assert (refusal.outgrown, refusal.retryable, refusal.provider_code) == (
            True,
            False,
            "context_length_exceeded",
        )
        assert asked(rig, "truncation", 1) == requests
        provider.personality = limited()
        await end_of(rig, anchor=anchor, batch="third")
        assert asked(rig, "truncation", 3) == [None, "auto"]


COMPACTION = [{"type": "compaction"}]


async def test_a_conversation_can_be_compacted_by_the_server(provider: StandInProvider) -> None:
    async with made(RESPONSES, provider, on_context_overflow="compact") as rig:
        anchor = await with_history(rig)
        provider.personality = limited()
        ended = await end_of(rig, anchor=anchor)
        assert asked(rig, "context_management") == [None, None, COMPACTION]
        assert asked(rig, "truncation") == [None] * 3
        # The item that stands for what was said before is in the conversation, and disturbs no batch.
        found = await rig.backend.find(rig.request(LONG, anchor=anchor))
        assert isinstance(found, RunEnded)
        assert (found.replies, found.anchor) == (ended.replies, ended.anchor)
        assert (await end_of(rig, batch="third", anchor=ended.anchor)).status == "completed"
        assert asked(rig, "context_management", 3) == [COMPACTION]


@pytest.mark.parametrize(
    ("flag", "compaction", "truncation"),
    [
        ("refused", [None, COMPACTION, None], [None, None, "auto"]),
        ("ignored", [None, COMPACTION, COMPACTION], [None, None, "auto"]),
    ],
)
async def test_a_server_that_does_not_compact_is_asked_to_truncate(
    provider: StandInProvider, flag: Any, compaction: list[Any], truncation: list[Any]
) -> None:
    async with made(RESPONSES, provider, on_context_overflow="compact") as rig:
        anchor = await with_history(rig)
        provider.personality = limited(context_management=flag)
        ended = await end_of(rig, anchor=anchor)
        assert ended.status == "completed"
        assert (asked(rig, "context_management", 1), asked(rig, "truncation", 1)) == (
            compaction,
            truncation,
        )
        await end_of(rig, batch="third", anchor=ended.anchor)
        assert (asked(rig, "context_management", 4), asked(rig, "truncation", 4)) == (
            [None],
            ["auto"],
        ), "what helped, and only that"


async def test_what_the_user_says_about_truncation_is_left_alone(provider: StandInProvider) -> None:
    async with made(RESPONSES, provider, run_options={"truncation": "disabled"}) as rig:
        anchor = await with_history(rig)
        provider.personality = limited()
        assert (await refusal_of(rig, anchor=anchor)).outgrown
        assert asked(rig, "truncation") == ["disabled"] * 2


@pytest.mark.parametrize("kind", [RESPONSES, ASSISTANTS, CHAT])
async def test_a_queue_that_is_to_fail_sends_nothing_more_whatever_others_have_found_out(
    provider: StandInProvider, kind: str
) -> None:
    provider.personality = limited()
    async with made(kind, provider) as rig:
        anchor = await with_history(rig)
        ended = await end_of(rig, anchor=anchor)
        assert ended.status == "completed"
        before = len(provider.calls(rig.create))
        async with made(kind, provider, on_context_overflow="fail") as failing:
            assert not failing.backend.capabilities.renews
            failing.conversation = rig.conversation
            refusal = await refusal_of(failing, anchor=anchor, batch="third")
        assert (refusal.retryable, refusal.provider_code) == (False, "context_length_exceeded")
        assert len(provider.calls(rig.create)) == before + 1
        assert (
            asked(rig, "truncation", before) == asked(rig, "truncation_strategy", before) == [None]
        )


@pytest.mark.parametrize(
    "passing",
    [
        refuse(429, "rate_limit_exceeded", retry_after=3),
        refuse(409, "conversation_locked"),
        refuse(400, retry_after=3),
    ],
)
async def test_trouble_that_passes_is_not_taken_for_a_server_that_does_not_truncate(
    provider: StandInProvider, passing: Any
) -> None:
    async with made(RESPONSES, provider) as rig:
        anchor = await with_history(rig)
        provider.personality = limited()
        provider.fault(rig.create, passing, nth=2)
        refusal = await refusal_of(rig, anchor=anchor)
        assert (refusal.counts, refusal.outgrown, refusal.retryable) == (False, False, True)


async def test_a_call_that_an_earlier_batch_left_open_is_healed_in_a_conversation_that_is_shortened(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider) as rig:
        provider.model = say_in_order(ToolCalls([("weather", {})]), "fine")
        *_, open_round = await rig.start(LONG, LONG, batch="first")
        assert isinstance(open_round, ActionRequired)
        provider.personality = limited()
        ended = await end_of(rig, batch="second", anchor=open_round.anchor)
        assert (ended.replies, asked(rig, "truncation", 1)) == (("fine",), [None, None, "auto"])


# --- Responses: a run that fails for its length ---------------------------------------------------


async def test_a_response_that_fails_for_its_length_is_worth_another_that_is_truncated(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider) as rig:
        anchor = await with_history(rig)
        provider.personality = limited(context_outcome="failed")
        failed = await end_of(rig, anchor=anchor)
        assert (failed.status, failed.retryable, failed.counts) == ("failed", True, False)
        assert (await end_of(rig, anchor=anchor, shortened=1)).status == "completed"
        assert (await end_of(rig, anchor=anchor, batch="third")).status == "completed", (
            "it has helped"
        )
        assert asked(rig, "truncation", 1) == [None, "auto", "auto"]


async def test_truncation_that_did_not_help_is_not_remembered(provider: StandInProvider) -> None:
    async with made(RESPONSES, provider) as rig:
        anchor = await with_history(rig)
        provider.personality = limited(context_outcome="failed", truncation="ignored")
        again = await end_of(rig, anchor=anchor, shortened=1)
        assert (again.status, again.retryable, again.counts) == ("failed", False, True)
        renewed = await end_of(rig, anchor=anchor, shortened=1, renewed=True)
        assert (renewed.status, renewed.retryable) == ("failed", False)
        assert (await end_of(rig, "hi", batch="other", anchor=anchor)).status == "completed"
        assert asked(rig, "truncation", 1) == ["auto", None, None]


async def test_a_server_that_refuses_to_truncate_what_it_failed_on_gets_the_request_without(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider) as rig:
        anchor = await with_history(rig)
        provider.personality = limited(context_outcome="failed", truncation="refused")
        again = await end_of(rig, anchor=anchor, shortened=1)
        assert (again.status, again.retryable, asked(rig, "truncation", 1)) == (
            "failed",
            False,
            ["auto", None],
        )


@pytest.mark.parametrize("kind", [RESPONSES, ASSISTANTS])
async def test_a_run_that_another_worker_finds_failed_for_its_length_is_worth_another_as_well(
    provider: StandInProvider, kind: str
) -> None:
    async with made(kind, provider) as rig:
        anchor = await with_history(rig)
        provider.personality = limited(context_outcome="failed")
        failed = await end_of(rig, anchor=anchor)
        request = rig.request(LONG, anchor=anchor)
        found = await rig.backend.find(request, failed.run_id)
        for cursor in (None, 0):
            followed = (await events_of(rig.backend.follow(request, failed.run_id, cursor)))[-1]
            assert (found, followed) == (failed, failed)
        assert isinstance(found, RunEnded)
        assert (found.retryable, found.counts) == (True, False)


# --- Responses: begun anew ------------------------------------------------------------------------


async def renew(
    rig: Rig, request: Any, calls: Sequence[ToolCall] = ()
) -> tuple[str, str | None] | None:
    assert isinstance(rig.backend, RenewsConversations)
    return await rig.backend.renew_conversation(request, calls)


def texts_of(provider: StandInProvider, place: str) -> list[tuple[str, str]]:
    return [
        (
            item.get("role") or item["type"],
            "".join(
                part["text"] if isinstance(part["text"], str) else part["text"]["value"]
                for part in item.get("content", ())
            ),
        )
        for item in provider.items(place)
    ]


@pytest.mark.parametrize("kind", [RESPONSES, ASSISTANTS])
async def test_the_new_conversation_begins_with_the_last_turns_and_the_old_one_stays_as_it_was(
    provider: StandInProvider, kind: str
) -> None:
    async with made(kind, provider) as rig:
        anchor = None
        for number in range(6):
            anchor = (
                await end_of(rig, f"question {number}", batch=f"b{number}", anchor=anchor)
            ).anchor
        before = provider.items(rig.conversation)
        renewed = await renew(rig, rig.request(LONG, batch="now", anchor=anchor))
        assert renewed is not None
        place, end = renewed
        assert texts_of(provider, place) == [
            row
            for number in (3, 4, 5)
            for row in (
                ("user", f"question {number}"),
                ("assistant", f"You said: question {number}"),
            )
        ]
        assert provider.items(rig.conversation) == before
        assert end == (provider.items(place)[-1]["id"] if kind == RESPONSES else None)

        rig.conversation = place
        assert (await end_of(rig, "go on", batch="now", anchor=end, renewed=True)).replies == (
            "You said: go on",
        )
        again = await renew(
            rig, rig.request(LONG, batch="later", anchor=provider.items(place)[-1]["id"])
        )
        assert again is not None
        assert texts_of(provider, again[0])[-1] == ("assistant", "You said: go on")


@pytest.mark.parametrize("listed", ["asked", "newest", "oldest"])
async def test_the_order_of_what_was_said_does_not_depend_on_how_a_server_lists_it(
    provider: StandInProvider, listed: Any
) -> None:
    async with made(RESPONSES, provider) as rig:
        anchor = None
        for number in range(4):
            anchor = (
                await end_of(rig, f"question {number}", batch=f"b{number}", anchor=anchor)
            ).anchor
        provider.personality = Personality(list_order=listed)
        renewed = await renew(rig, rig.request(LONG, batch="now", anchor=anchor))
        assert renewed is not None
        assert [text for _, text in texts_of(provider, renewed[0])][::2] == [
            "question 2",
            "question 3",
        ]
        assert renewed[1] == provider.items(renewed[0])[-1]["id"]


@pytest.mark.parametrize("listed", ["by_id", "shuffled", "reshuffled"])
async def test_what_was_said_in_no_order_that_can_be_known_is_not_said_again_and_open_calls_are_carried_all_the_same(
    provider: StandInProvider, listed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with made(RESPONSES, provider) as rig:
        anchor = None
        for number in range(4):
            anchor = (
                await end_of(rig, f"question {number}", batch=f"b{number}", anchor=anchor)
            ).anchor
        provider.model = say_in_order(ToolCalls([("weather", {})]), Reply("sunny"))
        *_, opened = await rig.start("how", "is it", anchor=anchor)
        assert isinstance(opened, ActionRequired)
        provider.personality = Personality(list_order=listed)
        request = rig.request("how", "is it", anchor=anchor)
        renewed = await renew(rig, request, opened.calls)
        assert renewed is not None
        assert texts_of(provider, renewed[0]) == [
            ("user", "how"),
            ("user", "is it"),
            ("function_call", ""),
        ]
        assert "without its earlier messages" in caplog.text
        rig.conversation = renewed[0]
        *_, ended = await events_of(
            rig.backend.submit(
                rig.request("how", "is it"), "", opened.calls, {opened.calls[0].id: "warm"}
            )
        )
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("sunny",)


@pytest.mark.parametrize("kind", [RESPONSES, ASSISTANTS])
async def test_with_nothing_before_the_batch_there_is_nothing_to_begin_with(
    provider: StandInProvider, kind: str
) -> None:
    async with made(kind, provider) as rig:
        assert await renew(rig, rig.request(LONG)) is None
        assert len(provider.requests) == 1


async def test_a_round_of_tools_continues_in_the_new_conversation(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider) as rig:
        anchor = await with_history(rig)
        provider.model = say_in_order(
            ToolCalls([("weather", {"of": "today"}), ("weather", {"of": "tomorrow"})]),
            Reply("sunny"),
        )
        *_, opened = await rig.start("how is it", anchor=anchor)
        assert isinstance(opened, ActionRequired)
        request = rig.request("how is it", anchor=anchor)
        renewed = await renew(rig, request, opened.calls)
        assert renewed is not None
        rig.conversation, end = renewed
        assert end is None, "of one turn there is no later half"
        assert texts_of(provider, rig.conversation) == [
            ("user", "how is it"),
            ("function_call", ""),
            ("function_call", ""),
        ]

        moved = rig.request("how is it", anchor=end)
        not_yet = await rig.backend.find(moved, None, opened.calls)
        assert type(not_yet).__name__ == "NotFound"
        found = await rig.backend.find(moved)
        assert isinstance(found, ActionRequired)
        assert [one.id for one in found.calls] == [one.id for one in opened.calls], (
            "the same calls, so that no function is called again"
        )
        outputs = {one.id: "warm" for one in opened.calls}
        *_, ended = await events_of(rig.backend.submit(moved, "", opened.calls, outputs))
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("sunny",)


async def test_more_than_one_request_takes_is_carried_over_by_several(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider) as rig:
        anchor = await with_history(rig)
        texts = [f"text {number}" for number in range(MAX_ITEMS + 3)]
        provider.model = say_in_order(ToolCalls([("weather", {})]), Reply("sunny"))
        *_, opened = await rig.start(*texts, anchor=anchor)
        assert isinstance(opened, ActionRequired)
        renewed = await renew(rig, rig.request(*texts, anchor=anchor), opened.calls)
        assert renewed is not None
        assert provider.user_texts(renewed[0]) == texts
        assert len(provider.calls("items.create")) == 2


@pytest.mark.parametrize(
    ("kind", "op"), [(RESPONSES, "conversations.create"), (ASSISTANTS, "threads.create")]
)
async def test_a_server_that_creates_no_conversation_with_items_begins_with_an_empty_one(
    provider: StandInProvider, kind: str, op: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with made(kind, provider) as rig:
        anchor = await with_history(rig)
        anchor = (await end_of(rig, "hi", batch="second", anchor=anchor)).anchor
        no_items = refuse(400, "unknown_parameter", message=f"Unknown parameter in {LONG!r}.")
        provider.fault(
            op, no_items, when=lambda request: "thread" in (request.body or {}).get("metadata", {})
        )
        renewed = await renew(rig, rig.request(LONG, anchor=anchor, batch="now"))
        assert renewed is not None
        assert (renewed[1], provider.items(renewed[0])) == (None, [])
        assert "without its earlier messages" in caplog.text
        assert LONG not in caplog.text


@pytest.mark.parametrize(
    ("kind", "op"), [(RESPONSES, "conversations.create"), (ASSISTANTS, "threads.create")]
)
async def test_trouble_that_passes_is_no_reason_to_forget_what_was_said(
    provider: StandInProvider, kind: str, op: str
) -> None:
    async with made(kind, provider) as rig:
        anchor = await with_history(rig)
        anchor = (await end_of(rig, "hi", batch="second", anchor=anchor)).anchor
        for trouble in (refuse(429, "rate_limit_exceeded"), refuse(503)):
            provider.fault(op, trouble)
            with pytest.raises(BackendError) as caught:
                await renew(rig, rig.request(LONG, anchor=anchor, batch="now"))
            assert caught.value.retryable


# --- which items ----------------------------------------------------------------------------------


def said(*texts: str) -> list[Any]:
    """Turns: a question, an answer, and so on."""
    return [
        message(text, "user" if place % 2 == 0 else "assistant") for place, text in enumerate(texts)
    ]


def kept(items: Sequence[Any]) -> list[str]:
    return [one["content"] for one in later_half(items)]


def test_half_of_the_characters_are_kept_in_whole_turns() -> None:
    assert kept(said("aa", "bb", "cc", "dd")) == ["cc", "dd"]
    assert kept(said("aaaa", "bbbb", "cc", "dd", "ee", "ff")) == ["cc", "dd", "ee", "ff"]
    assert kept(said("a")) == kept([]) == []


def test_a_last_turn_that_is_too_long_is_passed_over() -> None:
    assert kept(said("aa", "bb", "cc", "ddd")) == ["aa", "bb"]
    assert kept(said("aa", "bb", "cc", "dd", "e" * 50, "ff")) == ["aa", "bb", "cc", "dd"]
    assert kept(said("aa", "bb", "e" * 10, "ff", "gg", "hh")) == ["gg", "hh"], (
        "what stands behind a long one is enough"
    )


def test_what_was_asked_together_stays_together_and_nothing_begins_with_an_answer() -> None:
    items = [
        message("hello"),
        message("a", "user"),
        message("b", "user"),
        message("cc"),
        message("d", "user"),
        message("e"),
    ]
    assert kept([*items, message("f", "user"), message("g")]) == ["d", "e", "f", "g"]
    assert kept(
        [
            message("b" * 9),
            message("a", "user"),
            message("b", "assistant"),
            message("c", "user"),
            message("d"),
        ]
    ) == ["c", "d"]


def test_no_more_messages_than_a_request_takes() -> None:
    assert len(kept(said(*"ab" * 100))) == MAX_ITEMS


def test_texts_are_kept_of_all_there_is() -> None:
    picture = {
        "id": "m",
        "type": "message",
        "role": "user",
        "content": [{"type": "input_image"}, {"type": "input_text", "text": "this"}],
    }
    refusal = {
        "id": "r",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "refusal", "refusal": "I will not"}],
    }
    items = [
        *said("x" * 40, "y"),
        picture,
        {"type": "reasoning", "id": "rs"},
        call("c"),
        output("c"),
        refusal,
    ]
    assert kept(items) == ["this", "I will not"]
    assert [one["role"] for one in later_half(items)] == ["user", "assistant"]


def test_what_is_copied_has_neither_ids_nor_what_belongs_to_them() -> None:
    found = copied([*said("hi"), {"type": "reasoning", "id": "rs"}, call("c"), output("c")])
    assert found == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ]


OWN = said("now")
ROUND = [*OWN, call("c")]
PAST = said("hi", "hello", "now", "yes")


@pytest.mark.parametrize(
    ("items", "anchor", "calls", "own"),
    [
        (PAST, "msg_yes", (), 0),
        ([*PAST, *ROUND], "msg_yes", ("c",), 2),
        ([*PAST, *ROUND], "msg_yes", (), 2),
        ([*PAST, output("healed"), *ROUND], "msg_yes", ("c",), 2),
        ([*PAST, *said("somebody else", "yes"), *ROUND], "msg_yes", ("c",), 2),
        ([*PAST, *said("somebody else", "yes")], "msg_yes", (), 0),
        (ROUND, None, ("c",), 2),
        ([*PAST, *ROUND], "msg_gone", ("c",), 2),
        (PAST[:2], "msg_gone", (), 0),
        (
            [
                *PAST,
                message("rewritten", "user"),
                message("too", "user"),
                message("let me see"),
                call("c"),
            ],
            "msg_yes",
            ("c",),
            4,
        ),
        ([call("c")], "msg_gone", ("c",), 1),
    ],
)
def test_the_batchs_own_items_are_distinguished_from_those_before_it(
    items: Any, anchor: str | None, calls: tuple[str, ...], own: int
) -> None:
    called = [ToolCall(id=one, function=None) for one in calls]  # type: ignore[arg-type]
    earlier, found = split_at_batch(items, request("now", anchor=anchor), called)
    assert [*earlier, *found] == items
    assert len(found) == own


# --- Assistants -----------------------------------------------------------------------------------


def reads(rig: Rig, since: int = 0) -> list[int | None]:
    """Numbers of messages that the runs were to read."""
    return [
        None if one is None else one["last_messages"]
        for one in asked(rig, "truncation_strategy", since)
    ]


async def test_a_run_that_fails_for_its_length_is_worth_others_that_read_less_and_less(
    provider: StandInProvider,
) -> None:
    async with made(ASSISTANTS, provider) as rig:
        await with_history(rig)
        provider.personality = limited(context_outcome="failed", truncation_strategy="ignored")
        ends = [await end_of(rig, shortened=level) for level in range(3)]
        assert [(end.status, end.retryable, end.counts) for end in ends] == [
            ("failed", True, False),
            ("failed", True, False),
            ("failed", False, True),
        ]
        assert reads(rig, 1) == [None, LAST_MESSAGES, 1]
        await end_of(rig, "a", "b", "c", batch="wide", shortened=2)
        await end_of(rig, *(str(number) for number in range(15)), batch="wider", shortened=1)
        assert reads(rig, 4) == [3, 15], "the batch itself is read in any case"
        assert (await end_of(rig, shortened=2, renewed=True)).retryable is False
        assert reads(rig, 6) == [None]


async def test_a_run_over_texts_that_the_thread_holds_already_reads_them(
    provider: StandInProvider,
) -> None:
    async with made(ASSISTANTS, provider) as rig:
        await with_history(rig)
        request = rig.request("a", "b", batch="second")
        await end_of(rig, "a", "b", batch="second")
        held = type(request)(
            **{
                **{name: getattr(request, name) for name in request.__slots__},
                "items": (),
                "shortened": 2,
            }
        )
        await events_of(rig.backend.start(held))
        assert reads(rig) == [None, None, 2]


async def test_a_thread_that_was_shortened_is_read_so_from_then_on_and_no_other(
    provider: StandInProvider,
) -> None:
    async with made(ASSISTANTS, provider) as rig:
        for number in range(10):
            await end_of(rig, "hi", batch=f"b{number}")
        provider.personality = Personality(context_words=45)
        assert (await end_of(rig, batch="long")).status == "completed"
        assert (await end_of(rig, "hi", batch="next")).status == "completed"
        assert reads(rig, 10) == [None, LAST_MESSAGES, LAST_MESSAGES]
        rig.conversation = provider.create_thread()
        assert (await end_of(rig, "hi", batch="other")).status == "completed"
        assert reads(rig, 13) == [None]


async def test_a_server_that_refuses_to_shorten_a_thread_is_not_asked_again(
    provider: StandInProvider,
) -> None:
    async with made(ASSISTANTS, provider) as rig:
        await with_history(rig)
        provider.personality = limited(truncation_strategy="refused")
        assert (await refusal_of(rig, batch="second")).outgrown
        assert (await refusal_of(rig, batch="third")).outgrown
        assert reads(rig, 1) == [None, LAST_MESSAGES, None, None]


async def test_a_refusal_without_words_says_nothing_of_a_thread_that_is_not_in_the_request(
    provider: StandInProvider,
) -> None:
    async with made(ASSISTANTS, provider) as rig:
        await with_history(rig)
        provider.fault(rig.create, refuse(400, message="Bad request."))
        assert not (await refusal_of(rig, batch="second")).outgrown
        assert len(provider.calls(rig.create)) == 2


async def test_messages_that_were_posted_one_by_one_are_not_posted_again_for_a_shorter_run(
    provider: StandInProvider,
) -> None:
    provider.personality = Personality(ignores_additional_messages=True)
    async with made(ASSISTANTS, provider) as rig:
        await with_history(rig)
        provider.personality = limited(ignores_additional_messages=True)
        assert (await end_of(rig, batch="second")).status == "completed"
        assert provider.user_texts(rig.conversation) == [LONG, LONG]


async def test_a_users_own_truncation_strategy_is_left_alone(provider: StandInProvider) -> None:
    own = {"type": "last_messages", "last_messages": 99}
    async with made(ASSISTANTS, provider, run_options={"truncation_strategy": own}) as rig:
        await with_history(rig)
        provider.personality = limited()
        assert (await refusal_of(rig, batch="second")).outgrown
        assert asked(rig, "truncation_strategy") == [own, own]


def test_what_was_noted_is_bounded() -> None:
    noted = Noted(2)
    for ident in ("a", "b", "a", "c"):
        noted.add(ident)
    assert [ident for ident in "abc" if ident in noted] == ["a", "c"]


# --- Chat Completions -----------------------------------------------------------------------------


@pytest.mark.parametrize("told", ["refused", "failed", "unsaid"])
async def test_a_history_that_is_too_long_is_halved_however_that_is_said(
    provider: StandInProvider, told: Any
) -> None:
    async with made(CHAT, provider) as rig:
        anchor = None
        for number in range(6):
            anchor = (
                await end_of(rig, f"question {number}", batch=f"b{number}", anchor=anchor)
            ).anchor
        provider.personality = Personality(context_words=20, context_outcome=told)
        events = await rig.start("the last one", batch="now", anchor=anchor)
        assert [type(event) for event in events].count(RunAccepted) == 1
        ended: RunEvent = events[-1]
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("You said: the last one",)
        assert rig.user_texts() == ["question 5", "the last one"]
