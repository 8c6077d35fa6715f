"""Memory of a batch between two steps: small, versionless JSON in Redis, without the defaults."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from assistant_queue.core.compact_json import to_json
from assistant_queue.core.packed_text import mark_of, pack, unpack
from assistant_queue.core.runs import ActionRequired
from assistant_queue.core.stored_rows import (
    AttemptRow,
    SettledRow,
    ToolRow,
    WaitRow,
    dump_rows,
    dump_settled,
    dump_tools,
    dump_usage,
    dump_waits,
    load_rows,
    load_settled,
    load_tools,
    load_usage,
    load_waits,
)
from assistant_queue.models import ErrorInfo, FunctionCall, RunResult, ToolCall, Usage

_STORED_AS = {
    "already_in_thread": "held",
    "in_user_code": "calling",
    "crashes_in_user_code": "guilt",
    "waits_for_exclusive": "waits",
    "waits": "outside",
    "called": "fn",
    "called_ms": "fn_at",
}
"""Stored names of attributes that differ; every other attribute is stored by its own name."""

_HAPPENED = (
    "called_ms",
    "sent_ms",
    "run_sent_ms",
    "first_text_ms",
    "waiting_since_ms",
    "undecided_since_ms",
    "parked_ms",
)
"""Times of events; 0 for one that has not happened."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """The memory of one batch. The worker that claims the thread next continues from here.

    Attributes:
        attempts: How often the batch was sent; a sending that was refused for a passing reason is
            taken back.
        failures: How many failures count against `max_attempts`.
        sent_ms: When the last request that starts work left, ms.
        deadline_ms: When this attempt is given up, ms.
        located: `anchor` is the conversation's end as it was before this batch.
        anchor: Id of the last item before this batch, None if there was none.
        run_id: The latest run known.
        rounds: Tool rounds answered so far.
        calls: The calls with outputs that are being submitted; if the provider keeps nothing, kept
            until the next round is known.
        submitted: The calls with outputs that the latest run was given.
        asked: The round that is being answered, if the provider keeps nothing: a worker that
            resumes has the same calls with the same ids.
        transcript: All rounds up to `calls`, in the backend's words, if the provider keeps
            nothing.
        in_user_code: One of the user's functions is being called: a worker that dies now may die of
            this batch.
        crashes_in_user_code: Workers that have died in the user's code for this batch, as far as it
            was counted when this was stored.
        waits_for_exclusive: It waits to be the only suspect in the user's code: a worker that dies
            now does not die of this batch.
        called: Names of the user's functions that are being called, None for none.
        called_ms: Since when, ms.
        outputs: Every tool output that was ever computed for this batch, by call id.
        tools: The calls that computed them, in the order in which they ended.
        replies: The assistant's messages in the rounds before this one.
        shown: Ids of the conversation's items that hold `replies`, if they are known.
        usage: Tokens of the rounds before this one.
        already_in_thread: The provider's thread holds the text already.
        waiting_since_ms: When the failures that do not count began, ms; 0 without any.
        refusals: How many of those failures there were.
        passing: The last request failed in a way that does not count, and may have been accepted
            all the same.
        given_up: A run that was given up at its deadline and could not be cancelled: while it is
            working, nothing is sent again.
        undecided_since_ms: When the provider was first asked in vain what became of the request,
            ms; 0 if it was not.
        shortened: How many of its runs have failed for their length.
        origin: The conversation that the thread had before this batch outgrew it, if it was begun
            anew since.
        error: The last failure.
        result: The fallback of a batch that is given up, once there is one; of version 0.1 also
            the result to be delivered.
        burying: The reason for which the batch is on its way to the failed list, with `error`:
            nothing is sent for it any more.
        stop_stage: Of a batch that is being stopped: None until its run is known to be over, then
            whether its texts are in the conversation (`stored`) or not (`over`).
        said: What the model had said until then.
        unsaid: The part of it that the conversation does not hold.
        interrupts: How often its run was interrupted.
        cut: The runs that were interrupted.
        stored: How many of its messages, from the first on, the conversation holds from runs that
            were interrupted.
        begun: How many the run began with, if others have joined it since; else 0.
        begun_before: Others have joined it since, and none is left that it began with.
        given: How many of them its rounds have been given, likewise.
        adding: How many they will have been given with the latest request, likewise.
        waits: The calls of the round that wait, or waited, for an answer from outside; `asked` is
            the round, whatever the provider keeps.
        parked_ms: When the batch was parked, ms; 0 if it is not.
        gave_away: The backend makes approved calls itself in the latest run: if it failed, they may
            have been made.
        detached: The run that asked was ended before it could expire: the outputs go to another.
        carried: Calls and their outputs, in words, that the conversation does not hold: they go
            with the instructions of the next run.
        settled: The calls of the batch that were settled from outside.
        tries: Attempts by each worker, the latest last; of very many, the first and the latest.
        run_sent_ms: When the last attempt was sent, ms; unlike `sent_ms`, without its tool rounds.
        first_text_ms: When the first text of that attempt was read, ms; 0 before.
    """

    attempts: int = 0
    failures: int = 0
    sent_ms: int = 0
    deadline_ms: int = 0
    located: bool = False
    anchor: str | None = None
    run_id: str | None = None
    rounds: int = 0
    calls: tuple[ToolCall, ...] = ()
    submitted: tuple[ToolCall, ...] = ()
    asked: ActionRequired | None = None
    transcript: str | None = None
    in_user_code: bool = False
    crashes_in_user_code: int = 0
    waits_for_exclusive: bool = False
    called: str | None = None
    called_ms: int = 0
    outputs: dict[str, str] = field(default_factory=dict)
    tools: tuple[ToolRow, ...] = ()
    replies: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    usage: Usage | None = None
    already_in_thread: bool = False
    waiting_since_ms: int = 0
    refusals: int = 0
    passing: bool = False
    given_up: str | None = None
    undecided_since_ms: int = 0
    shortened: int = 0
    origin: str | None = None
    error: ErrorInfo | None = None
    result: RunResult | None = None
    burying: str | None = None
    stop_stage: str | None = None
    said: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    interrupts: int = 0
    cut: tuple[str, ...] = ()
    stored: int = 0
    begun: int = 0
    begun_before: bool = False
    given: int = 0
    adding: int = 0
    waits: tuple[WaitRow, ...] = ()
    parked_ms: int = 0
    gave_away: bool = False
    detached: bool = False
    carried: str | None = None
    settled: tuple[SettledRow, ...] = ()
    tries: tuple[AttemptRow, ...] = ()
    run_sent_ms: int = 0
    first_text_ms: int = 0

    @property
    def has_joined(self) -> bool:
        """Messages have joined the batch since its run began: `begun`, `given` and `adding` count."""
        return self.begun > 0 or self.begun_before

    def forget_rounds(self) -> None:
        """All of its messages are sent together."""
        self.begun = self.given = self.adding = 0
        self.begun_before = False

    def keep_past(self, now_ms: int, run_timeout_s: float) -> None:
        """Move times later than now to now, and a deadline to where it can be at most.

        The store's clock may have been set back.
        """
        for name in _HAPPENED:
            if getattr(self, name) > now_ms:
                setattr(self, name, now_ms)
        self.deadline_ms = min(self.deadline_ms, now_ms + round(run_timeout_s * 1000))

    def dump(self) -> str:
        """As JSON, defaults left out."""
        plain: dict[str, Any] = {}
        for attribute, name, encode in _STORED:
            value = getattr(self, attribute)
            if value or value == "":  # an empty text is not the default of any
                plain[name] = value if encode is None else encode(value)
        return to_json(plain)

    def pack(self) -> str:
        """As a packed text, with words that `lua/_compact.lua` reads; for a batch that is parked."""
        return pack(self.dump(), str(self.attempts), mark_of(self.run_id or ""))

    @classmethod
    def load(cls, text: str) -> Progress:
        """The opposite of `dump` and of `pack`; what a newer version added is ignored.

        Raises:
            ValueError: It was not written by either.
        """
        if not text:
            return cls()
        found = json.loads(unpack(text))
        try:
            plain = {
                _ATTRIBUTES[name]: _DECODERS.get(_ATTRIBUTES[name], _same)(value)
                for name, value in found.items()
                if name in _ATTRIBUTES
            }
        except (AttributeError, TypeError, KeyError, IndexError, OverflowError) as error:
            msg = f"not the progress of a batch: {type(error).__name__}"
            raise ValueError(msg) from error
        wrong = sorted(
            _stored_name(name)
            for name, value in plain.items()
            if not isinstance(value, _TYPES[name])
        )
        if wrong:
            msg = f"not the progress of a batch: {', '.join(wrong)}"
            raise ValueError(msg)
        return cls(**plain)


def _stored_name(attribute: str) -> str:
    return _STORED_AS.get(attribute, attribute)


def _same(value: Any) -> Any:
    return value


def _dump_calls(calls: Sequence[ToolCall]) -> list[list[str]]:
    return [[call.id, call.function.name, call.function.arguments] for call in calls]


def _load_calls(rows: Sequence[Sequence[str]]) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(id=row[0], function=FunctionCall(name=row[1], arguments=row[2])) for row in rows
    )


def _dump_asked(asked: ActionRequired) -> dict[str, Any]:
    usage = None if asked.usage is None else dump_usage(asked.usage)
    return {
        "run_id": asked.run_id,
        "calls": _dump_calls(asked.calls),
        "replies": asked.replies,
        "usage": usage,
        "transcript": asked.transcript,
        **{
            name: value
            for name in _ASKED_OF_OTHERS
            if (value := getattr(asked, name)) not in (None, (), 0)
        },
    }


_ASKED_OF_OTHERS = ("whole", "anchor", "shown", "steered", "first_text_ms", "expires_ms")
"""Fields of a round that is parked, of providers that keep it; version 0.1 ignores them."""


def _load_asked(plain: Mapping[str, Any]) -> ActionRequired:
    return ActionRequired(
        run_id=plain["run_id"],
        calls=_load_calls(plain["calls"]),
        replies=tuple(plain["replies"]),
        usage=None if plain["usage"] is None else load_usage(plain["usage"]),
        transcript=plain["transcript"],
        whole=bool(plain.get("whole", False)),
        anchor=plain.get("anchor"),
        shown=tuple(plain.get("shown", ())),
        steered=int(plain.get("steered", 0)),
        first_text_ms=int(plain.get("first_text_ms", 0)),
        expires_ms=int(plain.get("expires_ms", 0)),
    )


def dump_error(error: ErrorInfo) -> dict[str, str]:
    """An error as plain values."""
    return {"code": error.code, "message": error.message}


def load_error(plain: Mapping[str, str]) -> ErrorInfo:
    """The opposite of `dump_error`."""
    return ErrorInfo(code=plain["code"], message=plain["message"])


def moment(ms: float) -> datetime:
    """A time of the store's, aware, UTC."""
    return datetime.fromtimestamp(ms / 1000, tz=UTC)


_STORED_APART = frozenset(
    {"messages", "authors", "metadata", "tenant", "model", "timeline", "answered_by"}
)
"""Fields of `RunResult` that version 0.1 does not accept (`account.py`), or that hold texts."""


def dump_result(result: RunResult) -> dict[str, Any]:
    """A result as plain values; times in ms. Never the messages that it answers."""
    plain = {
        one.name: getattr(result, one.name)
        for one in fields(result)
        if one.name not in _STORED_APART
    }
    plain["started_at"] = round(result.started_at.timestamp() * 1000)
    plain["ended_at"] = round(result.ended_at.timestamp() * 1000)
    plain["usage"] = None if result.usage is None else dump_usage(result.usage)
    if not result.fallback:
        del plain["fallback"]  # versions without it read the others
    del plain["late"]  # known from the place where the reply waits
    return plain


def load_result(plain: Mapping[str, Any]) -> RunResult:
    """The opposite of `dump_result`; fields that a newer version added are ignored."""
    values = {name: value for name, value in plain.items() if name in _RESULT_FIELDS}
    values["started_at"] = moment(values["started_at"])
    values["ended_at"] = moment(values["ended_at"])
    values["usage"] = None if values["usage"] is None else load_usage(values["usage"])
    values["message_ids"] = tuple(values["message_ids"])
    values["replies"] = tuple(values["replies"])
    return RunResult(**values)


_RESULT_FIELDS = frozenset(one.name for one in fields(RunResult)) - _STORED_APART

_ENCODERS: dict[str, Callable[[Any], Any]] = {
    "calls": _dump_calls,
    "submitted": _dump_calls,
    "asked": _dump_asked,
    "usage": dump_usage,
    "error": dump_error,
    "result": dump_result,
    "tries": dump_rows,
    "tools": dump_tools,
    "waits": dump_waits,
    "settled": dump_settled,
}
_DECODERS: dict[str, Callable[[Any], Any]] = {
    "calls": _load_calls,
    "submitted": _load_calls,
    "asked": _load_asked,
    "replies": tuple,
    "shown": tuple,
    "said": tuple,
    "unsaid": tuple,
    "cut": tuple,
    "usage": load_usage,
    "error": load_error,
    "result": load_result,
    "tries": load_rows,
    "tools": load_tools,
    "waits": load_waits,
    "settled": load_settled,
}
_STORED = tuple(
    (one.name, _stored_name(one.name), _ENCODERS.get(one.name)) for one in fields(Progress)
)
"""Attributes with their stored names and encoders."""
_ATTRIBUTES = {stored: attribute for attribute, stored, _ in _STORED}
_OPTIONAL: dict[str, type[Any]] = {
    "anchor": str,
    "run_id": str,
    "transcript": str,
    "burying": str,
    "stop_stage": str,
    "origin": str,
    "given_up": str,
    "called": str,
    "carried": str,
    "asked": ActionRequired,
    "usage": Usage,
    "error": ErrorInfo,
    "result": RunResult,
}
_TYPES: dict[str, type[Any]] = {
    "outputs": dict,
    **{
        one.name: type(one.default)
        for one in fields(Progress)
        if one.name not in {"outputs", *_OPTIONAL}
    },
    **_OPTIONAL,
}
"""Type of each attribute after `load`: None is left out."""
