"""The judge of replies of `say`: what was said against what the conversations hold in the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from assistant_queue.testing.chaos.oracle import Sent


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidVerdict:
    """The outcome of the replies of `say`.

    Attributes:
        said: Those that Redis acknowledged.
        once: Of those, in the right conversation once, and not in the failed list.
        unsure: Those that Redis may have taken; they may be missing.
        lost: Acknowledged, in no conversation, and not in the failed list.
        doubled: In conversations more than once.
        failed: In the failed list.
        out_of_order: Before an earlier message of their thread, or after a later one.
        strange: In a conversation that is not their thread's.
        details: One line for each finding.
    """

    said: int
    once: int
    unsure: int
    lost: int
    doubled: int
    failed: int
    out_of_order: int
    strange: int
    details: tuple[str, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether each is in its place once."""
        return self.once == self.said and not any(
            (self.lost, self.doubled, self.failed, self.out_of_order, self.strange)
        )


def judge_said(
    sent: Sequence[Sent], conversations: Mapping[str, Sequence[str]], failed: Mapping[str, str]
) -> SaidVerdict:
    """Compare.

    Args:
        sent: The producers' log; each thread's messages in order.
        conversations: What each conversation holds in the end: the texts of users and assistant.
        failed: Message id -> reason, of what is in the failed list.
    """
    places: defaultdict[str, list[str]] = defaultdict(list)
    for conversation, texts in conversations.items():
        for text in texts:
            places[text].append(conversation)
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for message in sent:
        if message.kind != "tell":
            homes[message.thread].update(places[message.text])
    found: Counter[str] = Counter()
    details: list[str] = []
    for message in sent:
        if message.kind != "tell":
            continue
        what = _outcome(message, places[message.text], homes[message.thread], failed)
        found[what] += 1
        found["said"] += message.is_sure
        if what not in {"once", "unsure"}:
            details.append(f"{message.text!r} is {what}: it is in {places[message.text]}")
    late = _out_of_order(sent, conversations)
    details += [f"{text!r}: came after a later one" for text in late]
    return SaidVerdict(
        said=found["said"],
        once=found["once"],
        unsure=found["unsure"],
        lost=found["lost"],
        doubled=found["doubled"],
        failed=found["failed"],
        out_of_order=len(late),
        strange=found["strange"],
        details=tuple(details),
    )


def _outcome(
    message: Sent, places: Sequence[str], homes: set[str], failed: Mapping[str, str]
) -> str:
    if len(places) > 1:
        return "doubled"
    if message.message_id in failed:
        return "failed"
    if not message.is_sure:
        return "unsure"
    if not places:
        return "lost"
    return "once" if homes <= set(places) else "strange"


def _out_of_order(sent: Sequence[Sent], conversations: Mapping[str, Sequence[str]]) -> list[str]:
    place = {message.text: number for number, message in enumerate(sent) if message.is_sure}
    told = {message.text for message in sent if message.kind == "tell"}
    late = []
    for texts in conversations.values():
        furthest = ""
        for text in dict.fromkeys(text for text in texts if text in place):
            if furthest and place[text] < place[furthest] and {text, furthest} & told:
                late.append(text)
            elif not furthest or place[text] > place[furthest]:
                furthest = text
    return late
