"""Threads that a person answers instead of the model."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from assistant_queue.core import measures
from assistant_queue.core.progress import moment
from assistant_queue.errors import ThreadTakenOver
from assistant_queue.store.calls import Namespace, Operation, text, texts, whole_number
from assistant_queue.store.ops.sweeping import NOT_BACK

TAKEOVER = ("paused", "taken_by", "taken_at")
"""Fields of a thread that say whether it is paused, and whether a person answers it."""
_BY_PERSON = "2"
"""Value of `paused` of a thread that is taken over, and not paused besides. Source:
lua/_person.lua."""


def takeover_of(fields: Sequence[str]) -> tuple[bool, str, int]:
    """Return whether a thread is paused by itself, the person that answers it or "", since when, ms.

    `fields`: the values of `TAKEOVER`.
    """
    paused, person, since = fields
    if not (paused and person):
        return bool(paused), "", 0
    return paused != _BY_PERSON, person, whole_number(since)


def take_over(
    namespace: Namespace, thread_id: str, by: str, *, instead_of: str | None, stops: bool
) -> Operation[bool]:
    """Have a person answer a thread; False if that person does already.

    Raises:
        ThreadTakenOver: Another person than `instead_of` answers it. Nothing was changed.
    """
    reply = yield namespace.call(
        "take_over",
        thread_id,
        keys={"over": namespace.keys.over(secrets.token_hex(8))},
        constants=NOT_BACK,
        by=by,
        instead_of=instead_of or "",
        stops="1" if stops else "",
        counts=namespace.counted(lambda: measures.answered_by_person("taken_over")),
    )
    word, since_ms, person = texts(reply)
    if word == "other":
        since = moment(int(since_ms))
        raise ThreadTakenOver(
            f"thread {thread_id!r} is answered by {person!r} since {since:%Y-%m-%d %H:%M:%S} UTC; "
            "nothing was changed: take it over instead of that person",
            by=person,
            since=since,
        )
    return word == "taken"


def hand_back(namespace: Namespace, thread_id: str) -> Operation[bool]:
    """Have the model answer a thread again; False if no person does."""
    reply = yield namespace.call(
        "hand_back",
        thread_id,
        keys={"over": namespace.keys.over(secrets.token_hex(8))},
        constants=NOT_BACK,
        counts=namespace.counted(lambda: measures.answered_by_person("handed_back")),
    )
    return text(reply[0]) == "handed_back"
