"""The judge of deliveries: what the model replied against what the platforms were shown.

Redis is asked for the failed list alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Words = tuple[str, ...]
"""The messages that a reply repeats: no two replies have one in common."""
_SAID = re.compile(r"[\w:-]+ says \d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepliesVerdict:
    """The outcome of the replies.

    Attributes:
        replies: Replies that had to be delivered.
        once: Shown once, in the right chat, and not in the failed list.
        parked: In the failed list because it is not known whether the platform has them, and shown
            once at most.
        lost: Neither shown nor in the failed list.
        doubled: Shown more than once.
        given_up: In the failed list for another reason, or at a platform that could be asked.
        out_of_order: Shown after a later one of their thread.
        strange: Shown in a wrong chat, or never said by the model.
        details: One line for each finding.
    """

    replies: int
    once: int
    parked: int
    lost: int
    doubled: int
    given_up: int
    out_of_order: int
    strange: int
    details: tuple[str, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether each reply was delivered once, or parked where nothing else is possible."""
        return self.once + self.parked == self.replies and not any(
            (self.lost, self.doubled, self.given_up, self.out_of_order, self.strange)
        )


def words_of(reply: str) -> Words:
    """Return the messages that a reply repeats, however the platform shows it."""
    return tuple(_SAID.findall(reply))


def judge_deliveries(
    replied: Mapping[str, Sequence[Words]],
    shown: Mapping[str, Sequence[str]],
    failed: Mapping[Words, str],
    *,
    blind: str,
    excused: Iterable[str] = (),
    read: Callable[[str], Words] = words_of,
) -> RepliesVerdict:
    """Compare.

    Args:
        replied: Thread -> the messages of each reply of the model, in order.
        shown: Thread -> the replies that its platform was shown, in order.
        failed: The messages of each reply in the failed list -> the reason.
        blind: Beginning of the threads with a platform that cannot be asked.
        excused: Messages that Redis may have forgotten, or have had answered twice.
        read: Returns the messages of a reply that was shown.
    """
    details: list[str] = []
    found: Counter[str] = Counter()
    pardoned = {word for text in excused for word in words_of(text)}
    for thread, all_replies in replied.items():
        seen = [read(text) for text in shown.get(thread, ())]
        counts = Counter(seen)
        replies = [words for words in all_replies if pardoned.isdisjoint(words)]
        for words in replies:
            what = _outcome(counts[words], failed.get(words), is_blind=thread.startswith(blind))
            found[what] += 1
            if what not in {"once", "parked"}:
                details.append(
                    f"{thread}: the reply to {words} is {what}: shown {counts[words]} times, "
                    f"failed: {failed.get(words)}"
                )
        place = {words: number for number, words in enumerate(replies)}
        furthest = -1
        for words in dict.fromkeys(seen):
            if words in place:
                if place[words] < furthest:
                    found["out of order"] += 1
                    details.append(f"{thread}: the reply to {words} was shown after a later one")
                furthest = max(furthest, place[words])
            elif pardoned.isdisjoint(words):
                found["strange"] += 1
                details.append(f"{thread}: was shown what the model did not say there: {words}")
    for thread in sorted(name for name in shown.keys() - replied.keys() if shown[name]):
        found["strange"] += len(shown[thread])
        details.append(f"{thread}: was shown {len(shown[thread])} replies, and had none")
    return RepliesVerdict(
        replies=sum(found[what] for what in ("once", "parked", "lost", "doubled", "given up")),
        once=found["once"],
        parked=found["parked"],
        lost=found["lost"],
        doubled=found["doubled"],
        given_up=found["given up"],
        out_of_order=found["out of order"],
        strange=found["strange"],
        details=tuple(details),
    )


def _outcome(times: int, reason: str | None, *, is_blind: bool) -> str:
    if times > 1:
        return "doubled"
    if reason is None:
        return "once" if times else "lost"
    return "parked" if is_blind and reason == "delivery_unknown" else "given up"
