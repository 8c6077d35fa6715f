"""Text of exceptions raised by user code: type and message without secrets.

The traceback is logged only on demand.
"""

from __future__ import annotations

import logging
import traceback
from contextvars import ContextVar

from assistant_queue.user_code.scrubbing import scrubbed, without_secrets

tracebacks: ContextVar[bool] = ContextVar("assistant_queue_tracebacks", default=False)
"""The option `log_tracebacks` of the queue that this context works for."""


def words_of(error: BaseException) -> str:
    """Return the exception's message on one line, without secrets; '' if it has none."""
    try:
        return scrubbed(str(error))
    except Exception:  # noqa: BLE001 - an exception of the user's, with a __str__ of the user's
        return ""


def said(error: BaseException) -> str:
    """Return the exception's type and words on one line, without secrets."""
    words = words_of(error)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def log_raised(
    log: logging.Logger, message: str, *args: object, error: BaseException, is_ours: bool = False
) -> None:
    """Log an exception without secrets: a line at ERROR, and its traceback.

    The traceback of what user code raised is logged at DEBUG, or at ERROR with `log_tracebacks`;
    that of a fault of this package (`is_ours`) always at ERROR.
    """
    log.error(f"{message}: %s", *args, said(error))  # noqa: G004 - the message is a constant
    level = logging.ERROR if is_ours or tracebacks.get() else logging.DEBUG
    if log.isEnabledFor(level):
        try:
            lines = "".join(traceback.format_exception(error))
        except Exception:  # noqa: BLE001 - as above
            return
        log.log(level, "%s", without_secrets(lines).rstrip())
