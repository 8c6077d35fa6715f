"""Markdown as Telegram shows it: a text with entities, counted in UTF-16 units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

_MENTION = re.compile(r"(?<![\w@/.])@(?=[A-Za-z]\w{3,31}\b)")
"""Start of a name that Telegram would notify. Source: usernames have 4 to 32 characters."""

_WORD_JOINER = "\u2060"
"""Invisible; between @ and a name it keeps Telegram from finding the name."""

_VERBATIM = frozenset({"pre", "code"})
"""Entities in which Telegram finds no mentions."""


@dataclass(frozen=True, slots=True)
class RenderedText:
    """A text as Telegram takes it.

    Attributes:
        text: Plain text.
        entities: Its formatting, in Telegram's form.
    """

    text: str
    entities: tuple[dict[str, Any], ...] = ()


def units(text: str) -> int:
    """Return the length of a text in UTF-16 units."""
    return len(text) + sum(ord(character) > _BMP for character in text)


_BMP = 0xFFFF


def render(markdown: str, *, mentions: bool) -> RenderedText:
    """Return a text with its formatting.

    Args:
        markdown: As the model wrote it.
        mentions: Whether names in it notify people.
    """
    from telegramify_markdown import convert

    text, found = convert(markdown, config=_config())
    entities = [dict(entity.to_dict()) for entity in found]
    kept = [one for one in entities if mentions or not _has_mention(one)]
    if not text.strip():
        return RenderedText(markdown)  # nothing that can be shown, such as a comment in HTML
    return RenderedText(text, tuple(kept)) if mentions else _muted(text, kept)


def unformatted(markdown: str, *, mentions: bool) -> RenderedText:
    """Return a text as it is, for a server that refuses its formatting."""
    return RenderedText(markdown) if mentions else _muted(markdown, [])


def _has_mention(entity: dict[str, Any]) -> bool:
    return entity["type"] == "text_mention" or str(entity.get("url", "")).startswith("tg://user")


def _muted(text: str, entities: list[dict[str, Any]]) -> RenderedText:
    """Return the text with a word joiner in each mention, and entities that fit it."""
    verbatim = [
        range(one["offset"], one["offset"] + one["length"])
        for one in entities
        if one["type"] in _VERBATIM
    ]
    places: list[int] = []  # of the joiners, in UTF-16 units of the old text
    pieces: list[str] = []
    last = 0
    for found in _MENTION.finditer(text):
        place = units(text[: found.end()])
        if not any(place - 1 in span for span in verbatim):
            pieces.append(text[last : found.end()])
            places.append(place)
            last = found.end()
    if not places:
        return RenderedText(text, tuple(entities))
    moved = []
    for one in entities:
        start = one["offset"]
        end = start + one["length"]
        before = sum(place <= start for place in places)
        inside = sum(start < place < end for place in places)
        moved.append({**one, "offset": start + before, "length": one["length"] + inside})
    return RenderedText(_WORD_JOINER.join([*pieces, text[last:]]), tuple(moved))


@cache
def _config() -> Any:
    """Return the converter's settings: headings without pictures in front of them."""
    from telegramify_markdown.config import RenderConfig

    config = RenderConfig()
    symbols = config.markdown_symbol
    for level in range(1, 7):
        setattr(symbols, f"heading_level_{level}", "")
    return config
