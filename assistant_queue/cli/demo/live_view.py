"""The demo in a terminal: one row per thread, and the latest events. Needs rich."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from assistant_queue.cli.demo.board import Board, BoardAnswer, BoardRow
from assistant_queue.cli.demo.verdict import DemoVerdict
from assistant_queue.cli.demo.view import View, summary_of, verdict_rows, verdict_sentence
from assistant_queue.cli.output import shorten

REFRESH_S = 0.1
_FEED = 5
_AROUND_TABLE = 6 + _FEED
_RUN = 12
_STYLES = {
    "gathering": "yellow",
    "due": "yellow",
    "sending": "cyan",
    "running": "bold cyan",
    "trying again": "bold red",
    "asking": "bold red",
    "failed": "bold white on red",
    "answered": "green",
}


class LiveView(View):
    """A table that changes in place."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._live = Live(console=screen, auto_refresh=False)
        self._feed: deque[Text] = deque(maxlen=_FEED)
        self._shown = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop and keep the last frame."""
        self._live.stop()

    def announce(self, title: str, parts: Sequence[str]) -> None:
        """Show a heading."""
        self._screen.print(f"[bold]assistant-queue demo[/bold]: {escape(title)}")
        self._screen.print(f"[dim]{escape(' · '.join(parts))}[/dim]")

    def answer(self, elapsed: float, answer: BoardAnswer) -> None:
        """Add it to the feed."""
        self._say(
            elapsed,
            answer.thread,
            f"{summary_of(answer)}",
            "green" if answer.attempts == 1 else "yellow",
        )

    def note(self, elapsed: float, thread: str, text: str) -> None:
        """Add it to the feed."""
        self._say(elapsed, thread, text, "magenta" if text.startswith("tool") else "red")

    def _say(self, elapsed: float, thread: str, text: str, style: str) -> None:
        self._feed.append(
            Text.assemble(
                (f" {elapsed:5.1f} s  ", "dim"),
                (f"{thread}  ", "bold"),
                (text, style),
                no_wrap=True,
                overflow="ellipsis",
            )
        )

    def refresh(self, board: Board, elapsed: float, *, last: bool = False) -> None:
        """Draw, about ten times a second."""
        now = time.monotonic()
        if not last and now - self._shown < REFRESH_S:
            return
        self._shown = now
        self._live.update(Group(self._table(board, elapsed), *self._feed), refresh=True)

    def _table(self, board: Board, elapsed: float) -> Table:
        done = len(board.sent) - len(board.open)
        title = f"{elapsed:5.1f} s   {len(board.sent)} messages sent, {done} answered by {len(board.answers)} runs"
        table = Table(
            title=title,
            title_justify="left",
            title_style="bold",
            expand=True,
            box=None,
            pad_edge=False,
            header_style="dim",
        )
        table.add_column("thread", no_wrap=True, max_width=22)
        if board.stories:
            table.add_column("what to watch", no_wrap=True, style="dim", max_width=34)
        table.add_column("sent", justify="right", no_wrap=True)
        table.add_column("waiting", justify="right", no_wrap=True)
        table.add_column("state", no_wrap=True, min_width=12)
        table.add_column("run", no_wrap=True, style="dim", min_width=_RUN)
        table.add_column("last reply", ratio=1, no_wrap=True, overflow="ellipsis")
        for row in self._rows(board):
            story = [row.story] if board.stories else []
            state = Text(row.state, style=_STYLES.get(row.state, ""))
            run = shorten(row.run, _RUN)
            table.add_row(
                Text(row.thread),
                *story,
                str(row.sent),
                str(row.open or "-"),
                state,
                run,
                Text(shorten(row.reply, 200)),
            )
        return table

    def _rows(self, board: Board) -> list[BoardRow]:
        """Return all rows if they fit, else the latest changed ones, in their usual order."""
        room = max(3, self._screen.size.height - _AROUND_TABLE)
        rows = list(board.rows.values())
        if len(rows) <= room:
            return rows
        latest = {
            row.thread for row in sorted(rows, key=lambda row: row.changed, reverse=True)[:room]
        }
        return [row for row in rows if row.thread in latest]

    def show_verdict(self, verdict: DemoVerdict) -> None:
        """Show the table and the sentence."""
        table = Table(show_header=False, box=None, pad_edge=False)
        for name, value in verdict_rows(verdict):
            table.add_row(f"[dim]{name}[/dim]", Text(value))
        self._screen.print()
        self._screen.print(table)
        self._screen.print(
            f"[bold {'green' if verdict.holds else 'red'}]{verdict_sentence(verdict)}[/]"
        )
