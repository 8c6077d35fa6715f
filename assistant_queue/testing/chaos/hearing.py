"""What the judges look at, gathered when everything has ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing.chaos.chat_oracle import Evidence, Line, judge_chat
from assistant_queue.testing.chaos.deliveries import Delivered
from assistant_queue.testing.chaos.faults import Model
from assistant_queue.testing.chaos.forgetting import Forgotten, excused
from assistant_queue.testing.chaos.oracle import Sent, Verdict, judge
from assistant_queue.testing.provider import StandInProvider

_PAGE = 100


def hear(
    queue: AssistantMessageQueue, sent: Sequence[Sent], provider: StandInProvider, model: Model, moments: Sequence[Forgotten] = ()
) -> Verdict:
    """The judge where the provider keeps conversations; `moments` are those that Redis forgot."""
    runs = provider.runs
    texts = {place: _texts(provider, place) for place in {run.conversation_id for run in runs} if place is not None}
    return judge(
        sent,
        runs,
        texts,
        replied=model.replied,
        failed=_reasons(queue),
        overlaps=provider.overlaps,
        excused=excused(sent, runs, {}, moments),
    )


def hear_chat(
    queue: AssistantMessageQueue,
    sent: Sequence[Sent],
    provider: StandInProvider,
    model: Model,
    *,
    delivered: Sequence[Delivered],
    moments: Sequence[Forgotten] = (),
) -> Verdict:
    """The judge where the queue keeps the history."""
    asked = [request.body["messages"] for request in provider.calls("chat.completions.create") if request.body]
    statuses = {message.message_id: queue.get_message(message.message_id) for message in sent}
    return judge_chat(
        Evidence(
            sent=sent,
            runs=provider.runs,
            replied=model.replied,
            told=[[(one["role"], one["content"]) for one in messages if _is_said(one)] for messages in asked],
            delivered=delivered,
            histories={thread: list(_remembered(queue, thread)) for thread in {message.thread for message in sent}},
            stored={message_id: None if status is None else status.run_id for message_id, status in statuses.items()},
            failed=_reasons(queue),
            excused=excused(sent, provider.runs, model.replied, moments),
        )
    )


def _is_said(message: Mapping[str, Any]) -> bool:
    return message["role"] in {"user", "assistant"} and not message.get("tool_calls")


def _remembered(queue: AssistantMessageQueue, thread_id: str) -> Iterator[Line]:
    after = None
    while page := queue.list_messages(thread_id, limit=_PAGE, order="asc", after=after):
        yield from ((message.role, message.text) for message in page)
        after = page[-1].id


def _texts(provider: StandInProvider, conversation_id: str) -> list[str]:
    try:
        return provider.user_texts(conversation_id)
    except LookupError:  # deleted: the loser of two that were made for one thread
        return []


def _reasons(queue: AssistantMessageQueue) -> dict[str, str]:
    """Message id -> reason, of what is in the failed list."""
    found: dict[str, str] = {}
    after = None
    while page := queue.list_failed(limit=_PAGE, after=after):
        found.update({message_id: batch.reason for batch in page for message_id in batch.message_ids})
        after = page[-1].batch_id
    return found
