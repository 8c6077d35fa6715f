"""The option `flush_when`: whether a message ends the window of its thread."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from assistant_queue.models import Message
from assistant_queue.user_code.functions import qualified_name
from assistant_queue.user_code.running_calls import CallOutcome
from assistant_queue.user_code.validator_calls import call, call_async

_log = logging.getLogger(__name__)

FlushRule = Callable[[Message], Any] | Sequence[str]


def is_flushed(rule: FlushRule, message: Message, thread_id: str, limit_s: float) -> bool:
    """Return whether the message ends the window; False if the function cannot say so.

    A function is called as a validator is: on a thread, for at most `limit_s` seconds. What it
    raises is logged, and the message waits for the end of its window.
    """
    if not callable(rule):
        return _has_word(tuple(rule), message)
    return _verdict(rule, call(rule, message, limit_s), message, thread_id)


async def is_flushed_async(
    rule: FlushRule, message: Message, thread_id: str, limit_s: float
) -> bool:
    """Do what `is_flushed` does, without blocking the event loop."""
    if not callable(rule):
        return _has_word(tuple(rule), message)
    return _verdict(rule, await call_async(rule, message, limit_s), message, thread_id)


def _verdict(
    rule: Callable[..., Any], outcome: CallOutcome | None, message: Message, thread_id: str
) -> bool:
    if outcome is None:
        trouble = "did not return in time and is abandoned"
    elif outcome.error is not None:
        trouble = f"raised {type(outcome.error).__name__}"
    elif not isinstance(outcome.value, bool):
        trouble = f"returned {type(outcome.value).__name__} instead of True or False"
    else:
        return outcome.value
    _log.warning(
        "thread %r, message %r: flush_when, %s, %s; the message waits for the end of its window",
        thread_id,
        message.id,
        qualified_name(rule),
        trouble,
        extra={"thread_id": thread_id, "message_id": message.id},
    )
    return False


def _has_word(words: tuple[str, ...], message: Message) -> bool:
    return _pattern(words).search(message.text) is not None


@lru_cache(maxsize=64)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern for whole words or phrases in any case, with any blanks between."""
    return re.compile("|".join(map(_whole, words)), re.IGNORECASE)


def _whole(word: str) -> str:
    parts = word.split()
    before = r"(?<!\w)" if re.match(r"\w", parts[0]) else ""
    after = r"(?!\w)" if re.match(r"\w", parts[-1][-1]) else ""
    return before + r"\s+".join(map(re.escape, parts)) + after
