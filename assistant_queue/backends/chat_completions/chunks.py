"""Read one chunk of a chat completion, in the spellings of many servers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assistant_queue.backends.openai.content import Json
from assistant_queue.backends.openai.wire_events import WireEvent


def choices_in(data: Json) -> list[Mapping[str, Any]]:
    """Return the choices of a chunk, as far as they can be read."""
    given = data.get("choices")
    if isinstance(given, dict):
        given = [given]
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def id_in(data: Json) -> str | None:
    """Return the id of a chunk; some servers number their completions."""
    ident = data.get("id")
    if isinstance(ident, bool) or not isinstance(ident, str | int):
        return None
    return str(ident).strip() or None


def usage_in(data: Json) -> Any:
    """Return the usage that a chunk has beside its choices."""
    usage, groq = data.get("usage"), data.get("x_groq")
    return usage or (groq.get("usage") if isinstance(groq, dict) else None)


def served_in(data: Json) -> Json:
    """Return the model and the tier that a chunk names."""
    return {name: data[name] for name in ("model", "service_tier") if data.get(name)}


def error_in(event: WireEvent, choices: Sequence[Mapping[str, Any]]) -> Any:
    """Return the error in an event, as its server wrote it; None if there is none."""
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
    """Return the error that an object without choices represents."""
    if (
        data.get("object") == "error"
        or data.get("errors")
        or (data.get("detail") and id_in(data) is None)
    ):
        return data
    status = data.get("base_resp")  # MiniMax
    if isinstance(status, Mapping) and status.get("status_code"):
        return {"code": status["status_code"], "message": status.get("status_msg")}
    is_text = isinstance(data.get("message") or data.get("msg"), str)
    return (
        data
        if is_text
        and id_in(data) is None
        and data.get("object") is None
        and not _is_sign_of_life(data)
        else None
    )


def _is_sign_of_life(data: Json) -> bool:
    """Return whether a message only reports progress: it names a state, and no code."""
    if data.get("code") is not None or data.get("status_code") is not None:
        return False
    states = [
        value
        for value in (data.get("type"), data.get("status"))
        if isinstance(value, str) and not value.isdigit()
    ]
    return bool(states) and not any(
        word in state.lower()
        for state in states
        for word in ("error", "fail", "exception", "limit", "overload")
    )
