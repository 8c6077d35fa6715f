"""The judge of stops, interrupts, steers, edits and removals.

A message is answered once, or cancelled because a stop or its removal was asked for, never both;
its text is in its conversation once. Of one that was edited or removed, the conversation may hold
the old text, the new one, or both, each once; one run answers what it holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from assistant_queue.testing.chaos.oracle import Sent, Verdict, judge
from assistant_queue.testing.provider import Overlap, RunRecord


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


@dataclass(frozen=True, slots=True)
class Revision:
    """A call of `edit_message` or `cancel` that was accepted, or that Redis did not answer.

    Attributes:
        text: The new text; None for a removal.
    """

    message_id: str
    text: str | None


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
        revisions: The edits and removals that were asked for, one of a message at most.
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
    revisions: Sequence[Revision] = ()
    overlaps: Sequence[Overlap] = ()
    repeats: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeringVerdict:
    """The outcome.

    Attributes:
        answered: Messages that were answered once.
        cancelled: Messages that were cancelled by a stop or a removal.
        edited: Messages that were answered with their new text.
        details: One line for each finding.
    """

    answered: int
    cancelled: int
    edited: int = 0
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
    revisions = {one.message_id: one for one in evidence.revisions}
    found: Counter[str] = Counter()
    details: list[str] = []
    for message in evidence.sent:
        facts = _Facts(message, revisions.get(message.message_id), held, answers)
        wrong = list(_wrong(evidence, facts))
        details += [f"{message.text!r}: {what}" for what in wrong]
        fate = evidence.fates.get(message.message_id, MessageEnd(status="unknown"))
        found[fate.status] += 1
        found["right"] += not wrong
        found["edited"] += fate.status == "completed" and facts.has_new_text
    usual = judge(
        [*evidence.sent, *_edited(evidence)],
        [] if evidence.repeats else evidence.runs,
        evidence.conversations,
        replied={},
        failed={},
        overlaps=evidence.overlaps,
    )
    late = _out_of_order(evidence)
    shown = [
        one for one in usual.details if one.startswith("overlap") or (late and "later one" in one)
    ]
    shown += [one for one in usual.details if "nobody sent" in one or "several" in one]
    verdict = Verdict(
        sent=len(evidence.sent),
        once=found["right"],
        lost=len(evidence.sent) - found["right"],
        doubled=0,
        parked=0,
        dead=0,
        overlapping=usual.overlapping,
        out_of_order=late,
        strange=usual.strange,
        details=tuple(shown),
    )
    return verdict, SteeringVerdict(
        answered=found["completed"],
        cancelled=found["cancelled"],
        edited=found["edited"],
        details=tuple(details),
    )


class _Facts:
    """A message, with what became of its texts."""

    def __init__(
        self,
        message: Sent,
        revision: Revision | None,
        held: Mapping[str, int],
        answers: Mapping[str, Sequence[str]],
    ) -> None:
        self.message = message
        self.is_removed = revision is not None and revision.text is None
        self.is_edited = revision is not None and revision.text is not None
        texts = [message.text]
        if revision is not None and revision.text is not None:
            texts.append(revision.text)
        self.held = [held[text] for text in texts]
        found = [answers[text] for text in texts]
        self.has_new_text = self.is_edited and self.held[1] > 0
        # One run over both texts of a message is one answer.
        self.answers = found[0] if len(set(map(tuple, found))) == 1 else [*found[0], *found[-1]]

    @property
    def is_held_right(self) -> bool:
        """Whether the conversation holds the message as often as it should."""
        return max(self.held) == 1 or (self.is_removed and not any(self.held))


def _edited(evidence: SteeringEvidence) -> Iterator[Sent]:
    """Yield the new texts of messages, as if they had been sent."""
    sent = {message.message_id: message for message in evidence.sent}
    for one in evidence.revisions:
        if one.text is not None and one.message_id in sent:
            yield replace(sent[one.message_id], text=one.text)


def _wrong(evidence: SteeringEvidence, facts: _Facts) -> Iterator[str]:
    message = facts.message
    answers = facts.answers
    fate = evidence.fates.get(message.message_id)
    if fate is None or fate.status not in {"completed", "cancelled"}:
        yield f"is {None if fate is None else fate.status}"
        return
    if not facts.is_held_right or (fate.status == "completed" and not any(facts.held)):
        times = " and ".join(map(str, facts.held))
        yield f"is {fate.status}, and in its conversation {times} times"
    batches = [
        batch for batch, ids in (evidence.delivered or {}).items() if message.message_id in ids
    ]
    if fate.status == "cancelled":
        is_asked = facts.is_removed or any(_covers(halt, message) for halt in evidence.halts)
        if not is_asked:
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
