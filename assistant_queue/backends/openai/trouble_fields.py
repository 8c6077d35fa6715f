"""Extract the fields of an error body of any shape. Pure.

Objects in objects, lists, JSON in strings, HTML and plain words are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_DEPTH = 8
"""Levels of an error that are looked at. Chosen: a gateway's error around a gateway's error around
a provider's is five."""

_WIDTH = 20
"""Entries of a list that are looked at. Chosen: validation errors come as lists, and the first few
say it."""

_MAX_TEXT = 20_000
"""Characters of a body that are looked at. Chosen: an error page with its styles."""

# Where another error may be inside one, most specific first.
_INSIDE = (
    "error",
    "errors",
    "detail",
    "details",
    "last_error",
    "metadata",
    "raw",
    "inner_error",
    "innererror",
    "innerError",
    "cause",
    "body",
    "data",
)
_WORDS = (
    "message",
    "msg",
    "error_description",
    "error_message",
    "error",
    "detail",
    "title",
    "reason",
    "raw",
    "description",
)
_CODES = ("code", "error_code", "errorCode", "type", "status", "reason")
_STATUSES = (
    "status_code",
    "statusCode",
    "http_status",
    "http_code",
    "code",
    "status",
    "error_code",
)
_PLAIN = frozenset(
    {"error", "invalid_request_error", "upstream_error", "api_error", "null", "none", "failed"}
)
"""Codes that say less than any other."""

_TITLE = re.compile(r"<(title|h1)[^>]*>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
_HIDDEN = re.compile(r"<(style|script|head)\b.*?</\1>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]+>")
_STATUS_LINE = re.compile(r"\s*(?:HTTP |Error )?([45]\d\d)[ :-]+[A-Z][a-z]")
_STATUS = re.compile(r"[45]\d\d")


@dataclass(frozen=True, slots=True)
class Fields:
    """Fields of an error body.

    Attributes:
        code: The most specific code, None if there is none.
        codes: All of them, lower case.
        status: A status that the body names, None if it names none.
        param: The parameter that it names.
        words: Its messages, outermost first, each once.
        wait: Values of fields that say how long to wait, seconds.
        is_html: It is a web page: a gateway's, or another program's.
    """

    code: str | None
    codes: frozenset[str]
    status: int | None
    param: str | None
    words: tuple[str, ...]
    wait: float | None
    is_html: bool


def fields_of(body: object) -> Fields:
    """Extract the fields of an error body."""
    is_html = isinstance(body, (str, bytes)) and _as_text(body).lstrip()[:1] == "<"
    levels = list(_levels(_opened(body), 0))
    named = [one for level in levels for one in _codes(level)]
    codes = [code for _, code in named]
    specific = [code for code in codes if code.lower() not in _PLAIN] or [
        code for name, code in named if name == "code"
    ]
    words = dict.fromkeys(word for level in levels for word in _words(level))
    found = [one for level in levels for one in _statuses(level)]
    params = [one for level in levels for one in _params(level)]
    waits = [one for level in levels for one in _waits(level)]
    return Fields(
        code=next(iter(specific), None),
        codes=frozenset(code.lower() for code in codes),
        status=found[0] if found else _status_in(words),
        param=params[0] if params else None,
        words=tuple(words),
        wait=waits[0] if waits else None,
        is_html=is_html,
    )


def _status_in(words: Iterable[str]) -> int | None:
    """Return the status that a message or the title of a page begins with: `502 Bad Gateway`."""
    found = [_STATUS_LINE.match(word) for word in words]
    return next((int(one[1]) for one in found if one), None)


def _as_text(body: str | bytes) -> str:
    return (body.decode(errors="replace") if isinstance(body, bytes) else body)[:_MAX_TEXT]


def _opened(body: object) -> object:
    """Return the value of JSON in a string, the words of a page, and anything else as it is."""
    if not isinstance(body, (str, bytes)):
        return body
    text = _as_text(body).strip()
    if text[:1] in {"{", "["}:
        try:
            return json.loads(text)
        except ValueError:
            return text
    return _page_words(text) if text[:1] == "<" else text


def _page_words(page: str) -> str:
    title = _TITLE.search(page)
    return " ".join(_TAG.sub(" ", title[2] if title else _HIDDEN.sub(" ", page)).split())


def _levels(body: object, depth: int) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of an error, outermost first."""
    if depth > _DEPTH:
        return
    if isinstance(body, str):
        yield {"message": body}
    elif isinstance(body, Mapping):
        yield body
        for name in _INSIDE:
            inner = _opened(body.get(name))
            if isinstance(inner, (Mapping, list)) or (isinstance(inner, str) and name == "body"):
                yield from _levels(inner, depth + 1)
        inner = _opened(body.get("message"))
        if isinstance(inner, (Mapping, list)):
            yield from _levels(inner, depth + 1)
    elif isinstance(body, Sequence) and not isinstance(body, bytes):
        for one in body[:_WIDTH]:
            yield from _levels(one, depth + 1)


def _codes(level: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in _CODES:
        value = level.get(name)
        if (
            isinstance(value, str)
            and value
            and not value.isdigit()
            and not (name in {"status", "reason"} and " " in value)
        ):
            yield name, value


def _words(level: Mapping[str, Any]) -> Iterator[str]:
    for name in _WORDS:
        value = level.get(name)
        if (
            isinstance(value, str)
            and value.strip()
            and not isinstance(_opened(value), (Mapping, list))
        ):
            yield str(_opened(value))


def _statuses(level: Mapping[str, Any]) -> Iterator[int]:
    for name in _STATUSES:
        value = level.get(name)
        if not isinstance(value, bool) and _STATUS.fullmatch(str(value)):
            yield int(str(value))


def _params(level: Mapping[str, Any]) -> Iterator[str]:
    for name in ("param", "parameter", "field"):
        if isinstance(level.get(name), str) and level[name] not in {"", "None", "null"}:
            yield level[name]
    where = level.get("loc")
    if isinstance(where, list):
        yield ".".join(map(str, where))


def _waits(level: Mapping[str, Any]) -> Iterator[float]:
    for name, unit_s in (
        ("retry_after", 1.0),
        ("retry_after_seconds", 1.0),
        ("retry_after_ms", 0.001),
        ("retryDelay", 1.0),
    ):
        value = str(level.get(name, "")).strip().removesuffix("s")
        if re.fullmatch(r"\d+(\.\d+)?", value):
            yield float(value) * unit_s
