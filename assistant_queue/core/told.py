"""Track how many characters of a run's text have been published, so that any worker resumes at the same offset. Pure.

worker 1   hears "Hel" "lo, " "how"   tells "Hello, "      what was told is stored in the same step: 7 characters, their checksum
worker 2   reads the whole text       tells the rest from character 7 on, if the first 7 are the ones that were told
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Text:
    """One message of a run.

    Attributes:
        key: The provider's id of it, or its number where there is none.
        told: Characters that were told.
        crc: Their checksum.
        heard: All that was heard, in pieces; without what another worker heard.
        fresh: Of these the pieces that were not told.
        is_whole: `heard` begins where the message begins.
    """

    key: str
    told: int = 0
    crc: int = 0
    heard: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    is_whole: bool = True

    def hear(self, piece: str) -> None:
        self.heard.append(piece)
        self.fresh.append(piece)

    def settle(self, text: str) -> None:
        """The message is known as a whole: what is left to tell is the rest, or all of it where something else was told."""
        if self.told > len(text) or _checksum(text[: self.told]) != self.crc:
            self.told = self.crc = 0
        rest = text[self.told :]
        self.heard, self.fresh, self.is_whole = [text], [rest] if rest else [], True

    def begin_again(self) -> None:
        if self.is_whole:
            self.told = self.crc = 0
            self.fresh = list(self.heard)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece to be told: of which message, from which character on."""

    index: int
    offset: int
    text: str


def _checksum(text: str, before: int = 0) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"), before)


class Told:
    """One run's text, as far as it was heard and as far as it was told.

    1. takes pieces as they are heard
    2. gives what is to be told next, with its place
    3. is stored and loaded, so that another worker goes on at the same character

    Attributes:
        run_id: "" before the first run.
        cursor: Where the provider's stream goes on behind the last piece that was heard, None where it does not.
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
        """A run has started, or goes on; `is_round`: what it says now comes behind what it said before."""
        if run_id != self.run_id:
            self.run_id = run_id
            self._clear()
        elif is_round:
            self._round = len(self._texts)

    def hear(self, key: str, piece: str, cursor: int | None) -> None:
        """A piece of the message `key`."""
        text = self._by_key.get(key)
        if text is None:
            text = self._add(key)
        text.hear(piece)
        self.cursor = cursor

    def settle(self, replies: Sequence[str], *, whole: bool) -> None:
        """The run has stopped: what it said in this round, or (`whole`) from its beginning."""
        first = 0 if whole else self._round
        for number, reply in enumerate(replies, first):
            text = self._texts[number] if number < len(self._texts) else self._add(f"#{number}")
            text.settle(reply)

    def begin_again(self) -> None:
        """Start over: no subscriber has what was published, so the next piece of each message is its first."""
        for text in self._texts:
            text.begin_again()

    @property
    def has_news(self) -> bool:
        """Something was heard that was not told."""
        return any(text.fresh for text in self._texts)

    @property
    def is_silent(self) -> bool:
        """Nothing of this run was heard."""
        return not self._texts

    @property
    def has_begun(self) -> bool:
        """Something of this run was told."""
        return any(text.told for text in self._texts)

    def take(self) -> list[Piece]:
        """What is to be told now; it counts as told from here on."""
        pieces = []
        for index, text in enumerate(self._texts):
            if text.fresh:
                piece = "".join(text.fresh)
                text.fresh.clear()
                pieces.append(Piece(index, text.told, piece))
                text.told += len(piece)
                text.crc = _checksum(piece, text.crc)
        return pieces

    def _add(self, key: str) -> _Text:
        text = self._by_key[key] = _Text(key)
        self._texts.append(text)
        return text

    def dump(self) -> str:
        """As JSON: what was told, not what was heard."""
        rows = [[text.key, text.told, text.crc] for text in self._texts]
        return json.dumps([self.run_id, self.cursor, rows], separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> Told:
        """The opposite of `dump`; nothing for the empty string."""
        told = cls()
        if text:
            told.run_id, told.cursor, rows = json.loads(text)
            for key, length, crc in rows:
                one = told._add(key)
                one.told, one.crc, one.is_whole = length, crc, length == 0
        return told
