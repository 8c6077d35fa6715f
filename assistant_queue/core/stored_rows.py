"""Attempts at a batch, its tool calls and tokens, as they are stored: rows without names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assistant_queue.models import ErrorInfo, Usage
from assistant_queue.values import valueclass

MOST_ROWS = 20
"""Attempts that are kept of a batch: the first, and the latest. Chosen: few batches have more, and
they are written with every step."""

MOST_ERROR_CHARS = 200
"""Characters of an attempt's error. Chosen: enough to recognise it; the last one is kept whole."""


@valueclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One attempt by one worker; times in ms, 0 and "" for what is not known."""

    number: int
    started_ms: int
    ended_ms: int = 0
    worker: str = ""
    run_id: str = ""
    error: ErrorInfo | None = None


def bounded(rows: Sequence[AttemptRow]) -> tuple[AttemptRow, ...]:
    """Return the rows that are kept."""
    if len(rows) <= MOST_ROWS:
        return tuple(rows)
    return (rows[0], *rows[len(rows) - MOST_ROWS + 1 :])


def shortened(error: ErrorInfo) -> ErrorInfo:
    """Return an error as an attempt keeps it."""
    if len(error.message) <= MOST_ERROR_CHARS:
        return error
    return ErrorInfo(code=error.code, message=error.message[: MOST_ERROR_CHARS - 1] + "…")


def dump_rows(rows: Sequence[AttemptRow]) -> list[list[Any]]:
    """Return the rows as lists, without trailing fields that are empty."""
    return [_dump_row(row) for row in rows]


def _dump_row(row: AttemptRow) -> list[Any]:
    code = row.error.code if row.error else ""
    message = row.error.message if row.error else ""
    plain = [row.number, row.started_ms, row.ended_ms, row.worker, row.run_id, code, message]
    while not plain[-1] and len(plain) > _LEAST_FIELDS:
        plain.pop()
    return plain


def load_rows(plain: Sequence[Sequence[Any]]) -> tuple[AttemptRow, ...]:
    """The opposite of `dump_rows`; fields that a newer version added are ignored.

    Raises:
        TypeError, ValueError, IndexError: They are not rows.
    """
    return tuple(_load_row(row) for row in plain)


def _load_row(row: Sequence[Any]) -> AttemptRow:
    if len(row) < _LEAST_FIELDS:
        raise IndexError
    filled = [*row, *_EMPTY[len(row) :]]
    for value, empty in zip(filled, _EMPTY, strict=False):
        if not isinstance(value, type(empty)):
            raise TypeError("row of an attempt")
    code = filled[5]
    return AttemptRow(
        number=filled[0],
        started_ms=filled[1],
        ended_ms=filled[2],
        worker=filled[3],
        run_id=filled[4],
        error=ErrorInfo(code=code, message=filled[6]) if code else None,
    )


_EMPTY: tuple[Any, ...] = (0, 0, 0, "", "", "", "")
"""The fields of a stored row, empty."""
_LEAST_FIELDS = 2


# --- tool calls -----------------------------------------------------------------------------------


@valueclass(frozen=True, slots=True, kw_only=True)
class ToolRow:
    """One call of a tool whose output is stored.

    Attributes:
        name: The tool, as the model called it.
        ms: How long it took.
        error: The type of its error: a code, or the name of an exception; "" if it returned.
        call_id: The provider's id of the call.
        started_ms: When it began, ms.
        verdict: How it was settled, if it was answered from outside.
        by: The name that was given with that, "" for none.
        settled_ms: When, ms.
    """

    name: str
    ms: int
    error: str = ""
    call_id: str = ""
    started_ms: int = 0
    verdict: str = ""
    by: str = ""
    settled_ms: int = 0


def dump_tools(rows: Sequence[ToolRow]) -> list[list[Any]]:
    """Return calls of tools as lists, without trailing fields that are empty."""
    return [_dump_tool(row) for row in rows]


def _dump_tool(row: ToolRow) -> list[Any]:
    plain: list[Any] = [row.name, row.ms, row.error, row.call_id, row.started_ms]
    plain += [row.verdict, row.by, row.settled_ms]
    while not plain[-1] and len(plain) > _LEAST_FIELDS:
        plain.pop()
    return plain


def load_tools(plain: Sequence[Sequence[Any]]) -> tuple[ToolRow, ...]:
    """The opposite of `dump_tools`; fields that a newer version added are ignored.

    Raises:
        TypeError, ValueError, IndexError: They are not rows.
    """
    return tuple(_load_tool(row) for row in plain)


def _load_tool(row: Sequence[Any]) -> ToolRow:
    if len(row) < _LEAST_FIELDS:
        raise IndexError
    filled = [*row, *_EMPTY_CALL[len(row) :]]
    for value, empty in zip(filled, _EMPTY_CALL, strict=False):
        if not isinstance(value, type(empty)):
            raise TypeError("row of a tool call")
    name, ms, error, call_id, started_ms, verdict, by, settled_ms, *_ = filled
    return ToolRow(
        name=name,
        ms=ms,
        error=error,
        call_id=call_id,
        started_ms=started_ms,
        verdict=verdict,
        by=by,
        settled_ms=settled_ms,
    )


_EMPTY_CALL: tuple[Any, ...] = ("", 0, "", "", 0, "", "", 0)
"""The fields of the row of a call, empty."""


# --- calls that are answered from outside ---------------------------------------------------------


@valueclass(frozen=True, slots=True, kw_only=True)
class WaitRow:
    """A call for which the batch waits, or did in this round.

    Attributes:
        call_id: The provider's id of it.
        id: The id under which it is listed.
        kind: `approval` or `answer`.
        until_ms: When it expires, ms.
        question: What is asked, "" for nothing; dropped once it is listed.
        is_listed: Its own record has it.
        is_guests: How it was settled is its output, for the backend (`ActionRequired.open`).
    """

    call_id: str
    id: str
    kind: str
    until_ms: int
    question: str = ""
    is_listed: bool = False
    is_guests: bool = False


def dump_waits(rows: Sequence[WaitRow]) -> list[list[Any]]:
    """Return the rows as lists."""
    return [
        [row.call_id, row.id, row.kind, row.until_ms, row.question, int(row.is_listed)]
        + [1] * row.is_guests
        for row in rows
    ]


def load_waits(plain: Sequence[Sequence[Any]]) -> tuple[WaitRow, ...]:
    """The opposite of `dump_waits`; fields that a newer version added are ignored.

    Raises:
        TypeError, IndexError: They are not rows.
    """
    return tuple(_load_wait(row) for row in plain)


def _load_wait(row: Sequence[Any]) -> WaitRow:
    call_id, name, kind, until_ms, question, is_listed = row[:6]
    if not all(isinstance(one, str) for one in (call_id, name, kind, question)):
        raise TypeError("row of an open call")
    return WaitRow(
        call_id=call_id,
        id=name,
        kind=kind,
        until_ms=int(until_ms),
        question=question,
        is_listed=bool(is_listed),
        is_guests=bool(row[6:7] and row[6]),
    )


@valueclass(frozen=True, slots=True, kw_only=True)
class SettledRow:
    """A call that was settled, as the journal shows it.

    Attributes:
        call_id: The provider's id of it.
        kind: How it was settled.
        by: The name that was given with it, "" for none.
        at_ms: When, ms.
    """

    call_id: str
    kind: str
    by: str = ""
    at_ms: int = 0


def dump_settled(rows: Sequence[SettledRow]) -> list[list[Any]]:
    """Return the rows as lists."""
    return [[row.call_id, row.kind, row.by, row.at_ms] for row in rows]


def load_settled(plain: Sequence[Sequence[Any]]) -> tuple[SettledRow, ...]:
    """The opposite of `dump_settled`; fields that a newer version added are ignored.

    Raises:
        TypeError, IndexError: They are not rows.
    """
    return tuple(
        SettledRow(call_id=str(row[0]), kind=str(row[1]), by=str(row[2]), at_ms=int(row[3]))
        for row in plain
    )


# --- tokens ---------------------------------------------------------------------------------------

_STORED_USAGE = (
    "input_tokens",
    "output_tokens",
    "total_tokens",  # version 0.1 stores, and reads, no more than these
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "rounds",
    "model",
    "service_tier",
)
"""Order of the fields of `Usage` in its stored row; a new field goes to the end."""

_NAME = (str, type(None))
_TYPES_OF_USAGE: tuple[Any, ...] = (int, int, int, int, int, int, int, _NAME, _NAME)

LEAST_USAGE = 3
"""Fields of the row that version 0.1 stored."""


def dump_usage(usage: Usage) -> list[Any]:
    """Return a run's tokens as a list."""
    return [getattr(usage, name) for name in _STORED_USAGE]


def load_usage(row: Sequence[Any]) -> Usage:
    """The opposite of `dump_usage`; of version 0.1, the first three are known.

    Raises:
        TypeError, IndexError: It is not a row of tokens.
    """
    if len(row) < LEAST_USAGE:
        raise IndexError
    if not all(map(isinstance, row, _TYPES_OF_USAGE)):
        raise TypeError("row of tokens")
    return Usage(**dict(zip(_STORED_USAGE, row, strict=False)))
