"""From blocking code to an event loop: one thread, its end, and an interrupted caller."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from assistant_queue.client import portal as portal_module
from assistant_queue.client.portal import Portal
from assistant_queue.errors import OutcomeUnknown
from tests.conftest import PATIENCE_S


class Resource:
    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.loop = asyncio.get_running_loop()
        self.closed = False
        self.begun = threading.Event()
        self.cleaned_up = False

    async def add(self, one: int, other: int) -> int:
        assert threading.current_thread() is self.thread
        return one + other

    async def fail(self) -> None:
        raise LookupError("not here")

    async def hang(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # cleaning up takes the loop a turn
            self.cleaned_up = True


class Opened:
    def __init__(self) -> None:
        self.resources: list[Resource] = []
        self.portal = Portal(self.open, self.close)

    def open(self) -> Resource:
        self.resources.append(Resource())
        return self.resources[-1]

    async def close(self, resource: Resource) -> None:
        resource.closed = True


@pytest.fixture
def opened() -> Iterator[Opened]:
    made = Opened()
    yield made
    made.portal.close()


def test_calls_run_on_one_thread_that_starts_with_the_first(opened: Opened) -> None:
    assert opened.resources == []
    assert [
        opened.portal.call(lambda resource, n=number: resource.add(n, 1)) for number in range(3)
    ] == [1, 2, 3]
    (resource,) = opened.resources
    assert resource.thread is not threading.current_thread()


def test_what_a_call_raises_is_raised(opened: Opened) -> None:
    with pytest.raises(LookupError, match="not here"):
        opened.portal.call(lambda resource: resource.fail())
    assert opened.portal.call(lambda resource: resource.add(1, 1)) == 2


def test_what_opening_raises_is_raised_by_each_call_until_it_succeeds() -> None:
    answers: list[Exception | Resource] = []

    def open_resource() -> Resource:
        if not answers:
            answers.append(ValueError("no key"))
            raise answers[0]
        return Resource()

    async def close_resource(_: Resource) -> None: ...

    portal = Portal(open_resource, close_resource)
    with pytest.raises(ValueError, match="no key"):
        portal.call(lambda resource: resource.add(1, 1))
    assert portal.call(lambda resource: resource.add(1, 1)) == 2
    portal.close()


def test_closing_ends_the_thread_and_a_later_call_opens_again(opened: Opened) -> None:
    opened.portal.close()
    assert opened.portal.call(lambda resource: resource.add(1, 1)) == 2
    opened.portal.close()
    opened.portal.close()
    assert opened.resources[0].closed
    assert not opened.resources[0].thread.is_alive()
    assert opened.portal.call(lambda resource: resource.add(2, 2)) == 4
    assert len(opened.resources) == 2


def test_a_call_that_is_not_over_when_the_portal_closes_raises_that(opened: Opened) -> None:
    opened.portal.call(lambda resource: resource.add(1, 1))
    (resource,) = opened.resources
    closing = threading.Thread(
        target=lambda: (resource.begun.wait(PATIENCE_S), opened.portal.close())
    )
    closing.start()
    with pytest.raises(OutcomeUnknown, match="closed during a direct call"):
        opened.portal.call(lambda resource: resource.hang())
    closing.join()
    assert resource.cleaned_up
    assert resource.closed


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, also where the tests run in the background and shells have them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_caller_cancels_its_call_and_waits_for_its_clean_up(opened: Opened) -> None:
    opened.portal.call(lambda resource: resource.add(1, 1))
    (resource,) = opened.resources
    caller = threading.main_thread().ident
    assert caller is not None

    def interrupt() -> None:
        assert resource.begun.wait(PATIENCE_S)
        signal.pthread_kill(caller, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        opened.portal.call(lambda resource: resource.hang())
    interrupting.join()
    assert resource.cleaned_up
    assert opened.portal.call(lambda resource: resource.add(1, 1)) == 2


def test_a_forked_process_starts_its_own(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    opened.portal.call(lambda resource: resource.add(1, 1))
    (parents,) = opened.resources
    parents_life = opened.portal._life
    pid = os.getpid()
    monkeypatch.setattr(portal_module.os, "getpid", lambda: pid + 1)
    opened.portal.close()  # the parent's is not ours to end
    assert parents.thread.is_alive()
    assert opened.portal.call(lambda resource: resource.add(1, 1)) == 2
    assert len(opened.resources) == 2
    opened.portal.close()
    assert parents_life is not None
    parents_life.end()
