"""The judge: what the producers say they sent against what the provider says it ran.

Redis is not asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Literal

from assistant_queue.testing.provider import Overlap, RunRecord


@dataclass(frozen=True, slots=True)
class Sent:
    """An accepted message with a unique text.

    Attributes:
        at: Time of the first attempt to add it.
        accepted_at: Time of the successful one.
        kind: As that of its event: `say`; `note` wants no reply; `tell` is a reply of `say`.
        is_sure: Whether Redis acknowledged it. A reply of `say` is not repeated.
    """

    message_id: str
    thread: str
    text: str
    at: float
    accepted_at: float = 0.0
    kind: Literal["say", "note", "tell"] = "say"
    is_sure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of the messages.

    Attributes:
        sent: Messages that were accepted.
        once: In exactly one completed run, answered by it, and once in their conversation.
        lost: Neither answered nor in the failed list.
        doubled: In more than one completed run, or more than once in a conversation.
        parked: In the failed list because it is unknown whether they were accepted.
        dead: In the failed list for any other reason.
        overlapping: Pairs of runs of one thread that were active at the same time.
        out_of_order: Messages that reached the model after a later one of their thread.
        strange: What no producer sent, or what stands in a conversation that is not its thread's.
        excused_lost: Lost, and accepted or in the air when Redis lost what it had stored; not
            counted as lost.
        excused_doubled: Doubled, likewise.
        waits: Seconds from the adding of a message to the end of its run, shortest first.
        details: One line for each finding.
    """

    sent: int
    once: int
    lost: int
    doubled: int
    parked: int
    dead: int
    overlapping: int
    out_of_order: int
    strange: int
    excused_lost: int = 0
    excused_doubled: int = 0
    waits: tuple[float, ...] = ()
    details: tuple[str, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether all messages but the excused were answered once, in order, one run at a time."""
        return self.once + self.excused_lost + self.excused_doubled == self.sent and not any(
            (
                self.lost,
                self.doubled,
                self.parked,
                self.dead,
                self.overlapping,
                self.out_of_order,
                self.strange,
            )
        )


def judge(
    sent: Sequence[Sent],
    runs: Sequence[RunRecord],
    conversations: Mapping[str, Sequence[str]],
    *,
    replied: Mapping[str, Sequence[str]],
    failed: Mapping[str, str],
    overlaps: Sequence[Overlap] = (),
    excused: frozenset[str] = frozenset(),
) -> Verdict:
    """Compare the logs.

    Args:
        sent: The producers' log; each thread's messages in order.
        runs: The provider's log.
        conversations: What each conversation holds in the end: its user texts.
        replied: The runs in which the model replied instead of asking for a function, and the texts
            it replied to.
        failed: Message id -> reason, of what is in the failed list.
        overlaps: What the provider itself says about runs at the same time.
        excused: Texts that may be lost, doubled or split: `forgetting.excused` says which.
    """
    known = {message.text for message in sent}
    runs = [replace(run, user_texts=tuple(_apart(run.user_texts, known))) for run in runs]
    conversations = {name: _apart(texts, known) for name, texts in conversations.items()}
    completed = [run for run in runs if run.status == "completed"]
    taken: dict[str, list[str]] = defaultdict(list)
    answered: dict[str, list[RunRecord]] = defaultdict(list)
    for run in completed:
        for text in run.user_texts:
            taken[text].append(run.id)
        # A tool round of Responses is its own run over the same texts: the first one carries
        # them, the last one replies.
        for text in _apart(replied.get(run.id, ()), known):
            answered[text].append(run)
    held = _places(conversations)
    details: list[str] = []
    once = lost = doubled = forgotten = repeated = 0
    for message in sent:
        times = (len(taken[message.text]), len(answered[message.text]), len(held[message.text]))
        is_failed = message.message_id in failed
        if message.text in excused and times != (1, 1, 1) and not is_failed:
            repeated += max(times) > 1
            forgotten += max(times) <= 1
            continue
        # One that wants no reply may be in its conversation without a run.
        is_once = times == (1, 1, 1) or (message.kind == "note" and times == (0, 0, 1))
        once += is_once and not is_failed
        doubled += max(times) > 1
        lost += min(times) == 0 and not is_once and not is_failed
        if not is_once or is_failed:
            reason = f", failed: {failed[message.message_id]}" if is_failed else ""
            details.append(
                f"{message.text!r}: taken, answered, held {times} times{reason}; runs {taken[message.text]}"
            )
    strange = _strange(sent, taken, held, excused, details)
    at_once = _overlapping(runs, details) | {
        (overlap.run_id, active) for overlap in overlaps for active in overlap.active_ids
    }
    pardoned = {run.id for run in runs if excused.intersection(run.user_texts)}
    at_once = {pair for pair in at_once if not pardoned.issuperset(pair)}
    details.extend(
        f"overlap reported by the provider: {overlap.run_id} while {overlap.active_ids}"
        for overlap in overlaps
    )
    wait_of = {message.text: message.at for message in sent}
    waits = sorted(
        run.ended_at - wait_of[text]
        for text, found in answered.items()
        for run in found[:1]
        if run.ended_at is not None and text in wait_of
    )
    return Verdict(
        sent=len(sent),
        once=once,
        lost=lost,
        doubled=doubled,
        parked=sum(failed.get(message.message_id) == "parked" for message in sent),
        dead=sum(failed.get(message.message_id, "parked") != "parked" for message in sent),
        overlapping=len({frozenset(pair) for pair in at_once}),
        out_of_order=_out_of_order(sent, completed, conversations, excused, details),
        strange=strange,
        excused_lost=forgotten,
        excused_doubled=repeated,
        waits=tuple(waits),
        details=tuple(details),
    )


def _apart(texts: Sequence[str], known: AbstractSet[str]) -> list[str]:
    """Return texts one by one: a large batch has some of its messages joined in one item."""
    return [
        one
        for text in texts
        for one in ([text] if text in known else _lines(text, known) or [text])
    ]


def _lines(text: str, known: AbstractSet[str]) -> list[str]:
    """Return the lines of a text if each is a message; else none."""
    lines = text.split("\n")
    return lines if set(lines) <= known else []


def _places(conversations: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    held: dict[str, list[str]] = defaultdict(list)
    for conversation, texts in conversations.items():
        for text in texts:
            held[text].append(conversation)
    return held


def _strange(
    sent: Sequence[Sent],
    taken: Mapping[str, Sequence[str]],
    held: Mapping[str, Sequence[str]],
    excused: frozenset[str],
    details: list[str],
) -> int:
    known = {message.text for message in sent}
    unknown = [
        text
        for text in {*taken, *held}
        if text not in known and (taken.get(text) or held.get(text))
    ]
    details.extend(f"{text!r}: nobody sent it" for text in unknown)
    homes: dict[str, set[str]] = defaultdict(set)
    for message in sent:
        homes[message.thread].update(held.get(message.text, ()))
    moved = {message.thread for message in sent if message.text in excused}
    split = [thread for thread, places in homes.items() if len(places) > 1 and thread not in moved]
    details.extend(
        f"{thread}: its messages stand in several conversations {sorted(homes[thread])}"
        for thread in split
    )
    return len(unknown) + len(split)


def _overlapping(runs: Sequence[RunRecord], details: list[str]) -> set[tuple[str, str]]:
    """Find pairs of runs that were active at once in one conversation, by their times."""
    of: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        if run.conversation_id is not None:
            of[run.conversation_id].append(run)
    found: set[tuple[str, str]] = set()
    for own in of.values():
        own.sort(key=lambda run: run.started_at)
        for number, later in enumerate(own):
            found |= {
                (later.id, run.id)
                for run in own[:number]
                if run.ended_at is None or run.ended_at > later.started_at
            }
    details.extend(
        f"overlap: {later} started while {earlier} was active" for later, earlier in sorted(found)
    )
    return found


def _out_of_order(
    sent: Sequence[Sent],
    completed: Sequence[RunRecord],
    conversations: Mapping[str, Sequence[str]],
    excused: frozenset[str],
    details: list[str],
) -> int:
    """Find messages after a later one, in the order of the runs or of the conversation."""
    place = {message.text: number for number, message in enumerate(sent)}
    thread_of = {message.text: message.thread for message in sent}
    by_runs: dict[str, list[str]] = defaultdict(list)
    for run in sorted(completed, key=lambda run: run.started_at):
        for text in run.user_texts:
            by_runs[thread_of.get(text, "")].append(text)
    late = {
        text
        for texts in (*by_runs.values(), *conversations.values())
        for text in _late(texts, place)
    } - excused
    details.extend(f"{text!r}: came after a later one" for text in sorted(late))
    return len(late)


def _late(texts: Sequence[str], place: Mapping[str, int]) -> Iterator[str]:
    """Find texts after a later one; the first of repetitions counts, unknown texts do not."""
    furthest = -1
    for text in dict.fromkeys(text for text in texts if text in place):
        if place[text] < furthest:
            yield text
        furthest = max(furthest, place[text])
