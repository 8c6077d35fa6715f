"""What a run says without its reasoning, on the protocols whose provider keeps the conversation; and how long it may take to begin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.backends.base import Backend
from assistant_queue.backends.reasoning_tags import ReasoningTags
from assistant_queue.config import configure
from assistant_queue.core import steps
from assistant_queue.core.runs import ActionRequired, RunEnded, RunEvent, RunStarted, TextDelta
from assistant_queue.errors import OutcomeUnknown
from assistant_queue.worker.backend import tags_of
from assistant_queue.worker.spoken import Spoken
from assistant_queue.worker.talk import Talk
from tests.fast_time import fast_time


def spoken() -> Spoken:
    found = Spoken(ReasoningTags())
    found.begin("r", is_round=False)
    return found


def heard(found: Spoken, *pieces: str, item: str | None = "m") -> str:
    return "".join(found.delta(TextDelta(text=piece, item=item)).text for piece in pieces)


def test_deltas_and_replies_begin_where_the_answer_does() -> None:
    found = spoken()
    assert heard(found, "<think>", "hm</th", "ink>\n", "hel", "lo") == "hello"
    ended = found.stop(RunEnded(run_id="r", status="completed", replies=("<think>hm</think>\nhello",), anchor="a"))
    assert ended == RunEnded(run_id="r", status="completed", replies=("hello",), anchor="a")


def test_each_message_has_reasoning_of_its_own_and_a_place_in_a_message_is_kept() -> None:
    found = spoken()
    assert heard(found, "<think>a", item="m1") == ""
    assert heard(found, "<think>b</think>two", item="m2") == "two"
    found.begin("r", is_round=False)  # the stream was cut, and is followed further
    assert heard(found, "a</think>one", item="m1") == "one"
    assert found.delta(TextDelta(text=" more", cursor=7, part=1, item="m2")) == TextDelta(text=" more", cursor=7, part=1, item="m2")


@pytest.mark.parametrize("begins", [("r2", False), ("r", True)])
def test_a_run_or_round_of_its_own_begins_anew(begins: tuple[str, bool]) -> None:
    found = spoken()
    heard(found, "hello", item=None)
    found.begin(begins[0], is_round=begins[1])
    assert heard(found, "<think>hm</think>and", item=None) == "and"


def test_a_run_that_says_nothing_but_reasoning_is_empty_and_calls_are_calls() -> None:
    only = ("<think>hm</think>",)
    ended = spoken().stop(RunEnded(run_id="r", status="completed", replies=only))
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.incomplete_reason, ended.replies) == ("incomplete", "empty", ())
    cut = spoken().stop(RunEnded(run_id="r", status="incomplete", incomplete_reason="max_output_tokens", replies=only))
    assert isinstance(cut, RunEnded)
    assert (cut.incomplete_reason, cut.replies) == ("max_output_tokens", ())
    assert spoken().stop(ActionRequired(run_id="r", calls=(), replies=only)).replies == ()
    assert spoken().stop(RunEnded(run_id="r", status="completed")).replies == ()


@given(st.lists(st.sampled_from(["<think>", "</think>", "hm", " ", "hello"]), max_size=6))
def test_without_tags_everything_passes_as_it_is(pieces: list[str]) -> None:
    found = Spoken(None)
    assert heard(found, *pieces) == "".join(pieces)
    ended = RunEnded(run_id="r", status="completed", replies=tuple(pieces))
    assert found.stop(ended) is ended


@pytest.mark.parametrize(
    ("options", "takes_out"),
    [
        ({"model": "m"}, True),
        ({"assistant_id": "a"}, True),
        ({"model": "m", "reasoning_tags": "keep"}, False),
        ({"model": "m", "protocol": "chat_completions"}, False),  # its backend does it
        ({"backend": lambda batch: "hi"}, False),
        ({}, True),
    ],
)
def test_the_worker_takes_reasoning_out_where_nothing_else_does(options: dict[str, Any], takes_out: bool) -> None:
    assert (tags_of(configure(options)) is not None) == takes_out


# --- the worker's talk with a backend ---------------------------------------------------------------------------------------


class Scripted:
    """A backend whose every run gives the same events; None stands for a provider that never begins."""

    def __init__(self, events: list[RunEvent] | None, finding: Any = None) -> None:
        self.events, self.finding, self.is_closed = events, finding, False

    async def start(self, request: Any) -> AsyncIterator[RunEvent]:
        try:
            if self.events is None:
                await asyncio.Event().wait()
            for event in self.events or ():
                yield event
        finally:
            self.is_closed = True

    async def find(self, request: Any, run_id: Any, calls: Any) -> Any:
        return self.finding


def talk_with(backend: Any, *, tags: ReasoningTags | None = None) -> Talk:
    given: Backend = backend
    return Talk(given, "t", None, lambda: 0, run_timeout_s=600.0, tags=tags)


async def test_a_run_that_never_begins_is_given_up_after_run_timeout() -> None:
    backend = Scripted(None)
    talk = talk_with(backend)
    with fast_time(), pytest.raises(OutcomeUnknown, match="run_timeout"):
        await talk.start(steps.Start(request=None))  # type: ignore[arg-type]
    await talk.close()
    assert backend.is_closed


async def test_what_is_watched_and_what_is_found_has_no_reasoning() -> None:
    ended = RunEnded(run_id="r", status="completed", replies=("<think>hm</think>hello",))
    talk = talk_with(Scripted([RunStarted(run_id="r"), ended], finding=ended), tags=ReasoningTags())
    await talk.start(steps.Start(request=None))  # type: ignore[arg-type]
    for found in (await talk.watch(steps.Watch(deadline_ms=1000)), await talk.find(steps.Find(request=None, run_id="r", calls=()))):  # type: ignore[arg-type]
        assert found.replies == ("hello",)
    await talk.close()
