"""Take a user's text out of a provider's words, which are shown to operators. Pure."""

from __future__ import annotations

from collections.abc import Iterable

_RUN = 12
"""Characters in a row that are taken for a quotation. Chosen: shorter runs, such as a word, occur
in any error message."""

_WHOLE = 4
"""Characters of a text that is taken out if it is quoted whole. Chosen: "yes" or "hi" gives nothing
away."""

_MOST = 200_000
"""Characters of texts that are compared. Chosen: as a search through a string, milliseconds; it is
done for failures only."""

HIDDEN = "[text]"


def without_quotes(words: str, texts: Iterable[str]) -> str:
    """Return the words with every quotation of the texts replaced.

    Args:
        words: What a provider says.
        texts: What it may repeat.
    """
    given = [text for text in texts if text]
    hidden = bytearray(len(words))
    for text in given:
        if _WHOLE <= len(text) <= len(words):
            _mark(hidden, words, text)
    everything = "\0".join(given)[:_MOST]
    place = 0
    while place + _RUN <= len(words):
        if words[place : place + _RUN] in everything:
            hidden[place : place + _RUN] = b"\1" * _RUN
        place += 1
    return _replaced(words, hidden)


def _mark(hidden: bytearray, words: str, text: str) -> None:
    start = words.find(text)
    while start >= 0:
        hidden[start : start + len(text)] = b"\1" * len(text)
        start = words.find(text, start + 1)


def _replaced(words: str, hidden: bytearray) -> str:
    found: list[str] = []
    for place, char in enumerate(words):
        if not hidden[place]:
            found.append(char)
        elif place == 0 or not hidden[place - 1]:
            found.append(HIDDEN)
    return "".join(found)
