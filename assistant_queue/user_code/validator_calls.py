"""Calls of functions in the process that adds the message: on threads, bounded, contained."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from assistant_queue.callback_types import Validator
from assistant_queue.errors import ConfigurationError, MessageRefused
from assistant_queue.models import Message
from assistant_queue.user_code.call_threads import CallThreads
from assistant_queue.user_code.functions import qualified_name
from assistant_queue.user_code.running_calls import CallOutcome, ThreadCall

_log = logging.getLogger(__name__)

_THREADS = CallThreads(1000)
"""Threads for the validators of this process, one per call. Chosen: more than any producer adds at
once."""


def validate(
    validators: Iterable[Validator], message: Message, thread_id: str | None, limit_s: float
) -> None:
    """Call every validator, in order, for at most `limit_s` seconds each.

    Raises:
        MessageRefused: One of them returned a reason, raised, or took too long. Nothing was queued.
        ConfigurationError: One of them returned something that is neither None nor a reason.
            Nothing was queued.
    """
    verdicts = _judge(validators, message, thread_id, limit_s)
    with suppress(StopIteration):
        validator = next(verdicts)
        while True:
            validator = verdicts.send(call(validator, message, limit_s))


async def validate_async(
    validators: Iterable[Validator], message: Message, thread_id: str | None, limit_s: float
) -> None:
    """Do what `validate` does, without blocking the event loop."""
    verdicts = _judge(validators, message, thread_id, limit_s)
    with suppress(StopIteration):
        validator = next(verdicts)
        while True:
            validator = verdicts.send(await call_async(validator, message, limit_s))


def call(
    function: Callable[[Message], Any], message: Message, limit_s: float
) -> CallOutcome | None:
    """Call a function of a message, on a thread; None if it is late, and abandoned."""
    begun = _call_of(function, message)
    if _is_quick(function):
        return begun.run()
    _THREADS.submit(begun)
    return begun.wait(limit_s) or _abandon(begun)


async def call_async(
    function: Callable[[Message], Any], message: Message, limit_s: float
) -> CallOutcome | None:
    """Do what `call` does, without blocking the event loop."""
    begun = _call_of(function, message)
    if _is_quick(function):
        return begun.run()
    _THREADS.submit(begun)
    try:
        outcome = await begun.ended(limit_s)
    except asyncio.CancelledError:
        _abandon(begun)
        raise
    return outcome or _abandon(begun)


def _is_quick(function: Callable[[Message], Any]) -> bool:
    return getattr(function, "is_quick", False) is True


def _call_of(function: Callable[[Message], Any], message: Message) -> ThreadCall:
    return ThreadCall(partial(function, message), qualified_name(function))


def _abandon(begun: ThreadCall) -> CallOutcome | None:
    """Abandon a call; return its outcome if it has just ended."""
    return None if _THREADS.abandon(begun) else begun.outcome


def _judge(
    validators: Iterable[Validator], message: Message, thread_id: str | None, limit_s: float
) -> Generator[Validator, CallOutcome | None, None]:
    """Yield each validator, receive the outcome of its call, raise if the validator refuses.

    The outcome is None if the call is late.

    This is what the blocking and the awaited way have in common.
    """
    for validator in validators:
        outcome = yield validator
        if outcome is None:
            _log.warning(
                "thread %r, message %r: the validator %s did not return within %g s; "
                "it is still running and is abandoned",
                thread_id,
                message.id,
                qualified_name(validator),
                limit_s,
            )
            outcome = CallOutcome(error=TimeoutError())
        if outcome.error is not None:
            # A message that cannot be judged is refused.
            raise MessageRefused(
                _reason_of(outcome.error, validator), message_id=message.id, thread_id=thread_id
            ) from outcome.error
        reason = outcome.value
        if reason is None:
            continue
        if not isinstance(reason, str):
            raise ConfigurationError(
                f"the validator {qualified_name(validator)} returned {type(reason).__name__}: "
                "expected None, or the reason as a string"
            )
        raise MessageRefused(
            reason or f"{qualified_name(validator)} says no",
            message_id=message.id,
            thread_id=thread_id,
        )


def _reason_of(error: BaseException, validator: Validator) -> str:
    if isinstance(error, MessageRefused):
        return error.reason
    if isinstance(error, ValueError):
        return str(error) or f"{qualified_name(validator)} says no"
    return f"{qualified_name(validator)} raised {type(error).__name__}"
