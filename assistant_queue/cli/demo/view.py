"""What people see of the demo: a live table in a terminal, plain lines anywhere else, nothing for programs."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import click

from assistant_queue.cli.demo.board import Answer, Board
from assistant_queue.cli.demo.lines import Line
from assistant_queue.cli.demo.verdict import Verdict
from assistant_queue.cli.output import console, shorten

if TYPE_CHECKING:
    from typing_extensions import Self

_NAME = 18
_TEXT = 90


class View:
    """Shows nothing: for `--json`, and the base of the others."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        """Nothing to end."""

    def announce(self, title: str, parts: Sequence[str]) -> None:
        """What is about to be played, and with what."""

    def message(self, elapsed: float, line: Line) -> None:
        """A message was sent."""

    def answer(self, elapsed: float, answer: Answer) -> None:
        """A batch was answered."""

    def note(self, elapsed: float, thread: str, text: str) -> None:
        """Something worth knowing happened in a thread."""

    def refresh(self, board: Board, elapsed: float, *, last: bool = False) -> None:
        """The board may have changed."""

    def show_verdict(self, verdict: Verdict) -> None:
        """The outcome."""


class PlainView(View):
    """A line for everything that happens."""

    def announce(self, title: str, parts: Sequence[str]) -> None:
        """One line for each part."""
        click.echo(f"demo: {title}; {', '.join(parts)}")

    def message(self, elapsed: float, line: Line) -> None:
        """`<` is what people say."""
        said = f"{line.author}: {line.text}" if line.author else line.text
        self._line(elapsed, line.thread, "<", said)

    def answer(self, elapsed: float, answer: Answer) -> None:
        """`>` is what the bot says."""
        self._line(elapsed, answer.thread, ">", f"[{summary_of(answer)}] {answer.reply}")

    def note(self, elapsed: float, thread: str, text: str) -> None:
        """`*` is everything else."""
        self._line(elapsed, thread, "*", text)

    def show_verdict(self, verdict: Verdict) -> None:
        """The table, and the sentence."""
        click.echo("")
        for name, value in verdict_rows(verdict):
            click.echo(f"  {name:<20} {value}")
        click.echo(verdict_sentence(verdict))

    def _line(self, elapsed: float, thread: str, mark: str, text: str) -> None:
        click.echo(f"{elapsed:5.1f} s  {shorten(thread, _NAME):<{_NAME}} {mark} {shorten(text, _TEXT)}")


def make_view(*, quiet: bool) -> View:
    """The view for where stdout goes."""
    if quiet:
        return View()
    screen = console()
    if screen is None:
        return PlainView()
    from assistant_queue.cli.demo.live_view import LiveView

    return LiveView(screen)


def summary_of(answer: Answer) -> str:
    """How many messages a run answered, and at which attempt."""
    return f"{_count(len(answer.message_ids), 'message')}, 1 run" + (f", attempt {answer.attempts}" if answer.attempts > 1 else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def verdict_rows(verdict: Verdict) -> list[tuple[str, str]]:
    """Name and value of what the verdict says."""
    mishaps = f"{_count(verdict.refused, 'request')} refused, {_count(verdict.runs_failed, 'run')} failed; all tried again"
    return [
        ("messages", f"{verdict.messages} in {_count(verdict.threads, 'thread')}"),
        ("runs", f"{verdict.runs}, with {_count(verdict.tool_calls, 'tool call')}"),
        ("runs saved", f"{verdict.runs_saved}"),
        ("lost", str(verdict.lost) + (f" ({verdict.failed} in the failed list)" if verdict.failed else "")),
        ("doubled", str(verdict.doubled)),
        ("order kept", f"in {verdict.ordered} of {verdict.threads} threads"),
        ("two runs at once", "never" if not verdict.at_once else f"{verdict.at_once} times"),
        *([("mishaps", mishaps)] if verdict.refused or verdict.runs_failed else []),
        ("sent -> reply", _waits(verdict.reply_waits.median, verdict.reply_waits.longest)),
        ("window end -> run", _waits(verdict.start_waits.median, verdict.start_waits.longest)),
        ("checked against", verdict.checked_by),
    ]


def _waits(median: float | None, longest: float | None) -> str:
    if median is None or longest is None:
        return "-"
    return f"median {_seconds(median)}, longest {_seconds(longest)}"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if abs(value) >= 1 else f"{value * 1000:.0f} ms"


def verdict_sentence(verdict: Verdict) -> str:
    """The outcome in one sentence."""
    if verdict.holds:
        return "OK: every message was answered exactly once, in order, one run at a time in a thread."
    return "NOT OK: a promise was broken; please report it with the lines above."
