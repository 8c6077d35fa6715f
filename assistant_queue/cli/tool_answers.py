"""`assistant-queue approvals`, `approve`, `deny` and `answer`: calls that wait for an answer."""

from __future__ import annotations

import json
from typing import Any

import click

from assistant_queue.approvals import Approval
from assistant_queue.cli.dashed_arguments import Command
from assistant_queue.cli.exit_errors import Misuse, Problem
from assistant_queue.cli.output import echo_json, echo_lines, json_option, shorten
from assistant_queue.cli.recording import recorded_command, thread_of_call
from assistant_queue.cli.shared_options import Where, where_options

_WIDTH = 160
_BY = click.option("--by", metavar="NAME", help="A name, kept in the journal.")


@click.command(short_help="List the tool calls that wait for an answer.")
@click.option("--thread", "thread_id", metavar="ID", help="Those of one thread.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--after", metavar="CALL_ID", help="List the calls after this one: the next page.")
@json_option
@where_options
def approvals(
    *, where: Where, thread_id: str | None, limit: int, after: str | None, as_json: bool
) -> None:
    """List the tool calls that wait for an approval or an output, oldest first.

    \b
    assistant-queue approvals
    assistant-queue approvals --thread thread-123 --json

    Exit codes: 0 listed (also if there are none), 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        rows = queue.list_approvals(limit, after, thread_id)
    if not rows and not as_json:
        click.echo("no call waits" if after is None else "there are no more")
    for row in rows:
        if as_json:
            echo_json(row)
        else:
            echo_lines(_lines(row))


def _lines(row: Approval) -> list[str]:
    wants = "an approval" if row.kind == "approval" else "an output"
    authors = f", for {', '.join(row.authors)}" if row.authors else ""
    said = json.dumps(row.arguments, ensure_ascii=False)
    return [
        f"{row.call_id}  thread {row.thread_id}  {row.requested_at:%Y-%m-%d %H:%M:%S} UTC",
        f"    {row.tool} waits for {wants} until {row.expires_at:%Y-%m-%d %H:%M:%S} UTC{authors}",
        f"    {shorten(row.question or said, _WIDTH)}",
    ]


@click.command(cls=Command, short_help="Approve a tool call.")
@click.argument("call_id")
@click.option("--arguments", metavar="JSON", help="Instead of those that the model chose.")
@_BY
@where_options
def approve(*, call_id: str, where: Where, by: str | None, arguments: str | None) -> None:
    """Approve a tool call: a worker calls its function once, and the answer continues.

    \b
    assistant-queue approve call_5f3a09c1d2e4 --by eve
    assistant-queue approve call_5f3a09c1d2e4 --arguments '{"amount": 3}'

    Exit codes: 0 approved, 1 there is no such call or it was settled before, 2 an option is wrong,
    3 Redis did not answer.
    """  # noqa: D301
    changed = None if arguments is None else _object(arguments)
    with where.queue() as queue:
        thread_id = thread_of_call(queue, call_id)
        with recorded_command(
            queue, "approve_call", thread_id, call_id=call_id, person=by
        ) as outcome:
            outcome.done = done = queue.approve(call_id, by=by, arguments=changed)
        _check(call_id, done=done)
    click.echo(f"{call_id} is approved")


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Misuse(f"--arguments is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Misuse("--arguments must be a JSON object")
    return found


def _check(call_id: str, *, done: bool) -> None:
    if not done:
        raise Problem(f"{call_id} was settled before; nothing was changed")


@click.command(cls=Command, short_help="Deny a tool call.")
@click.argument("call_id")
@click.option("--reason", metavar="TEXT", help="A text for the model.")
@_BY
@where_options
def deny(*, call_id: str, where: Where, by: str | None, reason: str | None) -> None:
    """Deny a tool call: its function is not called, and the model reads the reason.

    \b
    assistant-queue deny call_5f3a09c1d2e4 --by eve --reason "ask the customer first"

    Exit codes: 0 denied, 1 there is no such call or it was settled before, 2 an option is wrong,
    3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        thread_id = thread_of_call(queue, call_id)
        with recorded_command(queue, "deny_call", thread_id, call_id=call_id, person=by) as outcome:
            outcome.done = done = queue.deny(call_id, by=by, reason=reason)
        _check(call_id, done=done)
    click.echo(f"{call_id} is denied")


@click.command(cls=Command, short_help="Give the output of a tool call.")
@click.argument("call_id")
@click.argument("output")
@_BY
@where_options
def answer(*, call_id: str, output: str, where: Where, by: str | None) -> None:
    """Give the output of a tool call that is answered later.

    \b
    assistant-queue answer call_5f3a09c1d2e4 "the parcel left on Monday"

    Exit codes: 0 answered, 1 there is no such call or it was settled before, 2 an option is wrong,
    3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        thread_id = thread_of_call(queue, call_id)
        with recorded_command(
            queue, "answer_call", thread_id, call_id=call_id, person=by
        ) as outcome:
            outcome.done = done = queue.answer_tool(call_id, output, by=by)
        _check(call_id, done=done)
    click.echo(f"{call_id} is answered")
