"""`assistant-queue thread`, `cancel`, `pause`, `resume`, `forget`: one thread in a person's hands."""

from __future__ import annotations

import click

from assistant_queue.cli.options import Where, where_options
from assistant_queue.cli.output import echo_json, json_option, shorten
from assistant_queue.cli.problems import Problem
from assistant_queue.cli.words import Command
from assistant_queue.errors import AssistantQueueError
from assistant_queue.models import MessageStatus, ThreadMessage, ThreadStatus
from assistant_queue.queue import AssistantMessageQueue

_WIDTH = 100


@click.command(cls=Command, short_help="Show one thread: what waits, what runs, what was said last.")
@click.argument("thread_id")
@click.option("--replies", type=click.IntRange(0, 20), default=3, show_default=True, help="How many of the model's last messages to show.")
@json_option
@where_options
def thread(*, thread_id: str, where: Where, replies: int, as_json: bool) -> None:
    """Show where a thread stands: its state, the messages that wait, its batch and run, and the model's last replies.

    The replies are asked of the provider; without a key they are left out.

    \b
    assistant-queue thread thread-123
    assistant-queue thread thread-123 --json

    Exit codes: 0 shown (an unknown thread is idle), 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        status = queue.get_thread_status(thread_id)
        waiting = queue.get_jobs_by_thread_id(thread_id)
        said = _last_replies(where, thread_id, replies) if replies else []
    if as_json:
        for row in (status, *waiting, *said):
            echo_json(row)
        return
    click.echo("\n".join([*_status_lines(status), *map(_message_line, waiting), *(f"  < {shorten(one.text, _WIDTH)}" for one in said)]))


def _last_replies(where: Where, thread_id: str, limit: int) -> list[ThreadMessage]:
    with AssistantMessageQueue(**where.options()) as queue:
        try:
            messages = queue.list_messages(thread_id, limit=min(4 * limit, 100))
        except AssistantQueueError:
            return []  # no provider is configured here, or it does not know the thread: what Redis knows is shown all the same
    return [message for message in messages if message.role == "assistant"][:limit][::-1]


def _status_lines(status: ThreadStatus) -> list[str]:
    when = f", due {status.due_at:%Y-%m-%d %H:%M:%S} UTC" if status.due_at else ""
    lines = [f"{status.thread_id}: {status.state}{' (paused)' if status.paused else ''}, {status.pending_count} waiting{when}"]
    if status.batch_id:
        lines.append(f"  batch {status.batch_id}, attempt {status.attempts}, run {status.run_id or 'not known yet'}")
    return lines


def _message_line(message: MessageStatus) -> str:
    error = f": {message.error.code}, {shorten(message.error.message, _WIDTH)}" if message.error else ""
    return f"  > {message.message_id} {message.status}{error}"


@click.command(cls=Command, short_help="Take a waiting message out.")
@click.argument("message_id")
@where_options
def cancel(*, message_id: str, where: Where) -> None:
    """Take out a message that still waits. One that is in a batch already will be answered.

    \b
    assistant-queue cancel 5f3a09c1d2e4

    Exit codes: 0 cancelled, 1 too late or unknown, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        if not queue.cancel(message_id):
            status = queue.get_message(message_id)
            what = f"it is {status.status}" if status else "there is no such message"
            raise Problem(f"message {message_id} was not cancelled: {what}")
    click.echo(f"message {message_id} is cancelled")


@click.command(cls=Command, short_help="Accept messages, claim nothing: a thread, or everything.")
@click.argument("thread_id", required=False)
@where_options
def pause(*, thread_id: str | None, where: Where) -> None:
    """Pause a thread, or without one the whole queue: messages are accepted, nothing is claimed. What runs goes on to its end.

    \b
    assistant-queue pause
    assistant-queue pause thread-123

    Exit codes: 0 paused, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        queue.pause(thread_id)
    click.echo(f"{thread_id or 'the queue'} is paused")


@click.command(cls=Command, short_help="End a pause.")
@click.argument("thread_id", required=False)
@where_options
def resume(*, thread_id: str | None, where: Where) -> None:
    """Resume a thread, or without one the whole queue; what fell due meanwhile is answered at once.

    \b
    assistant-queue resume
    assistant-queue resume thread-123

    Exit codes: 0 resumed, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        queue.resume(thread_id)
    click.echo(f"{thread_id or 'the queue'} is resumed")


@click.command(cls=Command, short_help="Remove everything that is known of a thread.")
@click.argument("thread_id")
@click.confirmation_option("--yes", prompt="Waiting and failed messages of the thread are lost. Go on?", help="Do not ask.")
@where_options
def forget(*, thread_id: str, where: Where) -> None:
    """Remove every key of a thread: waiting, failed and answered messages, and which conversation it is.

    The conversation at the provider is not touched. Looks through all records, so it can take a while.

    \b
    assistant-queue forget thread-123 --yes

    Exit codes: 0 forgotten, 1 a worker holds the thread, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        queue.forget_thread(thread_id)
    click.echo(f"{thread_id} is forgotten")
