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
from assistant_queue.backends.chat_rounds import add_fields
from assistant_queue.backends.content import Json, said, usage_of
from assistant_queue.backends.event_parser import Event
from assistant_queue.backends.reasoning_tags import ReasoningTags
from assistant_queue.backends.run_failures import Failure, failure_of, refused_in_stream
from assistant_queue.core.runs import RunEvent, RunStarted, TextDelta
from assistant_queue.models import FunctionCall, ToolCall, Usage

_QUIET_S = 3.0
"""How long more is waited for after a `finish_reason`. Chosen: some servers put a reason into every chunk, and chunks may be more than a
second apart; a server that neither says `[DONE]` nor closes its stream makes each reply wait so long."""

_TAIL_S = 0.5
"""The same when the usage has come after the reason, in a chunk without text. Chosen: nothing but `[DONE]` comes after that."""

_FIRST_ERROR = 400
"""Numbers from here on are statuses of errors. Source: HTTP."""

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
        self._finish: str | None = None
        self._failure: Failure | None = None
        self._has_choice = False
        self._has_delta = False
        self._has_spoken = False
        self._is_silent = True  # the event that is being read
        self._is_all_said = False  # by all signs
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
        return None if self._finish is None else _QUIET_S

    @property
    def is_at_end(self) -> bool:
        """Whether a lost connection loses nothing: it has failed, or has given a reason, on a server whose reasons come last."""
        return self.is_over or (self._finish is not None and not self._goes_on)

    def read(self, event: Event) -> list[RunEvent]:
        """What this chunk, or whole completion, means."""
        data = event.data
        choices = _choices_in(data)
        error = error_in(event, choices)
        if error is not None and self.run_id is None:
            raise refused_in_stream(error, thread=self._thread)
        found: list[RunEvent] = []
        if self.run_id is None and (choices or _id_in(data)):
            self.run_id = _id_in(data) or self._unnamed
            found.append(RunStarted(run_id=self.run_id))
        self._is_silent = True
        for choice in choices:
            found += self._choice(choice)
        self._count(data, choices)
        if error is not None:
            self._failure = failure_of(error, "failed")
        return found

    def close(self, *, is_done: bool) -> bool:
        """Take the end of the stream: the server has ended it, or has fallen silent.

        Args:
            is_done: It said `[DONE]`.

        Returns:
            Whether the completion is whole. Without a reason and without `[DONE]` it is if there is any of it, and no call was cut.
        """
        self._read_other_choice()
        calls, reason = self._calls.written(), self._finish
        has_calls = bool(calls) if reason is None or finish_reasons.is_whole(reason) else False
        if self._failure is None and (has_calls or (reason is not None and finish_reasons.announces_calls(reason))):
            self._failure = _missing_calls(calls)
        if self._failure is not None or reason is not None or is_done:
            return True
        is_cut = any(call["function"]["arguments"].strip() and not _is_whole(call) for call in calls)
        return not is_cut if calls else bool("".join(self._text).strip())

    @property
    def completion(self) -> Completion:
        """What was read."""
        raw, calls = "".join(self._text), self._calls.written()
        text = raw if self._tags is None else self._tags.without(raw, is_told_apart=bool(self._fields))
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

    def _choice(self, choice: Mapping[str, Any]) -> list[RunEvent]:
        if number_of(choice.get("index")) in {0, None}:
            self._has_choice = True
            return self._read_choice(choice)
        if not self._has_choice:
            self._others.append(choice)
        return []

    def _read_other_choice(self) -> None:
        """Some servers count their choices from 1."""
        others, self._others = ([] if self._has_choice else self._others), []
        first = min((number_of(one.get("index")) or 0 for one in others), default=0)
        for one in others:
            if number_of(one.get("index")) == first:
                self._read_choice(one)

    def _read_choice(self, choice: Mapping[str, Any]) -> list[RunEvent]:
        delta, message = choice.get("delta"), choice.get("message")
        if isinstance(delta, Mapping) and (delta or not isinstance(message, Mapping)):
            self._has_delta = True
            found = self._read_piece(delta, said(delta.get("content")) or said(delta.get("refusal")) or said(choice.get("text")))
        elif isinstance(message, Mapping):
            found = self._read_message(message)
        else:
            found = self._read_piece({}, said(choice.get("text")))
        self._take_reason(choice.get("finish_reason"))
        return found

    def _read_message(self, message: Mapping[str, Any]) -> list[RunEvent]:
        """Read a message, in the place of a delta or, on some servers, as a repetition of all the deltas before it."""
        text = said(message.get("content")) or said(message.get("refusal"))
        if not self._has_delta:
            return self._read_piece(message, text)
        before = "".join(self._text)
        told = {} if self._calls else {name: message.get(name) for name in ("tool_calls", "function_call")}
        return self._read_piece(told, text[len(before) :] if text.startswith(before) else "")

    def _read_piece(self, piece: Mapping[str, Any], text: str) -> list[RunEvent]:
        had_fields = len(self._fields)
        add_fields(self._fields, piece)
        if self._fields and not had_fields and self._filter is not None:
            self._filter.tell_apart()
        calls, legacy = piece.get("tool_calls"), piece.get("function_call")
        if calls:
            self._calls.add(calls)
        if isinstance(legacy, Mapping) and legacy:
            self._calls.add_legacy(legacy)
        if text or calls or legacy:
            self._is_silent = False
            if self._finish is not None:
                self._went_on = self._goes_on = True
        return self._say(text) if text else []

    def _say(self, text: str) -> list[RunEvent]:
        """Say a delta; blanks wait for the first word, so that nothing was said of an answer that is asked for again."""
        self._text.append(text)
        piece = self._blank + (text if self._filter is None else self._filter.feed(text))
        self._has_spoken = self._has_spoken or bool(piece.strip())
        self._blank = "" if self._has_spoken else piece
        return [TextDelta(text=piece)] if self._has_spoken and piece else []

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
            self._finish, self._went_on = reason, False

    def _count(self, data: Json, choices: Sequence[Mapping[str, Any]]) -> None:
        """Read the usage, and whether all signs say that there is nothing more."""
        given = (data.get("usage"), *(one.get("usage") for one in choices), _at(data, "x_groq", "usage"))
        usage = next((found for found in map(usage_of, given) if found is not None), None)
        self._usage = usage or self._usage
        is_object = data.get("object") == "chat.completion" and any(isinstance(one.get("message"), Mapping) for one in choices)
        has_told_all = usage is not None and self._finish is not None and self._is_silent
        if (is_object or has_told_all) and (self._text or self._calls):
            self._is_all_said = True


# --- one event --------------------------------------------------------------------------------------------------------------


def _choices_in(data: Json) -> list[Mapping[str, Any]]:
    given = data.get("choices")
    listed = [given] if isinstance(given, Mapping) else given if isinstance(given, list) else []
    return [one for one in listed if isinstance(one, Mapping)]


def _id_in(data: Json) -> str | None:
    ident = data.get("id")
    if isinstance(ident, bool) or not isinstance(ident, str | int):
        return None
    return str(ident).strip() or None


def _at(data: Json, *names: str) -> Any:
    value: Any = data
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def error_in(event: Event, choices: Sequence[Mapping[str, Any]]) -> Any:
    """Return the error that an event tells, as its server wrote it; None if it tells none."""
    data = event.data
    error = data.get("error") or next((one["error"] for one in choices if one.get("error")), None)
    if error:
        return error
    if event.name == "error" or data.get("object") == "error":
        return data
    if choices or data.get("usage"):
        return None
    if data.get("errors") or (data.get("detail") and _id_in(data) is None):
        return data
    told = data.get("base_resp")  # MiniMax
    if isinstance(told, Mapping) and told.get("status_code"):
        return {"code": told["status_code"], "message": told.get("status_msg")}
    is_text = isinstance(data.get("message") or data.get("msg"), str)
    return data if is_text and any(_is_error_code(data.get(name)) for name in ("code", "status", "status_code", "type")) else None


def _is_error_code(code: object) -> bool:
    number = number_of(code)
    return number >= _FIRST_ERROR if number is not None else isinstance(code, str) and "error" in code.lower()


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
