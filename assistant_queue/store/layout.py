"""Detection of a queue's key layout.

Prefixes that contain each other (`bot`, `bot:thread`) share no keys, and a queue that version 0.1
created keeps its own. A prefix without a colon and a percent sign has the same keys in every
version, and needs no detection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from assistant_queue.errors import NotPermitted
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Namespace, Operation, plain, text, texts
from assistant_queue.store.keys import Keys, base_of
from assistant_queue.store.sendable import is_text

T = TypeVar("T")


def settle(namespace: Namespace) -> Operation[None]:
    """Detect which keys a queue has, once per process.

    They are those of the current version, unless only version 0.1 has created the queue.
    """
    if namespace.is_settled:
        return
    bases = (base_of(namespace.prefix), namespace.prefix)
    try:
        fresh, old = yield from _are_queues(bases)
    except NotPermitted:  # the Redis user may access one of the two: use that one
        try:
            (fresh,) = yield from _are_queues(bases[:1])
            old = False
        except NotPermitted:
            fresh = False
            old = True
    namespace.settle(namespace.prefix if old and not fresh else bases[0])


def after_settling(namespaces: Sequence[Namespace], operation: Operation[T]) -> Operation[T]:
    """Return the operation, preceded by `settle` for each of the namespaces."""
    for namespace in namespaces:
        yield from settle(namespace)
    return (yield from operation)


def _are_queues(bases: Sequence[str]) -> Operation[list[bool]]:
    """Return for each base whether a queue has keys that begin with it.

    A thread named `format` of the queue `bot` has the key `bot:thread:format`. It is a hash, for
    which MGET returns nothing.
    """
    found = texts((yield plain("MGET", *(Keys(base).format for base in bases))))
    return [value.isdecimal() for value in found]


@dataclass(frozen=True, slots=True)
class Nesting:
    """Two queues that can use the same key.

    Attributes:
        inner: The prefix that begins with the other one, and a colon.
        outer: The other prefix.
        in_rq: The key is RQ's: the inner queue has the name of the list in which forking workers of
            the outer one keep the jobs that they have just taken. Otherwise it is the queue's: the
            inner queue was created by version 0.1.
    """

    inner: str
    outer: str
    in_rq: bool = False


def read_nestings(namespace: Namespace) -> Operation[list[Nesting]]:
    """Return pairs of this queue and others of this Redis that can use the same key.

    Raises:
        NotPermitted: The Redis user may not read the list of queues.
    """
    beginning = wakeups.queue_key("")
    names = [
        text(name).removeprefix(beginning)
        for name in (yield plain("SMEMBERS", wakeups.queues_key()))
    ]
    own = namespace.prefix
    pairs = [(name, own) for name in names if name.startswith(f"{own}:")] + [
        (own, name) for name in names if own.startswith(f"{name}:")
    ]
    pairs = sorted(pair for pair in pairs if all(pair) and is_text("".join(pair)))
    found = [
        Nesting(inner, outer, in_rq=True)
        for inner, outer in pairs
        if wakeups.is_named_as_rqs_own(inner, outer)
    ]
    for inner, outer in pairs:
        inner_is_new, inner_is_old, outer_is_new, outer_is_old = yield from _are_queues(
            [base_of(inner), inner, base_of(outer), outer]
        )
        if inner_is_old and not inner_is_new and (outer_is_new or outer_is_old):
            found.append(Nesting(inner, outer))
    return found
