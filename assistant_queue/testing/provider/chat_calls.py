"""Tool calls of a chat completion: as a whole answer has them, and as the pieces of a stream."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Iterator
from typing import Any

from assistant_queue.testing.provider.ids import new_id
from assistant_queue.testing.provider.pacing import cut_in_pieces
from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.state import Json

_PIECES_OF_ARGUMENTS = 2
_ID_CHARS = string.ascii_letters + string.digits
# Source: Mistral's wording, "must be a-z, A-Z, 0-9, with a length of 9".
_ID_LENGTH = 9


def new_call(index: int, name: str, arguments: str, server: Personality) -> Json:
    """Return a call as a whole answer has it."""
    function: Json = {"name": name, "arguments": _in_the_servers_form(arguments, server)}
    call: Json = {"id": _call_id(index, server), "type": "function", "function": function}
    if server.call_ids == "absent":
        del call["id"]
    return call


def pieces_of(index: int, call: Json, server: Personality) -> Iterator[Json]:
    """Yield the deltas of a call."""
    place = {"counted": {"index": index}, "zero": {"index": 0}, "absent": {}}[server.call_index]
    if server.legacy_calls:
        if index == 0:
            yield from _legacy_pieces(call["function"])
        return
    if server.call_pieces == "never":
        return
    arguments = call["function"]["arguments"]
    if server.call_pieces in {"whole", "twice"} or not isinstance(arguments, str):
        for _ in range(2 if server.call_pieces == "twice" else 1):
            yield {"tool_calls": [{**place, **call}]}
        return
    yield {"tool_calls": [{**place, **call, "function": {**call["function"], "arguments": ""}}]}
    repeated = [arguments] if server.call_pieces == "repeated" else []
    for piece in [*cut_in_pieces(arguments, _PIECES_OF_ARGUMENTS), *repeated]:
        yield {"tool_calls": [{**place, **_later(piece, server)}]}


def _later(piece: str, server: Personality) -> Json:
    if server.later_pieces in {"bare", "typed"}:
        typed = {"type": "function"} if server.later_pieces == "typed" else {}
        return {**typed, "function": {"arguments": piece}}
    blank = "" if server.later_pieces == "blank" else None
    return {"id": blank, "type": blank, "function": {"name": blank, "arguments": piece}}


def _legacy_pieces(function: Json) -> Iterator[Json]:
    yield {"function_call": {"name": function["name"], "arguments": ""}}
    for piece in cut_in_pieces(str(function["arguments"]), _PIECES_OF_ARGUMENTS):
        yield {"function_call": {"arguments": piece}}


def _call_id(index: int, server: Personality) -> str:
    if server.call_ids == "nine":
        return "".join(secrets.choice(_ID_CHARS) for _ in range(_ID_LENGTH))
    if server.call_ids == "numbered":
        return f"call_{index}"
    return "" if server.call_ids == "empty" else new_id("call")


def _in_the_servers_form(arguments: str, server: Personality) -> Any:
    """Return the arguments in this server's form; anything but a JSON object stays as it is."""
    try:
        read = json.loads(arguments)
    except ValueError:
        return arguments
    if server.call_arguments == "object" and isinstance(read, dict):
        return read
    if server.call_arguments in {"empty", "null"} and read == {}:
        return "" if server.call_arguments == "empty" else None
    return arguments
