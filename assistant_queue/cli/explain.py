"""`assistant-queue explain`: why a message has no answer (yet), and what to do."""

from __future__ import annotations

import textwrap
from datetime import datetime

import click

from assistant_queue.cli.dashed_arguments import Command
from assistant_queue.cli.exit_errors import FAILED
from assistant_queue.cli.output import echo_json, echo_lines, json_option
from assistant_queue.cli.shared_options import Where, where_options
from assistant_queue.cli.wake_up_ids import messages_of_job
from assistant_queue.models import Explanation, ExplanationVerdict

_WIDTH = 100
"""Columns of a line. Chosen: as those of the documentation."""


@click.command(cls=Command, short_help="Explain why a message has no answer (yet).")
@click.argument("message_or_thread_id", metavar="ID")
@json_option
@where_options
def explain(*, message_or_thread_id: str, where: Where, as_json: bool) -> None:
    """Explain why a message has no answer (yet), or what became of it, with the evidence.

    ID is that of a message or, if there is no such message, of a thread; or of a wake-up, the job_id
    of a receipt. If RQ has forgotten that, its latest message is searched among all records.
    docs/troubleshooting.md lists all verdicts. Nothing is changed, and no provider is asked.

    \b
    assistant-queue explain 5f3a09c1d2e4
    assistant-queue explain thread-123 --json

    Exit codes: 0 explained, 1 the id is unknown, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        found = queue.explain(message_or_thread_id)
        if found.verdict is ExplanationVerdict.UNKNOWN:
            for status in messages_of_job(queue, message_or_thread_id)[-1:]:
                found = queue.explain(status.message_id)
    if as_json:
        echo_json(found)
    else:
        echo_lines(lines_of(found))
    if found.verdict is ExplanationVerdict.UNKNOWN:
        raise SystemExit(FAILED)


def lines_of(found: Explanation) -> list[str]:
    """Return the lines that the command prints."""
    rows = [
        ("message", found.message_id),
        ("thread", found.thread_id),
        ("batch", found.batch_id),
        ("since", _time(found.since)),
        ("until", _time(found.until)),
        *((name, str(value)) for name, value in found.evidence.items()),
    ]
    return [
        f"{found.verdict.value}: {found.title}",
        *_wrapped("  ", found.because),
        *(f"  {name:<9} {value}" for name, value in rows if value),
        *_wrapped("  -> ", found.advice),
    ]


def _wrapped(indent: str, words: str) -> list[str]:
    return textwrap.wrap(
        words,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _time(at: datetime | None) -> str | None:
    return None if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"
