"""States of a modelled world, so that what is the same from there on is gone through once.

The flow and the models are deterministic: worlds that are equal at a claim, and to which nothing
more is to happen, continue alike. What was checked of one holds for the others.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Hashable
from dataclasses import fields, is_dataclass
from typing import Any

_TIME = re.compile(r"\b(1[67]\d{8})\d{3}\b")
"""A time in ms: a step takes 10 of them, and nothing but a death or a wait takes a second."""
_PLAIN = frozenset({str, int, bool, float, bytes, type(None)})


def in_seconds(stored: str) -> str:
    """Return a stored text with its times in seconds."""
    return _TIME.sub(r"\1", stored)


def frozen(value: Any) -> Hashable:
    """Return a value that is equal for equal ones, however deep they are.

    Raises:
        TypeError: Of its kind, no state is known.
    """
    kind = type(value)
    if kind in _PLAIN or isinstance(value, enum.Enum):
        return value  # type: ignore[no-any-return]  # plain values are hashable
    # Tuples of lists, not of generators, which take twice as long.
    if isinstance(value, list | tuple):
        return tuple([frozen(one) for one in value])
    if isinstance(value, dict):
        return tuple([(one, frozen(inner)) for one, inner in value.items()])
    if isinstance(value, set | frozenset):
        return frozenset(value)
    if is_dataclass(value):
        return (kind, *[frozen(getattr(value, name)) for name in _names(kind)])
    msg = f"no state is known of {value!r}"
    raise TypeError(msg)


@functools.cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind))
