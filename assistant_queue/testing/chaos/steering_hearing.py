"""Gather the evidence for the judge of stops, interrupts, steers, edits and removals."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing.chaos.deliveries import Delivered
from assistant_queue.testing.chaos.fault_plans import Model
from assistant_queue.testing.chaos.hearing import places_of, remembered, texts_in
from assistant_queue.testing.chaos.oracle import Verdict
from assistant_queue.testing.chaos.producers import Producers
from assistant_queue.testing.chaos.steering_oracle import (
    MessageEnd,
    SteeringEvidence,
    SteeringVerdict,
    judge_steered,
)
from assistant_queue.testing.provider import StandInProvider

_PLACE = re.compile(r"/(?:conversations|threads)/([^/]+)/")


def hear_steered(
    queue: AssistantMessageQueue,
    producers: Producers,
    provider: StandInProvider,
    model: Model,
    delivered: Sequence[Delivered] | None,
) -> tuple[Verdict, SteeringVerdict]:
    """Judge; `delivered` is what was delivered if the queue keeps the history."""
    sent = producers.sent
    batches: defaultdict[str, set[str]] = defaultdict(set)
    for one in delivered or ():
        batches[one.batch_id].update(one.message_ids)
    return judge_steered(
        SteeringEvidence(
            sent=sent,
            halts=producers.halts,
            revisions=producers.revisions,
            fates=fates_of(queue, [message.message_id for message in sent]),
            runs=[replace(run, user_texts=split(run.user_texts)) for run in provider.runs],
            replied={run_id: split(texts) for run_id, texts in model.replied.items()},
            conversations={
                thread: [text for who, text in remembered(queue, thread) if who == "user"]
                for thread in {message.thread for message in sent}
            }
            if delivered is not None
            else _conversations(provider),
            delivered=None if delivered is None else batches,
            overlaps=provider.overlaps,
            repeats=delivered is not None,
        )
    )


def split(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the texts of messages; a backend may send many of them as one, a line each."""
    return tuple(line for text in texts for line in text.split("\n"))


def _conversations(provider: StandInProvider) -> Mapping[str, Sequence[str]]:
    """Return what each conversation holds, without those that only show the order of a list."""
    found = {place: split(texts_in(provider, place)) for place in written_places(provider)}
    return {
        place: texts for place, texts in found.items() if not all(text.isdigit() for text in texts)
    }


def written_places(provider: StandInProvider) -> set[str]:
    """Return all conversations; a batch that is stopped may be in one that has had no run."""
    found = (_PLACE.search(request.path) for request in provider.requests)
    return places_of(provider) | {match[1] for match in found if match}


def fates_of(queue: AssistantMessageQueue, message_ids: Sequence[str]) -> Mapping[str, MessageEnd]:
    """Return what the queue says of messages; without those that it does not know."""
    found = {one: queue.get_message(one) for one in message_ids}
    return {
        one: MessageEnd(status=status.status, run_id=status.run_id, batch_id=status.batch_id)
        for one, status in found.items()
        if status is not None
    }
