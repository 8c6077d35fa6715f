"""Errors that end a command: one line on stderr, and an exit code by kind."""

from __future__ import annotations

from typing import IO, Any

import click

from assistant_queue.errors import (
    AssistantQueueError,
    ConfigurationError,
    InvalidArgument,
    StoreError,
)

OK = 0
FAILED = 1
USAGE = 2
NO_REDIS = 3

EXIT_CODES = """\b
Exit codes of every command:
  0  it is done
  1  it was tried and failed: no reply in time, no such batch, a demo that did not hold
  2  it was not tried: an option, a variable, an app or an input file is wrong
  3  Redis did not answer, or refused
"""


class Problem(click.ClickException):
    """Ends a command with one line on stderr."""

    exit_code = FAILED

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))

    def show(self, file: IO[Any] | None = None) -> None:
        """`error: what, where, what to do`."""
        click.echo(f"error: {self.format_message()}", file=file, err=file is None)


class Misuse(Problem):
    """An option, a variable, an app or an input is wrong; nothing was tried."""

    exit_code = USAGE


class NoRedis(Problem):
    """Redis did not answer, or refused."""

    exit_code = NO_REDIS


def problem_of(error: AssistantQueueError) -> Problem:
    """Return the exit error for an error of this package."""
    if isinstance(error, ConfigurationError | InvalidArgument):
        return Misuse(str(error))
    return NoRedis(str(error)) if isinstance(error, StoreError) else Problem(str(error))
