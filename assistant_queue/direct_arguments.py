"""The arguments of direct calls, checked before anything is sent: a typed error says what, where and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from assistant_queue.arguments import MAX_MESSAGE_ID, as_json, encodable, identifier, shown
from assistant_queue.errors import InvalidArgument
from assistant_queue.models import ToolOutput

MAX_TOOLS = 128
"""Tools of one run. Source: the provider's limit for an assistant."""

_NO_ID = frozenset("/?#%\\")


def check_run_id(value: Any) -> str:
    """A run's id, as the provider gave it."""
    run_id = identifier(value, "run_id", MAX_MESSAGE_ID)
    if any(char in _NO_ID or char.isspace() or not char.isprintable() for char in run_id):
        raise InvalidArgument(
            f"run_id must be an id of the provider's, such as run_... or resp_...; {run_id[:80]!r} is none; nothing was done"
        )
    return run_id


def check_order(value: Any) -> Literal["asc", "desc"]:
    """Oldest first or newest first."""
    if value == "asc":
        return "asc"
    if value == "desc":
        return "desc"
    raise InvalidArgument(f"order must be 'asc' (oldest first) or 'desc' (newest first), not {shown(value)}")


def check_cursor(value: Any, what: str) -> str | None:
    """The id of a message that a page begins behind, or ends before."""
    return None if value is None else identifier(value, what, MAX_MESSAGE_ID)


def check_tools(value: Any) -> list[dict[str, Any]] | None:
    """Tool definitions; None for the queue's own, an empty list for none."""
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray):
        raise InvalidArgument(f"tools must be a list of tool definitions, not {type(value).__name__}; nothing was sent")
    if len(value) > MAX_TOOLS:
        raise InvalidArgument(f"tools has {len(value)} definitions, the limit is {MAX_TOOLS}; nothing was sent")
    for number, tool in enumerate(value):
        if not isinstance(tool, Mapping) or not isinstance(tool.get("type"), str):
            raise InvalidArgument(f"tool {number} must be a dict with a 'type', as the provider spells it; nothing was sent")
    tools = [dict(tool) for tool in value]
    as_json(tools, "the tools", "sent")
    return tools


def make_outputs(value: Any) -> dict[str, str]:
    """The outputs of one round, a string for each call id, in the order given.

    Raises:
        InvalidArgument: It is no list of outputs, it is empty, or one call has two. Nothing was sent.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray):
        raise InvalidArgument(
            f"outputs must be a list of {{'tool_call_id', 'output'}} or ToolOutput, not {type(value).__name__}; nothing was sent"
        )
    if not value:
        raise InvalidArgument("outputs is empty; the provider takes all outputs of a round at once; nothing was sent")
    made: dict[str, str] = {}
    for number, row in enumerate(value):
        if isinstance(row, ToolOutput):
            call_id, output = row.tool_call_id, row.output
        elif isinstance(row, Mapping) and row.keys() == {"tool_call_id", "output"}:
            call_id, output = row["tool_call_id"], row["output"]
        else:
            raise InvalidArgument(f"output {number} must be a dict with tool_call_id and output, or a ToolOutput; nothing was sent")
        identifier(call_id, f"tool_call_id of output {number}", MAX_MESSAGE_ID)
        if call_id in made:
            raise InvalidArgument(f"there are two outputs for call {call_id!r}; nothing was sent")
        made[call_id] = _output(output, call_id)
    return made


def _output(value: Any, call_id: str) -> str:
    what = f"the output for call {call_id!r}"
    if not isinstance(value, str):
        return as_json(value, what, "sent")
    encodable(value, what)
    return value
