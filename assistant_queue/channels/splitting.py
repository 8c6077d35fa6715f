"""Split Markdown into parts that a platform takes, without breaking what belongs together.

Blocks stay whole if they fit: code fences, lists, tables, quotes, paragraphs. A block that does not
fit is divided where it hurts least: a fence between lines, closed and opened again; a list between
items; a table between rows, under its header again; text between lines, words, and at last between
grapheme clusters, so that no emoji is torn. Links, code spans and bold words are one word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

from assistant_queue.errors import MissingExtra

Fits = Callable[[str], bool]
"""Whether the platform takes a text as one part."""

_NEEDS = ("markdown_it", "regex")

_MAX_DEPTH = 8
"""Levels of quotes and lists that are divided by their contents. Chosen: deeper ones are text."""


def check_installed() -> None:
    """Check that the packages of the splitter are installed.

    Raises:
        MissingExtra: One of them is not.
    """
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"Splitting long replies needs {' and '.join(missing)}, not installed: "
            "pip install 'assistant-queue[telegram]'"
        )


def split_markdown(text: str, fits: Fits, *, depth: int = 0) -> list[str]:
    """Return the parts of a text, in order; none of them is blank.

    Args:
        text: Markdown.
        fits: Says whether one part is short enough. A single character always is one.
        depth: Levels of quotes and lists around the text.
    """
    text = text.strip("\n")
    if not text.strip():
        return []
    if fits(text):
        return [text]
    parts = _pack(_blocks(text), fits, lambda block: _divide(block, fits, depth))
    if depth:
        return parts
    # A part of a block may be shown longer than inside its block: Markdown has no smaller units.
    return [
        short for part in parts for short in ([part] if fits(part) else _by_clusters(part, fits))
    ]


def _pack(pieces: Sequence[str], fits: Fits, divide: Callable[[str], Iterable[str]]) -> list[str]:
    """Join neighbouring pieces into parts as long as they fit; divide a piece that does not."""
    parts: list[str] = []
    start = 0
    while start < len(pieces):
        count = _most(pieces, start, fits)
        if count:
            parts.append("".join(pieces[start : start + count]))
        else:
            parts.extend(divide(pieces[start]))
            count = 1
        start += count
    return [part.strip("\n") for part in parts if part.strip()]


def _most(pieces: Sequence[str], start: int, fits: Fits) -> int:
    """Return how many pieces from `start` fit together."""

    def fit(count: int) -> bool:
        joined = "".join(pieces[start : start + count]).strip("\n")
        return not joined or fits(joined)

    left = len(pieces) - start
    low = 0
    high = 1
    while high <= left and fit(high):
        low, high = high, high * 2
    high = min(high, left + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if fit(middle):
            low = middle
        else:
            high = middle
    return low


def _blocks(text: str) -> list[str]:
    """Return the top blocks of a text, each with the blank lines that follow it."""
    return _cut(text, [token.map[0] for token in _tokens(text) if token.level == 0 and token.map])


def _cut(text: str, starts: Iterable[int]) -> list[str]:
    """Cut a text before the lines with these numbers."""
    lines = text.splitlines(keepends=True)
    edges = sorted({0, len(lines), *(start for start in starts if start < len(lines))})
    return ["".join(lines[one:other]) for one, other in pairwise(edges)]


def _divide(block: str, fits: Fits, depth: int) -> list[str]:
    """Divide one block that does not fit."""
    tokens = [token for token in _tokens(block) if token.map]
    kind = tokens[0].type if tokens else ""
    if kind == "fence":
        return _divide_fence(tokens[0], fits)
    if kind == "table_open":
        return _divide_table(block, fits)
    if kind in {"bullet_list_open", "ordered_list_open"} and depth < _MAX_DEPTH:
        items = [one.map[0] for one in tokens if one.type == "list_item_open" and one.level == 1]
        return _pack(_cut(block, items), fits, lambda item: _divide_item(item, fits, depth))
    if kind == "blockquote_open" and depth < _MAX_DEPTH:
        inner = "\n".join(
            line.lstrip(" ").removeprefix(">").removeprefix(" ") for line in block.splitlines()
        )
        quoted = split_markdown(inner, lambda part: fits(_quoted(part)), depth=depth + 1)
        return [_quoted(part) for part in quoted]
    return _divide_text(block, fits)


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines())


def _divide_fence(token: Any, fits: Fits) -> list[str]:
    fence = token.markup
    opening = f"{fence}{token.info}".rstrip()

    def fenced(code: str) -> str:
        code = code.removesuffix("\n")
        return f"{opening}\n{code}\n{fence}"

    lines = token.content.splitlines(keepends=True)
    return [
        fenced(part)
        for part in _pack_raw(lines, lambda code: fits(fenced(code)))
        if part.strip() or len(lines) == 1
    ]


def _pack_raw(lines: Sequence[str], fits: Fits) -> list[str]:
    """Join lines of code into parts; blank lines inside are kept."""
    parts: list[str] = []
    start = 0
    while start < len(lines):
        count = _most(lines, start, fits)
        if count:
            parts.append("".join(lines[start : start + count]))
        else:
            parts.extend(
                _pack(_code_words(lines[start]), fits, lambda word: _by_clusters(word, fits))
            )
            count = 1
        start += count
    return parts


def _divide_table(block: str, fits: Fits) -> list[str]:
    lines = block.strip("\n").splitlines(keepends=True)
    header = "".join(lines[:2]).rstrip("\n")
    rows = lines[2:]

    def under(part: str) -> str:
        return f"{header}\n{part}"

    if not rows or not all(fits(under(row.rstrip("\n"))) for row in rows):
        return _divide_text(block, fits)  # not even one row fits: a table no more
    packed = _pack(rows, lambda part: fits(under(part)), lambda row: [row])
    return [under(part) for part in packed]


def _divide_item(item: str, fits: Fits, depth: int) -> list[str]:
    """Divide an item of a list by its contents; the first part keeps a mark."""
    tokens = _tokens(item)
    opening = next((one for one in tokens if one.type == "list_item_open"), None)
    if opening is None:
        return _divide_text(item, fits)
    # The mark alone would be a list again; as text it is shown the same.
    mark = f"{opening.info}\\. " if opening.info else "• "
    first, *others = item.splitlines()
    width = len(first) - len(first.lstrip(" ")) + len(opening.info) + len(opening.markup) + 1
    inner = [first[width:], *(_dedented(line, width) for line in others)]
    parts = split_markdown(
        "\n".join(inner), lambda part: fits(mark + part) and fits(part), depth=depth + 1
    )
    return [mark + part if number == 0 else part for number, part in enumerate(parts)]


def _dedented(line: str, width: int) -> str:
    return line[min(width, len(line) - len(line.lstrip(" "))) :]


def _divide_text(text: str, fits: Fits) -> list[str]:
    """Divide a text between lines, then words, then grapheme clusters."""

    def by_words(line: str) -> list[str]:
        found = _pack(_words(line), fits, lambda word: _by_clusters(word, fits))
        return [part.strip(" ") for part in found if part.strip()]

    return _pack(text.splitlines(keepends=True), fits, by_words)


def _by_clusters(text: str, fits: Fits) -> list[str]:
    """Divide a text anywhere but inside grapheme clusters."""
    return _pack(_clusters(text), fits, lambda cluster: _by_points(cluster, fits))


def _by_points(cluster: str, fits: Fits) -> list[str]:
    """Divide a cluster that is longer than a part: marks piled up on one letter."""
    return _pack(list(cluster), fits, lambda point: [point])


def _code_words(line: str) -> list[str]:
    """Return the words of a line of code, each with the space after it."""
    return re.findall(r"\s*\S+\s*$|\s*\S+|\s+", line)


def _words(line: str) -> list[str]:
    """Return the words of a line with the space after them; links and code spans are one word."""
    return [found.group() for found in _word_pattern().finditer(line)]


def _clusters(text: str) -> list[str]:
    import regex

    return list(regex.findall(r"\X", text))


@cache
def _word_pattern() -> Any:
    import regex

    return regex.compile(
        r"(?:!?\[[^\]\n]*\]\([^)\n]*\)"  # a link or a picture
        r"|`[^`\n]+`|\*\*[^*\n]+\*\*|__[^_\n]+__|~~[^~\n]+~~"
        r"|\S)+?(?=\s|$)\s*|\s+"
    )


@cache
def _parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _tokens(text: str) -> Sequence[Any]:
    found: Sequence[Any] = _parser().parse(text)
    return found
