"""Attempts at a batch, its tool calls and tokens, as they are stored: rows without names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from assistant_queue.models import ErrorInfo, Usage

MOST_ROWS = 20
"""Attempts that are kept of a batch: the first, and the latest. Chosen: few batches have more, and
they are written with every step."""

MOST_ERROR_CHARS = 200
"""Characters of an attempt's error. Chosen: enough to recognise it; the last one is kept whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRow:
    """One call of a tool whose output is stored.

    Attributes:
        name: The tool, as the model called it.
        ms: How long it took.
        error: The type of its error: a code, or the name of an exception; "" if it returned.
        call_id: The provider's id of the call.
        started_ms: When it began, ms.
    """

    name: str
    ms: int
    error: str = ""
    call_id: str = ""
    started_ms: int = 0


def dump_tools(rows: Sequence[ToolRow]) -> list[list[Any]]:
    """Return calls of tools as lists, without trailing fields that are empty."""
    return [_dump_tool(row) for row in rows]


def _dump_tool(row: ToolRow) -> list[Any]:
    plain = [row.name, row.ms, row.error, row.call_id, row.started_ms]
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
    name, ms, error, call_id, started_ms, *_ = filled
    return ToolRow(name=name, ms=ms, error=error, call_id=call_id, started_ms=started_ms)


_EMPTY_CALL: tuple[Any, ...] = ("", 0, "", "", 0)
"""The fields of the row of a call, empty."""


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
