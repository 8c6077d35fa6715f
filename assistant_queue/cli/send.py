"""`assistant-queue send`: add one message; with `--wait`, print its reply."""

from __future__ import annotations

import sys
from contextlib import suppress

import click

from assistant_queue.cli.dashed_arguments import Command
from assistant_queue.cli.exit_errors import Problem
from assistant_queue.cli.output import echo_json, echo_text, json_option
from assistant_queue.cli.shared_options import Number, Where, where_options
from assistant_queue.client.queue import AssistantMessageQueue
from assistant_queue.errors import StoreError


@click.command(cls=Command, short_help="Add a message, and wait for its reply.")
@click.argument("thread")
@click.argument("text")
@click.option("--author", help="The name of its author, as the model sees it.")
@click.option("--tenant", help="A label for the customer that the message belongs to.")
@click.option("--instructions", help="For the run over this message, instead of the default.")
@click.option(
    "--message-id",
    help="Its id: the same id, thread and text again is the same message, not a second one.",
)
@click.option(
    "--wait",
    type=Number(min=0),
    metavar="SECONDS",
    help="Wait for the reply, SECONDS at most, and print it.",
)
@json_option
@where_options
def send(
    *,
    thread: str,
    text: str,
    where: Where,
    author: str | None,
    tenant: str | None,
    instructions: str | None,
    message_id: str | None,
    wait: float | None,
    as_json: bool,
) -> None:
    """Add a message to a thread; a worker answers it.

    TEXT is the message, or - to read it from stdin. Without --wait the command returns as soon as
    Redis has the message; from then on it is answered exactly once, or listed by `assistant-queue
    failed`. With --wait the reply goes to stdout, everything else to stderr.

    \b
    assistant-queue send thread-123 "Where is my order?" --wait 60
    git log -5 | assistant-queue send release-notes - --author "$USER"

    Exit codes: 0 taken (with --wait: answered), 1 no reply in time (the message stays queued) or
    its batch failed, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    content = sys.stdin.read() if text == "-" else text
    with where.queue() as queue:
        receipt = queue.add_message_to_thread(
            thread, content, instructions, message_id=message_id, author=author, tenant=tenant
        )
        taken = "was taken before" if receipt.duplicate else "is queued"
        if not as_json:
            click.echo(
                f"message {receipt.message_id} {taken}, due at {receipt.due_at:%H:%M:%S} UTC",
                err=wait is not None,
            )
        row: dict[str, object] = {
            "message_id": receipt.message_id,
            "thread_id": receipt.thread_id,
            "due_at": receipt.due_at,
            "duplicate": receipt.duplicate,
        }
        if wait is not None:
            try:
                row["reply"] = queue.wait_for_reply(receipt.message_id, wait)
            except TimeoutError as error:
                raise Problem(f"{error}. {_reason(queue, receipt.message_id)}") from error
            if not as_json:
                echo_text(str(row["reply"] or ""))
        if as_json:
            echo_json(row)


def _reason(queue: AssistantMessageQueue, message_id: str) -> str:
    """Return why there is no reply yet; "" if this user of Redis may not look."""
    with suppress(StoreError):
        return str(queue.explain(message_id))
    return ""
