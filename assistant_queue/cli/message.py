"""`assistant-queue message`: the state of one message, its times, and the attempts at it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from assistant_queue.cli.dashed_arguments import Command
from assistant_queue.cli.exit_errors import Problem
from assistant_queue.cli.output import echo_json, echo_lines, json_option, shorten
from assistant_queue.cli.shared_options import Where, where_options
from assistant_queue.cli.timeline_lines import attempt_line, time_lines, tokens
from assistant_queue.cli.wake_up_ids import messages_of_job
from assistant_queue.models import MessageStatus

_WIDTH = 100
"""Characters of a reply or an error. Chosen: one line."""


@click.command(cls=Command, short_help="Show one message: its state, times, attempts and tokens.")
@click.argument("message_id", metavar="ID")
@json_option
@where_options
def message(*, message_id: str, where: Where, as_json: bool) -> None:
    """Show a message: its state, when what happened to it, the attempts, and the reply.

    Times are those of Redis, each with the time since the message was added. If there is no answer,
    assistant-queue explain ID says why. Of a wake-up's id (the job_id of a receipt) the messages are
    shown that it was for; they are searched among all records.

    \b
    assistant-queue message 5f3a09c1d2e4
    assistant-queue message 5f3a09c1d2e4 --json

    Exit codes: 0 shown, 1 unknown, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        one = queue.get_message(message_id)
        found = messages_of_job(queue, message_id) if one is None else [one]
    if not found:
        raise Problem(
            f"there is no message {message_id}: it was never added here, or its record has expired "
            "(result_ttl)"
        )
    for status in found:
        if as_json:
            echo_json(status)
        else:
            echo_lines(_lines(status))


def _lines(found: MessageStatus) -> Iterator[str]:
    names = {"thread": found.thread_id, "batch": found.batch_id, "run": found.run_id}
    where = ", ".join(f"{name} {value}" for name, value in names.items() if value)
    delivery = "" if found.delivery == "none" else f", delivery {found.delivery}"
    yield f"{found.message_id}: {found.status}{delivery}, {where}"
    labels = {"author": found.author, "tenant": found.tenant, **found.metadata}
    said = ", ".join(f"{name} {value}" for name, value in labels.items() if value)
    if said:
        yield f"  {said}"
    yield from time_lines(found.timeline)
    for attempt in found.timeline.attempts:
        yield attempt_line(attempt)
    if found.usage is not None:
        yield f"  tokens    {tokens(found.usage)}"
    if found.error is not None:
        yield f"  error     {found.error.code}: {shorten(found.error.message, _WIDTH)}"
    if found.reply is not None:
        mark = " (the fallback)" if found.fallback else ""
        yield f"  < {shorten(found.reply, _WIDTH)}{mark}"
