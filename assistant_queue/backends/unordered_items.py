"""Find a batch among items whose order is not known. Pure.

The order in which a server lists items proves nothing until it is proven itself. Two things can be told without it: that the batch's texts
are not there at all, and that a conversation's end reads exactly as it must if the batch was answered there.
"""

from __future__ import annotations

from collections.abc import Sequence

from assistant_queue.backends.content import Json, same_content
from assistant_queue.backends.conversation_items import Tail, open_calls_of, what_became_of
from assistant_queue.backends.foreign_calls import call_id_of, is_answer
from assistant_queue.backends.response_reader import is_asked, is_kind
from assistant_queue.core.runs import CannotAsk, Finding, InputItem, NotFound, RunRequest
from assistant_queue.models import ToolCall

OUT_OF_ORDER = (
    "the provider lists the conversation's items in an order of its own, or not all of them: whether the batch is among them cannot be told"
)

_MANY = 20
"""Items that are evidence of their order although there are more. Chosen: in an order of its own, two given ones stand side by side in one
list in ten, and a third and fourth beside them hardly ever."""


def in_place(ordered: Sequence[Json], request: RunRequest, *, is_all: bool) -> Tail | None:
    """The conversation's end, if these items show by themselves that this is their order; None if they do not.

    They do if the batch stands right after the anchor, is the last question, was answered, and its texts stand nowhere before, in all of
    the conversation or in many items of it. Of arbitrary orders of more than four items, one in hundreds looks like that by accident.

    Args:
        ordered: Items, oldest first if the order is the supposed one.
        request: The batch.
        is_all: They begin with the conversation.
    """
    ids = [str(item.get("id")) for item in ordered]
    has_start = is_all if request.anchor is None else request.anchor in ids and (is_all or len(ids) >= _MANY)
    if not request.items or not has_start:
        return None
    start = 0 if request.anchor is None else ids.index(request.anchor) + 1
    before, tail = ordered[:start], list(ordered[start:])
    healed = next((place for place, item in enumerate(tail) if not is_answer(item)), len(tail))
    ours, rest = tail[healed : healed + len(request.items)], tail[healed + len(request.items) :]
    is_last = bool(rest) and not any(is_asked(item) for item in rest)
    is_there = len(ours) == len(request.items) and all(map(_is_said_by, ours, request.items)) and not could_hold(before, request)
    if not is_last or not is_there or not _begins_well(ordered, is_all=is_all) or not _is_causal(ordered):
        return None
    return Tail(tail, request.anchor, is_exact=True)


def _begins_well(ordered: Sequence[Json], *, is_all: bool) -> bool:
    """A conversation begins with a question or with instructions, as far as its beginning is there."""
    return not is_all or not ordered or is_asked(ordered[0]) or ordered[0].get("role") in {"system", "developer"}


def _is_causal(ordered: Sequence[Json]) -> bool:
    """Every output stands after its call, as far as both are there."""
    called = {call_id_of(item): place for place, item in enumerate(ordered) if is_kind(item, "function_call")}
    answers = ((place, call_id_of(item)) for place, item in enumerate(ordered) if is_answer(item))
    return all(called.get(call_id, place) <= place for place, call_id in answers)


def could_hold(items: Sequence[Json], request: RunRequest) -> bool:
    """Whether the batch's texts are all among the items, each as often as the batch has it: in whatever order, with whatever between."""
    return all(
        sum(_is_said_by(item, ours) for item in items) >= sum(same_content(other.content, ours.content) for other in request.items)
        for ours in request.items
    )


def _is_said_by(item: Json, ours: InputItem) -> bool:
    return is_asked(item) and same_content(item.get("content"), ours.content)


def is_absent(items: Sequence[Json], request: RunRequest, calls: Sequence[ToolCall]) -> bool:
    """Whether the batch, or the outputs of `calls`, cannot be among these items if they are all, whatever their order is."""
    if calls:
        wanted = {call.id for call in calls}
        return not any(is_answer(item) and call_id_of(item) in wanted for item in items)
    return not could_hold(items, request)


def without_order(items: Sequence[Json], request: RunRequest, run_id: str | None, calls: Sequence[ToolCall], *, is_all: bool) -> Finding:
    """What became of the batch, from items whose order says nothing.

    Args:
        items: What was read.
        request: The batch.
        run_id: The id to give a run that is found.
        calls: As in `Backend.find`.
        is_all: It is proven that there are no others.
    """
    if not is_all:
        return CannotAsk(reason=OUT_OF_ORDER)
    if is_absent(items, request, calls):
        is_known = any(str(item.get("id")) == request.anchor for item in items)
        # Without an anchor it is known that there is nothing of the batch: texts that are there later are its own.
        return NotFound(anchor=request.anchor if is_known else None)
    alone = _alone(items, request) if request.anchor is None and not calls else None
    return CannotAsk(reason=OUT_OF_ORDER) if alone is None else what_became_of(alone, request, run_id, calls)


def _alone(items: Sequence[Json], request: RunRequest) -> Tail | None:
    """The batch is all that was ever asked here, and was answered by one message: there is one way to put that in order."""
    asked, made = [item for item in items if is_asked(item)], [item for item in items if not is_asked(item)]
    messages = [item for item in made if is_kind(item, "message")]
    if len(asked) != len(request.items) or len(messages) != 1 or open_calls_of(made):
        return None
    placed = [next(item for item in asked if _is_said_by(item, ours)) for ours in request.items]
    others = sorted((item for item in made if item not in messages), key=is_answer)
    return Tail([*placed, *others, *messages], None, is_exact=True)
