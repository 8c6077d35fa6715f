"""Look up batches on servers that list, page and sort in different ways.

A batch that is not proven to be absent is not sent again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from assistant_queue.backends.base import CannotAsk, Finding, NotFound, RunEnded, RunRequest
from assistant_queue.backends.openai.item_lists import ListReader
from assistant_queue.backends.responses.unordered_items import without_order
from assistant_queue.errors import OutcomeUnknown, RequestRefused
from assistant_queue.testing.provider import (
    Personality,
    StandInProvider,
    paging,
    refuse,
    work_then_refuse,
)
from tests.contract.test_backends import ASSISTANTS, RESPONSES, Rig, events_of, made
from tests.contract.test_backends_parts import call, message, output, request

KINDS = (RESPONSES, ASSISTANTS)

ORDERLY: dict[str, Personality] = {
    "as asked": Personality(),
    "always newest first": Personality(list_order="newest"),
    "always oldest first": Personality(list_order="oldest"),
    "ignores limit": Personality(ignores_limit=True),
    "short pages": Personality(page_cap=3),
    "has_more missing": Personality(has_more="missing"),
    "has_more always": Personality(has_more="always"),
    "has_more never": Personality(has_more="never"),
    "short pages, has_more never": Personality(page_cap=3, has_more="never"),
    "short pages, has_more missing": Personality(page_cap=3, has_more="missing"),
    "no paging at all": Personality(list_order="oldest", ignores_after=True, ignores_limit=True),
    "oldest first in short pages": Personality(list_order="oldest", page_cap=3),
    "oldest first in short pages, has_more never": Personality(
        list_order="oldest", page_cap=3, has_more="never"
    ),
    "ignores after": Personality(ignores_after=True),
}
"""On these it is known in the end what became of a batch."""

DISORDERLY: dict[str, Personality] = {
    "by id": Personality(list_order="by_id"),
    "shuffled": Personality(list_order="shuffled"),
    "reshuffled": Personality(list_order="reshuffled"),
    "shuffled in short pages": Personality(list_order="shuffled", page_cap=3),
    "shuffled in short pages, has_more never": Personality(
        list_order="shuffled", page_cap=3, has_more="never"
    ),
    "reshuffled in short pages": Personality(list_order="reshuffled", page_cap=3),
    "by id in short pages, has_more never": Personality(
        list_order="by_id", page_cap=3, has_more="never"
    ),
    "the first page for ever": Personality(ignores_after=True, page_cap=3, has_more="always"),
    "the first page of the oldest for ever": Personality(
        list_order="oldest", ignores_after=True, page_cap=3
    ),
}
"""On these it may stay open."""

LOST = {"accepted": work_then_refuse(500), "refused": refuse(503)}


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as running:
        yield running
        assert not running.model_errors


@pytest.fixture(autouse=True)
def _the_next_second_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in sorts by places: nothing changes with time."""
    monkeypatch.setattr("assistant_queue.backends.responses.list_order._NEXT_SECOND_S", 0.0)


async def lose(
    rig: Rig, how: str, *, turns: int, texts: Sequence[str] = ("one", "two")
) -> RunRequest:
    """Start a conversation of some turns, and lose the answer of a batch."""
    anchor = None
    for turn in range(turns):
        ended = (await rig.start(f"turn {turn}", batch=f"b{turn}", anchor=anchor))[-1]
        assert isinstance(ended, RunEnded)
        anchor = ended.anchor
    sent = rig.request(*texts, anchor=anchor, batch="lost")
    rig.provider.fault(rig.create, LOST[how])
    with suppress(OutcomeUnknown):
        await events_of(rig.backend.start(sent))
    await asyncio.to_thread(rig.provider.wait_for, runs_ended=len(rig.provider.runs))
    return sent


async def found_by_another(rig: Rig, sent: RunRequest, personality: Personality) -> Finding:
    """Look the batch up from a process that does not know this server."""
    rig.provider.personality = personality
    async with made(rig.kind, rig.provider) as other:
        return await other.backend.find(sent)


@pytest.mark.parametrize("name", ORDERLY)
@pytest.mark.parametrize("turns", [0, 4])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_lost_batch_is_found_and_one_that_never_arrived_is_not(
    kind: str, provider: StandInProvider, turns: int, name: str
) -> None:
    async with made(kind, provider) as rig:
        rig.backend._takes_messages = True  # type: ignore[attr-defined]
        sent = await lose(rig, "accepted", turns=turns)
        found = await found_by_another(rig, sent, ORDERLY[name])
        assert isinstance(found, RunEnded)
        assert found.replies == ("You said: one | two",)
    provider.personality = Personality()
    async with made(kind, provider) as rig:
        rig.backend._takes_messages = True  # type: ignore[attr-defined]
        sent = await lose(rig, "refused", turns=turns)
        assert isinstance(await found_by_another(rig, sent, ORDERLY[name]), NotFound)


@pytest.mark.parametrize("name", DISORDERLY)
@pytest.mark.parametrize("turns", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_undecidable_batch_is_neither_sent_again_nor_taken_for_another(
    kind: str, provider: StandInProvider, turns: int, name: str
) -> None:
    async with made(kind, provider) as rig:
        rig.backend._takes_messages = True  # type: ignore[attr-defined]
        sent = await lose(rig, "accepted", turns=turns)
        found = await found_by_another(rig, sent, DISORDERLY[name])
        assert isinstance(found, CannotAsk | RunEnded)
        assert not isinstance(found, RunEnded) or found.replies == ("You said: one | two",)
    provider.personality = Personality()
    async with made(kind, provider) as rig:
        rig.backend._takes_messages = True  # type: ignore[attr-defined]
        sent = await lose(rig, "refused", turns=turns)
        assert isinstance(await found_by_another(rig, sent, DISORDERLY[name]), CannotAsk | NotFound)


def listed_as(
    monkeypatch: pytest.MonkeyPatch, rank: Callable[[dict[str, Any], int, str], float]
) -> None:
    """Let the stand-in sort its lists by `rank(item, number of items, order)`."""

    def ordered(
        objects: Sequence[dict[str, Any]], order: str, _: Personality
    ) -> list[dict[str, Any]]:
        return sorted(objects, key=lambda item: rank(item, len(objects), order))

    monkeypatch.setattr("assistant_queue.testing.provider.paging._ordered", ordered)


@pytest.mark.parametrize("honours_order", [True, False])
@pytest.mark.parametrize("shown", ["newest first", "oldest first"])
async def test_a_shuffled_list_that_looks_like_the_batch_and_its_answer_is_not_believed(
    provider: StandInProvider, monkeypatch: pytest.MonkeyPatch, shown: str, honours_order: bool
) -> None:
    """One order of thirty: the earlier turn with the batch's text comes right after the anchor."""
    async with made(RESPONSES, provider) as rig:
        sent = await lose(rig, "refused", turns=3, texts=["turn 1"])
        items = [item["id"] for item in provider.items(rig.conversation)]
        looks_like = [items[place] for place in (0, 1, 4, 5, 2, 3)]
        sign = -1 if shown == "newest first" else 1

        def rank(item: dict[str, Any], _: int, order: str) -> float:
            place = looks_like.index(item["id"]) if item["id"] in looks_like else hash(item["id"])
            return place * (-sign if honours_order and order == "asc" else sign)

        listed_as(monkeypatch, rank)
        assert isinstance(await found_by_another(rig, sent, Personality()), CannotAsk)


async def test_a_server_that_reshuffles_its_pages_proves_no_absence_by_two_equal_readings(
    provider: StandInProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of three of five items, twice the same by accident: the batch is not on them."""
    async with made(RESPONSES, provider) as rig:
        sent = await lose(rig, "accepted", turns=1)
        order = [item["id"] for item in provider.items(rig.conversation)]
        order = [order[place] for place in (2, 3, 4, 1, 0)]  # the batch's items first
        of_trials = itertools.count()

        def rank(item: dict[str, Any], _: int, __: str) -> float:
            return order.index(item["id"]) if item["id"] in order else next(of_trials) % 5

        listed_as(monkeypatch, rank)
        between = paging._between

        def cut(listed: list[dict[str, Any]], query: Any) -> list[dict[str, Any]]:
            if listed[0]["id"] not in order:
                return between(listed, query)
            return [] if "after" in query else listed[2:]

        monkeypatch.setattr(paging, "_between", cut)
        assert isinstance(await found_by_another(rig, sent, Personality(page_cap=3)), CannotAsk)


@pytest.mark.parametrize("name", [*ORDERLY, *DISORDERLY])
@pytest.mark.parametrize("how", LOST)
async def test_a_text_that_was_said_before_proves_nothing(
    provider: StandInProvider, how: str, name: str
) -> None:
    async with made(RESPONSES, provider) as rig:
        sent = await lose(rig, how, turns=3, texts=["turn 1"])
        found = await found_by_another(rig, sent, {**ORDERLY, **DISORDERLY}[name])
        assert isinstance(found, CannotAsk | (RunEnded if how == "accepted" else NotFound))
        assert not isinstance(found, RunEnded) or found.replies == ("You said: turn 1",)
        if name in {"as asked", "always newest first", "always oldest first", "has_more never"}:
            assert not isinstance(found, CannotAsk)


@pytest.mark.parametrize(
    "personality",
    [
        Personality(list_order="oldest"),
        Personality(page_cap=40),
        Personality(list_order="shuffled"),
    ],
)
@pytest.mark.parametrize("how", LOST)
async def test_conversations_of_several_pages_are_read_to_their_end(
    provider: StandInProvider, personality: Personality, how: str
) -> None:
    async with made(RESPONSES, provider) as rig:
        await rig.start(*[f"text {number}" for number in range(130)], batch="long")
        sent = await lose(rig, how, turns=1)
        found = await found_by_another(rig, sent, personality)
        if personality.list_order == "shuffled" and how == "accepted":
            assert isinstance(found, CannotAsk)
        else:
            assert isinstance(found, RunEnded if how == "accepted" else NotFound)


# --- what it costs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "turns", "lists"),
    [
        ("accepted", 0, 2),
        ("refused", 0, 1),
        ("refused", 1, 2),
        ("refused", 3, 2),
    ],
)
async def test_an_honest_server_is_asked_little(
    provider: StandInProvider, how: str, turns: int, lists: int
) -> None:
    async with made(RESPONSES, provider) as rig:
        sent = await lose(rig, how, turns=turns)
        before = len(provider.requests)
        await found_by_another(rig, sent, Personality())
        assert rig.ops()[before:] == ["items.list"] * lists


@pytest.mark.parametrize(("how", "kind"), [("accepted", RunEnded), ("refused", NotFound)])
async def test_a_server_is_tried_out_once_and_nothing_of_that_is_left(
    provider: StandInProvider, how: str, kind: type[Finding]
) -> None:
    async with made(RESPONSES, provider) as rig:
        sent = await lose(rig, how, turns=3, texts=["turn 1"])
        conversations = set(provider._world.conversations)
        before = len(provider.requests)
        for _ in range(2):
            assert isinstance(await rig.backend.find(sent), kind)
        listed = ["items.list"]
        assert rig.ops()[before:] == [
            *listed,
            "conversations.create",
            *listed * 2,
            "conversations.delete",
            *listed,
        ]
        assert set(provider._world.conversations) == conversations


async def test_a_trial_that_goes_wrong_for_a_moment_is_made_again(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider) as rig:
        sent = await lose(rig, "refused", turns=3, texts=["turn 1"])
        provider.fault("conversations.create", refuse(429))
        with pytest.raises(RequestRefused):
            await rig.backend.find(sent)
        assert isinstance(await rig.backend.find(sent), NotFound)


@pytest.mark.parametrize("op", ["conversations.create", "conversations.delete"])
async def test_a_server_that_refuses_the_trial_leaves_the_question_open_and_one_that_keeps_it_does_not(
    provider: StandInProvider, op: str
) -> None:
    async with made(RESPONSES, provider) as rig:
        sent = await lose(rig, "refused", turns=3, texts=["turn 1"])
        provider.fault(op, refuse(403), times=None)
        found = await rig.backend.find(sent)
        assert isinstance(found, CannotAsk if op == "conversations.create" else NotFound)


async def test_a_server_that_sorts_by_whole_seconds_is_not_taken_for_one_that_lists_the_oldest_first(
    provider: StandInProvider,
) -> None:
    """Later seconds first, items of one second in order: a new conversation looks oldest first."""
    async with made(RESPONSES, provider) as rig:
        sent = await lose(rig, "accepted", turns=2, texts=["turn 1"])
        real = provider._world.conversations[rig.conversation]
        stamps = {item["id"]: place // 2 for place, item in enumerate(real.items)}
        pages = by_seconds(provider, stamps)
        with pages:
            found = await found_by_another(rig, sent, Personality())
        assert isinstance(found, CannotAsk)


class by_seconds:  # noqa: N801 - reads as a function
    """The stand-in sorts what it lists by seconds, newest first, whatever is asked for."""

    def __init__(self, provider: StandInProvider, stamps: dict[str, int]) -> None:
        self.provider = provider
        self.stamps = stamps
        self.patch = pytest.MonkeyPatch()

    def __enter__(self) -> None:
        trial: dict[str, int] = {}

        def ordered(
            objects: Sequence[dict[str, Any]], _order: str, _personality: Personality
        ) -> list[dict[str, Any]]:
            for item in objects:
                trial.setdefault(item["id"], len(objects) // 13)
            return sorted(objects, key=lambda item: -self.stamps.get(item["id"], trial[item["id"]]))

        self.patch.setattr(paging, "_ordered", ordered)

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


# --- the anchor -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "personality",
    [Personality(), Personality(list_order="newest"), Personality(list_order="oldest")],
)
@pytest.mark.parametrize("is_open", [False, True])
async def test_the_anchor_is_the_last_item_whatever_order_means(
    provider: StandInProvider, personality: Personality, is_open: bool
) -> None:
    async with made(RESPONSES, provider) as rig:
        await rig.start("one", batch="b1")
        await rig.start("two", batch="b2")
        if is_open:
            provider._world.conversations[rig.conversation].items.append(
                {**message("asked", "user"), "id": "msg_open"}
            )
        provider.personality = personality
        before = len(provider.requests)
        anchor = await rig.backend.locate(rig.conversation)
        assert anchor == provider.items(rig.conversation)[-1]["id"]
        if personality == Personality():
            assert len(provider.requests) - before == (2 if is_open else 1)


async def test_the_anchor_of_one_question_is_that(provider: StandInProvider) -> None:
    async with made(RESPONSES, provider) as rig:
        provider._world.conversations[rig.conversation].items.append(
            {**message("asked", "user"), "id": "msg_open"}
        )
        assert await rig.backend.locate(rig.conversation) == "msg_open"


# --- a list's end ---------------------------------------------------------------------------------


class Pages:
    """A list with prepared pages: ids, then `has_more` if the server sends it."""

    def __init__(self, *pages: Any) -> None:
        self.pages = list(pages)

    def read(self, path: str, query: Any) -> Any:
        del path, query
        return self._page

    def _page(self) -> Any:
        *ids, has_more = self.pages.pop(0)
        data = [{"id": one} for one in ids]
        return Answered(
            {"data": data} if has_more is None else {"data": data, "has_more": has_more}
        )


class Answered:
    """An answer of the client's."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def read(self) -> bytes:
        return json.dumps(self.body).encode()


def reader(*pages: Any) -> ListReader:
    return ListReader(Pages(*pages), "/items", thread="t", most_pages=4)


ENDED = (False,)


@pytest.mark.parametrize(
    ("pages", "is_all"),
    [
        ([("a", "b", True), ("c", False), ENDED] * 2, True),
        ([("a", "b", False), ENDED, ("b", "a", False), ENDED], False),
        ([("a", "b", False), ("c", False), ENDED, ("c", "b", True), ("a", False), ENDED], False),
        ([("a", True), ("b", True), ("c", True), ("d", True)] * 2, False),
        ([ENDED], True),
        ([(None, False)] * 2, False),
    ],
)
async def test_a_list_is_whole_if_it_ends_twice_in_the_same_way(
    pages: list[Any], is_all: bool
) -> None:
    """The third server reshuffles, by accident without a repeat; an item without an id is no cursor."""
    assert (await reader(*pages).whole()).is_all == is_all


@pytest.mark.parametrize(
    ("pages", "is_all"),
    [
        ([("a", "b", False)] * 4 + [("b", "a", False)], True),
        ([("a", "b", False)] * 5 + [("a", "b", False)], True),
        ([("a", "b", False)] * 5 + [("a", False)], False),
        ([("a", "b", True)] * 5 + [("a", "b", True)], False),
        ([("a", "b", False)] * 3 + [("b", "a", False)], False),
        ([("a", "b", None)] * 5 + [("a", "b", None)], False),
    ],
)
async def test_a_page_that_comes_again_and_again_is_whole_if_it_has_both_ends_or_no_pages_are_known(
    pages: list[Any], is_all: bool
) -> None:
    """First, with the cursor, twice without it, from the other end, and one item only."""
    assert (await reader(*pages).whole()).is_all == is_all


# --- pure: what holds in every order --------------------------------------------------------------

OLD = [message("old", "user"), message("reply to old")]
NEW = [
    message("one", "user"),
    message("two", "user"),
    call("c1"),
    output("c1"),
    message("reply to new"),
]


def test_a_list_that_looks_ordered_proves_nothing_without_an_order() -> None:
    sent = request("one", "two", anchor="msg_reply to old")
    assert isinstance(without_order([*OLD, *NEW], sent, None, (), is_all=True), CannotAsk)


def test_without_an_order_one_turn_alone_can_be_put_together() -> None:
    found = without_order(
        [NEW[4], NEW[3], NEW[1], NEW[0], NEW[2]], request("one", "two"), None, (), is_all=True
    )
    assert isinstance(found, RunEnded)
    assert found.replies == ("reply to new",)
    two_messages = [NEW[4], message("another"), NEW[1], NEW[0]]
    assert isinstance(
        without_order(two_messages, request("one", "two"), None, (), is_all=True), CannotAsk
    )


def test_a_text_that_is_there_less_often_than_the_batch_has_it_is_not_the_batch() -> None:
    sent = request("one", "one", anchor="msg_reply to old")
    assert isinstance(
        without_order([*OLD, message("one", "user")], sent, None, (), is_all=True), NotFound
    )
    assert isinstance(
        without_order(
            [*OLD, message("one", "user", id="a"), message("one", "user")],
            sent,
            None,
            (),
            is_all=True,
        ),
        CannotAsk,
    )
    assert isinstance(without_order([*OLD], sent, None, (), is_all=False), CannotAsk)
