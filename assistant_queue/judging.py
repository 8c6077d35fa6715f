"""Ask the validators about a message: each on a thread, bounded and contained, in the process that adds the message."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Iterable
from contextlib import suppress
from functools import partial

from assistant_queue.abandoned import ABANDONED
from assistant_queue.call_threads import CallThreads, Outcome, ThreadCall
from assistant_queue.errors import ConfigurationError, MessageRefused
from assistant_queue.models import Message
from assistant_queue.validation import Validator

_log = logging.getLogger(__name__)

_THREADS = CallThreads(1000)
"""For the validators of this process, one a call. Chosen: more adds at once than any producer makes."""


def name_of(validator: Validator) -> str:
    """How a validator is called in errors."""
    return str(getattr(validator, "__qualname__", type(validator).__name__))


def validate(validators: Iterable[Validator], message: Message, thread_id: str | None, limit_s: float) -> None:
    """Ask every validator, in order, for at most `limit_s` seconds each.

    Raises:
        MessageRefused: One of them gave a reason, raised, or took too long. Nothing was queued.
        ConfigurationError: One of them returned something that is neither None nor a reason. Nothing was queued.
    """
    asking = _asking(validators, message, thread_id, limit_s)
    with suppress(StopIteration):
        validator = next(asking)
        while True:
            validator = asking.send(_outcome(validator, message, limit_s))


async def validate_async(validators: Iterable[Validator], message: Message, thread_id: str | None, limit_s: float) -> None:
    """`validate`, without blocking the event loop."""
    asking = _asking(validators, message, thread_id, limit_s)
    with suppress(StopIteration):
        validator = next(asking)
        while True:
            validator = asking.send(await _awaited(validator, message, limit_s))


def _outcome(validator: Validator, message: Message, limit_s: float) -> Outcome | None:
    call = _call_of(validator, message)
    if _is_quick(validator):
        return call.run()
    _THREADS.submit(call)
    outcome = call.wait(limit_s)
    return outcome if outcome is not None else _abandon(call, validator)


async def _awaited(validator: Validator, message: Message, limit_s: float) -> Outcome | None:
    call = _call_of(validator, message)
    if _is_quick(validator):
        return call.run()
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def settle() -> None:
        if not ended.done():
            ended.set_result(None)

    def tell(_: Outcome) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle)

    call.listeners.append(tell)
    _THREADS.submit(call)
    try:
        await asyncio.wait({ended}, timeout=limit_s)
    except asyncio.CancelledError:
        _abandon(call, validator)
        raise
    return call.outcome if call.outcome is not None else _abandon(call, validator)


def _is_quick(validator: Validator) -> bool:
    return getattr(validator, "is_quick", False) is True


def _call_of(validator: Validator, message: Message) -> ThreadCall:
    call = ThreadCall(partial(validator, message))

    def end(_: Outcome) -> None:
        if call.is_abandoned:
            ABANDONED.remove(name_of(validator))

    call.listeners.append(end)
    return call


def _abandon(call: ThreadCall, validator: Validator) -> Outcome | None:
    """Give a call up; its outcome if it has ended just now."""
    if _THREADS.abandon(call):
        ABANDONED.add(name_of(validator))
    return call.outcome


def _asking(
    validators: Iterable[Validator], message: Message, thread_id: str | None, limit_s: float
) -> Generator[Validator, Outcome | None, None]:
    """Yield each validator, be sent how its call ended (None if it has not), and raise what that means."""
    for validator in validators:
        outcome = yield validator
        if outcome is None:
            _log.warning(
                "thread %r, message %r: the validator %s did not return within %g s; it goes on and is abandoned",
                thread_id, message.id, name_of(validator), limit_s,
            )  # fmt: skip
            outcome = Outcome(error=TimeoutError())
        if outcome.error is not None:
            # What cannot be judged is not let in.
            raise MessageRefused(_reason_of(outcome.error, validator), message_id=message.id, thread_id=thread_id) from outcome.error
        reason = outcome.value
        if reason is None:
            continue
        if not isinstance(reason, str):
            raise ConfigurationError(
                f"the validator {name_of(validator)} returned {type(reason).__name__}: it has to return None, or the reason as a text; "
                "nothing was queued"
            )
        raise MessageRefused(reason or f"{name_of(validator)} says no", message_id=message.id, thread_id=thread_id)


def _reason_of(error: BaseException, validator: Validator) -> str:
    if isinstance(error, MessageRefused):
        return error.reason
    if isinstance(error, ValueError):
        return str(error) or f"{name_of(validator)} says no"
    return f"{name_of(validator)} raised {type(error).__name__}"
