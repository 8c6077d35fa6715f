"""Process settings of the service."""

from __future__ import annotations

import resource

import pytest

from assistant_queue.integrations.fastapi import process_limits


@pytest.mark.parametrize(
    ("soft", "hard", "room", "limit"),
    [
        (256, 1_000_000, 4000, 4100),
        (256, 2000, 1900, 2000),
        (256, resource.RLIM_INFINITY, 4000, 4100),
        (10_000, 20_000, 4000, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 4000, None),
    ],
)
def test_room_for_connections_is_made_as_far_as_it_may_be(
    soft: int, hard: int, room: int, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: asked.append(both))
    assert process_limits.make_room(4000) == room
    assert asked == ([] if limit is None else [(limit, hard)])


def test_a_system_that_refuses_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert process_limits.make_room(4000) == 156
