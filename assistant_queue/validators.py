"""Validators: accept or refuse a message before it is queued.

    AssistantMessageQueue(validators=[max_length(2000), no_markup(), my_own], ...)

A validator is a callable of the `Message`. It returns None to accept the message; it returns a
reason, or raises a ValueError with one, to refuse it. It is called in the process that adds the
message (`user_code/validator_calls.py`), so it must be quick, and cannot be a coroutine function.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from assistant_queue.callback_types import Validator
from assistant_queue.errors import ConfigurationError
from assistant_queue.models import Message

_MOST_ENCODINGS = 3
"""Levels of entities inside entities that are decoded. Chosen: nothing decodes a text more often
than a template within a template."""

# Source: the HTML standard: a tag begins with `<` and a letter; tabs and line breaks inside an
# address and controls before it are dropped.
_LOADS = "script|iframe|frame|frameset|object|embed|applet|base|meta|link|style|svg|math|template"
_TAG = re.compile(
    rf"<[\x00-\x1f]*/?[\x00-\x1f]*(?:{_LOADS})(?![\w-])|<\s*/?\s*script(?![\w-])", re.IGNORECASE
)
_HANDLER = re.compile(r"<[a-z!/?](?:[^<]*?[\s\"'`/])?on[a-z]{3,}\s*=", re.IGNORECASE)
_DROPPED = r"[\x00-\x1f\u00ad\u200b-\u200f\u2060\ufeff]*"


def _spelled(word: str) -> str:
    """Return a pattern of a word with characters between its letters that browsers drop."""
    return _DROPPED.join(re.escape(letter) for letter in word)


_SCRIPTS = "|".join(_spelled(word) for word in ("javascript", "vbscript", "livescript"))
_SCHEME = rf"(?<![\w.-])(?:{_SCRIPTS}){_DROPPED}:"
# "JavaScript: the good parts" is a title: a blank follows. An address stands in quotes, brackets or
# after `=`, or continues without a blank.
_ADDRESS = re.compile(rf"(?:[=(\"'`<\[]\s*{_SCHEME})|(?:{_SCHEME}(?=[^ ]))", re.IGNORECASE)
_DATA = re.compile(
    rf"(?<![\w.-]){_spelled('data')}{_DROPPED}:\s*(?:{_spelled('text/html')}|"
    rf"{_spelled('text/xml')}|{_spelled('application/xhtml')}|{_spelled('image/svg')})",
    re.IGNORECASE,
)
_MARKUP = {
    "a tag that runs or loads something": _TAG,
    "an event handler in a tag": _HANDLER,
    "a javascript: address": _ADDRESS,
    "a data: address that holds a page": _DATA,
}


def max_length(characters: int) -> Validator:
    """Return a validator that limits the characters of text, all parts of a message together.

    Raises:
        ConfigurationError: `characters` is not a whole number of at least 1.
    """
    if isinstance(characters, bool) or not isinstance(characters, int) or characters < 1:
        raise ConfigurationError(
            f"max_length takes a whole number of at least 1 character, not {characters!r}"
        )

    def check(message: Message) -> str | None:
        found = len(message.text)
        return (
            None
            if found <= characters
            else f"it has {found:,} characters, the limit is {characters:,}"
        )

    return _quick(check, f"max_length({characters})")


def no_markup() -> Validator:
    """Return a validator that refuses markup which a web page would run.

    Refused are tags that run or load something (script, iframe, object, svg ...), event handlers in
    any tag, and `javascript:` and `data:text/html` addresses, in the texts, the addresses and the
    author's name, also if hidden by entities, blanks or letter case. Plain text with `<` in it,
    harmless tags and links are accepted. It is a second line of defence: a page must still escape
    messages.
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
    """Name a built-in validator, and mark it as never waiting: it is called without a thread."""
    check.__qualname__ = check.__name__ = name
    vars(check)["is_quick"] = True
    return check


def _strings(value: Any) -> Iterator[str]:
    """Yield every text in a content, addresses included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _strings(list(value.values()))
    elif isinstance(value, Sequence):
        for one in value:
            yield from _strings(one)


def _readings(text: str) -> Iterator[str]:
    """Yield the text as it is, with its entities decoded, and with its letters normalized."""
    yield text
    for _ in range(_MOST_ENCODINGS):
        text, before = html.unescape(text), text
        if text == before:
            break
        yield text
    plain = unicodedata.normalize("NFKC", text)
    if plain != text:
        yield plain
