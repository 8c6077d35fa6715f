"""The judge of stops, interrupts and steers.

A message is answered once, or cancelled because a stop was asked for, never both; its text is in
its conversation once.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from assistant_queue.testing.chaos.oracle import Sent, Verdict, judge
from assistant_queue.testing.provider import Overlap, RunRecord

_OF_A_TRIAL = re.compile(r"'\d+': nobody sent")
"""Numbered texts, by which a worker learns in which order a server lists items."""


@dataclass(frozen=True, slots=True)
class Halt:
    """A call of `stop`.

    Attributes:
        at: Time of the first attempt.
        ended_at: Time of the last one.
        found: Whether there was a batch to stop, or whether Redis did not say.
    """

    thread: str
    at: float
    ended_at: float
    found: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEnd:
    """End of a message, as the queue has it.

    Attributes:
        status: As in `MessageStatus`.
        run_id: The run that answered it.
        batch_id: Its batch.
    """

    status: str
    run_id: str | None = None
    batch_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeringEvidence:
    """The input of `judge_steered`.

    Attributes:
        sent: The producers' log; each thread's messages in order.
        halts: The stops that were asked for.
        fates: By message id.
        runs: The provider's log.
        replied: The runs in which the model replied, and the texts that no run had answered before.
        conversations: What each conversation holds in the end: its user texts.
        delivered: Ids of the messages with a delivered reply, by batch; None if none are delivered.
        overlaps: What the provider itself says about runs at the same time.
        repeats: A reply that no worker has heard may be generated again (Chat Completions).
    """

    sent: Sequence[Sent]
    halts: Sequence[Halt]
    fates: Mapping[str, MessageEnd]
    runs: Sequence[RunRecord]
    replied: Mapping[str, Sequence[str]]
    conversations: Mapping[str, Sequence[str]]
    delivered: Mapping[str, Collection[str]] | None = None
    overlaps: Sequence[Overlap] = ()
    repeats: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeringVerdict:
    """The outcome.

    Attributes:
        answered: Messages that were answered once.
        cancelled: Messages that were cancelled by a stop.
        details: One line for each finding.
    """

    answered: int
    cancelled: int
    details: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.details


def judge_steered(evidence: SteeringEvidence) -> tuple[Verdict, SteeringVerdict]:
    """Compare; return the verdict over all messages, and what was found of each."""
    held = Counter(text for texts in evidence.conversations.values() for text in texts)
    completed = {run.id for run in evidence.runs if run.status == "completed"}
    answers: defaultdict[str, list[str]] = defaultdict(list)
    for run_id, texts in evidence.replied.items():
        if run_id in completed:
            for text in texts:
                answers[text].append(run_id)
    found: Counter[str] = Counter()
    details: list[str] = []
    for message in evidence.sent:
        wrong = list(_wrong(evidence, message, held[message.text], answers[message.text]))
        details += [f"{message.text!r}: {what}" for what in wrong]
        fate = evidence.fates.get(message.message_id, MessageEnd(status="unknown"))
        found[fate.status if not wrong else "wrong"] += 1
    usual = judge(
        evidence.sent,
        [] if evidence.repeats else evidence.runs,
        evidence.conversations,
        replied={},
        failed={},
        overlaps=evidence.overlaps,
    )
    shown = [one for one in usual.details if one.startswith("overlap") or "later one" in one]
    shown += [
        one
        for one in usual.details
        if ("nobody sent" in one or "several" in one) and not _OF_A_TRIAL.match(one)
    ]
    verdict = Verdict(
        sent=len(evidence.sent),
        once=found["completed"] + found["cancelled"],
        lost=found["wrong"],
        doubled=0,
        parked=0,
        dead=0,
        overlapping=usual.overlapping,
        out_of_order=_out_of_order(evidence),
        strange=usual.strange,
        details=tuple(shown),
    )
    return verdict, SteeringVerdict(
        answered=found["completed"], cancelled=found["cancelled"], details=tuple(details)
    )


def _wrong(
    evidence: SteeringEvidence, message: Sent, held: int, answers: Sequence[str]
) -> Iterator[str]:
    fate = evidence.fates.get(message.message_id)
    if fate is None or fate.status not in {"completed", "cancelled"}:
        yield f"is {None if fate is None else fate.status}"
        return
    if held != 1:
        yield f"is {fate.status}, and in its conversation {held} times"
    batches = [
        batch for batch, ids in (evidence.delivered or {}).items() if message.message_id in ids
    ]
    if fate.status == "cancelled":
        if not any(_covers(halt, message) for halt in evidence.halts):
            yield "is cancelled, and no stop was asked for"
        if batches:
            yield f"is cancelled, and its reply was delivered with {batches}"
        return
    if evidence.repeats and fate.run_id not in answers:
        yield f"names run {fate.run_id}, and was answered by {answers}"
    # A round that was found by its items has no known id.
    if not evidence.repeats and len(answers) != 1:
        yield f"was answered by {answers}"
    if evidence.delivered is not None and batches != [fate.batch_id]:
        yield f"is answered in {fate.batch_id}, and delivered with {batches}"


def _covers(halt: Halt, message: Sent) -> bool:
    """Whether a stop can have met the batch of a message."""
    return halt.found and halt.thread == message.thread and message.at <= halt.ended_at


def _out_of_order(evidence: SteeringEvidence) -> int:
    place = {message.text: number for number, message in enumerate(evidence.sent)}
    late = 0
    for texts in evidence.conversations.values():
        known = [place[text] for text in dict.fromkeys(texts) if text in place]
        late += sum(one > other for one, other in pairwise(known))
    return late
