"""Convert the arguments of function calls between servers and functions. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from assistant_queue.backends.openai.wire_json import parse, repaired, scan

Json = dict[str, Any]

NONE = "{}"
"""Arguments of a call without any."""

_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_BLANKS = re.compile(r"\s*")


def object_of(arguments: str) -> Json | None:
    """Return the object that arguments are, None for anything else, an unfinished one included."""
    if arguments.lstrip()[:1] != "{":
        return None
    try:
        value = parse(arguments)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def settled(arguments: str) -> str:
    """Return the intended arguments out of all that was sent under this name.

    Some servers send an empty object first, send the whole object once more at the end, write that
    as a JSON text of the JSON text, or put a bracket too many: the last complete object counts.
    What has none is returned as it is.
    """
    text = arguments.strip()
    place = 0
    last = None
    try:
        while place < len(text):
            value, end = scan(text, place)
            if isinstance(value, dict):
                last = text[place:end]
            elif isinstance(value, str) and object_of(value) is not None:
                last = value
            matched = _BLANKS.match(text, end)
            place = end if matched is None else matched.end()
    except ValueError:
        pass
    return arguments if last is None else last


def for_function(arguments: str) -> str:
    """Return the arguments as a function gets them: never blank, and with whole characters only."""
    if not arguments.strip():
        return NONE
    if _ESCAPED_HALF.search(arguments) is None:
        return arguments
    try:
        value = parse(arguments)
    except ValueError:
        return arguments
    whole = repaired(value)
    return arguments if whole == value else json.dumps(whole, ensure_ascii=False)


def for_server(arguments: object) -> str:
    """Return the arguments in the form in which a call is sent back to its server.

    Always an object, since many servers parse them and refuse anything else.
    """
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return for_function(text) if object_of(text) is not None else NONE
