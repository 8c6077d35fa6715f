"""The judge of takeovers: threads that a person answers for a while, instead of the model.

Each thread's producer does one thing after another, so its log is the order of the thread. A
message is answered by the person's first words after it, by a run, or cancelled by the takeover that
stops its run. Messages that come while a person has the thread are in no run before they are
answered, or handed back. The person's words are in the conversation once, in the role of the
assistant, between the messages that they came between.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from assistant_queue.testing.chaos.oracle import Sent, Verdict, judge
from assistant_queue.testing.provider import Overlap, RunRecord

HandoverKind = Literal["take_over", "refuse", "hand_back"]
Line = tuple[str, str]
"""The role and the text of an item of a conversation."""

MODEL = "a run"
CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """A change of the person of a thread, or an attempt at one.

    Attributes:
        thread: The thread.
        kind: `refuse`: a second person tried, without naming the first.
        at: Time of the first attempt.
        ended_at: Time of the last one.
        by: The person that takes over.
        stops: The answer that is under way is stopped.
        said: What the queue said: whether it changed the person, or which one has the thread; None
            if the call was repeated.
    """

    thread: str
    kind: HandoverKind
    at: float
    ended_at: float
    by: str = ""
    stops: bool = True
    said: bool | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFate:
    """End of a message, as the queue has it.

    Attributes:
        status: As in `MessageStatus`.
        reply: The text that answered it.
        answered_by: The person; None for the model.
        run_id: The run that answered it; "" or None for none.
        claimed_at: When its batch was claimed, seconds since the epoch.
    """

    status: str
    reply: str | None = None
    answered_by: str | None = None
    run_id: str | None = None
    claimed_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeoverEvidence:
    """The input of `judge_takeovers`.

    Attributes:
        sent: The producers' log, with the person's words as `tell`; each thread's in order.
        handovers: Likewise.
        fates: By message id; the person's words have none.
        runs: The provider's log.
        replied: The runs in which the model replied, and the texts that no run had answered before.
        conversations: What each conversation holds in the end.
        overlaps: What the provider itself says about runs at the same time.
        repeats: A reply that no worker has heard may be generated again (Chat Completions).
    """

    sent: Sequence[Sent]
    handovers: Sequence[Handover]
    fates: Mapping[str, MessageFate]
    runs: Sequence[RunRecord]
    replied: Mapping[str, Sequence[str]]
    conversations: Mapping[str, Sequence[Line]]
    overlaps: Sequence[Overlap] = ()
    repeats: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeoverVerdict:
    """The outcome.

    Attributes:
        takeovers: Threads that were taken over, from the model or from another person.
        said: Replies of persons that Redis acknowledged.
        by_person: Messages that a person answered.
        by_model: Messages that a run answered.
        cancelled: Messages of runs that were stopped.
        details: One line for each finding.
    """

    takeovers: int
    said: int
    by_person: int
    by_model: int
    cancelled: int
    details: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.details


def judge_takeovers(evidence: TakeoverEvidence) -> tuple[Verdict, TakeoverVerdict]:
    """Compare; return the verdict over all messages, and what was found of each."""
    facts = _Facts(evidence)
    found: Counter[str] = Counter()
    details: list[str] = []
    for thread in facts.threads.values():
        for place, event in enumerate(thread):
            if isinstance(event, Handover):
                details += _wrong_handover(thread, place, event)
            elif event.kind == "tell":
                found["said"] += event.is_sure
                details += _wrong_words(facts, event)
            else:
                wrong = list(_wrong_message(facts, thread, place, event))
                details += [f"{event.text!r}: {what}" for what in wrong]
                found["right"] += not wrong
                found["all"] += 1
                fate = evidence.fates.get(event.message_id, MessageFate(status="unknown"))
                found[fate.status] += 1
                found["by_person"] += fate.answered_by is not None
    details += _wrong_runs(facts)
    usual = judge(
        evidence.sent,
        [] if evidence.repeats else evidence.runs,
        {
            place: [text for role, text in lines if role == "user"]
            for place, lines in evidence.conversations.items()
        },
        replied={},
        failed={},
        overlaps=evidence.overlaps,
    )
    late = list(_late(facts))
    words = ("overlap", "nobody sent", "several")
    shown = [one for one in usual.details if any(word in one for word in words)]
    verdict = Verdict(
        sent=found["all"],
        once=found["right"],
        lost=found["all"] - found["right"],
        doubled=0,
        parked=0,
        dead=0,
        overlapping=usual.overlapping,
        out_of_order=len(late),
        strange=usual.strange,
        details=(*shown, *late),
    )
    return verdict, TakeoverVerdict(
        takeovers=sum(one.kind == "take_over" for one in evidence.handovers),
        said=found["said"],
        by_person=found["by_person"],
        by_model=found["completed"] - found["by_person"],
        cancelled=found["cancelled"],
        details=tuple(details),
    )


class _Facts:
    """The evidence, sorted by threads and by texts."""

    def __init__(self, evidence: TakeoverEvidence) -> None:
        self.evidence = evidence
        self.threads: defaultdict[str, list[Sent | Handover]] = defaultdict(list)
        events: list[Sent | Handover] = [*evidence.sent, *evidence.handovers]
        for event in sorted(events, key=lambda one: one.at):
            self.threads[event.thread].append(event)
        self.texts = {one.text: one for one in evidence.sent}
        self.places: defaultdict[str, list[Line]] = defaultdict(list)
        self.homes: defaultdict[str, set[str]] = defaultdict(set)
        for place, lines in evidence.conversations.items():
            for role, text in lines:
                self.places[text].append((place, role))
                if text in self.texts and self.texts[text].kind != "tell":
                    self.homes[self.texts[text].thread].add(place)
        completed = {run.id for run in evidence.runs if run.status == "completed"}
        self.answers: defaultdict[str, list[str]] = defaultdict(list)
        for run_id, texts in evidence.replied.items():
            if run_id in completed:
                for text in texts:
                    self.answers[text].append(run_id)

    def of_persons(self, thread: str) -> Iterator[tuple[float, float, str]]:
        """Yield the times from when until when persons surely have the thread, with their names."""
        since: Handover | None = None
        for event in self.threads[thread]:
            if not isinstance(event, Handover) or event.kind == "refuse":
                continue
            if since is not None:
                yield since.ended_at, event.at, since.by
            since = event if event.kind == "take_over" else None
        if since is not None:
            yield since.ended_at, float("inf"), since.by


def person_of(thread: Sequence[Sent | Handover], place: int) -> str:
    """Return the person that has the thread before an event; "" for the model."""
    for event in reversed(thread[:place]):
        if isinstance(event, Handover) and event.kind != "refuse":
            return event.by if event.kind == "take_over" else ""
    return ""


def outcomes(thread: Sequence[Sent | Handover], place: int) -> dict[str, str]:
    """Return what may become of a message, and the person of it: a text, a run, or cancelled."""
    person = person_of(thread, place)
    may_run = not person
    waits = True
    found = {MODEL: ""} if may_run else {}
    for event in thread[place + 1 :]:
        if isinstance(event, Sent):
            if event.kind == "tell" and person and waits:
                found[event.text] = person
                waits = not event.is_sure
        elif event.kind == "take_over":
            if event.stops and may_run:
                found[CANCELLED] = ""
            person = event.by
        elif event.kind == "hand_back":
            person = ""
            if waits:
                may_run = True
                found[MODEL] = ""
    return found


def _wrong_message(
    facts: _Facts, thread: Sequence[Sent | Handover], place: int, message: Sent
) -> Iterator[str]:
    fate = facts.evidence.fates.get(message.message_id)
    if fate is None or fate.status not in {"completed", "cancelled"}:
        yield f"is {None if fate is None else fate.status}"
        return
    held = facts.places[message.text]
    if [role for _, role in held] != ["user"]:
        yield f"is {fate.status}, and in its conversation as {[role for _, role in held]}"
    may_be = outcomes(thread, place)
    if fate.status == "cancelled":
        if CANCELLED not in may_be:
            yield f"is cancelled; it can only have been answered by {sorted(may_be)}"
        return
    if fate.answered_by is None:
        yield from _wrong_answer_of_a_run(facts, message, fate, may_be)
    elif may_be.get(fate.reply or "") != fate.answered_by:
        yield (
            f"was answered by {fate.answered_by} with {fate.reply!r}; "
            f"it can only have been answered by {may_be}"
        )
    else:
        said_at = facts.texts[fate.reply or ""].at
        early = [
            run.id
            for run in facts.evidence.runs
            if message.text in run.user_texts and run.started_at < said_at
        ]
        if early:
            yield f"was answered by {fate.answered_by}, and was in {early} before that"
        if fate.run_id:
            yield f"was answered by {fate.answered_by}, and names run {fate.run_id}"


def _wrong_answer_of_a_run(
    facts: _Facts, message: Sent, fate: MessageFate, may_be: Mapping[str, str]
) -> Iterator[str]:
    answers = facts.answers[message.text]
    if MODEL not in may_be:
        yield f"was answered by run {fate.run_id}; it can only have been answered by {may_be}"
    if facts.evidence.repeats and fate.run_id not in answers:
        yield f"names run {fate.run_id}, and was answered by {answers}"
    # A round that was found by its items has no known id.
    if not facts.evidence.repeats and len(answers) != 1:
        yield f"was answered by {answers}"
    for since, until, person in facts.of_persons(message.thread):
        if since < fate.claimed_at < until:
            yield f"was claimed for run {fate.run_id} while {person} had the thread"


def _wrong_words(facts: _Facts, told: Sent) -> Iterator[str]:
    found = facts.places[told.text]
    if len(found) > 1 or (told.is_sure and not found):
        yield f"{told.text!r}: is {len(found)} times in the conversations"
        return
    for place, role in found:
        if role != "assistant":
            yield f"{told.text!r}: is in the role of the {role}"
        if facts.homes[told.thread] - {place}:
            yield f"{told.text!r}: is in {place}, and its thread in {facts.homes[told.thread]}"


def _wrong_handover(
    thread: Sequence[Sent | Handover], place: int, event: Handover
) -> Iterator[str]:
    if event.said is None:
        return
    person = person_of(thread, place)
    right: bool | str = person if event.kind == "refuse" else True
    if event.said != right:
        yield f"{event.thread}: {event.kind} said {event.said!r}, not {right!r}"


def _wrong_runs(facts: _Facts) -> Iterator[str]:
    """Find runs that began while a person had the thread, for a message that came after that."""
    of: defaultdict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for name in facts.threads:
        of[name] = list(facts.of_persons(name))
    for run in facts.evidence.runs:
        for text in run.user_texts:
            message = facts.texts.get(text)
            for since, until, person in of[message.thread] if message else ():
                if message and since < run.started_at < until and message.at >= since:
                    yield f"{run.id} began while {person} had the thread, with {text!r}"


def _late(facts: _Facts) -> Iterator[str]:
    """Find messages and words of persons after later ones of their thread."""
    order = {
        event.text: number
        for thread in facts.threads.values()
        for number, event in enumerate(thread)
        if isinstance(event, Sent) and event.is_sure
    }
    for lines in facts.evidence.conversations.values():
        known = [text for text in dict.fromkeys(text for _, text in lines) if text in order]
        yield from (
            f"{later!r}: came after a later one, {earlier!r}"
            for earlier, later in pairwise(known)
            if order[earlier] > order[later]
        )
