"""Find a batch among the stored items of a conversation. Pure.

Items carry neither metadata, nor the id of the response that made them, nor a time: a batch is
recognised by its texts, after the last item that was known before it (the anchor).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from assistant_queue.backends.openai.content import Json
from assistant_queue.backends.openai.foreign_calls import call_id_of, is_answer, judged
from assistant_queue.backends.openai.items import are_of_batch, is_asked, is_kind
from assistant_queue.backends.responses.parser import calls_of, ids_of_replies, replies_of
from assistant_queue.core.runs import (
    WRITTEN,
    ActionRequired,
    CannotAsk,
    Finding,
    InputItem,
    NotFound,
    RunEnded,
    RunRequest,
    Undecided,
)
from assistant_queue.models import ToolCall


def output_item(call_id: str, output: str) -> Json:
    """Build the output item that answers a call."""
    return {"type": "function_call_output", "call_id": call_id, "output": output}


@dataclass(frozen=True, slots=True)
class Tail:
    """End of a conversation.

    Attributes:
        items: Oldest first: those after the anchor, or all there are.
        before: The id of the item before them, None if there was none.
        is_exact: It begins right after the anchor, or at the conversation's beginning if there was
            no item before the batch.
    """

    items: Sequence[Json]
    before: str | None
    is_exact: bool

    @property
    def anchor(self) -> str | None:
        """The id of the conversation's last item, None if there is none."""
        return str(self.items[-1]["id"]) if self.items else self.before


def is_oldest_first(listed: Sequence[Json], *, is_all: bool) -> bool:
    """Return whether a list that was requested newest first came oldest first.

    Items carry no time: an output must come after its call, an answer after its question.

    Args:
        listed: Items in the order in which they came.
        is_all: They are the whole conversation, so its first item is among them.
    """
    called = {
        item.get("call_id"): place
        for place, item in enumerate(listed)
        if is_kind(item, "function_call")
    }
    for place, item in enumerate(listed):
        if is_kind(item, "function_call_output") and item.get("call_id") in called:
            return called[item.get("call_id")] < place
    # A conversation begins with a question and, nearly always, ends with the model.
    return is_all and len(listed) > 1 and is_asked(listed[0]) and not is_asked(listed[-1])


def tail_of(listed: Sequence[Json], anchor: str | None, *, is_all: bool) -> Tail:
    """Return the items after the anchor of a list that was requested newest first."""
    return tail_after(
        anchor, list(listed) if is_oldest_first(listed, is_all=is_all) else list(reversed(listed))
    )


def tail_after(anchor: str | None, ordered: Sequence[Json]) -> Tail:
    """Return the items after the anchor; `ordered` is oldest first."""
    places = [
        place
        for place, item in enumerate(ordered)
        if anchor is not None and str(item.get("id")) == anchor
    ]
    if places:
        return Tail(ordered[places[0] + 1 :], anchor, is_exact=True)
    return Tail(ordered, None, is_exact=anchor is None)


def open_calls_of(items: Sequence[Json]) -> list[Json]:
    """Return the calls without an output, in order."""
    answered = {call_id_of(item) for item in items if is_kind(item, "function_call_output")}
    return [
        item
        for item in items
        if is_kind(item, "function_call") and call_id_of(item) not in answered
    ]


def what_became_of(
    tail: Tail, request: RunRequest, run_id: str | None, calls: Sequence[ToolCall]
) -> Finding:
    """Find the batch, or the outputs of `calls`, and what the model answered.

    A run found this way has no known id: its `run_id` is the one given, or "".
    """
    items = tail.items
    start = _after_outputs(items, calls) if calls else _after_batch(tail, request)
    if start is None:
        return NotFound(anchor=tail.anchor)
    if request.writes:
        return _written(tail)
    steered = _count_steered(items, request.steered)
    rest = _until_next_question(_without_steered(items[start:], request.steered))
    if not rest or any(item.get("status") == "in_progress" for item in rest):
        # Stored without an answer yet: servers that store the input at once are still at work.
        return Undecided()
    # The answer to the batch covers all its rounds; the answer to outputs the round after them.
    is_whole = not calls
    replies = replies_of(rest)
    known = run_id or ""
    still_open = open_calls_of(rest)
    if still_open:
        asked = ActionRequired(
            run_id=known,
            calls=calls_of(still_open),
            replies=replies,
            whole=is_whole,
            anchor=tail.anchor,
            shown=ids_of_replies(rest),
            steered=steered,
        )
        return judged(asked, rest)
    status = (
        "incomplete" if any(item.get("status") == "incomplete" for item in rest) else "completed"
    )
    ended = judged(
        RunEnded(
            run_id=known,
            status=status,
            replies=replies,
            whole=is_whole,
            anchor=tail.anchor,
            shown=ids_of_replies(rest),
            steered=steered,
        ),
        rest,
    )
    is_failed = isinstance(ended, RunEnded) and ended.error is not None
    return Undecided() if is_answer(rest[-1]) and not is_failed else ended


def _written(tail: Tail) -> Finding:
    """Return the end of a batch that was written without a run: its texts are there.

    Without the anchor they may be an earlier reply of the model's.
    """
    if not tail.is_exact:
        return CannotAsk(
            reason="the item before the batch is not in the conversation any more: whether its"
            " texts are the batch's cannot be determined"
        )
    return replace(WRITTEN[1], anchor=tail.anchor)


def _after_outputs(items: Sequence[Json], calls: Sequence[ToolCall]) -> int | None:
    places = [place for place, item in enumerate(items) if _answers(item, calls)]
    return places[-1] + 1 if places else None


def _answers(item: Json, calls: Sequence[ToolCall]) -> bool:
    return is_kind(item, "function_call_output") and call_id_of(item) in {call.id for call in calls}


def _after_batch(tail: Tail, request: RunRequest) -> int | None:
    """Return the place after the batch's items, which are looked for as neighbours.

    Not only at the beginning of the tail: outputs that healed the conversation come first, and on
    servers without a lock another writer's items may. If the anchor is not known any more, only the
    last question counts: an earlier turn may have the same text.
    """
    wanted = request.items
    items = tail.items
    if not wanted:
        return None
    ends = range(len(wanted), len(items) + 1)
    places = [end for end in ends if are_of_batch(items[end - len(wanted) : end], wanted)]
    if not tail.is_exact:
        places = [place for place in places if not any(is_asked(item) for item in items[place:])]
    return places[0] if places else None


def _count_steered(items: Sequence[Json], steered: Sequence[InputItem]) -> int:
    """Return how many of the messages that joined the batch later are among the items, in order."""
    left = list(steered)
    for item in items:
        if left and is_asked(item) and are_of_batch([item], left[:1]):
            del left[0]
    return len(steered) - len(left)


def _without_steered(items: Sequence[Json], steered: Sequence[InputItem]) -> Sequence[Json]:
    """Return the items without the messages that joined the batch later."""
    return [
        item
        for item in items
        if not (is_asked(item) and any(are_of_batch([item], [one]) for one in steered))
    ]


def _until_next_question(items: Sequence[Json]) -> Sequence[Json]:
    """Return the items of this turn: all before another writer's question."""
    return items[: next((place for place, item in enumerate(items) if is_asked(item)), len(items))]
