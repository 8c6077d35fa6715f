"""`assistant-queue threads`: list the threads that are not idle, by state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

import click

from assistant_queue.cli.output import echo_json, echo_lines, json_option, state_words
from assistant_queue.cli.shared_options import Where, where_options
from assistant_queue.models import ThreadFilter, ThreadOrder, ThreadStatus


@click.command(short_help="List the threads that are not idle, by state.")
@click.option(
    "--state",
    type=click.Choice(get_args(ThreadFilter)),
    help="Only these. stuck: overdue by more than 5 s; parked: with a batch of unknown outcome.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="The number of threads to list.",
)
@click.option("--after", metavar="THREAD", help="List the threads after this one: the next page.")
@click.option(
    "--order",
    type=click.Choice(get_args(ThreadOrder)),
    default="oldest_due",
    show_default=True,
    help="By the time when a thread is next checked.",
)
@json_option
@where_options
def threads(
    *,
    where: Where,
    state: ThreadFilter | None,
    limit: int,
    after: str | None,
    order: ThreadOrder,
    as_json: bool,
) -> None:
    """List the threads that are not idle: those that wait, run, or are to be tried again.

    Paused threads are listed with --state paused, those that a person answers with --state
    taken_over.

    \b
    assistant-queue threads
    assistant-queue threads --state stuck
    assistant-queue threads --state retrying --limit 1000 --json

    Exit codes: 0 listed (also if there are none), 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        rows = queue.list_threads(state, limit, after, order)
    if as_json:
        for row in rows:
            echo_json(row)
        return
    if not rows:
        word = (state or "waiting").replace("_", " ")
        click.echo(f"no thread is {word}")
    now = datetime.now(UTC)
    for row in rows:
        echo_lines([_line(row, now)])


def _line(row: ThreadStatus, now: datetime) -> str:
    line = f"{row.thread_id}: {state_words(row)}, {row.pending_count} waiting"
    if row.batch_id:
        line += f", batch {row.batch_id}, attempt {row.attempts}"
    if row.due_at is None:
        return line
    left_s = (row.due_at - now).total_seconds()
    return f"{line}, due {'in' if left_s >= 0 else 'since'} {abs(left_s):.0f} s"
