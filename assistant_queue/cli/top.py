"""`assistant-queue top`: the overview of a queue in a terminal."""

from __future__ import annotations

import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from assistant_queue.cli.shared_options import Where, redis_name, where_options
from assistant_queue.cli.top_screen import COLOURED, Seen, screen
from assistant_queue.client.queue import AssistantMessageQueue
from assistant_queue.errors import StoreUnavailable
from assistant_queue.store.ops.browsing import browse_threads
from assistant_queue.store.ops.metric_history import read_spans

_MINUTES = 60
_THREADS = 50
"""Threads that are read. Chosen: as many as a high screen shows."""
_QUIT = {"q", "Q", "\x03", "\x04", ""}
"""Keys that end it; the empty one is the end of the input."""
_ENTER = "\x1b[?1049h\x1b[?25l"
"""The terminal's second screen, without a cursor."""
_LEAVE = "\x1b[?25h\x1b[?1049l"


@click.command(name="top", short_help="Show the queue at a glance, in a terminal.")
@click.option("--once", is_flag=True, help="Print it once.")
@click.option(
    "--refresh",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two reads.",
)
@where_options
def top(where: Where, once: bool, refresh: float) -> None:
    """Show the queue at a glance: counts, the last hour, and the threads that are due first.

    \b
    waiting     messages that are due, and not claimed yet
    answering   messages of batches under way
    collecting  messages in a window or a back-off
    workers     their number, and how many of their slots are busy
    until then  from the first message of a batch to its delivery, or its end

    The charts read samples that workers take every minute. q ends it. An output that is no terminal
    gets it once.

    \b
    assistant-queue top
    assistant-queue top --once

    Exit codes: 0 shown, 2 an option is wrong, 3 Redis did not answer.
    """  # noqa: D301
    with where.queue() as queue:
        title = f"queue {queue.config.queue_prefix} at {redis_name(queue.config)}"
        if once or not sys.stdout.isatty():
            width = shutil.get_terminal_size((100, 40)).columns
            click.echo("\n".join(screen(_look(queue, title), width=width, height=40)))
            return
        _run(lambda: _look(queue, title), refresh)


def _look(queue: AssistantMessageQueue, title: str) -> Seen:
    core = queue.core
    metrics = queue.get_metrics()
    spans = core.store.run(
        read_spans(
            core.namespace,
            metrics,
            now_ms=round(metrics.at.timestamp() * 1000),
            minutes=_MINUTES,
            steps=_MINUTES,
        )
    )
    threads = core.store.run(browse_threads(core.namespace, None, _THREADS)).threads
    return Seen(title=title, metrics=metrics, spans=spans, threads=threads)


def _run(look: Callable[[], Seen], refresh_s: float) -> None:
    """Draw until a key ends it; a Redis that is away is waited for once it had answered."""
    seen = look()
    with _full_screen() as pressed:
        note = ""
        while True:
            size = shutil.get_terminal_size()
            lines = screen(seen, width=size.columns, height=size.lines - 1, styles=COLOURED)
            foot = note or "q quits"
            sys.stdout.write(
                "\x1b[H"
                + "".join(f"{line}\x1b[K\r\n" for line in lines)
                + f"{COLOURED.bad if note else COLOURED.dim}{foot[: size.columns]}{COLOURED.end}"
                + "\x1b[J"
            )
            sys.stdout.flush()
            if pressed(refresh_s) in _QUIT:
                return
            try:
                seen = look()
                note = ""
            except StoreUnavailable:
                note = "Redis does not answer; the numbers are old. q quits"


@contextmanager
def _full_screen() -> Iterator[Callable[[float], str | None]]:
    """Take the terminal; yield a function that waits for a key, and returns None without one."""
    import termios
    import tty

    if not sys.stdin.isatty():

        def wait(seconds: float) -> str | None:
            time.sleep(seconds)
            return None

        before = None
    else:
        before = termios.tcgetattr(sys.stdin)

        def wait(seconds: float) -> str | None:
            ready, _, _ = select.select([sys.stdin], [], [], seconds)
            return sys.stdin.read(1) if ready else None

        tty.setcbreak(sys.stdin)
    sys.stdout.write(_ENTER)
    try:
        yield wait
    except KeyboardInterrupt:
        pass
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        if before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
