"""Which keys a queue has.

Prefixes that contain each other (`bot`, `bot:thread`) share none, and a queue that version 0.1 has made keeps those it has.
A prefix without a colon and a percent sign has the same keys in every version: nothing is asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from assistant_queue.errors import NotPermitted
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Operation, Space, plain, text, texts
from assistant_queue.store.keys import Keys, base_of
from assistant_queue.store.sendable import is_text

T = TypeVar("T")


def settle(space: Space) -> Operation[None]:
    """Learn which keys a queue has, once for each process.

    Those of a new queue, unless there is none yet and version 0.1 has made one.
    """
    if space.is_settled:
        return
    bases = (base_of(space.prefix), space.prefix)
    try:
        fresh, old = yield from _are_queues(bases)
    except NotPermitted:  # the user's rights are for one of the two: that one it is
        try:
            (fresh,) = yield from _are_queues(bases[:1])
            old = False
        except NotPermitted:
            fresh, old = False, True
    space.settle(space.prefix if old and not fresh else bases[0])


def laid_out(spaces: Sequence[Space], operation: Operation[T]) -> Operation[T]:
    """Return the operation, behind `settle` for these."""
    for space in spaces:
        yield from settle(space)
    return (yield from operation)


def _are_queues(bases: Sequence[str]) -> Operation[list[bool]]:
    """Whether there are queues whose keys begin so.

    A thread named `format` of the queue `bot` has the key `bot:thread:format`. It is a hash, for which MGET says nothing.
    """
    found = texts((yield plain("MGET", *(Keys(base).format for base in bases))))
    return [value.isdecimal() for value in found]


@dataclass(frozen=True, slots=True)
class Nesting:
    """Two queues that can meet at one key.

    Attributes:
        inner: The prefix that begins with the other one, and a colon.
        outer: The other.
        in_rq: The key is RQ's: the inner queue has the name of the list in which forking workers of the outer one keep what they have just
            taken. Otherwise it is one of ours: the inner queue was made by version 0.1.
    """

    inner: str
    outer: str
    in_rq: bool = False


def read_nestings(space: Space) -> Operation[list[Nesting]]:
    """Look for queues of this Redis that can meet this one at a key.

    Raises:
        NotPermitted: This user may not look.
    """
    beginning = wakeups.queue_key("")
    names = [text(name).removeprefix(beginning) for name in (yield plain("SMEMBERS", wakeups.queues_key()))]
    own = space.prefix
    pairs = [(name, own) for name in names if name.startswith(f"{own}:")] + [(own, name) for name in names if own.startswith(f"{name}:")]
    pairs = sorted(pair for pair in pairs if all(pair) and is_text("".join(pair)))
    found = [Nesting(inner, outer, in_rq=True) for inner, outer in pairs if wakeups.is_named_as_rqs_own(inner, outer)]
    for inner, outer in pairs:
        inner_is_new, inner_is_old, outer_is_new, outer_is_old = yield from _are_queues([base_of(inner), inner, base_of(outer), outer])
        if inner_is_old and not inner_is_new and (outer_is_new or outer_is_old):
            found.append(Nesting(inner, outer))
    return found
