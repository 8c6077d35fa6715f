"""Foreground responses without a reader: followed while in progress, detected when abandoned."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, cast

import pytest

from assistant_queue.backends.base import RunAccepted, RunEnded
from assistant_queue.backends.openai import remedies
from assistant_queue.backends.responses.foreground import ForegroundWatch
from assistant_queue.errors import OutcomeUnknown, RunVanished, StreamCut
from assistant_queue.testing.provider import (
    Never,
    Personality,
    Reply,
    StandInProvider,
    cut_stream,
    refuse,
    say_in_order,
)
from assistant_queue.testing.provider.script import ModelScript
from tests.contract.test_backends import ASSISTANTS, RESPONSES, Rig, events_of, made, until_lost

IDLE_S = 0.3


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as running:
        yield running
        assert not running.model_errors


async def left_behind(rig: Rig, model: ModelScript) -> str:
    """Start a response, cut its stream after its id, and return the id."""
    rig.provider.model = model
    rig.provider.fault("responses.create", cut_stream(after_events=2))
    seen, error = await until_lost(rig.backend.start(rig.request("hello")))
    assert isinstance(error, StreamCut)
    return cast("RunAccepted", seen[0]).run_id


@contextlib.asynccontextmanager
async def foreground(provider: StandInProvider, personality: Personality) -> AsyncIterator[Rig]:
    provider.personality = personality
    async with made(RESPONSES, provider, background=False, stream_idle_timeout=IDLE_S) as rig:
        yield rig


@pytest.mark.parametrize("status", [400, 404, 409])
@pytest.mark.parametrize("lock", ["refuse", "none"])
async def test_a_response_that_is_left_has_vanished(
    provider: StandInProvider, lock: Any, status: Any
) -> None:
    async with foreground(
        provider, Personality(lock=lock, foreground="stops", foreground_cancel=status)
    ) as rig:
        run_id = await left_behind(rig, lambda _: Never())
        with pytest.raises(RunVanished, match="no process works on it"):
            await events_of(rig.backend.follow(rig.request("hello"), run_id))
        assert rig.ops().count("responses.cancel") == 1
        assert rig.provider.items(rig.conversation) == []


async def test_a_response_of_a_server_that_was_restarted_has_vanished(
    provider: StandInProvider,
) -> None:
    async with foreground(provider, Personality()) as rig:
        rig.provider.model = lambda _: Never()
        async with aclosing(rig.backend.start(rig.request("hello"))) as events:
            started = await anext(events)
            provider.restart()
            with pytest.raises(StreamCut):
                await anext(events)
        with pytest.raises(RunVanished):
            await events_of(rig.backend.follow(rig.request("hello"), started.run_id))


async def test_a_process_that_does_not_know_the_servers_ways_learns_them_from_the_response(
    provider: StandInProvider,
) -> None:
    provider.personality = Personality(background="refused", foreground="stops")
    async with made(RESPONSES, provider, stream_idle_timeout=IDLE_S) as rig:
        run_id = await left_behind_after_refusal(rig)
        remedies.forget(provider.base_url)  # what this process has learned of the server
        async with made(RESPONSES, provider, stream_idle_timeout=IDLE_S) as other:
            other.conversation = rig.conversation
            assert other.backend.capabilities.cancels
            with pytest.raises(RunVanished):
                await events_of(other.backend.follow(other.request("hello"), run_id, 1))


async def left_behind_after_refusal(rig: Rig) -> str:
    await rig.warm_up()
    return await left_behind(rig, lambda _: Never())


async def test_a_response_that_the_server_works_on_is_waited_for(provider: StandInProvider) -> None:
    """Its conversation is locked: cancelling is refused, and it is followed to its end all the same."""
    async with foreground(provider, Personality()) as rig:
        run_id = await left_behind(rig, lambda _: Reply("done", delay=4 * IDLE_S))
        ended = (await events_of(rig.backend.follow(rig.request("hello"), run_id)))[-1]
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("done",)
        assert rig.ops().count("responses.cancel") >= 1
        assert (
            next(one.code for one in provider.refusals if one.op == "items.delete")
            == "conversation_locked"
        )


async def test_a_response_that_can_be_cancelled_is(provider: StandInProvider) -> None:
    async with foreground(
        provider, Personality(foreground="stops", foreground_cancel="accepted")
    ) as rig:
        run_id = await left_behind(rig, lambda _: Never())
        ended = (await events_of(rig.backend.follow(rig.request("hello"), run_id)))[-1]
        assert isinstance(ended, RunEnded)
        assert ended.status == "cancelled"


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_trouble_with_cancelling_is_no_evidence(
    provider: StandInProvider, status: int
) -> None:
    async with foreground(provider, Personality(foreground="stops")) as rig:
        run_id = await left_behind(rig, lambda _: Never())
        provider.fault("responses.cancel", refuse(status))
        with pytest.raises(RunVanished):
            await events_of(rig.backend.follow(rig.request("hello"), run_id))
        assert rig.ops().count("responses.cancel") == 2


async def test_a_response_in_the_background_is_never_cancelled_for_being_slow(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider, stream_idle_timeout=IDLE_S) as rig:
        run_id = await left_behind(rig, lambda _: Reply("done", delay=4 * IDLE_S))
        ended = (await events_of(rig.backend.follow(rig.request("hello"), run_id)))[-1]
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("done",)
        assert "responses.cancel" not in rig.ops()


async def test_a_response_that_changes_is_not_idle() -> None:
    """Some servers show what they have so far: as long as there is more each time, nothing else is asked."""
    shown = [{"status": "in_progress", "output": [{}] * number} for number in range(12)] + [
        {"status": "completed"}
    ]

    async def read() -> dict[str, Any]:
        return shown.pop(0)

    def never_called() -> Any:
        raise AssertionError

    watch = ForegroundWatch(
        read, cancel=never_called, touch=never_called, idle_s=0.2, thread="t", run_id="r"
    )
    assert await watch.until_it_ends(shown[0]) == {"status": "completed"}


async def test_an_assistants_run_that_is_cancelling_for_ever_counts_as_cancelled(
    provider: StandInProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant_queue.backends.assistants.thread_runs.CANCEL_S", 0.1)
    async with made(ASSISTANTS, provider) as rig:
        await rig.warm_up()
        provider.model = say_in_order(Never())
        request = rig.request("hello")
        async with aclosing(rig.backend.start(request)) as events:
            started = await anext(events)
        await asyncio.to_thread(
            provider.wait_for, lambda held: held.runs[-1].status == "in_progress"
        )
        run = provider._world.threads[rig.conversation].runs[started.run_id]
        run.status = "cancelling"
        followed = await asyncio.wait_for(
            events_of(rig.backend.follow(request, started.run_id)), 10
        )
        assert isinstance(followed[-1], RunEnded)
        assert followed[-1].status == "cancelled"


async def test_a_silent_server_is_no_evidence(provider: StandInProvider) -> None:
    async with foreground(provider, Personality(foreground="stops")) as rig:
        run_id = await left_behind(rig, lambda _: Never())
        provider.fault("responses.retrieve", refuse(500), nth=2, times=None)
        with pytest.raises(StreamCut):
            await events_of(rig.backend.follow(rig.request("hello"), run_id))
        with pytest.raises(OutcomeUnknown):
            await rig.backend.find(rig.request("hello"), run_id)
