"""The calls of a chat completion, put together from the pieces in which servers send them. Pure.

The API's own way: the first piece of a call has its `index`, `id` and name, later ones the `index`
and more of the arguments. Servers that translate another model's words send every call under index
0, no index, another index for each piece, ids in every piece or in none, blank names, and all
arguments once more at the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assistant_queue.backends.openai.call_arguments import object_of, settled

Json = dict[str, Any]

_OWN_FIELDS = frozenset({"id", "type", "index", "function", "name", "arguments"})


def number_of(index: object) -> int | None:
    """Return an index as a number, if it is one; some servers write it as text."""
    if isinstance(index, bool):
        return None
    if isinstance(index, int):
        return index
    if isinstance(index, float) and index.is_integer():
        return int(index)
    return (
        int(index)
        if isinstance(index, str) and index.isascii() and index.strip().isdigit()
        else None
    )


@dataclass(slots=True)
class _Call:
    """One call as far as it has come."""

    id: str = ""
    name: str = ""
    arguments: str = ""
    more: Json = field(default_factory=dict)
    more_of_function: Json = field(default_factory=dict)

    def take_name(self, name: str) -> None:
        """A name comes whole, whole again, or in pieces before the first argument."""
        if name.startswith(self.name):
            self.name = name
        elif not self.arguments:
            self.name += name

    @property
    def is_whole(self) -> bool:
        """Return whether the arguments are complete."""
        return (
            self.arguments.rstrip()[-1:] in {"}", '"'}
            and object_of(settled(self.arguments)) is not None
        )

    def is_other_than(self, name: str, arguments: str) -> bool:
        """Return whether a piece with these fields cannot continue this call.

        The call is complete, and the piece begins another one.
        """
        if not name or not self.is_whole:
            return False
        given = object_of(settled(arguments))
        return name != self.name or (
            given is not None and given != object_of(settled(self.arguments))
        )

    def written(self) -> Json:
        """Return the call in the API's form; with an id only if the server gave one."""
        function = {
            **self.more_of_function,
            "name": self.name,
            "arguments": settled(self.arguments),
        }
        named = {"id": self.id} if self.id else {}
        return {**self.more, **named, "type": "function", "function": function}


class CallPieces:
    """Puts calls together.

    1. an id seen before is that call's, at any index; another id begins a call
    2. without an id the index decides; an index never seen continues the last call, unless the
       piece has a name
    3. without either, a piece continues the last call; several at once are a call each, in order
    4. without an id, a name that comes after complete arguments begins a call, unless it only
       repeats what is there
    5. blank fields say nothing
    """

    __slots__ = ("_at", "_calls", "_legacy")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}
        self._legacy: _Call | None = None

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, pieces: object) -> None:
        """Take the `tool_calls` of a delta or a message."""
        if isinstance(pieces, Mapping):
            pieces = [pieces]
        if not isinstance(pieces, Sequence) or isinstance(pieces, str):
            return
        objects = [piece for piece in pieces if isinstance(piece, Mapping)]
        for place, piece in enumerate(objects):
            is_nameless = number_of(piece.get("index")) is None and not _word(piece.get("id"))
            # Several without index and id are one call each, distinguished by their place alone.
            self._add_one(piece, place if is_nameless and len(objects) > 1 else None)

    def add_legacy(self, piece: Mapping[str, Any]) -> None:
        """Take a `function_call`, the older form of a single call.

        It is ignored beside `tool_calls`.
        """
        if self._calls and self._legacy is None:
            return
        if self._legacy is None:
            self._legacy = _Call()
            self._calls.append(self._legacy)
        _fill(self._legacy, piece, _word(piece.get("name")), _arguments(piece.get("arguments")))

    def written(self) -> tuple[Json, ...]:
        """Return the calls in the API's form, in the order of their beginnings."""
        return tuple(call.written() for call in self._calls)

    def _add_one(self, piece: Mapping[str, Any], place: int | None) -> None:
        function = piece.get("function")
        fields: Mapping[str, Any] = function if isinstance(function, Mapping) else piece
        ident = _word(piece.get("id"))
        name = _word(fields.get("name"))
        arguments = _arguments(fields.get("arguments"))
        index = number_of(piece.get("index")) if place is None else place
        call = (
            self._call_by_id(ident, index, name, arguments)
            if ident
            else self._call_at(index, name, arguments)
        )
        if call is None:
            call = _Call()
            self._calls.append(call)
        call.id = call.id or ident
        if index is not None:
            self._at[index] = call
        call.more.update(_unknown_of(piece))
        _fill(call, fields if fields is function else {}, name, arguments)

    def _call_by_id(self, ident: str, index: int | None, name: str, arguments: str) -> _Call | None:
        """Return the call that a piece with an id continues, None if it begins one."""
        here = self._here(index)
        known = next((call for call in reversed(self._calls) if call.id == ident), None)
        if known is not None:
            has_other_name = bool(name and known.name and name != known.name)
            return None if has_other_name and (known.is_whole or known is not here) else known
        if here is None:
            return None
        if not here.id and (not name or not here.name or name == here.name):
            return here  # the id comes late
        # Some servers make up an id for each piece. A call without a name is none, so arguments
        # without one belong to the call before.
        is_rest = bool(here.name and not name and arguments.strip() and not here.is_whole)
        return here if is_rest else None

    def _call_at(self, index: int | None, name: str, arguments: str) -> _Call | None:
        """Return the call that a piece without an id continues, None if it begins one."""
        here = self._here(index)
        if here is None and not name:
            here = self._here(None)
        return None if here is None or here.is_other_than(name, arguments) else here

    def _here(self, index: int | None) -> _Call | None:
        """Return the call at an index, the last one if there is no index."""
        if index is not None:
            return self._at.get(index)
        return self._calls[-1] if self._calls else None


def _fill(call: _Call, fields: Mapping[str, Any], name: str, arguments: str) -> None:
    if name:
        call.take_name(name)
    call.arguments += arguments
    call.more_of_function.update(_unknown_of(fields))


def _unknown_of(piece: Mapping[str, Any]) -> Json:
    """Return the fields of a piece that only its server knows: they are sent back as they came."""
    return {
        name: value
        for name, value in piece.items()
        if name not in _OWN_FIELDS and value is not None and value != ""
    }


def _word(value: object) -> str:
    """Return an id or a name, "" for a blank or missing one; some servers number their calls."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value.strip() else ""


def _arguments(value: object) -> str:
    """Return arguments as text; some servers give the object itself, whole."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)
