"""Checks of the arguments of direct calls, before anything is sent; rules as in `arguments.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from assistant_queue.client.arguments import MAX_MESSAGE_ID, as_json, encodable, identifier, shown
from assistant_queue.errors import InvalidArgument
from assistant_queue.models import ToolOutput
from assistant_queue.tools.outputs import UnwritableOutput, encode_output

MAX_TOOLS = 128
"""Tools of one run. Source: the provider's limit for an assistant."""

_NO_ID = frozenset("/?#%\\")


def check_run_id(value: Any) -> str:
    """Return a run's id, as the provider gave it."""
    run_id = identifier(value, "run_id", MAX_MESSAGE_ID)
    if any(char in _NO_ID or char.isspace() or not char.isprintable() for char in run_id):
        raise InvalidArgument(
            f"run_id must be an id such as run_... or resp_..., not {shown(run_id)}"
        )
    return run_id


def check_order(value: Any) -> Literal["asc", "desc"]:
    """Return the order of a page: oldest first (`asc`) or newest first (`desc`)."""
    if value == "asc":
        return "asc"
    if value == "desc":
        return "desc"
    raise InvalidArgument(
        f"order must be 'asc' (oldest first) or 'desc' (newest first), not {shown(value)}"
    )


def check_cursor(value: Any, what: str) -> str | None:
    """Return the id of the message after which a page begins, or before which it ends."""
    return None if value is None else identifier(value, what, MAX_MESSAGE_ID)


def check_tools(value: Any) -> list[dict[str, Any]] | None:
    """Return tool definitions; None for the queue's own, an empty list for no tools."""
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray):
        raise InvalidArgument(
            f"tools must be a list of tool definitions, not {type(value).__name__}"
        )
    if len(value) > MAX_TOOLS:
        raise InvalidArgument(f"tools has {len(value)} definitions, the limit is {MAX_TOOLS}")
    for number, tool in enumerate(value):
        if not isinstance(tool, Mapping) or not isinstance(tool.get("type"), str):
            raise InvalidArgument(
                f"tool {number} must be a dict with a 'type' of the provider's API"
            )
    tools = [dict(tool) for tool in value]
    as_json(tools, "the tools")
    return tools


def make_outputs(value: Any) -> dict[str, str]:
    """Return the outputs of one round, a string for each call id, in the order given.

    Raises:
        InvalidArgument: They are not a list of outputs, there are none, or one call has two.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray):
        raise InvalidArgument(
            "outputs must be a list of dicts with tool_call_id and output, or of ToolOutput, "
            f"not {type(value).__name__}"
        )
    if not value:
        raise InvalidArgument(
            "outputs is empty: the provider takes all outputs of a round in one call"
        )
    made: dict[str, str] = {}
    for number, row in enumerate(value):
        if isinstance(row, ToolOutput):
            call_id = row.tool_call_id
            output = row.output
        elif isinstance(row, Mapping) and row.keys() == {"tool_call_id", "output"}:
            call_id = row["tool_call_id"]
            output = row["output"]
        else:
            raise InvalidArgument(
                f"output {number} must be a dict with tool_call_id and output, or a ToolOutput"
            )
        identifier(call_id, f"tool_call_id of output {number}", MAX_MESSAGE_ID)
        if call_id in made:
            raise InvalidArgument(f"there are two outputs for call {call_id!r}")
        made[call_id] = _output(output, call_id)
    return made


def _output(value: Any, call_id: str) -> str:
    what = f"the output for call {call_id!r}"
    if isinstance(value, str):
        encodable(value, what)
    try:
        return encode_output(value)
    except UnwritableOutput as error:
        raise InvalidArgument(
            f"{what} cannot be written as JSON: it holds a value of type {error.type_name}; "
            "nothing was sent"
        ) from error
