"""Count of the characters of a run's text that have been published. Pure.

Any worker resumes at the same offset:

    worker 1   reads "Hel" "lo, " "how"   publishes "Hello, " and stores in the same step:
                                          7 characters, their checksum
    worker 2   reads the whole text       publishes the rest from character 7 on, if the first 7
                                          are the published ones
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from assistant_queue.core.compact_json import to_ascii_json


@dataclass(slots=True)
class _Text:
    """One message of a run.

    Attributes:
        key: The provider's id of it, or its number if there is none.
        published: Characters that were published.
        crc: Their checksum.
        received: All pieces that this worker has received.
        unpublished: Those of them that have not been published.
        is_whole: `received` begins at the message's beginning.
    """

    key: str
    published: int = 0
    crc: int = 0
    received: list[str] = field(default_factory=list)
    unpublished: list[str] = field(default_factory=list)
    is_whole: bool = True

    def append(self, piece: str) -> None:
        self.received.append(piece)
        self.unpublished.append(piece)

    def complete(self, text: str) -> None:
        """Add the whole message: its rest is to be published, or all of it if its beginning differs."""
        if self.published > len(text) or _checksum(text[: self.published]) != self.crc:
            self.published = self.crc = 0
        rest = text[self.published :]
        self.received = [text]
        self.unpublished = [rest] if rest else []
        self.is_whole = True

    def restart(self) -> None:
        if self.is_whole:
            self.published = self.crc = 0
            self.unpublished = list(self.received)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece to be published: of a message, from a character on."""

    index: int
    offset: int
    text: str


def _checksum(text: str, before: int = 0) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"), before)


class DeltaTracker:
    """Text of one run, as far as it was read and as far as it was published.

    1. collects pieces as they are received
    2. returns the pieces to be published next, with their offsets
    3. is stored and loaded, so that another worker resumes at the same character

    Attributes:
        run_id: "" before the first run.
        cursor: Position after the last piece in the provider's stream, None if it cannot be
            resumed.
    """

    def __init__(self) -> None:
        self.run_id = ""
        self._clear()

    def _clear(self) -> None:
        self.cursor: int | None = None
        self._texts: list[_Text] = []
        self._by_key: dict[str, _Text] = {}
        self._round = 0

    def begin(self, run_id: str, *, is_round: bool) -> None:
        """Start or resume a run; `is_round`: its text follows the text of earlier rounds."""
        if run_id != self.run_id:
            self.run_id = run_id
            self._clear()
        elif is_round:
            self._round = len(self._texts)

    def append(self, key: str, piece: str, cursor: int | None) -> None:
        """Add a piece of the message `key`."""
        text = self._by_key.get(key)
        if text is None:
            text = self._add(key)
        text.append(piece)
        self.cursor = cursor

    def complete(self, replies: Sequence[str], *, whole: bool) -> None:
        """Add all replies of a run that has stopped: of this round, or (`whole`) of all rounds."""
        first = 0 if whole else self._round
        for number, reply in enumerate(replies, first):
            text = self._texts[number] if number < len(self._texts) else self._add(f"#{number}")
            text.complete(reply)

    def restart(self) -> None:
        """Start over, because no subscriber has what was published.

        The next piece of each message is its first.
        """
        for text in self._texts:
            text.restart()

    @property
    def has_unpublished(self) -> bool:
        """Something was received that has not been published."""
        return any(text.unpublished for text in self._texts)

    @property
    def is_empty(self) -> bool:
        """Nothing of this run was received."""
        return not self._texts

    @property
    def has_published(self) -> bool:
        """Something of this run has been published."""
        return any(text.published for text in self._texts)

    def take(self) -> list[Piece]:
        """Return the pieces to be published now; they count as published from here on."""
        pieces = []
        for index, text in enumerate(self._texts):
            if text.unpublished:
                piece = "".join(text.unpublished)
                text.unpublished.clear()
                pieces.append(Piece(index, text.published, piece))
                text.published += len(piece)
                text.crc = _checksum(piece, text.crc)
        return pieces

    def _add(self, key: str) -> _Text:
        text = self._by_key[key] = _Text(key)
        self._texts.append(text)
        return text

    def dump(self) -> str:
        """Return as JSON what was published, not what was read."""
        rows = [[text.key, text.published, text.crc] for text in self._texts]
        return to_ascii_json([self.run_id, self.cursor, rows])

    @classmethod
    def load(cls, text: str) -> DeltaTracker:
        """Load what `dump` returned; nothing for the empty string."""
        tracker = cls()
        if text:
            tracker.run_id, tracker.cursor, rows = json.loads(text)
            for key, length, crc in rows:
                one = tracker._add(key)
                one.published = length
                one.crc = crc
                one.is_whole = length == 0
        return tracker
