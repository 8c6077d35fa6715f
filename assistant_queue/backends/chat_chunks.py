"""One chunk of a chat completion, in the spellings of many servers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assistant_queue.backends.call_pieces import number_of
from assistant_queue.backends.content import Json
from assistant_queue.backends.wire_events import Event

_FIRST_ERROR = 400
"""Numbers from here on are statuses of errors. Source: HTTP."""


def choices_in(data: Json) -> list[Mapping[str, Any]]:
    """Return the choices of a chunk, as far as they can be read."""
    given = data.get("choices")
    listed = [given] if isinstance(given, Mapping) else given if isinstance(given, list) else []
    return [one for one in listed if isinstance(one, dict)]


def id_in(data: Json) -> str | None:
    """Return the id of a chunk; some servers number their completions."""
    ident = data.get("id")
    if isinstance(ident, bool) or not isinstance(ident, str | int):
        return None
    return str(ident).strip() or None


def usage_in(data: Json) -> Any:
    """Return the usage that a chunk tells beside its choices."""
    groq = data.get("x_groq")
    return data.get("usage") or (groq.get("usage") if isinstance(groq, Mapping) else None)


def error_in(event: Event, choices: Sequence[Mapping[str, Any]]) -> Any:
    """Return the error that an event tells, as its server wrote it; None if it tells none."""
    data = event.data
    error = data.get("error")
    for choice in choices:
        error = error or choice.get("error")
    if error:
        return error
    if event.name == "error":
        return data
    return None if choices or data.get("usage") else _bare_error_in(data)


def _bare_error_in(data: Json) -> Any:
    """Return the error that an object without choices is."""
    if data.get("object") == "error" or data.get("errors") or (data.get("detail") and id_in(data) is None):
        return data
    told = data.get("base_resp")  # MiniMax
    if isinstance(told, Mapping) and told.get("status_code"):
        return {"code": told["status_code"], "message": told.get("status_msg")}
    is_text = isinstance(data.get("message") or data.get("msg"), str)
    return data if is_text and any(_is_error_code(data.get(name)) for name in ("code", "status", "status_code", "type")) else None


def _is_error_code(code: object) -> bool:
    number = number_of(code)
    return number >= _FIRST_ERROR if number is not None else isinstance(code, str) and "error" in code.lower()
