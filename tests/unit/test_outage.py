"""One line when Redis goes away, one when it is back."""

from __future__ import annotations

import logging

import pytest

from assistant_queue.errors import NotPermitted, StoreUnavailable
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.worker.outage import Outage, pause_s

AWAY = StoreUnavailable("Redis refuses for now, OOM", refusal="OOM")


class Scene:
    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self.clock = FakeClock()
        self.outage = Outage(self.clock.monotonic)
        self._caplog = caplog

    @property
    def said(self) -> list[str]:
        return [
            record.getMessage() for record in self._caplog.records if record.name.endswith("outage")
        ]


@pytest.fixture
def scene(caplog: pytest.LogCaptureFixture) -> Scene:
    return Scene(caplog)


def test_an_outage_is_two_lines_however_much_fails(scene: Scene) -> None:
    for _ in range(100):
        for subject in ("writes", "renewals", "scheduler"):
            scene.outage.failed(subject, AWAY)
        scene.clock.advance(0.125)
    assert scene.outage.is_on
    scene.outage.passed("renewals")
    scene.outage.passed("scheduler")
    assert len(scene.said) == 1
    scene.outage.passed("writes")
    scene.outage.passed("writes")
    assert not scene.outage.is_on
    assert scene.said == [
        "Redis refuses for now, OOM; waiting, and trying again",
        "Redis takes commands again, after 12.5 s",
    ]


def test_what_never_failed_ends_nothing(scene: Scene) -> None:
    scene.outage.failed("writes", AWAY)
    scene.outage.passed("taking")
    assert scene.outage.is_on
    assert len(scene.said) == 1


def test_an_outage_that_comes_and_goes_is_not_repeated(scene: Scene) -> None:
    for _ in range(20):
        scene.outage.failed("writes", AWAY)
        scene.clock.advance(0.1)
        scene.outage.passed("writes")
        scene.clock.advance(0.1)
    assert len(scene.said) == 2


def test_one_that_lasts_right_after_another_is_reported_all_the_same(scene: Scene) -> None:
    scene.outage.failed("writes", AWAY)
    scene.outage.passed("writes")
    for _ in range(30):
        scene.outage.failed("writes", AWAY)
        scene.clock.advance(1)
    scene.outage.passed("writes")
    assert scene.said[2:] == [
        "Redis refuses for now, OOM; waiting, and trying again",
        "Redis takes commands again, after 30.0 s",
    ]


def test_a_later_outage_is_another(scene: Scene) -> None:
    for _ in range(3):
        scene.outage.failed("writes", AWAY)
        scene.outage.passed("writes")
        scene.clock.advance(11)
    assert len(scene.said) == 6


def test_a_user_that_is_not_let_in_is_tried_less_often() -> None:
    assert pause_s(AWAY, 0.25) == 0.25
    assert pause_s(NotPermitted("check the password"), 0.25) == 5.0
