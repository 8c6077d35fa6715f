"""Find a batch among items of unknown order. Pure.

The order in which a server lists items proves nothing until the server was tried: a list of six
items in arbitrary order looks like a conversation that ends with the batch once in thirty times if
an earlier turn has the batch's text. Two facts hold in every order: that the batch's texts are not
among the items, and what was answered if the batch is all that was ever asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from assistant_queue.backends.openai.content import Json, same_content
from assistant_queue.backends.openai.foreign_calls import call_id_of, is_answer
from assistant_queue.backends.openai.items import is_asked, is_kind, is_said_by
from assistant_queue.backends.responses.conversation_items import (
    Tail,
    open_calls_of,
    what_became_of,
)
from assistant_queue.core.runs import CannotAsk, Finding, NotFound, RunRequest
from assistant_queue.models import ToolCall

OUT_OF_ORDER = (
    "the provider lists the conversation's items in an arbitrary order, or not all of them: "
    "whether the batch is among them cannot be determined"
)


def could_hold(items: Sequence[Json], request: RunRequest) -> bool:
    """Return whether the items contain the batch's texts, each as often, in any order."""
    return all(
        sum(is_said_by(item, ours) for item in items)
        >= sum(
            other.role == ours.role and same_content(other.content, ours.content)
            for other in request.items
        )
        for ours in request.items
    )


def is_absent(items: Sequence[Json], request: RunRequest, calls: Sequence[ToolCall]) -> bool:
    """Return whether neither the batch nor the outputs of `calls` can be among these items.

    True in every order, provided that there are no other items.
    """
    if calls:
        wanted = {call.id for call in calls}
        return not any(is_answer(item) and call_id_of(item) in wanted for item in items)
    return not could_hold(items, request)


def without_order(
    items: Sequence[Json],
    request: RunRequest,
    run_id: str | None,
    calls: Sequence[ToolCall],
    *,
    is_all: bool,
) -> Finding:
    """Determine the batch's outcome from items in unknown order.

    Args:
        items: The items that were read.
        request: The batch.
        run_id: The id to give a run that is found.
        calls: As in `Backend.find`.
        is_all: It is proven that there are no others. Else the outcome is `CannotAsk`.
    """
    if not is_all:
        return CannotAsk(reason=OUT_OF_ORDER)
    if is_absent(items, request, calls):
        is_known = any(str(item.get("id")) == request.anchor for item in items)
        # Without an anchor nothing of the batch is in the conversation yet: its texts, if they
        # appear later, are its own.
        return NotFound(anchor=request.anchor if is_known else None)
    alone = _alone(items, request) if request.anchor is None and not calls else None
    return (
        CannotAsk(reason=OUT_OF_ORDER)
        if alone is None
        else what_became_of(alone, request, run_id, calls)
    )


def _alone(items: Sequence[Json], request: RunRequest) -> Tail | None:
    """Order the items if the batch is the only question and one message answers it; else None.

    There is only one such order: the batch, calls before their outputs, the message. A batch that
    was written without a run is alone if nothing else is there.
    """
    if request.writes:
        return Tail(items, None, is_exact=True) if len(items) == len(request.items) == 1 else None
    asked = [item for item in items if is_asked(item)]
    made = [item for item in items if not is_asked(item)]
    messages = [item for item in made if is_kind(item, "message")]
    if len(asked) != len(request.items) or len(messages) != 1 or open_calls_of(made):
        return None
    placed = [next(item for item in asked if is_said_by(item, ours)) for ours in request.items]
    others = sorted((item for item in made if item not in messages), key=is_answer)
    return Tail([*placed, *others, *messages], None, is_exact=True)
