"""Bound the user's `count_tokens`, which decides how much of a history is kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from assistant_queue.backends.chat_completions.history import Json, Memory
from assistant_queue.user_code.call_threads import CallThreads
from assistant_queue.user_code.functions import name_of
from assistant_queue.user_code.running_calls import ThreadCall

_log = logging.getLogger(__name__)

COUNT_TIMEOUT_S = 10.0
"""Seconds in which the user's function may count one history. Chosen: a tokenizer that is loaded at
its first call takes some, an answer waits for it meanwhile."""

_THREADS = CallThreads(1000)
"""Threads for `count_tokens` of this process. Chosen: more than runs end at once."""


async def keep(memory: Memory, messages: Sequence[Json]) -> list[Json]:
    """Return the messages to remember, as `Memory.keep` does, without blocking the event loop.

    A `count_tokens` that takes longer than `COUNT_TIMEOUT_S` is abandoned, and the tokens are
    estimated.
    """
    if memory.count is None or memory.tokens is None:
        return memory.keep(messages)
    call = ThreadCall(partial(memory.keep, messages), name_of(memory.count))
    _THREADS.submit(call)
    try:
        outcome = await call.ended(COUNT_TIMEOUT_S)
    finally:
        _THREADS.abandon(call)  # nothing, if it has ended
    if outcome is not None and outcome.error is None:
        return list(outcome.value)
    if outcome is None:
        _log.warning(
            "%s did not return within %g s; the tokens are estimated", call.name, COUNT_TIMEOUT_S
        )
    else:
        _log.error("count_tokens raised %s; the tokens are estimated", type(outcome.error).__name__)
    return replace(memory, count=None).keep(messages)
