"""Gather the evidence for the judge of the messages, and choose that judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from assistant_queue import AssistantMessageQueue
from assistant_queue.models import MessageStatus
from assistant_queue.testing.chaos.deliveries import Deliveries
from assistant_queue.testing.chaos.fault_plans import Model
from assistant_queue.testing.chaos.forgetting import Forgotten
from assistant_queue.testing.chaos.hearing import hear, hear_chat, remembered
from assistant_queue.testing.chaos.oracle import Verdict
from assistant_queue.testing.chaos.plan import ChaosSettings
from assistant_queue.testing.chaos.producers import Producers
from assistant_queue.testing.chaos.steering_hearing import hear_steered, split, written_places
from assistant_queue.testing.chaos.steering_oracle import SteeringVerdict
from assistant_queue.testing.chaos.takeover_oracle import (
    Line,
    MessageFate,
    TakeoverEvidence,
    TakeoverVerdict,
    judge_takeovers,
)
from assistant_queue.testing.provider import StandInProvider
from assistant_queue.testing.provider.state import text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageVerdicts:
    """The outcome of the messages.

    Attributes:
        verdict: Of all messages.
        steering: What became of stops, interrupts and steers; None without any.
        takeovers: What became of takeovers; None without any.
    """

    verdict: Verdict
    steering: SteeringVerdict | None = None
    takeovers: TakeoverVerdict | None = None

    @property
    def cancelled(self) -> int:
        """Messages that were cancelled."""
        found = (self.steering, self.takeovers)
        return sum(one.cancelled for one in found if one is not None)


def hear_messages(  # noqa: PLR0917 - the parts of a run
    settings: ChaosSettings,
    queue: AssistantMessageQueue,
    producers: Producers,
    provider: StandInProvider,
    model: Model,
    deliveries: Deliveries,
    moments: Sequence[Forgotten],
) -> MessageVerdicts:
    """Judge the messages, with a judge for the provider and for what was asked for."""
    is_kept = settings.protocol == "chat_completions"
    if settings.steering:
        delivered = deliveries.read() if is_kept else None
        verdict, steering = hear_steered(queue, producers, provider, model, delivered)
        return MessageVerdicts(verdict=verdict, steering=steering)
    if settings.takeover_every:
        verdict, takeovers = hear_taken_over(queue, producers, provider, model, is_kept=is_kept)
        return MessageVerdicts(verdict=verdict, takeovers=takeovers)
    if is_kept:
        found = deliveries.read()
        verdict = hear_chat(
            queue, producers.sent, provider, model, delivered=found, moments=moments
        )
        return MessageVerdicts(verdict=verdict)
    return MessageVerdicts(verdict=hear(queue, producers.sent, provider, model, moments))


def hear_taken_over(
    queue: AssistantMessageQueue,
    producers: Producers,
    provider: StandInProvider,
    model: Model,
    *,
    is_kept: bool,
) -> tuple[Verdict, TakeoverVerdict]:
    """Judge takeovers; `is_kept`: the queue keeps the conversations."""
    sent = producers.sent
    threads = {message.thread for message in sent} if is_kept else set()
    conversations = {thread: _parted(remembered(queue, thread)) for thread in threads}
    if not is_kept:
        conversations = {place: _lines(provider, place) for place in written_places(provider)}
    found = {
        one.message_id: queue.get_message(one.message_id) for one in sent if one.kind != "tell"
    }
    return judge_takeovers(
        TakeoverEvidence(
            sent=sent,
            handovers=producers.persons.handovers,
            fates={one: _fate(status) for one, status in found.items() if status is not None},
            runs=[replace(run, user_texts=split(run.user_texts)) for run in provider.runs],
            replied={run_id: split(texts) for run_id, texts in model.replied.items()},
            conversations=conversations,
            overlaps=provider.overlaps,
            repeats=is_kept,
        )
    )


def _lines(provider: StandInProvider, place: str) -> list[Line]:
    """Return what a conversation holds; nothing if it only shows the order of a list."""
    try:
        items = [item for item in provider.items(place) if "role" in item]
    except LookupError:  # deleted: the second of two that were created for one thread
        return []
    lines = _parted((str(item["role"]), text_of(item)) for item in items)
    return [] if all(text.isdigit() for _, text in lines) else lines


def _parted(lines: Iterable[Line]) -> list[Line]:
    """Return the texts of messages: many of a user's may be in one item."""
    return [
        (role, text)
        for role, whole in lines
        for text in (split([whole]) if role == "user" else [whole])
    ]


def _fate(status: MessageStatus) -> MessageFate:
    claimed_at = status.timeline.claimed_at
    return MessageFate(
        status=status.status,
        reply=status.reply,
        answered_by=status.answered_by,
        run_id=status.run_id,
        claimed_at=0.0 if claimed_at is None else claimed_at.timestamp(),
    )
