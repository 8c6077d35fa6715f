"""Avoid refusals by another form of the same request, remembered per server and model.

A refusal proves that nothing was accepted, so the request is made again at once in the other form.
A remedy is remembered when the server has taken a request that uses it: one that was tried in vain
changes nothing for later requests.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from assistant_queue.backends.openai.call_ids import PREFIX, is_short
from assistant_queue.trouble import Kind, Trouble

Json = dict[str, Any]

_log = logging.getLogger(__name__)

_REFUSALS = frozenset({400, 403, 405, 422, 501})
"""Statuses of refusals of a field or a value."""

_ACCIDENTS = frozenset({None, 500})
"""Statuses that need words proving that nothing was started. None: an error inside a 200."""

MESSAGE_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "refusal"})
"""Fields of a message that every server knows."""

CALL_FIELDS = frozenset({"id", "type", "function"})
"""Fields of a tool call that every server knows."""


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Remedy:
    """Alternative form of a request.

    Attributes:
        name: For code and documentation.
        effect: Its effect, for logs and `doctor`.
        words: Words of the refusals that it helps against.
        params: Parameters that such a refusal names, without an index.
        applies: Whether the refused request contains what the remedy removes.
        by_template: The refusal is the error of a chat template, which some servers answer with 500
            or inside a 200.
    """

    name: str
    effect: str
    words: re.Pattern[str]
    params: frozenset[str]
    applies: Callable[[Mapping[str, Any]], bool]
    by_template: bool = False

    def suits(self, text: str, param: str | None) -> bool:
        """Return whether a refusal with these words is of this kind."""
        named = (param or "").removeprefix("body.").partition("[")[0].partition(".")[0]
        return named in self.params or bool(self.words.search(text))


def _messages(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return body.get("messages") or ()


def _has_system(body: Mapping[str, Any]) -> bool:
    return any(one.get("role") == "system" for one in _messages(body))


def _has_neighbours(body: Mapping[str, Any]) -> bool:
    roles = [one.get("role") for one in _messages(body)]
    return any(one == other != "tool" for one, other in pairwise(roles))


def _has_question_after_tool(body: Mapping[str, Any]) -> bool:
    roles = [one.get("role") for one in _messages(body)]
    return ("tool", "user") in pairwise(roles)


def _has_null_content(body: Mapping[str, Any]) -> bool:
    return any(one.get("content", "") is None for one in _messages(body))


def _has_other_ids(body: Mapping[str, Any]) -> bool:
    ids = [call.get("id") for one in _messages(body) for call in one.get("tool_calls") or ()]
    return any(not is_short(str(ident)) for ident in ids)


def _has_unprefixed_ids(body: Mapping[str, Any]) -> bool:
    return any(
        not str(call.get("id")).startswith(PREFIX)
        for one in _messages(body)
        for call in one.get("tool_calls") or ()
    )


def _has_more_fields(body: Mapping[str, Any]) -> bool:
    calls = [call for one in _messages(body) for call in one.get("tool_calls") or ()]
    return any(set(one) - MESSAGE_FIELDS for one in _messages(body)) or any(
        set(call) - CALL_FIELDS for call in calls
    )


STREAM_OPTIONS = Remedy(
    "stream_options",
    "no stream_options are sent; tokens are counted if the server sends them unasked",
    _words(r"stream_options", r"include_usage"),
    frozenset({"stream_options"}),
    lambda body: "stream_options" in body,
)
UNSTREAMED = Remedy(
    "unstreamed",
    "answers are not streamed: no text is shown before the end",
    _words(
        r"\bstream(ing|ed)?\b(?!_).{0,80}(not|n't|un-?)\s?-?(be )?"
        r"(supported|allowed|available|enabled|permitted|verified|implemented)",
        r"verified to stream",
        r"(not|n't|cannot|unable to) (currently )?(support|allow|use|accept|enable|permit)(s|d|ed|ted)?\b"
        r".{0,40}\bstream",
        r"\bstream\b.{0,40}(must|should|has to|needs to) be (set to )?(false|disabled|off)",
        r"only (supports? )?non-?stream",
        r"(unsupported|invalid).{0,40}['\"`]stream['\"`]",
        r"background.{0,80}stream|stream.{0,80}background",
    ),
    frozenset({"stream"}),
    lambda body: bool(body.get("stream")),
)
FOREGROUND = Remedy(
    "foreground",
    "responses run in the foreground: they cannot be cancelled, and are gone if their worker dies",
    _words(r"\bbackground\b"),
    frozenset({"background"}),
    lambda body: bool(body.get("background")),
)
INPUT = Remedy(
    "input",
    "a request without items carries a message of three dots",
    _words(
        r"\binput\b.{0,40}(required|missing|empty|at least)",
        r"(missing|required|provide).{0,40}\binput\b",
    ),
    frozenset({"input"}),
    lambda body: "input" in body and not body["input"],
)
NO_SYSTEM = Remedy(
    "no_system_role",
    "the instructions are sent in front of the first user message: the model knows no system role",
    _words(
        r"\b(system|developer) (role|message|prompt|instruction)s?\b.{0,60}"
        r"(not|n't|un|only|must|invalid)",
        r"\brole\b.{0,40}\bsystem\b",
        r"only user and assistant",
        r"'user' or 'assistant'",
        r"does not support ['\"`]system",
    ),
    frozenset(),
    _has_system,
    by_template=True,
)
# Source: the chat templates of Mistral and Gemma, as vLLM, llama.cpp and LM Studio report
# their errors.
_TURNS = (
    r"roles? must alternate",
    r"alternat\w+ (between )?user",
    r"(consecutive|successive|adjacent) (user|assistant|messages|roles)",
    r"same role",
    r"after the optional system message",
)
TURNS = Remedy(
    "turns",
    "neighbouring messages of one role are joined: the model requires alternating roles",
    _words(*_TURNS),
    frozenset(),
    _has_neighbours,
    by_template=True,
)
AFTER_TOOLS = Remedy(
    "after_tools",
    "a short message of the assistant stands between a tool's output and the next question",
    _words(
        *_TURNS,
        r"role ['\"`]?user['\"`]? after role ['\"`]?tool",
        r"expected last role",
        r"assistant.{0,40}(between|after).{0,40}tool",
        r"tool.{0,60}(followed by|before).{0,40}assistant",
    ),
    frozenset(),
    _has_question_after_tool,
    by_template=True,
)
EMPTY_CONTENT = Remedy(
    "empty_content",
    'a message without text has the content "" instead of null',
    _words(
        r"\bcontents?\b.{0,100}(\bnull\b|\bnone\b|non-?null|nil\b|undefined|missing|required)",
        r"\bcontents?\b.{0,100}(must be a string|valid string|expected a? ?string)",
        r"(\bnull\b|\bnone\b|nonetype|missing|required).{0,60}\bcontents?\b",
    ),
    frozenset(),
    _has_null_content,
)
CALL_IDS = Remedy(
    "call_ids",
    "ids of tool calls are sent as nine letters and digits",
    _words(
        r"tool[_ ]?(calls?|use)[\[\]\d_. ]*ids?\b.{0,120}"
        r"(must|length|match|pattern|invalid|too long|format|expected)",
        r"invalid.{0,40}tool[_ ]?(calls?|use)[\[\]\d_. ]*id",
        r"tool_use\.id",
    ),
    frozenset(),
    _has_other_ids,
)
PREFIXED_IDS = Remedy(
    "prefixed_ids",
    "ids of tool calls are sent with the prefix call_",
    _words(r"begins? with ['\"`]?call", r"start(s|ing)? with ['\"`]?call", r"prefix ['\"`]?call"),
    frozenset(),
    _has_unprefixed_ids,
)
PLAIN_MESSAGES = Remedy(
    "plain_messages",
    "messages are sent back without fields that not every server knows, such as reasoning_content",
    _words(
        r"extra (inputs|fields)",
        r"additional propert",
        r"(unknown|unrecogni[sz]ed|unexpected|unsupported|invalid) "
        r"(field|key|property|parameter|argument|keyword)",
        r"messages.{0,60}(is|are) (unsupported|not supported|not permitted|not allowed)",
        r"reasoning(_content|_details)?['\"`]? .{0,60}(not|un)",
    ),
    frozenset(),
    _has_more_fields,
)
MAX_TOKENS = Remedy(
    "max_tokens",
    "the bound of the answer is called max_tokens",
    _words(r"max_completion_tokens"),
    frozenset({"max_completion_tokens"}),
    lambda body: "max_completion_tokens" in body,
)
MAX_COMPLETION_TOKENS = Remedy(
    "max_completion_tokens",
    "the bound of the answer is called max_completion_tokens",
    _words(r"use ['\"`]?max_completion_tokens"),
    frozenset(),
    lambda body: "max_tokens" in body,
)

TRUNCATION = Remedy(
    "truncation",
    "conversations that outgrow the model are cut by the server: it leaves out what is oldest",
    _words(r"\btruncation\b"),
    frozenset({"truncation"}),
    lambda body: "truncation" not in body,
)
COMPACTION = Remedy(
    "compaction",
    "conversations that outgrow the model are compacted by the server",
    _words(r"\bcontext_management\b", r"\bcompaction\b"),
    frozenset({"context_management"}),
    lambda body: "context_management" not in body,
)
LAST_MESSAGES = Remedy(
    "last_messages",
    "runs over threads that outgrew the model read their last messages only",
    _words(r"\btruncation_strategy\b"),
    frozenset({"truncation_strategy"}),
    lambda body: "truncation_strategy" not in body,
)
"""These three help against a conversation that outgrew the model, which no field of the request is
to blame for."""

CHAT = (
    STREAM_OPTIONS,
    UNSTREAMED,
    NO_SYSTEM,
    TURNS,
    AFTER_TOOLS,
    EMPTY_CONTENT,
    PREFIXED_IDS,
    CALL_IDS,
    PLAIN_MESSAGES,
    MAX_TOKENS,
    MAX_COMPLETION_TOKENS,
)
"""Those of Chat Completions, most specific first."""

RESPONSES = (UNSTREAMED, FOREGROUND, INPUT)
"""Those of Responses."""

_REFUSED = (*CHAT, FOREGROUND, INPUT)

ALL = (*_REFUSED, TRUNCATION, COMPACTION, LAST_MESSAGES)
"""Every remedy, for the documentation."""


def could_help(status: int | None, text: str, param: str | None) -> bool:
    """Return whether a remedy exists for a refusal with these words."""
    if status not in _REFUSALS | _ACCIDENTS:
        return False
    return any(
        remedy.suits(text, param)
        for remedy in _REFUSED
        if remedy.by_template or status in _REFUSALS
    )


class Remedies:
    """Remedies of one server and model."""

    def __init__(self, server: str, model: str) -> None:
        self._where = f"{model!r} at {server}"
        self._known: dict[str, Remedy] = {}

    def __contains__(self, remedy: object) -> bool:
        return isinstance(remedy, Remedy) and remedy.name in self._known

    def __iter__(self) -> Iterator[Remedy]:
        return iter(tuple(self._known.values()))

    def trial(self, among: Sequence[Remedy], ways: Sequence[Remedy] = ()) -> Trial:
        """Begin one request.

        Args:
            among: The remedies that its refusals may ask for.
            ways: Remedies that are tried when the conversation is too long.
        """
        return Trial(self, among, ways)

    def keep(self, remedy: Remedy) -> None:
        """Use it for every later request; logged once."""
        if remedy.name not in self._known:
            self._known[remedy.name] = remedy
            _log.warning("model %s: %s", self._where, remedy.effect)

    def drop(self, remedy: Remedy) -> None:
        """Stop using it: the server refused the field that it adds."""
        self._known.pop(remedy.name, None)


class Trial:
    """Remedies of one request: the known ones, and those that its refusals ask for.

    Queues of one process share the known remedies of a server; each uses only those that its own
    options allow.
    """

    def __init__(
        self, known: Remedies, among: Sequence[Remedy], ways: Sequence[Remedy] = ()
    ) -> None:
        self._known = known
        self._among = among
        self._ways = ways
        self._tried: list[Remedy] = []
        self._hoped: list[Remedy] = []
        self._refused: list[Remedy] = []

    def __contains__(self, remedy: object) -> bool:
        is_allowed = remedy in self._among or remedy in self._ways
        return (
            remedy in self._tried or remedy in self._hoped or (is_allowed and remedy in self._known)
        )

    def shorten(self) -> bool:
        """Select the next way to shorten the conversation.

        False if all are in use or were refused.
        """
        for remedy in self._ways:
            if remedy not in self and remedy not in self._refused:
                self._hoped.append(remedy)
                return True
        return False

    def refused_way(self, trouble: Trouble | None) -> bool:
        """Return whether the server refused a way to shorten; it is not tried again."""
        if trouble is None or trouble.kind is Kind.CONTEXT_OVERFLOW:
            return False
        for remedy in self._ways:
            if remedy in self and remedy.suits(trouble.text, trouble.param):
                self._known.drop(remedy)
                self._refused.append(remedy)
                self._hoped = [one for one in self._hoped if one is not remedy]
                return True
        return False

    def helps(self, trouble: Trouble | None, body: Mapping[str, Any]) -> bool:
        """Return whether the request can be sent again in another form.

        Args:
            trouble: Why the server refused it.
            body: The request as it was sent.
        """
        if trouble is None or trouble.kind is not Kind.UNSUPPORTED:
            return False
        for remedy in self._among:
            if (
                remedy not in self
                and remedy.suits(trouble.text, trouble.param)
                and remedy.applies(body)
            ):
                self._tried.append(remedy)
                return True
        return False

    def succeeded(self) -> None:
        """Remember the remedies of an accepted request."""
        for remedy in self._tried:
            self._known.keep(remedy)
        self._tried.clear()

    def fitted(self) -> None:
        """Remember the last way to shorten: the model has read the conversation.

        Ways that were tried in vain before it are not remembered.
        """
        for remedy in self._hoped[-1:]:
            self._known.keep(remedy)
        self._hoped.clear()


_of_server: dict[tuple[str, str], Remedies] = {}


def remedies_of(server: str, model: str) -> Remedies:
    """Find the remedies of a server and model; the same for the life of the process."""
    return _of_server.setdefault((server, model), Remedies(server, model))


def forget(server: str = "") -> None:
    """Forget the remedies of servers at addresses that begin with `server`.

    Another server listens there now.
    """
    for key in [key for key in _of_server if key[0].startswith(server)]:
        del _of_server[key]
