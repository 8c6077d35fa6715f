"""A thread's history: bounded, in whole turns, no call without its output."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.backends.chat_completions import history, token_counting
from assistant_queue.backends.chat_completions.history import (
    Memory,
    dump,
    estimated_tokens,
    load,
    newer_half,
    sent,
    turns,
)
from assistant_queue.backends.chat_completions.message_forms import joined
from assistant_queue.user_code.abandoned import ABANDONED
from tests.conftest import PATIENCE_S

Json = dict[str, Any]


def user(text: Any) -> Json:
    return {"role": "user", "content": text}


def said(text: str) -> Json:
    return {"role": "assistant", "content": text}


def round_of(*ids: str) -> list[Json]:
    calls = [
        {"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids
    ]
    return [
        {"role": "assistant", "content": None, "tool_calls": calls},
        *({"role": "tool", "tool_call_id": one, "content": "out"} for one in ids),
    ]


texts = st.text(max_size=30)
asked = st.lists(texts.map(user), min_size=1, max_size=3)
rounds = st.lists(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True).map(
        lambda ids: round_of(*ids)
    ),
    max_size=2,
)
a_turn = st.tuples(asked, rounds, st.booleans(), texts).map(
    lambda made: [
        *made[0],
        *(message for one in made[1] for message in one),
        *([said(made[3])] if made[2] else []),
    ]
)
histories = st.lists(a_turn, max_size=6).map(
    lambda found: [message for turn in found for message in turn]
)


@given(histories, st.integers(0, 12), st.none() | st.integers(1, 120))
def test_what_is_kept_is_the_newest_whole_and_within_its_bounds(
    messages: list[Json], most: int, tokens: int | None
) -> None:
    kept = Memory(messages=most, tokens=tokens).keep(messages)
    assert len(kept) <= most
    if tokens is not None:
        assert sum(4 + estimated_tokens(message.get("content") or "") for message in kept) <= tokens
    if kept:
        assert kept[0]["role"] == "user"
        assert (
            kept[-1] == messages[-1] or messages[-1]["role"] == "tool" or kept[-1]["role"] == "user"
        )
    open_calls: list[str] = []
    for message in kept:
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])  # raises where an output has lost its call
            continue
        assert open_calls == [], "a call has lost its output"
        open_calls = [call["id"] for call in message.get("tool_calls", ())]
    assert open_calls == []
    if len(kept) < len(messages) and kept == messages[len(messages) - len(kept) :]:
        whole = turns(messages)
        assert kept == [
            message for turn in whole[len(whole) - len(turns(kept)) :] for message in turn
        ], "turns are whole"


@given(histories)
def test_a_history_survives_its_way_through_redis(messages: list[Json]) -> None:
    assert load(dump(messages)) == messages
    assert [message for turn in turns(messages) for message in turn] == messages


@pytest.mark.parametrize("state", [None, "", "msg_1", "7", '"text"', "{}"])
def test_what_is_no_history_is_none(state: str | None) -> None:
    assert load(state) == []


def test_of_a_turn_that_is_too_large_by_itself_the_rounds_go_first() -> None:
    turn = [user("weather?"), *round_of("a", "b"), said("Sunny.")]
    assert Memory(messages=5).keep([user("hi"), said("hello"), *turn]) == turn
    assert Memory(messages=4).keep([user("hi"), said("hello"), *turn]) == [
        user("weather?"),
        said("Sunny."),
    ]
    assert Memory(messages=1).keep(turn) == []
    assert Memory(messages=0).keep(turn) == []


def test_attachments_count_and_go_before_the_text_does() -> None:
    picture = {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64," + "A" * history.MAX_CHARS},
    }
    link = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    kept = Memory().keep([user([{"type": "text", "text": "look"}, picture]), said("I see.")])
    assert kept[0]["content"] == [
        {"type": "text", "text": "look"},
        {"type": "text", "text": "[image_url: too large to keep]"},
    ]
    assert Memory(tokens=1010).keep([user([link])]) == [user([link])]
    assert Memory(tokens=1003).keep([user([link])]) == [
        user([{"type": "text", "text": "[image_url: too large to keep]"}])
    ]


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("abcd", 1), ("abcde", 2), ("日本語", 3), ("abcd日", 2)]
)
def test_tokens_are_estimated(text: str, tokens: int) -> None:
    assert estimated_tokens(text) == tokens


def test_a_counter_that_raises_keeps_no_answer_back(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert Memory(tokens=100, count=lambda _: 1 // 0).keep([user("hi")]) == [user("hi")]
    assert "count_tokens raised" in caplog.text


async def test_a_counter_that_hangs_keeps_no_answer_back_and_blocks_no_loop(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_counting, "COUNT_TIMEOUT_S", 0.1)
    let_go = threading.Event()

    def count(_: str) -> int:
        let_go.wait(PATIENCE_S)
        return 1

    kept = asyncio.create_task(token_counting.keep(Memory(tokens=100, count=count), [user("hi")]))
    try:
        await asyncio.sleep(0)  # the loop is free
        assert not kept.done()
        assert await kept == [user("hi")]
        assert ABANDONED.count == 1
    finally:
        let_go.set()
    assert "did not return within 0.1 s; the tokens are estimated" in caplog.text


async def test_whatever_a_counter_raises_the_tokens_are_estimated() -> None:
    def leave(_: str) -> int:
        raise SystemExit(3)

    assert await token_counting.keep(Memory(tokens=100, count=leave), [user("hi")]) == [user("hi")]


def test_calls_are_counted_with_their_arguments() -> None:
    counted: list[str] = []
    Memory(tokens=100, count=lambda text: counted.append(text) or 1).keep(
        [user("q"), *round_of("a"), said("x")]
    )
    assert counted == ["q", "f {}", "out", "x"]


def test_the_older_half_goes_turn_by_turn() -> None:
    four = [message for n in range(4) for message in (user(f"q{n}"), said(f"a{n}"))]
    assert newer_half(four) == four[4:]
    assert newer_half(newer_half(four)) == four[6:]
    assert newer_half(four[6:]) == []


def test_what_is_only_ours_is_not_sent() -> None:
    assert sent([{"id": "b-0", "run_id": "r", **user("hi")}]) == [user("hi")]


def test_neighbours_of_one_role_are_joined_and_rounds_stay() -> None:
    picture = [{"type": "image_url", "image_url": {"url": "x"}}]
    messages = [user("one"), user("two"), *round_of("a"), said("x"), user(picture), user("three")]
    assert joined(messages) == [
        user("one\n\ntwo"),
        *round_of("a"),
        said("x"),
        user([*picture, {"type": "text", "text": "three"}]),
    ]
