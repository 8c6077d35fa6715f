"""Calls that a function leaves open: what it returns, and what its next call is given.

A function returns `OpenCalls`, and the batch is parked. Once they are settled the function is called
with its state and what came of them; it replies, or leaves more calls open.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from assistant_queue.core.compact_json import to_json
from assistant_queue.core.runs import Asked
from assistant_queue.core.settlements import Settlement, SettlementKind, public_id
from assistant_queue.errors import InvalidArgument, StateTooLarge
from assistant_queue.models import FunctionCall, ToolCall
from assistant_queue.tools.approval import bounded

MAX_STATE_BYTES = 1_000_000
"""Bytes of a state. Chosen: it is written to Redis with each step of its batch; a run of fifty long
messages has less."""

CallKind = Literal["approval", "answer", "tool"]
Verdict = Literal["approved", "denied", "answered", "expired"]

_KINDS = ("approval", "answer", "tool")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCall:
    """A tool call that a function waits for.

    Attributes:
        call_id: Its id in the framework; the same in `Approval.call_id`, if it is unique in the
            queue.
        tool: The tool's name.
        arguments: Those that the model chose: JSON, or a mapping.
        question: What is asked; None for nothing.
        kind: `approval` if the function makes the call itself once it is approved, `answer` if its
            output comes from outside by `answer_tool`, `tool` if the queue calls its own tool of
            this name, by the tool's own rule of approval.
    """

    call_id: str
    tool: str
    arguments: str | Mapping[str, Any] = "{}"
    question: str | None = None
    kind: CallKind = "approval"


@dataclass(frozen=True, slots=True)
class OpenCalls:
    """Returned by a function, or yielded last, instead of a reply: these calls are open.

    The batch is parked until each of them is settled. Then the function is called with the same
    batch, by any worker; `RunContext.state` and `RunContext.settled` have what it needs.

    Attributes:
        calls: The calls, at least one.
        state: What the function needs to continue, 1,000,000 bytes of UTF-8 at most. It is removed
            with the batch's end, and by `forget_thread`.

    Raises:
        InvalidArgument: There is no call, two have one id, or something has another type.
    """

    calls: Sequence[GuestCall]
    state: str | bytes = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.calls or not all(isinstance(one, GuestCall) for one in self.calls):
            raise InvalidArgument("calls: expected at least one GuestCall")
        if len({one.call_id for one in self.calls}) < len(self.calls):
            raise InvalidArgument("calls: two of them have the same call_id")
        for one in self.calls:
            if one.kind not in _KINDS:
                raise InvalidArgument(f"kind of {one.call_id!r}: expected one of {_KINDS}")
            if not isinstance(one.arguments, str | Mapping):
                raise InvalidArgument(f"arguments of {one.call_id!r}: expected JSON or a mapping")
        if not isinstance(self.state, str | bytes):
            raise InvalidArgument("state: expected a string or bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledCall:
    """Outcome of an open call.

    Attributes:
        call_id: As in its `GuestCall`.
        verdict: `approved`, `denied`, `answered` or `expired`. Of a tool of the queue `answered`:
            a denial is its output, too.
        by: The name that was given with it; None for none.
        reason: Of a denial; None for none.
        arguments: The approved arguments if they were changed, else None.
        output: Of a call that was answered.
    """

    call_id: str
    verdict: Verdict
    by: str | None = None
    reason: str | None = None
    arguments: Mapping[str, Any] | None = field(default=None, repr=False)
    output: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRound:
    """A function's open calls as they are stored: `ActionRequired.transcript`.

    Attributes:
        number: From 1.
        state: The function's.
        calls: The function's ids and kinds of this round, by the ids that the queue uses.
        taken: Ids that the queue has used for this batch.
        said: Replies of this round and those before.
    """

    number: int = 0
    state: str | None = None
    calls: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    taken: tuple[str, ...] = ()
    said: tuple[str, ...] = ()

    def dump(self) -> str:
        """As JSON."""
        row = [self.number, self.state, self.calls, self.taken, self.said]
        return to_json(row)

    @classmethod
    def load(cls, text: str | None) -> StoredRound:
        """The opposite of `dump`; None for no round."""
        if not text:
            return cls()
        number, state, calls, taken, said, *_ = json.loads(text)
        return cls(
            number=number,
            state=state,
            calls={name: (row[0], row[1]) for name, row in calls.items()},
            taken=tuple(taken),
            said=tuple(said),
        )

    def next(self, opened: OpenCalls, replies: Sequence[str], attempt: int) -> StoredRound:
        """Return the round after this one.

        Raises:
            StateTooLarge: Its state has too many bytes.
        """
        state = opened.state.decode() if isinstance(opened.state, bytes) else opened.state
        size = len(state.encode("utf-8", "replace"))
        if size > MAX_STATE_BYTES:
            raise StateTooLarge(
                f"the state of the open calls has {size:,} bytes: expected at most"
                f" {MAX_STATE_BYTES:,}; keep the history elsewhere, and its key in the state"
            )
        number = self.number + 1
        calls = {
            _id_of(one.call_id, self.taken, f"{attempt}-{number}"): (one.call_id, one.kind)
            for one in opened.calls
        }
        return StoredRound(
            number=number,
            state=state,
            calls=calls,
            taken=(*self.taken, *calls),
            said=(*self.said, *replies),
        )

    def settled(self, outputs: Mapping[str, str]) -> dict[str, SettledCall]:
        """Return what came of the round's calls, by the function's ids."""
        return {
            call_id: _settled(call_id, kind, outputs[name])
            for name, (call_id, kind) in self.calls.items()
        }


def _id_of(call_id: str, taken: Collection[str], place: str) -> str:
    """Return the id of a call in the queue: its own, unless it is used, or simply a number."""
    is_unique = public_id(call_id, "") == call_id and call_id not in taken
    return call_id if is_unique else f"{call_id}-{place}"


def _settled(call_id: str, kind: str, output: str) -> SettledCall:
    if kind == "tool":
        return SettledCall(call_id=call_id, verdict="answered", output=output)
    found = Settlement.load(output, 0)
    verdict = "denied" if found.kind is SettlementKind.WITHDRAWN else found.kind.value
    return SettledCall(
        call_id=call_id,
        verdict=cast("Verdict", verdict),
        by=found.by,
        reason=found.reason,
        arguments=None if found.arguments is None else json.loads(found.arguments),
        output=found.output,
    )


def calls_of(opened: OpenCalls, stored: StoredRound) -> Iterator[tuple[ToolCall, Asked | None]]:
    """Yield each call as the queue knows it, and what is asked; None for a tool of the queue."""
    for name, one in zip(stored.calls, opened.calls, strict=True):
        arguments = (
            one.arguments
            if isinstance(one.arguments, str)
            else json.dumps(dict(one.arguments), ensure_ascii=False)
        )
        asked = (
            None
            if one.kind == "tool"
            else Asked(call_id=name, kind=one.kind, question=bounded(one.question or "") or None)
        )
        yield ToolCall(id=name, function=FunctionCall(name=one.tool, arguments=arguments)), asked
