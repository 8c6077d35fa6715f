"""Parse a completion of the Chat Completions API. Pure.

Its chunks, or the whole of it, and how it ended.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assistant_queue.backends.chat_completions import finish_reasons
from assistant_queue.backends.chat_completions.call_pieces import CallPieces, number_of
from assistant_queue.backends.chat_completions.chunks import (
    choices_in,
    error_in,
    id_in,
    served_in,
    usage_in,
)
from assistant_queue.backends.chat_completions.rounds import add_fields, has_reasoning
from assistant_queue.backends.openai.call_arguments import for_function, object_of
from assistant_queue.backends.openai.content import Json, said
from assistant_queue.backends.openai.run_failures import FailedRun, failure_of, refused_in_stream
from assistant_queue.backends.openai.token_usage import name_of, usage_of
from assistant_queue.backends.openai.wire_events import WireEvent
from assistant_queue.backends.reasoning_tags import ReasoningTags
from assistant_queue.core.runs import RunAccepted, RunEvent, TextChunk
from assistant_queue.models import FunctionCall, ToolCall, Usage

_QUIET_S = 3.0
"""Seconds to wait after a `finish_reason` that came alone. Chosen: usage and `[DONE]` come at once
on servers that send them; a server that neither sends `[DONE]` nor ends its stream delays each
reply by this."""

_DOUBTFUL_S = 6.0
"""Seconds to wait after a `finish_reason` that came with a part of the answer. Chosen: some servers
send one in every chunk, and a slow model takes a second or two for a chunk; few servers do so, and
few of these do not end their streams."""

_TAIL_S = 0.5
"""Seconds to wait after usage that followed the reason, in a chunk without text. Chosen: only
`[DONE]` comes after that."""

_PLAIN = frozenset({"role", "content", "refusal"})
"""Fields of a delta that carry nothing but text."""

_ID_CHARS = string.ascii_letters + string.digits
_ID_LENGTH = 9
"""Length of the id of a call that came without one. Source: nine letters and digits is the one form
that every server takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Complete completion.

    Attributes:
        text: The model's text; "" if there is none.
        raw: The same with the reasoning that the model wrote into it.
        calls: Its calls as the server wrote them, further fields included: they are sent back
            unchanged.
        fields: Other fields of the message that the API does not name, such as reasoning.
        reason: The server's word, in lower case, if it was cut short; None if it ended by itself.
        failure: Set if it failed after it had begun.
        model: The model, as the server names it; None if it does not.
    """

    run_id: str
    text: str = ""
    raw: str = ""
    calls: tuple[Json, ...] = ()
    fields: Json = field(default_factory=dict)
    reason: str | None = None
    usage: Usage | None = None
    failure: FailedRun | None = None
    model: str | None = None

    @property
    def is_empty(self) -> bool:
        """Return whether it ended well without text or calls."""
        return not self.text and not self.calls and self.reason is None and self.failure is None


def tool_call(call: Json) -> ToolCall:
    """Convert a call."""
    function = call.get("function") or {}
    return ToolCall(
        str(call["id"]),
        FunctionCall(
            str(function.get("name") or ""), for_function(str(function.get("arguments") or ""))
        ),
    )


def with_ids(calls: Sequence[Json], taken: Collection[str]) -> tuple[Json, ...]:
    """Return the calls, each with an id that no other call of the batch has.

    Some servers send none, or count from 0 in every round.
    """
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
    """Read the chunks of one completion.

    1. names the run with the first chunk, by the completion's id
    2. returns the text in deltas, and assembles the calls
    3. takes a `finish_reason` for the outcome, not for the end: more text and the usage may come
    4. can start over, for an answer that was empty and is requested once more

    Args:
        thread: Named in errors.
        unnamed: The run's id if the server sends none.
        tags: Removes reasoning from the text; None keeps it.
    """

    def __init__(self, thread: str, *, unnamed: str, tags: ReasoningTags | None = None) -> None:
        self.run_id: str | None = None
        self._thread = thread
        self._unnamed = unnamed
        self._tags = tags
        self._spent: Usage | None = None
        self._begin()

    def _begin(self) -> None:
        self._filter = None if self._tags is None else self._tags.filter()
        self._text: list[str] = []
        self._blank = ""
        self._calls = CallPieces()
        self._fields: Json = {}
        self._others: list[Mapping[str, Any]] = []
        self._usage: Usage | None = None
        self._served: Json = {}  # the model and the tier, as the chunks name them
        self._owes_usage = False  # it was null so far, which announces it
        self._finish: str | None = None
        self._failure: FailedRun | None = None
        self._has_choice = False
        self._has_delta = self._has_message = False
        self._has_spoken = False
        self._is_silent = True  # the event that is being read
        self._is_all_said = False  # by all signs
        self._is_doubtful = False  # the last reason came with a part of the answer
        self._continued = False  # after the last reason
        self._continues = False  # after any reason: on this server a reason is not the end

    def begin_again(self) -> None:
        """Read another completion in the place of this one.

        The run keeps its id, and the usage of both is counted.
        """
        self._spent = self._total()
        self._begin()

    @property
    def is_over(self) -> bool:
        """Return whether the rest of the stream is not needed."""
        return self._failure is not None

    @property
    def patience_s(self) -> float | None:
        """Seconds to wait for the next event; None for no limit but the idle one."""
        if self._is_all_said and not self._continues:
            return _TAIL_S
        if self._finish is None:
            return None
        return _DOUBTFUL_S if self._is_doubtful or self._continues else _QUIET_S

    @property
    def is_at_end(self) -> bool:
        """Return whether a lost connection loses nothing.

        The completion has failed, or has its reason on a server that sends reasons last.
        """
        return self.is_over or (self._finish is not None and not self._continues)

    @property
    def has_reason(self) -> bool:
        """Return whether the server has sent how the completion ended."""
        return self._finish is not None or self._failure is not None

    def read(self, event: WireEvent) -> list[RunEvent]:
        """Convert one chunk, or a whole completion."""
        data = event.data
        choices = choices_in(data)
        error = error_in(event, choices)
        if error is not None and self.run_id is None:
            raise refused_in_stream(error, thread=self._thread)
        found = self.start(id_in(data)) if self.run_id is None and (choices or id_in(data)) else []
        self._is_silent = True
        self._served.update(served_in(data))
        for choice in choices:
            self._choice(choice, found)
        usage = usage_in(data)
        if usage:
            self._take_usage(usage)
        elif choices and "usage" in data:
            self._owes_usage = True
        if (
            self._has_message
            and data.get("object") == "chat.completion"
            and (self._text or self._calls)
        ):
            self._is_all_said = True
        if error is not None:
            self._failure = failure_of(error, "failed")
        return found

    def start(self, ident: str | None = None) -> list[RunEvent]:
        """Name the run, unless it has a name."""
        if self.run_id is not None:
            return []
        self.run_id = ident or self._unnamed
        return [RunAccepted(run_id=self.run_id)]

    def close(self, *, is_done: bool) -> bool:
        """Take the end of the stream: the server has ended it, or is silent.

        Args:
            is_done: It sent `[DONE]`.

        Returns:
            Whether the completion is whole. Without a reason and without `[DONE]` it is if there is
            any of it, no call was cut, and no usage was announced that did not come.
        """
        self._read_other_choice()
        calls = self._calls.written()
        reason = self._finish
        has_calls = bool(calls) if reason is None or finish_reasons.is_whole(reason) else False
        if self._failure is None and (
            has_calls or (reason is not None and finish_reasons.announces_calls(reason))
        ):
            self._failure = _missing_calls(calls)
        if self._failure is not None or reason is not None or is_done:
            return True
        if self._owes_usage and self._usage is None:
            return False
        is_cut = any(
            call["function"]["arguments"].strip() and not _is_whole(call) for call in calls
        )
        return not is_cut if calls else bool("".join(self._text).strip())

    @property
    def completion(self) -> Completion:
        """Completion read so far."""
        raw = "".join(self._text)
        calls = self._calls.written()
        text = (
            raw
            if self._tags is None
            else self._tags.without(raw, is_separate=has_reasoning(self._fields))
        )
        return Completion(
            run_id=self.run_id or self._unnamed,
            text=text if text.strip() else "",
            raw=raw,
            calls=calls,
            fields=self._fields,
            reason=self._cut_short(calls),
            usage=self._total(),
            failure=self._failure,
            model=name_of(self._served.get("model")),
        )

    def _cut_short(self, calls: Sequence[Json]) -> str | None:
        reason = self._finish
        if reason is None or finish_reasons.is_whole(reason):
            return None
        # Out of room after whole calls: only further calls or text are missing.
        return (
            None
            if calls
            and finish_reasons.is_out_of_room(reason)
            and all(_is_whole(call) for call in calls)
            else reason
        )

    def _total(self) -> Usage | None:
        return (
            self._usage
            if self._spent is None
            else self._spent
            if self._usage is None
            else self._spent + self._usage
        )

    # --- choices ----------------------------------------------------------------------------------

    def _choice(self, choice: Mapping[str, Any], found: list[RunEvent]) -> None:
        index = choice.get("index")
        if index == 0 or number_of(index) in {0, None}:
            self._has_choice = True
            self._read_choice(choice, found)
        elif not self._has_choice:
            self._others.append(choice)

    def _read_other_choice(self) -> None:
        """Read the first choice of a server that counts its choices from 1."""
        others, self._others = ([] if self._has_choice else self._others), []
        first = min((number_of(one.get("index")) or 0 for one in others), default=0)
        for one in others:
            if number_of(one.get("index")) == first:
                self._read_choice(one, [])

    def _read_choice(self, choice: Mapping[str, Any], found: list[RunEvent]) -> None:
        delta, message = choice.get("delta"), choice.get("message")
        if isinstance(delta, dict) and (delta or message is None):
            self._has_delta = True
            self._read_piece(
                delta,
                said(delta.get("content") or delta.get("refusal") or choice.get("text")),
                found,
            )
        elif isinstance(message, Mapping):
            self._has_message = True
            self._read_message(message, found)
        else:
            self._read_piece({}, said(choice.get("text")), found)
        reason, usage = choice.get("finish_reason"), choice.get("usage")
        if reason:
            self._take_reason(reason)
        if usage:
            self._take_usage(usage)

    def _read_message(self, message: Mapping[str, Any], found: list[RunEvent]) -> None:
        """Read a message in the place of a delta.

        On some servers it repeats all the deltas before it.
        """
        text = said(message.get("content") or message.get("refusal"))
        if not self._has_delta:
            self._read_piece(message, text, found)
            return
        before = "".join(self._text)
        calls = (
            {}
            if self._calls
            else {name: message.get(name) for name in ("tool_calls", "function_call")}
        )
        self._read_piece(calls, text[len(before) :] if text.startswith(before) else "", found)

    def _read_piece(self, piece: Mapping[str, Any], text: str, found: list[RunEvent]) -> None:
        calls = legacy = None
        if not _PLAIN.issuperset(piece):
            self._read_fields(piece)
            calls, legacy = piece.get("tool_calls"), piece.get("function_call")
            if calls:
                self._calls.add(calls)
            if isinstance(legacy, Mapping) and legacy:
                self._calls.add_legacy(legacy)
        if text or calls or legacy:
            self._is_silent = False
            if self._finish is not None:
                self._continued = self._continues = True
        if text:
            self._say(text, found)

    def _read_fields(self, piece: Mapping[str, Any]) -> None:
        add_fields(self._fields, piece)
        if self._filter is not None and has_reasoning(piece):
            self._filter.mark_separate()

    def _say(self, text: str, found: list[RunEvent]) -> None:
        """Add a delta; blanks wait for the first word.

        So nothing was published of an empty answer that is requested again.
        """
        self._text.append(text)
        piece = text if self._filter is None else self._filter.feed(text)
        if not self._has_spoken:
            piece = self._blank + piece
            self._has_spoken = bool(piece.strip())
            self._blank = "" if self._has_spoken else piece
        if piece and self._has_spoken:
            found.append(TextChunk(text=piece))

    def _take_reason(self, given: object) -> None:
        """Take a `finish_reason`.

        A bad one is kept if a good one follows without any more of the answer.
        """
        reason = finish_reasons.read_reason(given)
        if reason is None:
            return
        if finish_reasons.is_failure(reason):
            self._failure = failure_of(None, "failed")
            return
        is_bad = self._finish is not None and not finish_reasons.is_whole(self._finish)
        if (
            not is_bad
            or self._continued
            or not self._is_silent
            or not finish_reasons.is_whole(reason)
        ):
            self._finish = reason
            self._continued = False
            self._is_doubtful = not self._is_silent

    def _take_usage(self, given: object) -> None:
        """Take the usage.

        After a reason and without any more of the answer it is the last thing that a server sends.
        """
        usage = usage_of(given, **self._served)
        if usage is not None:
            self._usage = usage
            self._is_all_said = (
                self._finish is not None and self._is_silent and bool(self._text or self._calls)
            )


def _is_whole(call: Json) -> bool:
    return bool(call["function"]["name"]) and object_of(call["function"]["arguments"]) is not None


def _missing_calls(calls: Sequence[Json]) -> FailedRun | None:
    """Return the failure of an answer that announces calls without a callable one."""
    if any(call.get("custom") for call in calls):
        error = {
            "code": "unsupported_tool_call",
            "message": (
                "The model called a custom tool; only tools of the type function can be called."
            ),
        }
    elif not calls or not all(call["function"]["name"] for call in calls):
        error = {
            "code": "missing_tool_calls",
            "message": (
                "The model's answer announces tool calls and has none, or one without a name."
            ),
        }
    else:
        return None
    return failure_of(error, "failed")
