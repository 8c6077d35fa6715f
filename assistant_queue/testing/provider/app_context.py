"""Read a list of items: the open calls, and the turn in progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assistant_queue.testing.provider.api_errors import no_call_for, no_output_for, nothing_follows
from assistant_queue.testing.provider.script import OutputGiven
from assistant_queue.testing.provider.state import Json, is_user_text, text_of


@dataclass(frozen=True, slots=True)
class Exchange:
    """Return the turn in progress: its user texts, its outputs and the number of its rounds."""

    user_texts: tuple[str, ...]
    outputs: tuple[OutputGiven, ...]
    round: int


_CALLS = (
    "function_call",
    "custom_tool_call",
    "computer_call",
    "local_shell_call",
    "shell_call",
    "apply_patch_call",
)
_OUTPUTS = tuple(f"{kind}_output" for kind in _CALLS)


def check_calls(items: Sequence[Json]) -> None:
    """Refuse a context with unmatched items.

    A call needs its output, an output its call, a reasoning item the item that it led to.

    Raises:
        ApiProblem: In the provider's words, about the first such item.
    """
    called = {item["call_id"] for item in items if item.get("type") in _CALLS}
    answered = {item["call_id"] for item in items if item.get("type") in _OUTPUTS}
    for place, item in enumerate(items):
        kind = str(item.get("type"))
        call_id = item.get("call_id", "")
        if kind in _OUTPUTS and call_id not in called:
            raise no_call_for(call_id, kind)
        if kind in _CALLS and call_id not in answered:
            raise no_output_for(call_id, kind)
        if kind == "reasoning" and not _is_the_models(items[place + 1 : place + 2]):
            raise nothing_follows(item["id"], kind)


def _is_the_models(following: Sequence[Json]) -> bool:
    """Whether the model made the item, if there is one."""
    return any(
        item.get("type") not in _OUTPUTS and item.get("role", "assistant") == "assistant"
        for item in following
    )


def read_exchange(items: Sequence[Json]) -> Exchange:
    """Return the unanswered items at the end of these."""
    turn = items[_start_of_turn(items) :]
    names = {item["call_id"]: item["name"] for item in turn if item.get("type") == "function_call"}
    outputs: list[OutputGiven] = []
    rounds = 0
    last = None
    for item in turn:
        kind = item.get("type")
        if kind == "function_call_output":
            rounds += last != kind
            outputs.append(
                OutputGiven(item["call_id"], names.get(item["call_id"], ""), _output_text(item))
            )
        last = kind
    return Exchange(
        tuple(text_of(item) for item in turn if is_user_text(item)), tuple(outputs), rounds
    )


def _start_of_turn(items: Sequence[Json]) -> int:
    """Return the place after the last reply.

    Text right before a function call is not a reply.
    """
    for place in range(len(items) - 1, -1, -1):
        if items[place].get("role") != "assistant":
            continue
        is_followed_by_call = (
            place + 1 < len(items) and items[place + 1].get("type") == "function_call"
        )
        if not is_followed_by_call:
            return place + 1
    return 0


def _output_text(item: Json) -> str:
    output = item["output"]
    return output if isinstance(output, str) else text_of({"content": output})
