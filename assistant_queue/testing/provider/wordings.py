"""Wordings of trouble: the error of one server for one kind.

Source: the public reports named in the tables, and each provider's published error pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from assistant_queue.testing.provider.api_errors import ApiProblem
from assistant_queue.testing.provider.error_flags import Shape

Kind = Literal[
    "overflow",
    "turns",
    "null_content",
    "moderated",
    "unknown_model",
    "wrong_key",
    "unknown_path",
    "no_quota",
    "rate_limited",
    "overloaded",
    "loading",
    "gateway",
    "server_error",
]
"""Kinds of trouble. Servers use different statuses for each, so a test names the kind."""

KINDS: tuple[str, ...] = get_args(Kind)

_USUAL_TYPE = "invalid_request_error"
_SERVER_ERROR = 500
_USUAL_LIMIT = 8192
_USUAL_WAIT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """The error of one server for one kind of trouble.

    `{model}`, `{limit}`, `{words}`, `{wait}` (seconds), `{wait_ms}` and `{path}` (a method and a
    path) in texts are filled in.

    Attributes:
        message: For a person.
        status: The HTTP status.
        code: The machine's word or number.
        error_type: The class of errors; the usual one of refusals is left out at 5xx.
        param: The parameter at fault.
        more: Further fields of the error object.
        headers: Further headers.
        shape: The shape of the body, if not the personality's.
        is_in_stream: Sent as an event inside a 200 if a stream was asked for; None leaves it to the
            personality.
        is_failed_run: The response is accepted and fails with it (Responses only).
    """

    message: str
    status: int = 400
    code: str | int | None = None
    error_type: str | None = _USUAL_TYPE
    param: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    shape: Shape | None = None
    is_in_stream: bool | None = None
    is_failed_run: bool = False


Words = Mapping[str, Wording]
"""The wordings of one server, by kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Values that are filled into a wording."""

    model: str = "some-model"
    limit: int = _USUAL_LIMIT
    words: int = _USUAL_LIMIT + 1
    wait_s: float = _USUAL_WAIT_S
    path: str = ""

    def fill(self, text: str) -> str:
        """Return the text with its placeholders filled in."""
        filled = {
            "{model}": self.model,
            "{limit}": str(self.limit),
            "{words}": str(self.words),
            "{wait}": f"{self.wait_s:g}",
            "{wait_ms}": f"{self.wait_s * 1000:.0f}",
            "{path}": self.path,
        }
        for place, value in filled.items():
            text = text.replace(place, value)
        return text


def spoken(
    words: Words,
    *,
    shape: Shape | None = None,
    codes: Literal["word", "status", "status_text"] = "word",
) -> Words:
    """Return the wordings in a server's shape and form of codes.

    Wordings with their own shape stay as they are.
    """

    def code(one: Wording) -> str | int | None:
        return one.code if codes == "word" else one.status if codes == "status" else str(one.status)

    return {
        kind: one if one.shape is not None else replace(one, shape=shape, code=code(one))
        for kind, one in words.items()
    }


def as_problem(wording: Wording, facts: Facts) -> ApiProblem:
    """Return the error of a wording, filled in."""
    return ApiProblem(
        facts.fill(wording.message),
        status=wording.status,
        code=wording.code,
        param=wording.param,
        error_type=None
        if wording.status >= _SERVER_ERROR and wording.error_type == _USUAL_TYPE
        else wording.error_type,
        headers={name: facts.fill(value) for name, value in wording.headers.items()},
        more=_filled(wording.more, facts),
        shape=wording.shape,
        is_in_stream=wording.is_in_stream,
    )


def _filled(value: Any, facts: Facts) -> Any:
    if isinstance(value, str):
        return facts.fill(value)
    if isinstance(value, Mapping):
        return {name: _filled(held, facts) for name, held in value.items()}
    return value
