"""What a queue lets in: validators of messages, asked before anything is queued.

    AssistantMessageQueue(validators=[max_length(2000), no_markup(), my_own], ...)

A validator is a callable of the `Message`. It returns None to let the message in; it returns a reason, or raises a ValueError with one, to
refuse it. It is called in the process that adds the message (`judging.py`), so it must be quick, and cannot be a coroutine.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from assistant_queue.errors import ConfigurationError
from assistant_queue.models import Message

Validator = Callable[[Message], Any]

_MOST_ENCODINGS = 3
"""Entities inside entities that are looked through. Chosen: nothing decodes a text more often than a template within a template."""

# Source: the HTML standard: a tag begins with `<` and a letter; tabs and line breaks inside an address and controls before it are dropped.
_LOADS = "script|iframe|frame|frameset|object|embed|applet|base|meta|link|style|svg|math|template"
_TAG = re.compile(rf"<[\x00-\x1f]*/?[\x00-\x1f]*(?:{_LOADS})(?![\w-])|<\s*/?\s*script(?![\w-])", re.IGNORECASE)
_HANDLER = re.compile(r"<[a-z!/?](?:[^<]*?[\s\"'`/])?on[a-z]{3,}\s*=", re.IGNORECASE)
_DROPPED = r"[\x00-\x1f\u00ad\u200b-\u200f\u2060\ufeff]*"


def _spelled(word: str) -> str:
    """A word with what browsers, or people's eyes, drop between its letters."""
    return _DROPPED.join(re.escape(letter) for letter in word)


_SCHEME = rf"(?<![\w.-])(?:{_spelled('javascript')}|{_spelled('vbscript')}|{_spelled('livescript')}){_DROPPED}:"
# "JavaScript: the good parts" is a title: a blank follows. An address stands in quotes, brackets or behind `=`, or goes on at once.
_ADDRESS = re.compile(rf"(?:[=(\"'`<\[]\s*{_SCHEME})|(?:{_SCHEME}(?=[^ ]))", re.IGNORECASE)
_DATA = re.compile(
    rf"(?<![\w.-]){_spelled('data')}{_DROPPED}:\s*(?:{_spelled('text/html')}|{_spelled('text/xml')}|"
    rf"{_spelled('application/xhtml')}|{_spelled('image/svg')})",
    re.IGNORECASE,
)
_MARKUP = {
    "a tag that runs or loads something": _TAG,
    "an event handler in a tag": _HANDLER,
    "a javascript: address": _ADDRESS,
    "a data: address that holds a page": _DATA,
}


def max_length(characters: int) -> Validator:
    """A validator: at most so many characters of text, all parts of the message together.

    Raises:
        ConfigurationError: It is no whole number from 1 on.
    """
    if isinstance(characters, bool) or not isinstance(characters, int) or characters < 1:
        raise ConfigurationError(f"max_length takes a whole number of characters from 1 on, not {characters!r}")

    def check(message: Message) -> str | None:
        found = len(message.text)
        return None if found <= characters else f"it has {found:,} characters, the limit is {characters:,}"

    return _quick(check, f"max_length({characters})")


def no_markup() -> Validator:
    """A validator: no markup that a web page would run.

    Refused are tags that run or load something (script, iframe, object, svg ...), event handlers in any tag, and `javascript:` and
    `data:text/html` addresses, in the texts, the addresses and the author's name, also behind entities, blanks and other cases. Plain
    text with `<` in it, harmless tags and links go through. It is a second lock: a page has to escape what people wrote all the same.
    """

    def check(message: Message) -> str | None:
        for text in _strings([message.content, message.author]):
            for seen in _readings(text):
                for what, pattern in _MARKUP.items():
                    if pattern.search(seen):
                        return f"it holds {what}"
        return None

    return _quick(check, "no_markup()")


def _quick(check: Callable[[Message], str | None], name: str) -> Validator:
    """Name a validator of ours; it is called in place: it never waits."""
    check.__qualname__ = check.__name__ = name
    vars(check)["is_quick"] = True
    return check


def _strings(value: Any) -> Iterator[str]:
    """Every text in a content, its addresses included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _strings(list(value.values()))
    elif isinstance(value, Sequence):
        for one in value:
            yield from _strings(one)


def _readings(text: str) -> Iterator[str]:
    """The text as it stands, and as it reads when its entities are resolved and its letters made plain."""
    yield text
    for _ in range(_MOST_ENCODINGS):
        text, before = html.unescape(text), text
        if text == before:
            break
        yield text
    plain = unicodedata.normalize("NFKC", text)
    if plain != text:
        yield plain
