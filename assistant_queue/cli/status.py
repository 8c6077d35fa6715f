"""`assistant-queue status`: message counts by state, or the state of one thread."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from assistant_queue.cli.output import console, echo_json, json_option, repeat
from assistant_queue.cli.shared_options import Where, redis_name, where_options
from assistant_queue.client.queue import AssistantMessageQueue
from assistant_queue.models import QueueStatus, ThreadStatus


@click.command(short_help="Show message counts by state.")
@click.option("--thread", metavar="ID", help="Show the state of one thread instead.")
@click.option("--watch", is_flag=True, help="Refresh every second, until Ctrl-C.")
@json_option
@where_options
def status(where: Where, thread: str | None, watch: bool, as_json: bool) -> None:
    """Show message counts by state, or the state of one thread.

    Redis keeps counters: the cost does not depend on the number of messages.

    \b
    active     in a batch that a worker has claimed
    waiting    due, no worker has claimed them yet
    delayed    their window, or a back-off, is still running
    completed  answered, ever
    failed     in the failed list now: see `assistant-queue failed`
    delivering replies that wait for their delivery, or are being delivered
    delivered  replies, ever
    undelivered  replies in the failed list now
    paused     if the queue is paused: since when; ends with `assistant-queue resume`

    \b
    assistant-queue status --watch
    assistant-queue status --thread thread-123 --json

    Exit codes: 0 shown, 2 an option is wrong, 3 Redis did not answer. With --json every read is one
    line.
    """  # noqa: D301
    with where.queue() as queue:
        look = _looker(queue, thread)
        title = f"queue {queue.config.queue_prefix} at {redis_name(queue.config)}"
        try:
            if as_json:
                repeat(lambda: echo_json(look()), watch=watch)
            elif not watch:
                _print(title, look())
            else:
                _watch(title, look)
        except KeyboardInterrupt:
            return


def _looker(
    queue: AssistantMessageQueue, thread: str | None
) -> Callable[[], QueueStatus | ThreadStatus]:
    return queue.get_queue_status if thread is None else lambda: queue.get_thread_status(thread)


def _print(title: str, seen: QueueStatus | ThreadStatus) -> None:
    click.echo(title)
    for name, value, meaning in rows_of(seen):
        click.echo(f"  {name:<11} {value:>8}  {meaning}".rstrip())


def _watch(title: str, look: Callable[[], QueueStatus | ThreadStatus]) -> None:
    screen = console()
    if screen is None:
        repeat(lambda: click.echo(_one_line(look())), watch=True)
        return
    from rich.live import Live
    from rich.table import Table

    def table() -> Table:
        made = Table(
            title=title, title_justify="left", title_style="bold", show_header=False, box=None
        )
        for name, value, meaning in rows_of(look()):
            made.add_row(name, f"[bold]{value}[/bold]", f"[dim]{meaning}[/dim]")
        made.add_row("[dim]Ctrl-C ends[/dim]")
        return made

    with Live(table(), console=screen, auto_refresh=False) as live:
        repeat(lambda: live.update(table(), refresh=True), watch=True)


def _one_line(seen: QueueStatus | ThreadStatus) -> str:
    return f"{time.strftime('%H:%M:%S')}  " + "  ".join(
        f"{name} {value}" for name, value, _ in rows_of(seen)
    )


def rows_of(seen: QueueStatus | ThreadStatus) -> list[tuple[str, str, str]]:
    """Return the rows of a status: name, value and meaning."""
    if isinstance(seen, QueueStatus):
        since = f"since {seen.paused_since:%Y-%m-%d %H:%M:%S} UTC, " if seen.paused_since else ""
        paused = (
            [("paused", "yes", f"{since}nothing is claimed: assistant-queue resume")]
            if seen.paused
            else []
        )
        return [
            *paused,
            ("active", str(seen.active_count), "in a claimed batch"),
            ("waiting", str(seen.waiting_count), "due, not claimed yet"),
            ("delayed", str(seen.delayed_count), "window or back-off still running"),
            ("completed", str(seen.completed_count), "answered, ever"),
            (
                "failed",
                str(seen.failed_count),
                "see: assistant-queue failed" if seen.failed_count else "in the failed list",
            ),
            ("delivering", str(seen.delivering_count), "replies on their way to the platform"),
            ("delivered", str(seen.delivered_count), "replies, ever"),
            (
                "undelivered",
                str(seen.undelivered_count),
                "replies; see: assistant-queue failed"
                if seen.undelivered_count
                else "replies in the failed list",
            ),
        ]
    due = f"{seen.due_at:%H:%M:%S} UTC" if seen.due_at else "-"
    return [
        ("thread", seen.thread_id, ""),
        ("state", f"{seen.state}, paused" if seen.paused else seen.state, ""),
        (
            "pending",
            str(seen.pending_count),
            "messages after the current batch, or in their window",
        ),
        ("batch", seen.batch_id or "-", ""),
        ("run", seen.run_id or "-", ""),
        ("attempts", str(seen.attempts), ""),
        ("due", due, "when a worker looks at it next"),
        *_delivery_rows(seen),
    ]


def _delivery_rows(seen: ThreadStatus) -> list[tuple[str, str, str]]:
    if not seen.delivering_count:
        return []
    due = f"{seen.delivery_due_at:%H:%M:%S} UTC" if seen.delivery_due_at else "-"
    error = seen.delivery_error
    why = f"; the last try: {error.code}: {error.message}" if error else ""
    return [
        ("delivering", str(seen.delivering_count), f"replies, the first one next at {due}{why}")
    ]
