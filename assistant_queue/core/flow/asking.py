"""Questions to the provider about work that was, or may have been, accepted."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.failure_table import Unreachable
from assistant_queue.errors import BackendError, RunVanished, UnknownThread


def ask(
    question: steps.Find | steps.Follow | steps.CheckRun,
) -> Generator[steps.Step, Any, Any]:
    """Ask about work that was, or may have been, accepted.

    Raises:
        Unreachable: It cannot be asked now, which says nothing about the work.
        UnknownThread: The provider does not know the conversation.
        RunVanished: The provider does not know the run.
    """
    try:
        return (yield question)
    except (UnknownThread, RunVanished):
        raise
    except BackendError as error:
        raise Unreachable(error) from error
