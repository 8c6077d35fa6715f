"""`assistant-queue events` and `feed`: what happens in one thread, and in all threads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime
from typing import Any

import click

from assistant_queue.accounting import ErrorInfo, Timeline
from assistant_queue.cli.dashed_arguments import Command
from assistant_queue.cli.output import echo_json, echo_lines, json_option, shorten
from assistant_queue.cli.shared_options import Where, where_options
from assistant_queue.events import Event

_WIDTH = 80
"""Characters of a text in a line. Chosen: the line stays readable."""
_HEAD = {"id", "thread_id", "at", "type"}
"""Fields of every event; they begin its line."""


@click.command(cls=Command, short_help="Print what happened in one thread, or follow it.")
@click.argument("thread_id")
@click.option("--follow", is_flag=True, help="Wait for further events, until Ctrl-C.")
@click.option("--after", metavar="ID", help="Only what came after this event.")
@json_option
@where_options
def events(*, thread_id: str, where: Where, follow: bool, after: str | None, as_json: bool) -> None:
    """Print the events of a thread that are kept, one a line, with their texts shortened.

    Events are kept while a thread has subscribers; this command is one, for event_ttl after it.

    \b
    assistant-queue events thread-123
    assistant-queue events thread-123 --follow
    assistant-queue events thread-123 --after 1764500000000-0 --json

    Exit codes: 0 printed (also if there are none), 1 events are off, 2 an option is wrong, 3 Redis
    did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        _print(
            queue.events(thread_id, after or "0", timeout=None if follow else 0), as_json=as_json
        )


@click.command(short_help="Follow what happens in all threads.")
@click.option("--after", metavar="ID", help="From this event of the feed on; 0 for all kept.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End after so many seconds without an event.",
)
@json_option
@where_options
def feed(*, where: Where, after: str | None, timeout: float | None, as_json: bool) -> None:
    """Print the events of all threads as they happen, one a line, until Ctrl-C.

    Pieces of text and typing are left out. The feed is kept while it is read, and for event_ttl
    after that; --after continues where a command before ended.

    \b
    assistant-queue feed
    assistant-queue feed --json | jq -c 'select(.type == "batch_dead_lettered")'
    assistant-queue feed --after 1764500000000-0 --timeout 0

    Exit codes: 0 ended, 1 events are off, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        _print(queue.feed(after, timeout=timeout), as_json=as_json)


def _print(found: Iterable[Event], *, as_json: bool) -> None:
    try:
        for event in found:
            if as_json:
                echo_json(event)
            else:
                echo_lines([_line(event)])
    except KeyboardInterrupt:
        click.echo()


def _line(event: Event) -> str:
    values = {one.name: getattr(event, one.name) for one in fields(event) if one.name not in _HEAD}
    shown = [f"{name}={_shown(value)}" for name, value in values.items() if _is_shown(value)]
    at = event.at.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    return " ".join([at, event.id, event.thread_id or "-", event.type, *shown])


def _is_shown(value: Any) -> bool:
    return value is not None and value != () and not isinstance(value, Timeline)


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return value.strftime("%H:%M:%S")
    if isinstance(value, ErrorInfo):
        return repr(shorten(f"{value.code}: {value.message}", _WIDTH))
    if isinstance(value, str):
        text = shorten(value, _WIDTH)
        return text if text and " " not in text else repr(text)
    if isinstance(value, tuple):
        return shorten(",".join(map(str, value)), _WIDTH)
    return shorten(str(value), _WIDTH)
