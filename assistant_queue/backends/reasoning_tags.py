"""Reasoning that a model writes into its text, between tags, and the text without it. Pure.

Only what an answer *begins* with is taken for reasoning: one block, or several in a row. Tags
further down are text, as in an answer about such tags. An opening tag may be missing: many chat
templates end with it, so that the model writes the closing one only.
"""

from __future__ import annotations

import re

_PAIRS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[think]", "[/think]"),
    ("◁think▷", "◁/think▷"),
    ("<|start_thinking|>", "<|end_thinking|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
"""Opening and closing tags, in lower case. Source: the templates of models, and the lists that chat
programs keep."""

_CLOSING = {opening: re.compile(re.escape(closing), re.IGNORECASE) for opening, closing in _PAIRS}
_OPENINGS = tuple(_CLOSING)
_LONE_TAG = "</think>"
"""The closing tag that comes without its opening one. Source: the templates of DeepSeek R1, QwQ and
those after them."""

_LONE = re.compile(re.escape(_LONE_TAG), re.IGNORECASE)
_OPENING_OF_LONE = re.compile("<think>", re.IGNORECASE)
_FENCE = re.compile("^ {0,3}(```|~~~)", re.MULTILINE)
_TAGS = (*_OPENINGS, _LONE_TAG)
_FIRSTS = frozenset(tag[0] for tag in _TAGS)
_LONGEST = max(len(tag) for pair in _PAIRS for tag in pair)


class ReasoningTags:
    """Track what is known of one server's tags, create filters and remove reasoning from texts.

    Attributes:
        starts_inside: The last answer closed a block that it had not opened. The next one is held
            back until its block is closed; the reasoning of the first such answer was taken for
            text until then, and may have been streamed.
    """

    __slots__ = ("starts_inside",)

    def __init__(self) -> None:
        self.starts_inside = False

    def filter(self) -> TagFilter:
        """Make a filter for one answer."""
        return TagFilter(starts_inside=self.starts_inside)

    def without(self, text: str, *, is_separate: bool = False) -> str:
        """Return an answer without its reasoning.

        Args:
            text: All of it.
            is_separate: Its reasoning came in a separate field, so that no block of the text can
                lack its opening tag.
        """
        rest, has_block = _without_blocks(text)
        if has_block or not text.strip():
            return rest
        lone = None if is_separate else _lone_tag(rest)
        self.starts_inside = lone is not None
        return rest if lone is None else _without_blocks(rest[lone.end() :].lstrip())[0]


def _without_blocks(text: str) -> tuple[str, bool]:
    filtered = TagFilter()
    rest = filtered.feed(text) + filtered.close()
    return rest, filtered.has_block


def _lone_tag(text: str) -> re.Match[str] | None:
    """Find the first closing tag outside code.

    A tag after an opening one does not count.
    """
    if "</" not in text:
        return None
    opened = _OPENING_OF_LONE.search(text)
    for found in _LONE.finditer(text, 0, len(text) if opened is None else opened.start()):
        before = text[: found.start()]
        is_code = len(_FENCE.findall(before)) % 2 or before[before.rfind("\n") + 1 :].count("`") % 2
        if not is_code:
            return found
    return None


class TagFilter:
    """Takes the reasoning out of one answer, piece by piece.

    All that it returns is, together, what `ReasoningTags.without` makes of the whole; only a block
    without an opening tag passes through, unless the filter expects one.

    Attributes:
        has_block: A block was taken out.
    """

    __slots__ = ("_closing", "_held", "_is_decided", "_is_text", "_starts_inside", "has_block")

    def __init__(self, *, starts_inside: bool = False) -> None:
        self.has_block = False
        self._starts_inside = starts_inside
        self._held: list[str] = []
        self._closing: re.Pattern[str] | None = None
        self._is_text = False  # all that comes is text
        self._is_decided = False  # what is held back does not begin with a block

    def feed(self, piece: str) -> str:
        """Return what this piece adds to the text."""
        if self._is_text:
            return piece
        self._held.append(piece)
        if self._is_decided and ">" not in piece:
            return ""
        while True:
            held = "".join(self._held)
            if self._closing is not None:
                found = self._closing.search(held)
                if found is None:
                    self._held = [held[-_LONGEST:]]
                    return ""
                self._leave(held[found.end() :])
            elif not self._enter(held):
                return self._text(held)

    def mark_separate(self) -> None:
        """Expect no block without an opening tag.

        The server sends reasoning in a separate field.
        """
        self._starts_inside = self._is_decided = False

    def close(self) -> str:
        """Return the text held back at the end of the answer.

        A block that was not closed is reasoning to its end.
        """
        held, self._held = "".join(self._held), []
        return "" if self._closing is not None else held

    def _enter(self, held: str) -> bool:
        """Return whether the text held back begins with a block.

        A closing tag there ends one of which nothing was sent.
        """
        begin = held.lstrip()
        head = begin[:_LONGEST].lower()
        if head.startswith(_LONE_TAG):
            self._leave(begin[len(_LONE_TAG) :])
            return True
        if not head.startswith(_OPENINGS):
            return False
        opening = next(tag for tag in _OPENINGS if head.startswith(tag))
        self._held = [begin[len(opening) :]]
        self._closing = _CLOSING[opening]
        return True

    def _leave(self, rest: str) -> None:
        self._held = [rest.lstrip()]
        self._closing = None
        self.has_block = True
        self._starts_inside = self._is_decided = False

    def _text(self, held: str) -> str:
        """Return what is held back, unless it may be, or become, reasoning."""
        begin = held.lstrip()
        if self.has_block:
            self._held = [begin]
        head = begin[:_LONGEST].lower()
        if not head or (head[0] in _FIRSTS and any(tag.startswith(head) for tag in _TAGS)):
            return ""
        if self._starts_inside:
            self._is_decided = True
            found = _lone_tag(held)
            if found is None:
                return ""
            self._leave(held[found.end() :])
            return self.feed("")
        self._is_text = True
        text, self._held = "".join(self._held), []
        return text
