"""Reading a completion of the Chat Completions API: its chunks, or the whole of it, and how it ended. Pure."""

from __future__ import annotations

import secrets
import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assistant_queue.backends import finish_reasons
from assistant_queue.backends.call_arguments import for_function, object_of
from assistant_queue.backends.call_pieces import CallPieces, number_of
from assistant_queue.backends.chat_chunks import choices_in, error_in, id_in, usage_in
from assistant_queue.backends.chat_rounds import add_fields, tells_reasoning
from assistant_queue.backends.content import Json, said, usage_of
from assistant_queue.backends.reasoning_tags import ReasoningTags
from assistant_queue.backends.run_failures import Failure, failure_of, refused_in_stream
from assistant_queue.backends.wire_events import Event
from assistant_queue.core.runs import RunEvent, RunStarted, TextDelta
from assistant_queue.models import FunctionCall, ToolCall, Usage

_QUIET_S = 3.0
"""How long more is waited for after a `finish_reason` that came alone. Chosen: usage and `[DONE]` come at once on servers that send them;
a server that neither says `[DONE]` nor ends its stream makes each reply wait so long."""

_DOUBTFUL_S = 6.0
"""The same after a `finish_reason` that came with a part of the answer. Chosen: some servers put one into every chunk, and a slow model
takes a second or two for a chunk; there are few of them, and of these few do not end their streams."""

_TAIL_S = 0.5
"""The same when the usage has come after the reason, in a chunk without text. Chosen: nothing but `[DONE]` comes after that."""

_PLAIN = frozenset({"role", "content", "refusal"})
"""Fields of a delta that bring nothing but text."""

_ID_CHARS = string.ascii_letters + string.digits
_ID_LENGTH = 9
"""Of a call's id that the server did not give. Source: nine letters and digits is the one form that every server takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A whole completion.

    Attributes:
        text: What the model said; "" if it said nothing.
        raw: The same with the reasoning that the model wrote into it.
        calls: Its calls as the server wrote them, further fields included: they are handed back as they came.
        fields: What the server sent beside them that the API does not name, such as reasoning.
        reason: The server's word, in lower case, if it was cut short; None if it ended by itself.
        failure: Set if it failed after it had begun.
    """

    run_id: str
    text: str = ""
    raw: str = ""
    calls: tuple[Json, ...] = ()
    fields: Json = field(default_factory=dict)
    reason: str | None = None
    usage: Usage | None = None
    failure: Failure | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it ended well and says nothing."""
        return not self.text and not self.calls and self.reason is None and self.failure is None


def tool_call(call: Json) -> ToolCall:
    """A call as the flow knows it."""
    function = call.get("function") or {}
    return ToolCall(str(call["id"]), FunctionCall(str(function.get("name") or ""), for_function(str(function.get("arguments") or ""))))


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
    2. gives the text in deltas, and puts the calls together
    3. takes a `finish_reason` for how it ended, not for the end: more text may come, and the usage
    4. can begin again, for an answer that was empty and is asked for once more

    Args:
        thread: Named in errors.
        unnamed: The run's id if the server gives none.
        tags: Takes reasoning out of the text; None keeps it there.
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
        self._owes_usage = False  # said to be null so far, which announces it
        self._finish: str | None = None
        self._failure: Failure | None = None
        self._has_choice = False
        self._has_delta = self._has_message = False
        self._has_spoken = False
        self._is_silent = True  # the event that is being read
        self._is_all_said = False  # by all signs
        self._is_doubtful = False  # the last reason came with a part of the answer
        self._went_on = False  # after the last reason
        self._goes_on = False  # after a reason, whatever this server's reasons mean

    def begin_again(self) -> None:
        """Read another completion in the place of this one: the run's id stays, and the usage of both is counted."""
        self._spent = self._total()
        self._begin()

    @property
    def is_over(self) -> bool:
        """Whether nothing more is wanted of the stream."""
        return self._failure is not None

    @property
    def patience_s(self) -> float | None:
        """How long the next event is waited for; None for as long as the stream is not silent."""
        if self._is_all_said and not self._goes_on:
            return _TAIL_S
        if self._finish is None:
            return None
        return _DOUBTFUL_S if self._is_doubtful or self._goes_on else _QUIET_S

    @property
    def is_at_end(self) -> bool:
        """Whether a lost connection loses nothing: it has failed, or has given a reason, on a server whose reasons come last."""
        return self.is_over or (self._finish is not None and not self._goes_on)

    @property
    def has_reason(self) -> bool:
        """Whether the server has said how the completion ended."""
        return self._finish is not None or self._failure is not None

    def read(self, event: Event) -> list[RunEvent]:
        """Return what this chunk, or whole completion, means."""
        data = event.data
        choices = choices_in(data)
        error = error_in(event, choices)
        if error is not None and self.run_id is None:
            raise refused_in_stream(error, thread=self._thread)
        found = self.start(id_in(data)) if self.run_id is None and (choices or id_in(data)) else []
        self._is_silent = True
        for choice in choices:
            self._choice(choice, found)
        usage = usage_in(data)
        if usage:
            self._take_usage(usage)
        elif choices and "usage" in data:
            self._owes_usage = True
        if self._has_message and data.get("object") == "chat.completion" and (self._text or self._calls):
            self._is_all_said = True
        if error is not None:
            self._failure = failure_of(error, "failed")
        return found

    def start(self, ident: str | None = None) -> list[RunEvent]:
        """Name the run, unless it has a name."""
        if self.run_id is not None:
            return []
        self.run_id = ident or self._unnamed
        return [RunStarted(run_id=self.run_id)]

    def close(self, *, is_done: bool) -> bool:
        """Take the end of the stream: the server has ended it, or has fallen silent.

        Args:
            is_done: It said `[DONE]`.

        Returns:
            Whether the completion is whole. Without a reason and without `[DONE]` it is if there is any of it, no call was cut, and no
            usage was announced that did not come.
        """
        self._read_other_choice()
        calls, reason = self._calls.written(), self._finish
        has_calls = bool(calls) if reason is None or finish_reasons.is_whole(reason) else False
        if self._failure is None and (has_calls or (reason is not None and finish_reasons.announces_calls(reason))):
            self._failure = _missing_calls(calls)
        if self._failure is not None or reason is not None or is_done:
            return True
        if self._owes_usage and self._usage is None:
            return False
        is_cut = any(call["function"]["arguments"].strip() and not _is_whole(call) for call in calls)
        return not is_cut if calls else bool("".join(self._text).strip())

    @property
    def completion(self) -> Completion:
        """What was read."""
        raw, calls = "".join(self._text), self._calls.written()
        text = raw if self._tags is None else self._tags.without(raw, is_told_apart=tells_reasoning(self._fields))
        return Completion(
            run_id=self.run_id or self._unnamed,
            text=text if text.strip() else "",
            raw=raw,
            calls=calls,
            fields=self._fields,
            reason=self._cut_short(calls),
            usage=self._total(),
            failure=self._failure,
        )

    def _cut_short(self, calls: Sequence[Json]) -> str | None:
        reason = self._finish
        if reason is None or finish_reasons.is_whole(reason):
            return None
        # Out of room after whole calls: what is missing is more of them, or text.
        return None if calls and finish_reasons.is_out_of_room(reason) and all(_is_whole(call) for call in calls) else reason

    def _total(self) -> Usage | None:
        return self._usage if self._spent is None else self._spent if self._usage is None else self._spent + self._usage

    # --- choices --------------------------------------------------------------------------------------------------------

    def _choice(self, choice: Mapping[str, Any], found: list[RunEvent]) -> None:
        index = choice.get("index")
        if index == 0 or number_of(index) in {0, None}:
            self._has_choice = True
            self._read_choice(choice, found)
        elif not self._has_choice:
            self._others.append(choice)

    def _read_other_choice(self) -> None:
        """Some servers count their choices from 1."""
        others, self._others = ([] if self._has_choice else self._others), []
        first = min((number_of(one.get("index")) or 0 for one in others), default=0)
        for one in others:
            if number_of(one.get("index")) == first:
                self._read_choice(one, [])

    def _read_choice(self, choice: Mapping[str, Any], found: list[RunEvent]) -> None:
        delta, message = choice.get("delta"), choice.get("message")
        if isinstance(delta, dict) and (delta or message is None):
            self._has_delta = True
            self._read_piece(delta, said(delta.get("content") or delta.get("refusal") or choice.get("text")), found)
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
        """Read a message, in the place of a delta or, on some servers, as a repetition of all the deltas before it."""
        text = said(message.get("content") or message.get("refusal"))
        if not self._has_delta:
            self._read_piece(message, text, found)
            return
        before = "".join(self._text)
        told = {} if self._calls else {name: message.get(name) for name in ("tool_calls", "function_call")}
        self._read_piece(told, text[len(before) :] if text.startswith(before) else "", found)

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
                self._went_on = self._goes_on = True
        if text:
            self._say(text, found)

    def _read_fields(self, piece: Mapping[str, Any]) -> None:
        add_fields(self._fields, piece)
        if self._filter is not None and tells_reasoning(piece):
            self._filter.tell_apart()

    def _say(self, text: str, found: list[RunEvent]) -> None:
        """Add a delta; blanks wait for the first word, so that nothing was said of an answer that is asked for again."""
        self._text.append(text)
        piece = text if self._filter is None else self._filter.feed(text)
        if not self._has_spoken:
            piece = self._blank + piece
            self._has_spoken = bool(piece.strip())
            self._blank = "" if self._has_spoken else piece
        if piece and self._has_spoken:
            found.append(TextDelta(text=piece))

    def _take_reason(self, given: object) -> None:
        """Take a `finish_reason`. A bad one holds against a good one that comes without any more of the answer."""
        reason = finish_reasons.read_reason(given)
        if reason is None:
            return
        if finish_reasons.is_failure(reason):
            self._failure = failure_of(None, "failed")
            return
        is_bad = self._finish is not None and not finish_reasons.is_whole(self._finish)
        if not is_bad or self._went_on or not self._is_silent or not finish_reasons.is_whole(reason):
            self._finish, self._went_on, self._is_doubtful = reason, False, not self._is_silent

    def _take_usage(self, given: object) -> None:
        """Take the usage; after a reason and without any more of the answer it is the last thing that a server sends."""
        usage = usage_of(given)
        if usage is not None:
            self._usage = usage
            self._is_all_said = self._finish is not None and self._is_silent and bool(self._text or self._calls)


def _is_whole(call: Json) -> bool:
    return bool(call["function"]["name"]) and object_of(call["function"]["arguments"]) is not None


def _missing_calls(calls: Sequence[Json]) -> Failure | None:
    """The failure of an answer that announces calls and has none, or none that can be made."""
    if any(call.get("custom") for call in calls):
        told = {
            "code": "unsupported_tool_call",
            "message": "The model called a custom tool; only tools of the type function can be called.",
        }
    elif not calls or not all(call["function"]["name"] for call in calls):
        told = {"code": "missing_tool_calls", "message": "The model's answer announces tool calls and has none, or one without a name."}
    else:
        return None
    return failure_of(told, "failed")
