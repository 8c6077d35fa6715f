"""Output of commands: JSON for programs, plain lines, and rich on a terminal."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from assistant_queue.models import ThreadStatus

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object a line, for programs."
)


def echo_json(value: Any) -> None:
    """Print a dataclass, or plain values, as one line of JSON; times in ISO 8601."""
    plain = (
        dataclasses.asdict(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type)
        else value
    )
    click.echo(json.dumps(plain, ensure_ascii=False, default=_plain))


_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
"""Control characters: a terminal obeys them, and a line break begins a line that looks like ours."""
_UNSAFE = {code: shown for code, shown in _ESCAPED.items() if chr(code) not in "\t\n"}
"""Those that have no place in a text of several lines."""


def plain_lines(lines: Iterable[str]) -> Iterator[str]:
    """Return lines that hold ids and texts of clients or of a model, on one line each."""
    return (line.translate(_ESCAPED) for line in lines)


def echo_lines(lines: Iterable[str]) -> None:
    """Print lines that hold ids and texts of clients or of a model, on one line each."""
    for line in plain_lines(lines):
        click.echo(line)


REFRESH_S = 1.0
"""Seconds between two reads of `--watch`. Chosen: one round trip each."""


def repeat(show: Callable[[], Any], *, watch: bool) -> None:
    """Show once, and with `watch` every second until Ctrl-C."""
    show()
    while watch:
        time.sleep(REFRESH_S)
        show()


def echo_text(text: str) -> None:
    """Print a text of a client or of a model: as it is, for programs, or safe for a terminal."""
    if sys.stdout.isatty():
        text = text.translate(_UNSAFE)
    click.echo(text, color=True)  # else click removes some of them


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def console() -> Console | None:
    """Return a rich console; None if stdout is not a terminal or rich is not installed."""
    if not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console()


def shorten(text: str, width: int) -> str:
    """Return the text on one line, at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def state_words(status: ThreadStatus) -> str:
    """Return the state of a thread, whether it is paused, and the person that answers it."""
    person = f"answered by {status.taken_over_by}" if status.taken_over_by else ""
    more = ", ".join(word for word in ("paused" if status.paused else "", person) if word)
    return f"{status.state} ({more})" if more else status.state
