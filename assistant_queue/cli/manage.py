"""`assistant-queue thread`, `cancel`, `pause`, `resume`, `flush`, `stop` and `forget`: manage one thread."""

from __future__ import annotations

import click

from assistant_queue.cli.dashed_arguments import Command
from assistant_queue.cli.exit_errors import Problem
from assistant_queue.cli.output import echo_json, echo_lines, json_option, shorten, state_words
from assistant_queue.cli.recording import recorded_command, thread_of_message
from assistant_queue.cli.shared_options import Where, where_options
from assistant_queue.client.queue import AssistantMessageQueue
from assistant_queue.errors import AssistantQueueError
from assistant_queue.models import MessageStatus, ThreadMessage, ThreadStatus

_WIDTH = 100


@click.command(cls=Command, short_help="Show one thread: its messages, its run, the last replies.")
@click.argument("thread_id")
@click.option(
    "--replies",
    type=click.IntRange(0, 20),
    default=3,
    show_default=True,
    help="The number of the model's last messages to show.",
)
@json_option
@where_options
def thread(*, thread_id: str, where: Where, replies: int, as_json: bool) -> None:
    """Show a thread: its state, waiting messages, batch and run, and the model's last replies.

    The replies are read from the provider; without a key they are left out.

    \b
    assistant-queue thread thread-123
    assistant-queue thread thread-123 --json

    Exit codes: 0 shown (an unknown thread is idle), 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        status = queue.get_thread_status(thread_id)
        waiting = queue.get_jobs_by_thread_id(thread_id)
        replied = _last_replies(where, thread_id, replies) if replies else []
    if as_json:
        for row in (status, *waiting, *replied):
            echo_json(row)
        return
    echo_lines(
        [
            *_status_lines(status),
            *map(_message_line, waiting),
            *map(_reply_line, replied),
        ]
    )


def _last_replies(where: Where, thread_id: str, limit: int) -> list[ThreadMessage]:
    with AssistantMessageQueue(**where.options()) as queue:
        try:
            messages = queue.list_messages(thread_id, limit=min(4 * limit, 100))
        except AssistantQueueError:
            # No provider is configured here, or it does not know the thread: the state in Redis is
            # shown in any case.
            return []
    return [message for message in messages if message.role == "assistant"][:limit][::-1]


def _status_lines(status: ThreadStatus) -> list[str]:
    state = state_words(status)
    when = f", due {status.due_at:%Y-%m-%d %H:%M:%S} UTC" if status.due_at else ""
    lines = [f"{status.thread_id}: {state}, {status.pending_count} waiting{when}"]
    if status.batch_id:
        lines.append(
            f"  batch {status.batch_id}, attempt {status.attempts}, "
            f"run {status.run_id or 'not known yet'}"
        )
    return lines


def _reply_line(reply: ThreadMessage) -> str:
    when = f"{reply.created_at:%Y-%m-%d %H:%M:%S} UTC" if reply.created_at else None
    known = ", ".join(part for part in (reply.author, when) if part)
    return f"  < {shorten(reply.text, _WIDTH)}{f' ({known})' if known else ''}"


def _message_line(message: MessageStatus) -> str:
    error = (
        f": {message.error.code}, {shorten(message.error.message, _WIDTH)}" if message.error else ""
    )
    return f"  > {message.message_id} {message.status}{error}"


@click.command(cls=Command, short_help="Cancel a waiting message.")
@click.argument("message_id")
@click.option(
    "--running",
    is_flag=True,
    help="Also one in a batch that is under way: its run is interrupted.",
)
@where_options
def cancel(*, message_id: str, running: bool, where: Where) -> None:
    """Cancel a message that still waits. A message that is in a batch is answered.

    \b
    assistant-queue cancel 5f3a09c1d2e4
    assistant-queue cancel 5f3a09c1d2e4 --running

    Exit codes: 0 cancelled, 1 too late or unknown, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        thread_id = thread_of_message(queue, message_id)
        with recorded_command(queue, "cancel_message", thread_id, message_id=message_id) as outcome:
            outcome.done = queue.cancel(message_id, running=running)
        if not outcome.done:
            status = queue.get_message(message_id)
            what = f"it is {status.status}" if status else "there is no such message"
            raise Problem(f"message {message_id} was not cancelled: {what}")
    click.echo(f"message {message_id} is cancelled")


@click.command(
    cls=Command, short_help="Pause a thread or the whole queue: accept messages, claim none."
)
@click.argument("thread_id", required=False)
@where_options
def pause(*, thread_id: str | None, where: Where) -> None:
    """Pause a thread, or the whole queue: messages are accepted, none is claimed.

    Runs that have started finish.

    \b
    assistant-queue pause
    assistant-queue pause thread-123

    Exit codes: 0 paused, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue, recorded_command(queue, "pause", thread_id):
        queue.pause(thread_id)
    click.echo(f"{thread_id or 'the queue'} is paused")


@click.command(cls=Command, short_help="End a pause.")
@click.argument("thread_id", required=False)
@where_options
def resume(*, thread_id: str | None, where: Where) -> None:
    """Resume a thread, or the whole queue; messages that fell due meanwhile are answered at once.

    \b
    assistant-queue resume
    assistant-queue resume thread-123

    Exit codes: 0 resumed, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue, recorded_command(queue, "resume", thread_id):
        queue.resume(thread_id)
    click.echo(f"{thread_id or 'the queue'} is resumed")


@click.command(cls=Command, short_help="Answer what waits in a thread now, without its window.")
@click.argument("thread_id")
@where_options
def flush(*, thread_id: str, where: Where) -> None:
    """End the window of a thread: its waiting messages are answered now.

    \b
    assistant-queue flush thread-123

    Exit codes: 0 it is due, 1 nothing waits, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        with recorded_command(queue, "flush", thread_id) as outcome:
            outcome.done = queue.flush(thread_id)
        if not outcome.done:
            raise Problem(f"{thread_id}: no message waits that wants a reply")
    click.echo(f"{thread_id} is due")


@click.command(cls=Command, short_help="Have a waiting message interrupt the running answer.")
@click.argument("message_id")
@click.option("--steer", is_flag=True, help="It goes with the outputs of the next tool round.")
@where_options
def promote(*, message_id: str, steer: bool, where: Where) -> None:
    """Have a waiting message interrupt, or steer, the running answer of its thread.

    \b
    assistant-queue promote 7e1c
    assistant-queue promote 7e1c --steer

    Exit codes: 0 it does, 1 it does not wait or nothing is under way, 2 an option is wrong, 3 Redis
    did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        thread_id = thread_of_message(queue, message_id)
        with recorded_command(
            queue, "promote_message", thread_id, message_id=message_id
        ) as outcome:
            outcome.done = queue.promote(message_id, "steer" if steer else "interrupt")
        if not outcome.done:
            raise Problem(f"{message_id} does not wait, or no answer is under way")
    click.echo(f"{message_id} {'steers' if steer else 'interrupts'} the answer")


@click.command(cls=Command, short_help="Stop the running answer of a thread.")
@click.argument("thread_id")
@where_options
def stop(*, thread_id: str, where: Where) -> None:
    """End the running answer of a thread for good; its messages are cancelled.

    \b
    assistant-queue stop thread-123

    Exit codes: 0 it is being stopped, 1 there is none, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        with recorded_command(queue, "stop", thread_id) as outcome:
            outcome.done = queue.stop(thread_id)
        if not outcome.done:
            raise Problem(f"{thread_id}: no answer is under way")
    click.echo(f"the answer of {thread_id} is being stopped")


@click.command(cls=Command, short_help="Remove every key of a thread.")
@click.argument("thread_id")
@click.confirmation_option(
    "--yes",
    prompt="Waiting and failed messages of the thread are lost. Continue?",
    help="Do not ask.",
)
@where_options
def forget(*, thread_id: str, where: Where) -> None:
    """Remove every key of a thread: its messages, failed batches, and conversation id.

    The conversation at the provider stays. All records of the queue are searched, which can take a
    while.

    \b
    assistant-queue forget thread-123 --yes

    Exit codes: 0 forgotten, 1 a worker holds the thread, 2 an option is wrong, 3 Redis did not
    answer.
    """  # noqa: D301
    # Its thread's id is in no record: it would outlive the thread.
    with where.queue() as queue, recorded_command(queue, "forget_thread"):
        queue.forget_thread(thread_id)
    click.echo(f"{thread_id} is forgotten")
