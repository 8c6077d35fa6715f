"""Deliveries in parts: a death before and after every step, and answers of the platform that are lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import fakeredis
import pytest

from assistant_queue import (
    AssistantMessageQueue,
    Batch,
    DeliveryUnknown,
    RetryLater,
    RunResult,
    Undeliverable,
)
from assistant_queue.client.queue_core import open_core
from assistant_queue.core.delivery import MAX_CHANNEL_DEATHS, MAX_DELIVERY_DEATHS
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.harness import Crash, InstantWorker
from assistant_queue.worker import deliverers

PARTS = 3


class Platform:
    """A platform that keeps what it was sent, and can be asked for it or not."""

    def __init__(self, *, can_be_asked: bool) -> None:
        self.can_be_asked = can_be_asked
        self.parts: Counter[tuple[str, int]] = Counter()
        self.order: list[tuple[str, int]] = []
        self.points = 0
        self.dies_at = 0
        self.stops_at = 0
        self.refusals: list[Exception] = []

    def point(self) -> None:
        """Die, or have the worker stop, at the chosen step."""
        self.points += 1
        if self.points == self.stops_at:
            raise asyncio.CancelledError
        if self.points == self.dies_at:
            raise Crash(f"at step {self.points}")

    async def deliver(self, result: RunResult, progress: Any) -> None:
        """Deliver as a channel does."""
        text = str(result.reply)
        for index in range(progress.parts_sent, PARTS):
            if progress.uncertain_part == index:
                if not self.can_be_asked:
                    raise DeliveryUnknown("no answer for a part")
                if self.parts[text, index]:
                    await progress.sent(index, PARTS, f"id-{index}")
                    continue
            if self.refusals:
                raise self.refusals.pop(0)
            self.point()
            await progress.sending(index, PARTS)
            self.point()
            self.parts[text, index] += 1
            self.order.append((text, index))
            self.point()
            await progress.sent(index, PARTS, f"id-{index}")
            self.point()


class Scene:
    """A queue in memory with such a platform."""

    def __init__(self, platform: Platform, **options: Any) -> None:
        self.platform = platform
        self.clock = FakeClock()
        queue = AssistantMessageQueue(
            backend=lambda batch: f"re {batch.messages[0].text}",
            on_reply=lambda _: None,
            redis=fakeredis.FakeRedis(server=fakeredis.FakeServer()),
            message_delay=1,
            **options,
        )
        self.queue = AssistantMessageQueue(open_core(queue.config, self.clock))

    def add(self, text: str) -> str:
        return self.queue.add_message_to_thread("t", text).message_id

    def work(self, probe: Any = None) -> None:
        InstantWorker(self.queue.config, self.clock, probe=probe).run_until_idle()

    def delivery(self, message_id: str) -> str:
        status = self.queue.get_message(message_id)
        assert status is not None
        return status.delivery


@pytest.fixture
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Platform:
    made = Platform(can_be_asked=getattr(request, "param", True))
    monkeypatch.setattr(deliverers, "deliverer_of", lambda *_: made)
    return made


def live(scene: Scene) -> None:
    """Work through any number of deaths."""
    for _ in range(20):
        try:
            scene.work()
        except (Crash, asyncio.CancelledError):
            continue
        return
    raise AssertionError("it does not end")


@pytest.mark.parametrize("step", range(1, 4 * PARTS + 1))
def test_a_death_at_any_step_doubles_no_part_if_the_platform_can_be_asked(
    platform: Platform, step: int
) -> None:
    scene = Scene(platform)
    platform.dies_at = step
    first = scene.add("one")
    second = None
    live(scene)
    second = scene.add("two")
    live(scene)
    assert platform.order == [
        (f"re {text}", part) for text in ("one", "two") for part in range(PARTS)
    ]
    assert (scene.delivery(first), scene.delivery(second)) == ("delivered", "delivered")
    assert scene.queue.list_failed() == []


@pytest.mark.parametrize("platform", [False], indirect=True)
@pytest.mark.parametrize("step", range(1, 4 * PARTS + 1))
def test_a_death_at_any_step_parks_the_reply_if_the_platform_cannot_be_asked(
    platform: Platform, step: int
) -> None:
    scene = Scene(platform)
    platform.dies_at = step
    first = scene.add("one")
    live(scene)
    second = scene.add("two")
    live(scene)
    assert max(platform.parts.values()) == 1, "no part is doubled without a decision"
    is_unsure = step % 4 in {2, 3}  # between "sending" and "sent"
    assert scene.delivery(first) == ("unknown" if is_unsure else "delivered")
    assert scene.delivery(second) == "delivered", "later replies go on"
    assert [row.reason for row in scene.queue.list_failed()] == ["delivery_unknown"] * is_unsure
    if is_unsure:
        assert scene.queue.retry_failed_all("delivery_unknown") == 1
        live(scene)
        assert scene.delivery(first) == "delivered"
        assert {part for text, part in platform.parts if text == "re one"} == set(range(PARTS))


@pytest.mark.parametrize("platform", [False], indirect=True)
@pytest.mark.parametrize("step", range(1, 4 * PARTS + 1))
def test_a_worker_that_stops_at_any_step_hands_back_what_it_has_sent(
    platform: Platform, step: int
) -> None:
    scene = Scene(platform)
    platform.stops_at = step
    message_id = scene.add("one")
    live(scene)
    assert set(platform.parts.values()) <= {1}, "no part is doubled without a decision"
    is_unsure = step % 4 in {2, 3}  # between "sending" and "sent"
    assert scene.delivery(message_id) == ("unknown" if is_unsure else "delivered")


@pytest.mark.parametrize("platform", [False], indirect=True)
@pytest.mark.parametrize("step", range(1, 4 * PARTS + 1))
def test_a_part_of_unknown_fate_is_sent_again_on_demand(platform: Platform, step: int) -> None:
    scene = Scene(platform, on_unknown_delivery="resend")
    platform.dies_at = step
    message_id = scene.add("one")
    live(scene)
    assert scene.delivery(message_id) == "delivered"
    assert set(platform.parts) == {("re one", part) for part in range(PARTS)}
    assert sum(platform.parts.values()) == PARTS + (step % 4 == 3)
    assert scene.queue.list_failed() == []


@pytest.mark.parametrize(
    "point",
    ["before Deliver", "after Deliver", "before Delivered", "after Delivered", "after Finish"],
)
def test_a_death_around_a_delivery_loses_and_doubles_no_part(
    platform: Platform, point: str
) -> None:
    scene = Scene(platform)
    message_id = scene.add("one")
    died: list[str] = []

    def die(name: str, _: Batch) -> None:
        if name == point and not died:
            died.append(name)
            raise Crash(name)

    with pytest.raises(Crash):
        scene.work(die)
    live(scene)
    assert sorted(platform.parts.values()) == [1] * PARTS
    assert scene.delivery(message_id) == "delivered"


@pytest.mark.parametrize("is_over", [False, True], ids=["fewer", "too many"])
@pytest.mark.parametrize("kind", ["on_reply", "channel"])
def test_a_reply_over_which_workers_die_is_given_up_at_last(
    kind: str, is_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = {"on_reply": MAX_DELIVERY_DEATHS, "channel": MAX_CHANNEL_DEATHS}[kind]
    platform = Platform(can_be_asked=True)
    if kind == "channel":
        monkeypatch.setattr(deliverers, "deliverer_of", lambda *_: platform)
    scene = Scene(platform)
    message_id = scene.add("one")
    left = most if is_over else most - 1

    def die(name: str, _: Batch) -> None:
        nonlocal left
        if name == "before Deliver" and left:
            left -= 1
            raise Crash(name)

    while left:
        with pytest.raises(Crash):
            scene.work(die)
    scene.work(die)
    assert scene.delivery(message_id) == ("undelivered" if is_over else "delivered")


def test_a_platform_that_asks_for_an_hour_of_patience_loses_and_doubles_nothing(
    platform: Platform,
) -> None:
    scene = Scene(platform, delivery_attempts=1)
    platform.refusals = [RetryLater(30)] * 120
    ids = [scene.add(text) for text in ("one", "two")]
    scene.work()
    assert {scene.delivery(one) for one in ids} == {"delivered"}
    assert set(platform.parts.values()) == {1}


def test_a_platform_that_is_away_for_ten_minutes_loses_nothing(platform: Platform) -> None:
    scene = Scene(platform)
    platform.refusals = [ConnectionError("away") for _ in range(14)]
    message_id = scene.add("one")
    began = scene.clock.ms
    scene.work()
    assert scene.clock.ms - began >= 600_000
    assert scene.delivery(message_id) == "delivered"
    assert set(platform.parts.values()) == {1}


def test_a_chat_that_is_gone_is_final_at_once_and_the_next_reply_is_delivered(
    platform: Platform,
) -> None:
    scene = Scene(platform)
    platform.refusals = [Undeliverable("blocked")]
    first = scene.add("one")
    scene.work()
    second = scene.add("two")
    scene.work()
    assert (scene.delivery(first), scene.delivery(second)) == ("undelivered", "delivered")
    (row,) = scene.queue.list_failed()
    assert (row.reason, row.error.message) == ("undelivered", "blocked")
    scene.queue.retry_failed(row.batch_id)
    scene.work()
    assert scene.delivery(first) == "delivered"
