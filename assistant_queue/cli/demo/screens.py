"""The verdict on the people's screens: each part of each reply once, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

UNFINISHED = "…"
"""End of a message that shows half a reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreensVerdict:
    """The replies on the screens of a platform.

    Attributes:
        replies: Replies that the model gave.
        parts: Messages that they are, split as the platform needs it.
        lost: Parts on no screen.
        doubled: Messages on a screen that no part of a reply accounts for.
        chats: Chats that had to be answered.
        ordered: Chats with all parts in order, those delivered by hand aside.
        halves: Beginnings of replies that stayed on a screen: the answer to them was lost, or the
            worker died, so that no whole reply could replace them.
        parked: Replies that the platform may or may not have had, and could not be asked about.
        redelivered: Those of them that were on no screen, and were delivered by hand.
        refused: Requests that the platform refused (429).
        answers_lost: Requests whose answer never came.
        away_s: Seconds for which the platform was away.
    """

    replies: int
    parts: int
    lost: int
    doubled: int
    chats: int
    ordered: int
    halves: int = 0
    parked: int = 0
    redelivered: int = 0
    refused: int = 0
    answers_lost: int = 0
    away_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether each part is on its screen once, in order."""
        return not (self.lost or self.doubled) and self.ordered == self.chats


def judge_screens(
    said: Mapping[str, Sequence[Sequence[str]]],
    shown: Mapping[str, Sequence[str]],
    *,
    by_hand: Collection[str] = (),
    parked: int = 0,
    refused: int = 0,
    answers_lost: int = 0,
    away_s: float = 0.0,
) -> ScreensVerdict:
    """Compare the model's replies with the screens.

    Args:
        said: Thread -> the parts of each reply, in order.
        shown: Thread -> the texts of its screen, in order.
        by_hand: Texts of parts that were delivered by hand, later than in order.
        parked: As in the verdict.
        refused: As in the verdict.
        answers_lost: As in the verdict.
        away_s: As in the verdict.
    """
    lost = doubled = ordered = halves = 0
    for thread in said.keys() | shown.keys():
        parts = [part for reply in said.get(thread, ()) for part in reply]
        seen = []
        for text in shown.get(thread, ()):
            is_half = text not in parts and text.endswith(UNFINISHED)
            halves += is_half
            seen += [] if is_half else [text]
        lost += (Counter(parts) - Counter(seen)).total()
        doubled += (Counter(seen) - Counter(parts)).total()
        if thread in said:
            ordered += _is_in_order(
                [text for text in seen if text not in by_hand],
                [text for text in parts if text not in by_hand],
            )
    return ScreensVerdict(
        replies=sum(len(replies) for replies in said.values()),
        parts=sum(len(reply) for replies in said.values() for reply in replies),
        lost=lost,
        doubled=doubled,
        chats=len(said),
        ordered=ordered,
        halves=halves,
        parked=parked,
        redelivered=len(by_hand),
        refused=refused,
        answers_lost=answers_lost,
        away_s=round(away_s, 1),
    )


def _is_in_order(seen: Sequence[str], expected: Sequence[str]) -> bool:
    ahead = iter(expected)
    return all(text in ahead for text in seen)
