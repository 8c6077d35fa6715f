"""Read failures inside HTTP 200: a failed run, and `error` events."""

from __future__ import annotations

from dataclasses import dataclass

from assistant_queue.backends.openai.error_mapping import names_thread, of_trouble
from assistant_queue.backends.openai.trouble_reader import read_trouble
from assistant_queue.core.runs import RunEnded
from assistant_queue.errors import BackendError, RequestRefused, UnknownThread
from assistant_queue.models import ErrorInfo, Usage
from assistant_queue.trouble import Fate, Trouble


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run's own error, read for `RunEnded`."""

    error: ErrorInfo
    trouble: Trouble

    def ended(
        self, run_id: str, status: str, *, replies: tuple[str, ...] = (), usage: Usage | None = None
    ) -> RunEnded:
        """Build the end of the run that failed this way."""
        fate = self.trouble.kind.fate
        return RunEnded(
            run_id=run_id,
            status=status,
            replies=replies,
            usage=usage,
            error=self.error,
            counts=fate is not Fate.WAIT,
            retryable=fate not in {Fate.FINAL, Fate.REMEDY},
            retry_after_s=self.trouble.retry_after_s,
            trouble=self.trouble,
        )


def failure_of(error: object, status: str) -> FailedRun:
    """Read the error of a run that ended as `status`.

    `error` is its `error` or `last_error`, of any shape, None without one.
    """
    trouble = read_trouble(error or {})
    words = trouble.words or f"The provider ended the run as {status!r}."
    return FailedRun(ErrorInfo(code=trouble.code or f"run_{status}", message=words), trouble)


def refused_in_stream(error: object, *, thread: str) -> BackendError:
    """Return the exception for an `error` event that came before any id."""
    trouble = read_trouble(error)
    return of_trouble(
        trouble, thread=thread, missing=UnknownThread if names_thread(trouble) else RequestRefused
    )
