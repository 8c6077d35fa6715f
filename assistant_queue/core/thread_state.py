"""The life of a thread, as a table.

The scripts in `store/lua` are its implementation; tests compare the two, and docs draw it. The
meaning of failures, which lead a batch from state to state, is `failure_table`.
"""

from __future__ import annotations

from enum import StrEnum


class ThreadState(StrEnum):
    """State of a thread."""

    IDLE = "idle"
    """Nothing waits, nothing runs; the thread owns no key but its conversation."""
    PENDING = "pending"
    """Messages wait for their window to end, or for a worker."""
    ACTIVE = "active"
    """A worker holds the lease and a frozen batch."""
    RETRYING = "retrying"
    """The batch was provably not accepted, or failed; it waits out a back-off."""
    HELD = "held"
    """Whether the batch was accepted is unknown; the provider is asked after a grace period."""
    PARKED = "parked"
    """The batch waits for answers to its tool calls from outside, or for its run to end at the
    provider. Stored as `held`, with a mark (`store/lua/_parked.lua`): version 0.1 knows no other."""


class ThreadEvent(StrEnum):
    """Event of a thread; each is one script."""

    ADD = "add"
    CLAIM = "claim"
    RENEW = "renew"
    PROGRESS = "progress"
    TRIM = "trim"
    FINISH = "finish"
    RETRY = "retry"
    HOLD = "hold"
    BURY = "bury"
    PARK = "park"
    SETTLE = "settle"
    CLOSE = "close"
    STOP = "stop"
    STOPPED = "stopped"
    JOIN = "join"
    REFUSE = "refuse"
    RETURN = "return"
    WAKE = "wake"


class Phase(StrEnum):
    """Progress of an active thread's batch; written before the request that leaves the phase."""

    FROZEN = "frozen"
    """Claimed; nothing has been sent."""
    SENDING = "sending"
    """A request that starts work may have left: ambiguous until an id is known."""
    RUNNING = "running"
    """The run's id is known; it can be followed."""
    DELIVERING = "delivering"
    """Written by version 0.1 alone: the results are stored; `on_reply` has still to return."""


_S = ThreadState
_E = ThreadEvent

TRANSITIONS: dict[tuple[ThreadState, ThreadEvent], frozenset[ThreadState]] = {
    (_S.IDLE, _E.ADD): frozenset({_S.PENDING}),
    (_S.PENDING, _E.ADD): frozenset({_S.PENDING}),
    (_S.ACTIVE, _E.ADD): frozenset({_S.ACTIVE}),
    (_S.RETRYING, _E.ADD): frozenset({_S.RETRYING}),
    (_S.HELD, _E.ADD): frozenset({_S.HELD}),
    (_S.PARKED, _E.ADD): frozenset({_S.PARKED}),
    (_S.PENDING, _E.CLAIM): frozenset({_S.ACTIVE}),
    (_S.RETRYING, _E.CLAIM): frozenset({_S.ACTIVE}),
    (_S.HELD, _E.CLAIM): frozenset({_S.ACTIVE}),
    (_S.PARKED, _E.CLAIM): frozenset({_S.ACTIVE}),
    # Only once the lease has lapsed: the worker is dead, or has been stopped for too long.
    (_S.ACTIVE, _E.CLAIM): frozenset({_S.ACTIVE}),
    (_S.ACTIVE, _E.RENEW): frozenset({_S.ACTIVE}),
    (_S.ACTIVE, _E.PROGRESS): frozenset({_S.ACTIVE}),
    (_S.ACTIVE, _E.TRIM): frozenset({_S.ACTIVE}),
    # Finish or stay pending, in one step.
    (_S.ACTIVE, _E.FINISH): frozenset({_S.IDLE, _S.PENDING}),
    (_S.ACTIVE, _E.BURY): frozenset({_S.IDLE, _S.PENDING}),
    (_S.ACTIVE, _E.RETRY): frozenset({_S.RETRYING}),
    (_S.ACTIVE, _E.HOLD): frozenset({_S.HELD}),
    (_S.ACTIVE, _E.PARK): frozenset({_S.PARKED}),
    # A verdict: a parked batch is due now; else the holder, or the next one, reads it.
    (_S.PARKED, _E.SETTLE): frozenset({_S.PARKED}),
    (_S.ACTIVE, _E.SETTLE): frozenset({_S.ACTIVE}),
    (_S.RETRYING, _E.SETTLE): frozenset({_S.RETRYING}),
    (_S.HELD, _E.SETTLE): frozenset({_S.HELD}),
    (_S.ACTIVE, _E.CLOSE): frozenset({_S.ACTIVE}),
    # A wish: the holder obeys it, or the worker that claims the thread next.
    (_S.ACTIVE, _E.STOP): frozenset({_S.ACTIVE}),
    (_S.RETRYING, _E.STOP): frozenset({_S.RETRYING}),
    (_S.HELD, _E.STOP): frozenset({_S.HELD}),
    (_S.PARKED, _E.STOP): frozenset({_S.PARKED}),
    (_S.ACTIVE, _E.STOPPED): frozenset({_S.IDLE, _S.PENDING}),
    (_S.ACTIVE, _E.JOIN): frozenset({_S.ACTIVE}),
    (_S.ACTIVE, _E.REFUSE): frozenset({_S.ACTIVE}),
    (_S.IDLE, _E.RETURN): frozenset({_S.PENDING}),
    (_S.PENDING, _E.RETURN): frozenset({_S.PENDING}),
    (_S.ACTIVE, _E.RETURN): frozenset({_S.ACTIVE}),
    (_S.RETRYING, _E.RETURN): frozenset({_S.RETRYING}),
    (_S.HELD, _E.RETURN): frozenset({_S.HELD}),
    (_S.PARKED, _E.RETURN): frozenset({_S.PARKED}),
    **{(state, _E.WAKE): frozenset({state}) for state in _S},
}
"""(state, event) -> the states it may lead to. A pair that is not here does not change the thread:
the script says so in a word."""


def diagram() -> str:
    """The table as a Mermaid state diagram, one arrow for each pair of states."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), targets in TRANSITIONS.items():
        if event is ThreadEvent.WAKE:
            continue  # looks at a thread in any state and changes none
        for target in targets:
            arrows.setdefault((state.value, target.value), []).append(event.value)
    lines = ["stateDiagram-v2", "    [*] --> idle"]
    lines += [
        f"    {source} --> {target}: {', '.join(sorted(events))}"
        for (source, target), events in sorted(arrows.items())
    ]
    return "\n".join(lines)
