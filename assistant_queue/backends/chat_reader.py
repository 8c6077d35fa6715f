"""Reading a completion of the Chat Completions API: its chunks, or the whole of it, and how it ended. Pure."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assistant_queue.backends.content import Json, said, usage_of
from assistant_queue.backends.run_failures import Failure, failure_of, refused_in_stream
from assistant_queue.backends.streams import Event
from assistant_queue.core.runs import RunEvent, RunStarted, TextDelta
from assistant_queue.models import FunctionCall, ToolCall, Usage

_CUT_SHORT = frozenset({"length", "content_filter"})
_FAILED = frozenset({"error"})

_ID_CHARS = string.ascii_letters + string.digits
_ID_LENGTH = 9
"""Of a call's id that the server did not give. Source: nine letters and digits is the one form that every server takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A whole completion.

    Attributes:
        text: What the model said; "" where it said nothing.
        calls: Its calls as the server wrote them, further fields included: they are handed back as they came.
        reason: `length` or `content_filter` where it was cut short; None where it ended by itself.
        failure: Set where it failed after it had begun.
    """

    run_id: str
    text: str = ""
    calls: tuple[Json, ...] = ()
    reason: str | None = None
    usage: Usage | None = None
    failure: Failure | None = None


def tool_call(call: Json) -> ToolCall:
    """A call as the flow knows it."""
    function = call.get("function") or {}
    return ToolCall(str(call["id"]), FunctionCall(str(function.get("name") or ""), str(function.get("arguments") or "")))


def with_ids(calls: Sequence[Json], taken: Collection[str]) -> tuple[Json, ...]:
    """The calls, each with an id that no other call of the batch has: some servers give none, or count from 0 in every round."""
    found: list[Json] = []
    known = set(taken)
    for call in calls:
        ident = call.get("id")
        if not isinstance(ident, str) or not ident or ident in known:
            ident = "".join(secrets.choice(_ID_CHARS) for _ in range(_ID_LENGTH))
        known.add(ident)
        found.append({"type": "function", **call, "id": ident})
    return tuple(found)


class ChatReader:
    """The chunks of one completion.

    1. names the run with the first chunk, by the completion's id
    2. gives the text in deltas, and merges the calls by their index
    3. knows the end by `finish_reason`; `usage` may come after it, in a chunk without choices

    Args:
        thread: Named in errors.
        unnamed: The run's id where the server gives none.
    """

    def __init__(self, thread: str, *, unnamed: str) -> None:
        self.run_id: str | None = None
        self._thread = thread
        self._unnamed = unnamed
        self._text: list[str] = []
        self._calls: dict[int, Json] = {}
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._failure: Failure | None = None

    @property
    def is_finished(self) -> bool:
        """Nothing more will be said; the usage may be to come."""
        return self._finish is not None or self._failure is not None

    @property
    def is_over(self) -> bool:
        """Nothing more is wanted of the stream."""
        return self._failure is not None or (self._finish is not None and self._usage is not None)

    @property
    def completion(self) -> Completion:
        """What was read."""
        return Completion(
            run_id=self.run_id or self._unnamed,
            text="".join(self._text),
            calls=tuple(call for _, call in sorted(self._calls.items())),
            reason=self._finish if self._finish in _CUT_SHORT else None,
            usage=self._usage,
            failure=self._failure if self._finish is None else None,
        )

    def read(self, event: Event) -> list[RunEvent]:
        """What this chunk, or whole completion, means."""
        data = event.data
        found: list[RunEvent] = []
        choices = [one for one in data.get("choices") or () if isinstance(one, Mapping)]
        error = data.get("error") or next((one["error"] for one in choices if one.get("error")), None)
        if error and self.run_id is None:
            raise refused_in_stream(error if isinstance(error, Mapping) else {"message": error}, thread=self._thread)
        if self.run_id is None and (choices or data.get("id")):
            self.run_id = str(data.get("id") or self._unnamed)
            found.append(RunStarted(run_id=self.run_id))
        for choice in choices:
            if choice.get("index") in {0, None}:
                found += self._choice(choice)
        if data.get("usage"):
            self._usage = usage_of(data["usage"])
        if error:
            self._failure = failure_of(error if isinstance(error, Mapping) else {"message": error}, "failed")
        return found

    def _choice(self, choice: Mapping[str, Any]) -> list[RunEvent]:
        message = choice.get("delta") or choice.get("message") or {}
        text = said(message.get("content")) or str(message.get("refusal") or "")
        for place, call in enumerate(message.get("tool_calls") or ()):
            self._merge(call, place)
        reason = choice.get("finish_reason")
        if reason in _FAILED:
            self._failure = failure_of(None, "failed")
        elif reason:
            self._finish = str(reason)
        if not text:
            return []
        self._text.append(text)
        return [TextDelta(text=text)]

    def _merge(self, piece: Mapping[str, Any], place: int) -> None:
        """A piece of a call: its id and name come once, its arguments in pieces; other fields are kept as they come."""
        index = piece.get("index")
        call = self._calls.setdefault(
            index if isinstance(index, int) else len(self._calls) if piece.get("id") else place, {"function": {"name": "", "arguments": ""}}
        )
        function, told = call["function"], piece.get("function") or {}
        function["name"] = function["name"] or told.get("name") or ""
        said_with = told.get("arguments") or ""  # some servers give the object itself, whole
        function["arguments"] += said_with if isinstance(said_with, str) else json.dumps(said_with, ensure_ascii=False)
        function.update({name: value for name, value in told.items() if name not in {"name", "arguments"}})
        call.update({name: value for name, value in piece.items() if name not in {"function", "index"} and value is not None})
