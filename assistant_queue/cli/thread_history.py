"""`assistant-queue history`: what became of a thread's latest batches."""

from __future__ import annotations

from collections.abc import Iterator

import click

from assistant_queue.accounting import BatchRecord, DeliveryRecord, ToolCallRecord
from assistant_queue.cli.dashed_arguments import Command
from assistant_queue.cli.output import echo_json, echo_lines, json_option
from assistant_queue.cli.shared_options import Where, where_options
from assistant_queue.cli.timeline_lines import attempt_line, stamp, time_lines, tokens

_MOST_IDS = 5
"""Ids of messages, or of parts, in a line. Chosen: the line stays readable; --json has all."""


@click.command(cls=Command, short_help="Show what became of a thread's latest batches.")
@click.argument("thread_id")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="The number of batches to show.",
)
@click.option("--before", metavar="BATCH", help="Show the batches before this one: the next page.")
@json_option
@where_options
def history(*, thread_id: str, where: Where, limit: int, before: str | None, as_json: bool) -> None:
    """Show the journal of a thread, newest first: what became of its batches, without texts.

    Each has its times, attempts with workers and the codes of errors, tool calls, tokens, and its
    delivery. A batch that has not ended is shown by assistant-queue thread ID.

    \b
    assistant-queue history thread-123
    assistant-queue history thread-123 --limit 100 --json

    Exit codes: 0 shown (also if there is none), 1 the batch of --before is unknown, 2 an option is
    wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        found = queue.get_timeline(thread_id, limit, before)
    if as_json:
        for record in found:
            echo_json(record)
        return
    if not found:
        click.echo(
            "no batch of this thread is in the journal: none has ended, they are older than "
            "journal_ttl, or journal is 0"
        )
    for record in found:
        echo_lines(_lines(record))


def _lines(record: BatchRecord) -> Iterator[str]:
    why = ", ".join(one for one in (record.reason, record.error_code) if one)
    outcome = f"{record.outcome} ({why})" if why else record.outcome
    yield f"{stamp(record.ended_at)}  batch {record.batch_id}: {outcome}"
    yield f"  messages    {record.message_count}: {_first(record.message_ids)}"
    labels = {"tenant": record.tenant, "model": record.model}
    said = ", ".join(f"{name} {value}" for name, value in labels.items() if value)
    if said:
        yield f"  {said}"
    yield from time_lines(record.timeline)
    for attempt in record.timeline.attempts:
        yield attempt_line(attempt)
    for call in record.tool_calls:
        yield _call(call)
    if record.usage is not None:
        yield f"  tokens      {tokens(record.usage)}"
    if record.delivery.state != "none":
        yield f"  delivery    {_delivery(record.delivery)}"


def _first(ids: tuple[str | None, ...]) -> str:
    more = " ..." if len(ids) > _MOST_IDS else ""
    return ", ".join(one or "-" for one in ids[:_MOST_IDS]) + more


def _call(call: ToolCallRecord) -> str:
    at = f" {stamp(call.started_at)}" if call.started_at else ""
    why = f": {call.error_code}" if call.error_code else ""
    return f"  tool       {at}, {call.duration_s:.3f} s, {call.name} ({call.call_id}){why}"


def _delivery(delivery: DeliveryRecord) -> str:
    by = f" by {delivery.channel}" if delivery.channel else ""
    tries = f", {delivery.tries} tries" if delivery.tries > 1 else ""
    parts = f", parts {_first(delivery.part_ids)}" if delivery.part_ids else ""
    why = f": {delivery.error_code}" if delivery.error_code else ""
    return f"{delivery.state}{by}{tries}{parts}{why}"
