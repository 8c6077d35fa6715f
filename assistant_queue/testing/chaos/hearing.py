"""Gather the evidence for the judges after the end of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assistant_queue import AssistantMessageQueue, FailedBatch
from assistant_queue.backends.responses.message_pages import seen
from assistant_queue.core.history_notes import Note, load_notes
from assistant_queue.store.ops.failures import OF_REPLIES
from assistant_queue.store.ops.journal import read_entries
from assistant_queue.testing.chaos.chat_oracle import Evidence, Line, judge_chat
from assistant_queue.testing.chaos.deliveries import Delivered
from assistant_queue.testing.chaos.delivery_oracle import (
    RepliesVerdict,
    Words,
    judge_deliveries,
    words_of,
)
from assistant_queue.testing.chaos.fault_plans import Model, reply_to
from assistant_queue.testing.chaos.feed_oracle import FeedRow, FeedVerdict, judge_feed
from assistant_queue.testing.chaos.forgetting import Forgotten, excused
from assistant_queue.testing.chaos.journal_oracle import Journal, JournalVerdict, judge_journals
from assistant_queue.testing.chaos.metrics_oracle import (
    MetricsVerdict,
    Witnessed,
    judge_metrics,
)
from assistant_queue.testing.chaos.oracle import Sent, Verdict, judge
from assistant_queue.testing.chaos.plan import ASKED, BLIND
from assistant_queue.testing.chaos.producers import Producers
from assistant_queue.testing.chaos.said_oracle import SaidVerdict, judge_said
from assistant_queue.testing.provider import StandInProvider
from assistant_queue.testing.provider.state import text_of

_PAGE = 100


def hear(
    queue: AssistantMessageQueue,
    sent: Sequence[Sent],
    provider: StandInProvider,
    model: Model,
    moments: Sequence[Forgotten] = (),
) -> Verdict:
    """Judge with a provider that keeps conversations; `moments` are those that Redis lost."""
    runs = provider.runs
    texts = {place: texts_in(provider, place) for place in places_of(provider)}
    return judge(
        [message for message in sent if message.kind != "tell"],
        runs,
        texts,
        replied=model.replied,
        failed=_without_a_reply(queue),
        overlaps=provider.overlaps,
        excused=excused(sent, runs, {}, moments),
    )


def hear_said(
    queue: AssistantMessageQueue, sent: Sequence[Sent], provider: StandInProvider
) -> SaidVerdict:
    """Judge the replies of `say`, with a provider that keeps conversations."""
    return judge_said(
        sent,
        {
            place: [text_of(item) for item in provider.items(place) if "role" in item]
            for place in places_of(provider)
            if texts_in(provider, place)
        },
        _without_a_reply(queue),
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
    """Judge with a queue that keeps the history."""
    asked = [
        request.body["messages"]
        for request in provider.calls("chat.completions.create")
        if request.body
    ]
    statuses = {message.message_id: queue.get_message(message.message_id) for message in sent}
    return judge_chat(
        Evidence(
            sent=sent,
            runs=provider.runs,
            replied=model.replied,
            requested=[
                [(one["role"], one["content"]) for one in messages if _is_said(one)]
                for messages in asked
            ],
            delivered=delivered,
            histories={
                thread: list(remembered(queue, thread))
                for thread in {message.thread for message in sent}
            },
            stored={
                message_id: None if status is None else status.run_id
                for message_id, status in statuses.items()
            },
            failed=_without_a_reply(queue),
            excused=excused(sent, provider.runs, model.replied, moments),
        )
    )


def hear_deliveries(
    queue: AssistantMessageQueue,
    sent: Sequence[Sent],
    provider: StandInProvider,
    model: Model,
    *,
    shown: Mapping[str, Sequence[str]],
    moments: Sequence[Forgotten] = (),
) -> RepliesVerdict:
    """Judge what the chat platforms were shown of the model's replies."""
    told = {message.text for message in sent if message.kind == "tell"}
    shown = {
        thread: [text for text in texts if text not in told] for thread, texts in shown.items()
    }
    thread_of = {message.text: message.thread for message in sent}
    replied: dict[str, list[Words]] = {}
    for run in sorted(provider.runs, key=lambda run: run.ended_at or float("inf")):
        texts = model.replied.get(run.id, ()) if run.status == "completed" else ()
        thread = thread_of.get(texts[0], "") if texts else ""
        if thread.startswith((f"{BLIND}:", f"{ASKED}:")):
            replied.setdefault(thread, []).append(words_of(reply_to(texts)))
    words = {message.message_id: message.text for message in sent if message.kind != "tell"}
    failed = {
        words_of(" | ".join(words[message_id] for message_id in batch.message_ids)): batch.reason
        for batch in _failed(queue)
        if batch.reason in OF_REPLIES and words.keys() >= set(batch.message_ids)
    }
    return judge_deliveries(
        replied,
        shown,
        failed,
        blind=f"{BLIND}:",
        excused=excused(sent, provider.runs, model.replied, moments),
    )


def hear_feed(
    queue: AssistantMessageQueue, sent: Sequence[Sent], rows: Sequence[FeedRow]
) -> FeedVerdict:
    """Judge what a reader of the feed received."""
    found = {message.message_id: queue.get_message(message.message_id) for message in sent}
    answered = {
        message_id
        for message_id, status in found.items()
        if status is not None and status.status == "completed" and status.run_id
    }
    return judge_feed(rows, sent, answered)


def hear_shown(
    queue: AssistantMessageQueue, sent: Sequence[Sent], shown: Mapping[str, Sequence[str]]
) -> RepliesVerdict:
    """Judge what the chat platforms were shown of the replies of `say`."""
    told = [message for message in sent if message.kind == "tell"]
    unsure = {message.text for message in told if not message.is_sure}
    words = {message.message_id: message.text for message in told}
    said: dict[str, list[Words]] = {}
    for message in told:
        if message.is_sure:
            said.setdefault(message.thread, []).append((message.text,))
    return judge_deliveries(
        said,
        {
            thread: [text for text in texts if text in set(words.values()) - unsure]
            for thread, texts in shown.items()
        },
        {
            (words[batch.message_ids[0]],): batch.reason
            for batch in _failed(queue)
            if batch.reason in OF_REPLIES and batch.message_ids[0] in words
        },
        blind=f"{BLIND}:",
        read=lambda text: (text,),
    )


def hear_metrics(  # noqa: PLR0917 - what the other judges know
    queue: AssistantMessageQueue,
    producers: Producers,
    verdict: Verdict,
    repeated: int,
    taken_over: int,
    deliveries: Sequence[RepliesVerdict],
    cancelled: int = 0,
) -> MetricsVerdict:
    """Judge the metrics by the other judges' counts, and by the records of the messages."""
    sent = [message for message in producers.sent if message.kind != "tell"]
    # Notes alone, and what a person has answered, are written without a run.
    asked = [message.message_id for message in sent if message.kind == "say"]
    statuses = [one for one in map(queue.get_message, asked) if one and one.answered_by is None]
    return judge_metrics(
        queue.get_metrics(),
        Witnessed(
            messages=len(sent),
            failed=verdict.dead + verdict.parked,
            cancelled=cancelled,
            batches=len({one.batch_id for one in statuses if one.status == "completed"}),
            repeated=repeated,
            taken_over=taken_over,
            delivered=sum(one.once for one in deliveries) if deliveries else None,
            parked=sum(one.parked for one in deliveries),
            unsure=sum(not message.is_sure for message in producers.sent),
        ),
    )


def hear_journals(
    queue: AssistantMessageQueue, producers: Producers, provider: StandInProvider
) -> JournalVerdict:
    """Judge the journals of all threads, and what they note of the provider's conversations."""
    sent = producers.sent
    failed = failed_messages(queue)
    statuses = {message.message_id: queue.get_message(message.message_id) for message in sent}
    threads = {message.thread for message in sent}
    thread_of = {message.text: message.thread for message in sent}
    items: dict[str, Sequence[Mapping[str, Any]]] = {}
    for place in places_of(provider):
        texts = texts_in(provider, place)
        if place.startswith("conv_") and texts:
            known = (thread_of[text] for text in texts if text in thread_of)
            items[next(known, "")] = provider.items(place)
    queued = {}
    for message in sent:
        status = statuses[message.message_id]
        if status is not None and status.queued_at is not None:
            queued[message.text] = status.queued_at
    return judge_journals(
        {one: _journal(queue, one, items.get(one, ())) for one in threads},
        sent,
        failed,
        queued,
        cancelled={
            one for one, status in statuses.items() if status and status.status == "cancelled"
        },
        removed={one.message_id for one in producers.revisions if one.text is None},
    )


def failed_messages(queue: AssistantMessageQueue) -> set[str]:
    """Return the ids of the messages in the failed list."""
    return {message_id for batch in _failed(queue) for message_id in batch.message_ids}


def _journal(
    queue: AssistantMessageQueue, thread_id: str, items: Sequence[Mapping[str, Any]]
) -> Journal:
    records = []
    before = None
    while page := queue.get_timeline(thread_id, limit=1000, before=before):
        records += page
        before = page[-1].batch_id
    core = queue.core
    entries = core.store.run(read_entries(core.namespace, thread_id))
    # An entry without message ids is that of a delivery.
    rows = [row for row in map(json.loads, entries) if row[2] != 0]
    notes = load_notes(entries).of_items(
        [seen(dict(item)) for item in items], begins=True, ends=True
    )
    found = ((item, notes.get(str(item.get("id")), Note())) for item in items)
    return Journal(
        records=records,
        written=[str(row[1]) for row in rows],
        dated=[(text_of(item), note.at) for item, note in found if note.at is not None],
    )


def _is_said(message: Mapping[str, Any]) -> bool:
    return message["role"] in {"user", "assistant"} and not message.get("tool_calls")


def remembered(queue: AssistantMessageQueue, thread_id: str) -> Iterator[Line]:
    """Yield what the queue remembers of a thread."""
    after = None
    while page := queue.list_messages(thread_id, limit=_PAGE, order="asc", after=after):
        yield from ((message.role, message.text) for message in page)
        after = page[-1].id


def places_of(provider: StandInProvider) -> set[str]:
    """Return the conversations that runs have had."""
    places = {run.conversation_id for run in provider.runs}
    return {place for place in places if place is not None}


def texts_in(provider: StandInProvider, conversation_id: str) -> list[str]:
    """Return the user texts of a conversation; none if it was deleted."""
    try:
        return provider.user_texts(conversation_id)
    except LookupError:  # deleted: the second of two that were created for one thread
        return []


def _without_a_reply(queue: AssistantMessageQueue) -> dict[str, str]:
    """Message id -> reason, of batches in the failed list that were not answered."""
    return {
        message_id: batch.reason
        for batch in _failed(queue)
        if batch.reason not in OF_REPLIES
        for message_id in batch.message_ids
    }


def _failed(queue: AssistantMessageQueue) -> Iterator[FailedBatch]:
    after = None
    while page := queue.list_failed(limit=_PAGE, after=after):
        yield from page
        after = page[-1].batch_id
