"""`assistant-queue failed`: what needs a person."""

from __future__ import annotations

import click

from assistant_queue.cli.options import Where, where_options
from assistant_queue.cli.output import echo_json, json_option, shorten
from assistant_queue.models import FailedBatch

_ERROR_WIDTH = 160


@click.group(invoke_without_command=True, short_help="List, retry or discard what has failed.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many batches to list.")
@click.option("--after", metavar="BATCH_ID", help="List those behind this one: the next page.")
@json_option
@where_options
@click.pass_context
def failed(ctx: click.Context, where: Where, limit: int, after: str | None, as_json: bool) -> None:
    """List the batches that have failed, oldest first; retry or discard one.

    A batch is here when its attempts are used up, when its workers died over it, or when it is parked: it cannot be found out whether the
    provider took it. Its thread has gone on without it. The messages are kept until you decide.

    \b
    assistant-queue failed
    assistant-queue failed retry 5f3a09c1d2e4
    assistant-queue failed discard 5f3a09c1d2e4

    Exit codes: 0 listed (also when there is nothing) or done, 1 no such batch, 2 an option is wrong, 3 Redis did not answer.
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
            click.echo("\n".join(_lines(row)))


def _lines(row: FailedBatch) -> list[str]:
    count = len(row.message_ids)
    run = f", run {row.known_run_id}" if row.known_run_id else ""
    return [
        f"{row.batch_id}  thread {row.thread_id}  {row.failed_at:%Y-%m-%d %H:%M:%S} UTC",
        f"    {row.reason} after {row.attempts} attempt{'s' * (row.attempts != 1)}, {count} message{'s' * (count != 1)}{run}",
        f"    {row.error.code}: {shorten(row.error.message, _ERROR_WIDTH)}",
    ]


@failed.command(short_help="Put a batch back at its thread's head.")
@click.argument("batch_id")
@where_options
@click.pass_obj
def retry(outer: Where, batch_id: str, where: Where) -> None:
    """Put a failed batch back at its thread's head, due at once.

    A parked batch may have been answered already: look at the conversation first.

    \b
    assistant-queue failed retry 5f3a09c1d2e4

    Exit codes: 0 put back, 1 no such batch, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.over(outer).queue() as queue:
        queue.retry_failed(batch_id)
    click.echo(f"batch {batch_id} is queued again")


@failed.command(short_help="Give a batch up.")
@click.argument("batch_id")
@where_options
@click.pass_obj
def discard(outer: Where, batch_id: str, where: Where) -> None:
    """Give a failed batch up: its texts go, its messages stay `failed` for a while.

    \b
    assistant-queue failed discard 5f3a09c1d2e4

    Exit codes: 0 discarded, 1 no such batch, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.over(outer).queue() as queue:
        queue.discard_failed(batch_id)
    click.echo(f"batch {batch_id} is discarded")
