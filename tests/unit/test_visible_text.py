"""The text of a run without its reasoning, and calls of the backend.

On the protocols on which the provider keeps the conversation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.backends.base import Backend
from assistant_queue.backends.factory import make_reasoning_tags
from assistant_queue.backends.reasoning_tags import ReasoningTags
from assistant_queue.config import configure
from assistant_queue.core import steps
from assistant_queue.core.runs import ActionRequired, RunAccepted, RunEnded, RunEvent, TextChunk
from assistant_queue.errors import OutcomeUnknown
from assistant_queue.worker.provider_session import ProviderSession
from assistant_queue.worker.visible_text import VisibleText
from tests.fast_time import fast_time


def spoken() -> VisibleText:
    found = VisibleText(ReasoningTags())
    found.begin("r", is_round=False)
    return found


def heard(found: VisibleText, *pieces: str, item: str | None = "m") -> str:
    return "".join(found.delta(TextChunk(text=piece, item=item)).text for piece in pieces)


def test_deltas_and_replies_begin_where_the_answer_does() -> None:
    found = spoken()
    assert heard(found, "<think>", "hm</th", "ink>\n", "hel", "lo") == "hello"
    ended = found.stop(
        RunEnded(run_id="r", status="completed", replies=("<think>hm</think>\nhello",), anchor="a")
    )
    assert ended == RunEnded(run_id="r", status="completed", replies=("hello",), anchor="a")


def test_each_message_has_its_own_reasoning_and_a_place_in_a_message_is_kept() -> None:
    found = spoken()
    assert heard(found, "<think>a", item="m1") == ""
    assert heard(found, "<think>b</think>two", item="m2") == "two"
    found.begin("r", is_round=False)  # the stream was cut, and is followed further
    assert heard(found, "a</think>one", item="m1") == "one"
    assert found.delta(TextChunk(text=" more", cursor=7, part=1, item="m2")) == TextChunk(
        text=" more", cursor=7, part=1, item="m2"
    )


@pytest.mark.parametrize("begins", [("r2", False), ("r", True)])
def test_a_separate_run_or_round_begins_anew(begins: tuple[str, bool]) -> None:
    found = spoken()
    heard(found, "hello", item=None)
    found.begin(begins[0], is_round=begins[1])
    assert heard(found, "<think>hm</think>and", item=None) == "and"


def test_a_run_that_says_nothing_but_reasoning_is_empty_and_calls_are_calls() -> None:
    only = ("<think>hm</think>",)
    ended = spoken().stop(RunEnded(run_id="r", status="completed", replies=only))
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.incomplete_reason, ended.replies) == ("incomplete", "empty", ())
    cut = spoken().stop(
        RunEnded(
            run_id="r", status="incomplete", incomplete_reason="max_output_tokens", replies=only
        )
    )
    assert isinstance(cut, RunEnded)
    assert (cut.incomplete_reason, cut.replies) == ("max_output_tokens", ())
    assert spoken().stop(ActionRequired(run_id="r", calls=(), replies=only)).replies == ()
    assert spoken().stop(RunEnded(run_id="r", status="completed")).replies == ()


@given(st.lists(st.sampled_from(["<think>", "</think>", "hm", " ", "hello"]), max_size=6))
def test_without_tags_everything_passes_as_it_is(pieces: list[str]) -> None:
    found = VisibleText(None)
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
def test_the_worker_takes_reasoning_out_where_nothing_else_does(
    options: dict[str, Any], takes_out: bool
) -> None:
    assert (make_reasoning_tags(configure(options)) is not None) == takes_out


# --- the worker's session with a backend ----------------------------------------------------------


class Scripted:
    """A backend with the same events for every run; None for a provider that never begins."""

    def __init__(self, events: list[RunEvent] | None, finding: Any = None) -> None:
        self.events = events
        self.finding = finding
        self.is_closed = False

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


def talk_with(backend: Any, *, tags: ReasoningTags | None = None) -> ProviderSession:
    given: Backend = backend
    return ProviderSession(given, "t", None, lambda: 0, run_timeout_s=600.0, tags=tags)


async def test_a_run_that_never_begins_is_given_up_after_run_timeout() -> None:
    backend = Scripted(None)
    talk = talk_with(backend)
    with fast_time(), pytest.raises(OutcomeUnknown, match="run_timeout"):
        await talk.start(steps.Start(request=None))  # type: ignore[arg-type]
    await talk.close()
    assert backend.is_closed


async def test_what_is_watched_and_what_is_found_has_no_reasoning() -> None:
    ended = RunEnded(run_id="r", status="completed", replies=("<think>hm</think>hello",))
    talk = talk_with(
        Scripted([RunAccepted(run_id="r"), ended], finding=ended), tags=ReasoningTags()
    )
    await talk.start(steps.Start(request=None))  # type: ignore[arg-type]
    for found in (
        await talk.watch(steps.Watch(deadline_ms=1000)),
        await talk.find(steps.Find(request=None, run_id="r", calls=())),
    ):  # type: ignore[arg-type]
        assert found.replies == ("hello",)
    await talk.close()
