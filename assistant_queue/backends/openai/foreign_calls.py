"""Refuse calls that no function answers: custom tools, approvals, shells, computers. Pure.

A conversation with such an item takes no further batch until it is answered, so it is answered:
with a refusal, in the form that its kind wants. Source of the kinds and their answers: the
provider's published API description.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from assistant_queue.core.runs import ActionRequired, RunEnded
from assistant_queue.models import ErrorInfo

Json = dict[str, Any]

UNSUPPORTED = "unsupported_tool_call"
"""Error code of a batch that ended with such a call."""

EMPTY = "empty"
"""`incomplete_reason` of an answer without text."""

UNANSWERED = json.dumps(
    {"error": "This call was never answered: the run it belonged to was given up."}
)

_WORDS = "This call cannot be answered here."

_BLANK_SCREEN = {
    "type": "computer_screenshot",
    "image_url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42m"
    "Nk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
}
"""One pixel: the output of a computer's call has to be a screenshot."""

_FAILED_COMMAND = [{"stdout": "", "stderr": _WORDS, "outcome": {"type": "exit", "exit_code": 1}}]

_REFUSALS: Mapping[str, Callable[[str], Json]] = {
    "function_call": lambda call: {
        "type": "function_call_output",
        "call_id": call,
        "output": UNANSWERED,
    },
    "custom_tool_call": lambda call: {
        "type": "custom_tool_call_output",
        "call_id": call,
        "output": _WORDS,
    },
    "local_shell_call": lambda call: {
        "type": "local_shell_call_output",
        "id": call,
        "call_id": call,
        "output": _WORDS,
    },
    "shell_call": lambda call: {
        "type": "shell_call_output",
        "call_id": call,
        "output": _FAILED_COMMAND,
    },
    "apply_patch_call": lambda call: {
        "type": "apply_patch_call_output",
        "call_id": call,
        "status": "failed",
        "output": _WORDS,
    },
    "computer_call": lambda call: {
        "type": "computer_call_output",
        "call_id": call,
        "output": _BLANK_SCREEN,
    },
    "mcp_approval_request": lambda call: {
        "type": "mcp_approval_response",
        "approval_request_id": call,
        "approve": False,
        "reason": _WORDS,
    },
}
"""Builds the refusal of each kind of call. Calls that the provider answers itself are followed by
their answers."""

_FOREIGN = _REFUSALS.keys() - {"function_call"}


def is_answer(item: Json) -> bool:
    """Return whether the item answers a call of any kind."""
    return (
        str(item.get("type")).endswith("_call_output")
        or item.get("type") == "mcp_approval_response"
    )


def call_id_of(item: Json) -> str:
    """Return the id that the answer to a call names, "" if there is none."""
    named = (
        item.get("id")
        if item.get("type") == "mcp_approval_request"
        else item.get("call_id") or item.get("id")
    )
    return "" if named is None else str(named)


def open_calls_in(items: Sequence[Json]) -> list[Json]:
    """Return the calls of any kind without an answer among the items, in order, each once."""
    answered = {
        str(item.get("approval_request_id") or item.get("call_id"))
        for item in items
        if is_answer(item)
    }
    found = {
        call_id_of(item): item for item in reversed(items) if str(item.get("type")) in _REFUSALS
    }
    return [
        item for call_id, item in reversed(found.items()) if call_id and call_id not in answered
    ]


def refusals_of(items: Sequence[Json]) -> list[Json]:
    """Build the answers that leave none of these items' calls open."""
    return [_REFUSALS[str(item["type"])](call_id_of(item)) for item in open_calls_in(items)]


def judged(outcome: ActionRequired | RunEnded, items: Sequence[Json]) -> ActionRequired | RunEnded:
    """Return the outcome, corrected by the items.

    A call that cannot be answered makes it a failure, an answer without text an incomplete one.

    Args:
        outcome: Determined by the response's status and its function calls.
        items: The model's items, and the answers to them since.
    """
    if isinstance(outcome, RunEnded) and outcome.status != "completed":
        return outcome
    foreign = [item for item in open_calls_in(items) if item["type"] != "function_call"]
    last_text = max((place for place, item in enumerate(items) if _is_message(item)), default=-1)
    if foreign or any(_is_refusal(item) for item in items[last_text + 1 :]):
        return RunEnded(
            run_id=outcome.run_id,
            status="failed",
            replies=outcome.replies,
            whole=outcome.whole,
            usage=outcome.usage,
            error=ErrorInfo(code=UNSUPPORTED, message=_message(foreign or items)),
            retryable=False,
            anchor=outcome.anchor,
        )
    if isinstance(outcome, RunEnded) and not outcome.replies:
        return replace(outcome, status="incomplete", incomplete_reason=EMPTY)
    return outcome


def _is_message(item: Json) -> bool:
    return (
        str(item.get("type") or "message") == "message"
        and item.get("role", "assistant") == "assistant"
    )


def _is_refusal(item: Json) -> bool:
    """Return whether the item is one of our refusals."""
    is_foreign = is_answer(item) and item.get("type") != "function_call_output"
    return is_foreign and (_WORDS in json.dumps(item) or item.get("output") == _BLANK_SCREEN)


def _message(foreign: Sequence[Json]) -> str:
    kinds = ", ".join(
        sorted({str(item["type"]) for item in foreign if str(item.get("type")) in _FOREIGN})
    )
    return (
        f"The model made a call that no function of this queue can answer ({kinds}). Offer "
        "functions (`type: function`), or tools that the provider runs without asking "
        "(`require_approval: never` for MCP servers)."
    )
