"""Values of users are frozen; values inside the package are frozen for the type checker alone."""

from __future__ import annotations

import dataclasses

import pytest

import assistant_queue
from assistant_queue import events
from assistant_queue.values import valueclass

PUBLIC = sorted(
    {
        one
        for module in (assistant_queue, events)
        for name in vars(module).get("__all__", vars(module))
        if isinstance(one := getattr(module, name), type) and dataclasses.is_dataclass(one)
    },
    key=lambda one: one.__qualname__,
)


@pytest.mark.parametrize("public", PUBLIC, ids=lambda one: one.__qualname__)
def test_what_users_get_is_frozen(public: type) -> None:
    made = object.__new__(public)
    first = dataclasses.fields(public)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, first, None)


@valueclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value."""

    x: int
    y: int = 0


def test_a_value_is_a_dataclass_with_slots() -> None:
    point = Point(x=1)
    assert point == Point(x=1, y=0)
    assert dataclasses.replace(point, y=2) == Point(x=1, y=2)
    assert repr(point) == "Point(x=1, y=0)"
    assert not hasattr(point, "__dict__")
    assert {point, Point(x=1), Point(x=2)} == {Point(x=1), Point(x=2)}
