"""Views of the demo: a live table in a terminal, plain lines elsewhere, nothing for `--json`."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import click

from assistant_queue.cli.demo.board import Board, BoardAnswer
from assistant_queue.cli.demo.lines import Line
from assistant_queue.cli.demo.screens import ScreensVerdict
from assistant_queue.cli.demo.verdict import DemoVerdict
from assistant_queue.cli.output import console, shorten

_NAME = 18
_TEXT = 90


class View:
    """Shows nothing: for `--json`, and the base of the others."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to end."""

    def announce(self, title: str, parts: Sequence[str]) -> None:
        """Show the scene and its parts before it is played."""

    def message(self, elapsed: float, line: Line) -> None:
        """Show a sent message."""

    def answer(self, elapsed: float, answer: BoardAnswer) -> None:
        """Show an answered batch."""

    def note(self, elapsed: float, thread: str, text: str) -> None:
        """Show an event of a thread."""

    def refresh(self, board: Board, elapsed: float, *, last: bool = False) -> None:
        """Show the board."""

    def show_verdict(self, verdict: DemoVerdict) -> None:
        """Show the verdict."""


class PlainView(View):
    """Shows one line per event."""

    def announce(self, title: str, parts: Sequence[str]) -> None:
        """Print one line for each part."""
        click.echo(f"demo: {title}; {', '.join(parts)}")

    def message(self, elapsed: float, line: Line) -> None:
        """Print a person's message after `<`."""
        said = f"{line.author}: {line.text}" if line.author else line.text
        self._line(elapsed, line.thread, "<", said)

    def answer(self, elapsed: float, answer: BoardAnswer) -> None:
        """Print the bot's reply after `>`."""
        self._line(elapsed, answer.thread, ">", f"[{summary_of(answer)}] {answer.reply}")

    def note(self, elapsed: float, thread: str, text: str) -> None:
        """Print any other event after `*`."""
        self._line(elapsed, thread, "*", text)

    def show_verdict(self, verdict: DemoVerdict) -> None:
        """Print the table and the sentence."""
        click.echo("")
        for name, value in verdict_rows(verdict):
            click.echo(f"  {name:<20} {value}")
        click.echo(verdict_sentence(verdict))

    def _line(self, elapsed: float, thread: str, mark: str, text: str) -> None:
        click.echo(
            f"{elapsed:5.1f} s  {shorten(thread, _NAME):<{_NAME}} {mark} {shorten(text, _TEXT)}"
        )


def make_view(*, quiet: bool) -> View:
    """Return the view for stdout: a terminal or not."""
    if quiet:
        return View()
    screen = console()
    if screen is None:
        return PlainView()
    from assistant_queue.cli.demo.live_view import LiveView

    return LiveView(screen)


def summary_of(answer: BoardAnswer) -> str:
    """Format the number of messages of a run, and its attempt."""
    return f"{_count(len(answer.message_ids), 'message')}, 1 run" + (
        f", attempt {answer.attempts}" if answer.attempts > 1 else ""
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def verdict_rows(verdict: DemoVerdict) -> list[tuple[str, str]]:
    """Return names and values of the verdict."""
    mishaps = f"{_count(verdict.refused, 'request')} refused, {_count(verdict.runs_failed, 'run')} failed; all tried again"
    return [
        ("messages", f"{verdict.messages} in {_count(verdict.threads, 'thread')}"),
        ("runs", f"{verdict.runs}, with {_count(verdict.tool_calls, 'tool call')}"),
        ("runs saved", f"{verdict.runs_saved}"),
        (
            "lost",
            str(verdict.lost)
            + (f" ({verdict.failed} in the failed list)" if verdict.failed else ""),
        ),
        ("doubled", str(verdict.doubled)),
        ("order kept", f"in {verdict.ordered} of {verdict.threads} threads"),
        ("two runs at once", "never" if not verdict.at_once else f"{verdict.at_once} times"),
        *([("mishaps", mishaps)] if verdict.refused or verdict.runs_failed else []),
        *([] if verdict.screens is None else _screen_rows(verdict.screens)),
        ("sent -> reply", _waits(verdict.reply_waits.median, verdict.reply_waits.longest)),
        ("window end -> run", _waits(verdict.start_waits.median, verdict.start_waits.longest)),
        ("checked against", verdict.checked_by),
    ]


def _screen_rows(screens: ScreensVerdict) -> list[tuple[str, str]]:
    parts = f"{_count(screens.parts, 'part')} of {screens.replies} replies"
    found = f"{screens.lost} lost, {screens.doubled} doubled"
    mishaps = (
        f"{_count(screens.refused, 'request')} refused, "
        f"{_count(screens.answers_lost, 'answer')} lost, away for {_seconds(screens.away_s)}"
    )
    on_screen = screens.parked - screens.redelivered
    by_hand = f"{on_screen} on the screen, {screens.redelivered} delivered again"
    return [
        ("on the screens", f"{parts}: {found}"),
        ("order on screens", f"in {screens.ordered} of {screens.chats} chats"),
        ("platform", mishaps),
        *([("parked", f"{screens.parked}; by hand: {by_hand}")] if screens.parked else []),
        *([("halves left", f"{screens.halves}, above the whole reply")] if screens.halves else []),
    ]


def _waits(median: float | None, longest: float | None) -> str:
    if median is None or longest is None:
        return "-"
    return f"median {_seconds(median)}, longest {_seconds(longest)}"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if abs(value) >= 1 else f"{value * 1000:.0f} ms"


def verdict_sentence(verdict: DemoVerdict) -> str:
    """Return the verdict in one sentence."""
    if verdict.holds:
        once = (
            "OK: every message was answered exactly once, in order, one run at a time in a thread"
        )
        return f"{once}{', and is on the screen' if verdict.screens is not None else ''}."
    return "NOT OK: a promise was broken; please report it with the lines above."
