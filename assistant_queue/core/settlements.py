"""Tool calls that are answered from outside: what is asked, and what came of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from assistant_queue.approvals import Approval
from assistant_queue.core.compact_json import to_json
from assistant_queue.core.packed_text import mark_of, pack, unpack
from assistant_queue.core.progress import Progress, moment
from assistant_queue.models import Batch, ToolCall
from assistant_queue.values import valueclass

_STRONG = re.compile(r"[A-Za-z0-9_-]{20,128}")
"""Ids that are taken to be unique in the queue. Source: OpenAI's are `call_` and 24 characters; the
servers that number their calls write `call_0`."""


def public_id(call_id: str, batch_id: str, *, is_taken: bool = False) -> str:
    """Return the id under which a call is listed: its own, if that is unique in the queue."""
    if _STRONG.fullmatch(call_id) and not is_taken:
        return call_id
    return f"{re.sub(r'[^A-Za-z0-9_-]', '', call_id)[:64] or 'call'}-{batch_id}"


class SettlementKind(StrEnum):
    """Outcome of a call that was open."""

    APPROVED = "approved"
    """Its function is called."""
    DENIED = "denied"
    ANSWERED = "answered"
    """Its output came from outside."""
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    """Its batch was stopped, was interrupted, or ended otherwise before an answer came."""


@valueclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The first answer to an open call, which counts.

    Attributes:
        kind: How it was settled.
        by: The name that the caller gave for the author of the answer; None for none.
        reason: Of a denial.
        arguments: JSON of the approved arguments, if they were changed.
        output: The output of a call that was answered.
        at_ms: When; 0 before it is stored.
    """

    kind: SettlementKind
    by: str | None = None
    reason: str | None = None
    arguments: str | None = None
    output: str | None = None
    at_ms: int = 0

    def dump(self) -> str:
        """As JSON, without what is None."""
        plain = {
            "verdict": self.kind.value,
            "by": self.by,
            "reason": self.reason,
            "arguments": self.arguments,
            "output": self.output,
        }
        return _compact({name: value for name, value in plain.items() if value is not None})

    def news(self) -> str:
        """Return the fields of its event, JSON: without arguments and output."""
        return _compact({"verdict": self.kind.value, "by": self.by, "reason": self.reason})

    @classmethod
    def load(cls, text: str, at_ms: int) -> Settlement:
        """The opposite of `dump`.

        Raises:
            ValueError, TypeError, KeyError: It was not written by `dump`.
        """
        plain = json.loads(text)
        return cls(
            kind=SettlementKind(plain["verdict"]),
            by=plain.get("by"),
            reason=plain.get("reason"),
            arguments=plain.get("arguments"),
            output=plain.get("output"),
            at_ms=at_ms,
        )


@valueclass(frozen=True, slots=True, kw_only=True)
class OpenCall:
    """A call for which a batch waits.

    Attributes:
        id: The id under which it is listed.
        call: The provider's.
        kind: `approval` if its function is called once that is approved, `answer` if its output
            comes from outside.
        question: What is asked; None for none.
        until_ms: When it expires, ms.
    """

    id: str
    call: ToolCall
    kind: Literal["approval", "answer"]
    question: str | None
    until_ms: int

    def ask(self, batch: Batch) -> str:
        """Return the data of the event that asks for an answer, JSON."""
        return _compact({"batch_id": batch.id, "call_id": self.id, **self._asked(batch)})

    def record(self, batch: Batch) -> str:
        """Return what is stored of it, packed."""
        return pack(_compact(self._asked(batch)))

    def _asked(self, batch: Batch) -> dict[str, Any]:
        return {
            "tool": self.call.function.name,
            "arguments": self.call.function.arguments,
            "question": self.question,
            "kind": self.kind,
            "authors": list(batch.authors),
            "tenant": batch.tenant,
        }


def approval_of(
    thread_id: str,
    ask: str,
    at_ms: int,
    until_ms: int,
    *,
    call_id: str | None = None,
    batch_id: str | None = None,
) -> Approval:
    """Return an open call as it is listed; the ids only if `ask` lacks them.

    Raises:
        ValueError, TypeError, KeyError: The queue did not write it.
    """
    known = {"call_id": call_id, "batch_id": batch_id}
    plain: Mapping[str, Any] = known | json.loads(unpack(ask))
    return Approval(
        call_id=plain["call_id"],
        thread_id=thread_id,
        batch_id=plain["batch_id"],
        tool=plain["tool"],
        arguments=arguments_in(plain["arguments"]),
        question=plain["question"],
        authors=tuple(plain["authors"]),
        tenant=plain["tenant"],
        requested_at=moment(at_ms),
        expires_at=moment(until_ms),
        kind=plain["kind"],
    )


def open_calls(progress: Progress, batch_id: str, shut: str, asks: str) -> list[str]:
    """Return the ids of the calls for which a batch waits.

    Args:
        progress: Its memory.
        batch_id: Its id.
        shut: The marks of its calls that are settled.
        asks: Of an earlier version: a batch's id, and its calls that are open.
    """
    if asks:
        batch, *calls = asks.split()
        return calls if batch == batch_id else []
    marks = shut.split()
    return [
        row.id
        for row in progress.waits
        if row.is_listed and row.call_id not in progress.outputs and mark_of(row.id) not in marks
    ]


def arguments_in(text: str) -> dict[str, Any]:
    """Return a call's arguments; empty if they are no JSON object."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _compact(plain: Mapping[str, Any]) -> str:
    return to_json(plain)
