"""Short pieces of long texts, for lists."""

from __future__ import annotations

MOST = 160
"""Characters of an excerpt. Chosen: two lines."""
_BEFORE = 50
"""Characters before the match. Chosen: enough to read it."""


def excerpt(text: str, needle: str) -> str:
    """Return the text around the first match, on one line; its beginning if there is none."""
    plain = " ".join(text.split())
    place = max(plain.casefold().find(" ".join(needle.casefold().split())), 0)
    start = max(place - _BEFORE, 0) if len(plain) > MOST else 0
    start = min(start, max(len(plain) - MOST, 0))
    shown = plain[start : start + MOST]
    return f"{'…' if start else ''}{shown}{'…' if start + MOST < len(plain) else ''}"
