"""`assistant-queue failed`: list, retry and discard failed batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from assistant_queue.cli.output import echo_json, echo_lines, json_option, shorten
from assistant_queue.cli.recording import recorded_command, thread_of_batch
from assistant_queue.cli.shared_options import Where, where_options
from assistant_queue.models import FailedBatch, FailureReason

_ERROR_WIDTH = 160


@click.group(invoke_without_command=True, short_help="List, retry or discard failed batches.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="The number of batches to list.",
)
@click.option("--after", metavar="BATCH_ID", help="List the batches after this one: the next page.")
@json_option
@where_options
@click.pass_context
def failed(ctx: click.Context, where: Where, limit: int, after: str | None, as_json: bool) -> None:
    """List the batches that have failed, oldest first; retry or discard one.

    A batch is here if its attempts are used up, if its workers died over it, or if it is parked:
    whether the provider took it is unknown. A reply is here if it was not delivered. The thread
    continues without it; its messages are kept until it is retried or discarded.

    \b
    assistant-queue failed
    assistant-queue failed retry 5f3a09c1d2e4
    assistant-queue failed retry --all --reason undelivered
    assistant-queue failed discard 5f3a09c1d2e4

    Exit codes: 0 listed (also if there are none) or done, 1 no such batch, 2 an option is wrong,
    3 Redis did not answer.
    """  # noqa: D301
    ctx.obj = where
    if ctx.invoked_subcommand is not None:
        return
    with where.queue() as queue:
        rows = queue.list_failed(limit, after)
    if not rows and not as_json:
        click.echo("nothing has failed" if after is None else "there are no more")
    for row in rows:
        if as_json:
            echo_json(row)
        else:
            echo_lines(_lines(row))


def _lines(row: FailedBatch) -> list[str]:
    messages = _count(len(row.message_ids), "message")
    run = f", run {row.known_run_id}" if row.known_run_id else ""
    return [
        f"{row.batch_id}  thread {row.thread_id}  {row.failed_at:%Y-%m-%d %H:%M:%S} UTC",
        f"    {row.reason} after {_count(row.attempts, 'attempt')}, {messages}{run}",
        f"    {row.error.code}: {shorten(row.error.message, _ERROR_WIDTH)}",
    ]


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{plural if number != 1 else ''}"


Command = TypeVar("Command", bound=Callable[..., Any])


def _selection(command: Command) -> Command:
    """Add the argument and options that say which batches a command is about."""
    for option in (
        click.option("--thread", metavar="ID", help="With --all: of this thread alone."),
        click.option(
            "--reason",
            type=click.Choice(get_args(FailureReason)),
            help="With --all: with this reason alone.",
        ),
        click.option("--all", "is_all", is_flag=True, help="Every batch instead of one."),
        click.argument("batch_id", required=False),
    ):
        command = option(command)
    return command


def _check_selection(
    batch_id: str | None, reason: str | None, thread: str | None, *, is_all: bool
) -> None:
    if (batch_id is None) != is_all:
        raise click.UsageError("Name one BATCH_ID, or use --all.")
    if not is_all and (reason or thread):
        raise click.UsageError("--reason and --thread need --all.")


@failed.command(short_help="Put a batch back at its thread's head.")
@_selection
@where_options
@click.pass_obj
def retry(  # noqa: PLR0917 - click passes its parameters by name
    outer: Where,
    batch_id: str | None,
    is_all: bool,
    reason: FailureReason | None,
    thread: str | None,
    where: Where,
) -> None:
    """Put a failed batch back at its thread's head, due at once; or all of them.

    A parked batch may have been answered already: look at the conversation first. A reply that was
    not delivered is delivered again, without another run.

    \b
    assistant-queue failed retry 5f3a09c1d2e4
    assistant-queue failed retry --all --reason undelivered

    Exit codes: 0 put back, 1 no such batch, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    _check_selection(batch_id, reason, thread, is_all=is_all)
    with where.over(outer).queue() as queue:
        if batch_id is None:
            with recorded_command(queue, "retry_failed", thread, reasons=reason) as outcome:
                outcome.count = count = queue.retry_failed_all(reason, thread)
                outcome.done = count > 0
            click.echo(f"{_count(count, 'batch', 'es')} queued again")
            return
        thread = thread_of_batch(queue, batch_id)
        with recorded_command(queue, "retry_failed", thread, batch_id=batch_id) as outcome:
            queue.retry_failed(batch_id)
            outcome.count = 1
    click.echo(f"batch {batch_id} is queued again")


@failed.command(short_help="Discard a failed batch.")
@_selection
@where_options
@click.pass_obj
def discard(  # noqa: PLR0917 - click passes its parameters by name
    outer: Where,
    batch_id: str | None,
    is_all: bool,
    reason: FailureReason | None,
    thread: str | None,
    where: Where,
) -> None:
    """Discard a failed batch: its texts are deleted, its messages stay `failed` for `result_ttl`.

    \b
    assistant-queue failed discard 5f3a09c1d2e4
    assistant-queue failed discard --all --thread thread-123

    Exit codes: 0 discarded, 1 no such batch, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    _check_selection(batch_id, reason, thread, is_all=is_all)
    with where.over(outer).queue() as queue:
        if batch_id is None:
            with recorded_command(queue, "discard_failed", thread, reasons=reason) as outcome:
                outcome.count = count = queue.discard_failed_all(reason, thread)
                outcome.done = count > 0
            click.echo(f"{_count(count, 'batch', 'es')} discarded")
            return
        thread = thread_of_batch(queue, batch_id)
        with recorded_command(queue, "discard_failed", thread, batch_id=batch_id) as outcome:
            queue.discard_failed(batch_id)
            outcome.count = 1
    click.echo(f"batch {batch_id} is discarded")
