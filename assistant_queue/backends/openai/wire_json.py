"""JSON as servers write it: decoded leniently, and with whole characters only. Pure.

A server that cuts its text by UTF-16 units sends one half of an emoji here and the other half
there, or never. A lone half cannot be encoded, so it must not get past this module: halves that
meet are joined, all others become U+FFFD.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")
_ESCAPED_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE_HALF = re.compile(
    rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])"  # a first half without a second one
    rb"|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]"  # a second half without a first one
    rb"|\\\\u"  # an escaped backslash: which of the others are escapes cannot be seen here
)

_MOST_WAITING = 8
"""Values that a half of a character waits for. Chosen: some servers send a value without text, such
as a ping, between two with text."""


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


def _no_number(_: str) -> None:
    """NaN and Infinity are not JSON: they could be read here, and not be sent anywhere."""


_scan = json.JSONDecoder(parse_float=_finite, parse_constant=_no_number, strict=False).raw_decode


def parse(text: str) -> Any:
    """Return the JSON value of a text, blanks around it aside.

    NaN and numbers beyond a float's range become null.

    Raises:
        ValueError: It is not exactly one JSON value.
    """
    text = text.strip()
    value, end = scan(text, 0)
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value


def scan(text: str, place: int) -> tuple[Any, int]:
    """Return the JSON value that begins at a place of a text, and the place after it.

    Raises:
        ValueError: None begins there.
    """
    try:
        return _scan(text, place)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def decode(data: bytes) -> tuple[Any, bool]:
    """Return the JSON value in `data`, and whether its strings may hold halves of characters.

    Bytes that are not UTF-8 become U+FFFD.

    Raises:
        ValueError: As `parse`.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return parse(_decoded(data)), True
    if b"\\ud" in data or b"\\uD" in data:
        return parse(text), _ESCAPED_HALF.search(data) is not None and _LONE_HALF.search(
            data
        ) is not None
    return parse(text), False


def loads(data: bytes) -> Any:
    """Parse `data` as JSON, with whole characters only. Raises as `decode` does."""
    value, is_suspect = decode(data.removeprefix(b"\xef\xbb\xbf"))
    return repaired(value) if is_suspect else value


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")  # some servers encode the halves one by one
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def whole(text: str) -> str:
    """Join halves of a character that stand together, and replace others by U+FFFD."""
    if text.isascii() or _HALF.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def repaired(value: Any) -> Any:
    """Return the JSON value with whole texts only, names of fields included."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, dict):
        return {whole(name): repaired(one) for name, one in value.items()}
    return [repaired(one) for one in value] if isinstance(value, list) else value


# --- characters in two halves in two values -------------------------------------------------------

Path = tuple[str | int, ...]


@dataclass(slots=True)
class _Waiting:
    """Value that waits for the other halves of the texts at `open`."""

    label: str
    value: Any
    open: set[Path] = field(default_factory=set)


class HalfJoiner:
    """Join characters that end one value and continue in the same text of a later one.

    A value that ends in a first half is held back, with those after it, until the next text at the
    same place shows the second half or something else; the order of values never changes.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []

    @property
    def is_waiting(self) -> bool:
        """Return whether values are held back."""
        return bool(self._waiting)

    def add(self, label: str, value: Any) -> list[tuple[str, Any]]:
        """Add a value, and return the values that are whole now, with their labels."""
        for one in self._waiting:
            one.open = {path for path in one.open if not _is_settled(one.value, value, path)}
        added = _Waiting(label, value)
        added.open = {path for path, text in _texts(value) if "\ud800" <= text[-1] <= "\udbff"}
        self._waiting.append(added)
        return self._released(_MOST_WAITING)

    def flush(self) -> list[tuple[str, Any]]:
        """Return the values held back; nothing more will come."""
        return self._released(0)

    def _released(self, most: int) -> list[tuple[str, Any]]:
        found = []
        while self._waiting and (not self._waiting[0].open or len(self._waiting) > most):
            one = self._waiting.pop(0)
            found.append((one.label, repaired(one.value)))
        return found


def _texts(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield every text in a value that is not empty, with its path."""
    if isinstance(value, str):
        if value:
            yield path, value
    elif isinstance(value, dict | list):
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(one, (*path, name))


def _is_settled(earlier: Any, later: Any, path: Path) -> bool:
    """Return whether the later value has a text at this place.

    A second half at its beginning is moved to the earlier one.
    """
    text = _at(later, path)
    if not isinstance(text, str) or not text:
        return False
    if "\udc00" <= text[0] <= "\udfff":
        _set(earlier, path, str(_at(earlier, path)) + text[0])
        _set(later, path, text[1:])
    return True


def _at(value: Any, path: Path) -> Any:
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def _set(value: Any, path: Path, text: str) -> None:
    *way, last = path
    _at(value, tuple(way))[last] = text
