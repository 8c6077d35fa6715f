"""Log lines for programs: fields of the code that logs, and lines of JSON.

Code that works for a thread, a batch or a request binds its ids (`bound`). `FieldsFilter` adds them
to every record that is logged there, also by functions of yours; `JsonFormatter` writes each record
as one line of JSON, with every field.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TextIO

BATCHES = "assistant_queue.batches"
"""The logger of batches and deliveries. Chosen: a separate name, so that these lines alone can be
sent elsewhere."""
TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_bound: ContextVar[Mapping[str, Any]] = ContextVar(
    "assistant_queue_log_fields", default=MappingProxyType({})
)


class bound:  # noqa: N801 - a generator's `with` block takes twice as long
    """Add fields to the log lines of a block, and of tasks and threads that it starts."""

    __slots__ = ("_fields", "_token")

    def __init__(self, **fields: Any) -> None:
        """Add nothing yet."""
        self._fields = fields

    def __enter__(self) -> None:
        """Add them."""
        self._token = _bound.set({**_bound.get(), **self._fields})

    def __exit__(self, *_: object) -> None:
        """Remove them again."""
        _bound.reset(self._token)


def bound_field(name: str) -> Any:
    """Return a field that is bound here; None if it is not."""
    return _bound.get().get(name)


class FieldsFilter(logging.Filter):
    """Adds the bound fields to each record; for a handler, because loggers do not pass theirs on.

    A field that the record has already, by `extra`, stays.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True: every record passes."""
        for name, value in _bound.get().items():
            record.__dict__.setdefault(name, value)
        return True


class TextFormatter(logging.Formatter):
    """Formats a record as text; the second is written once for all records in it."""

    def __init__(self) -> None:
        """Format nothing yet."""
        super().__init__(TEXT_FORMAT)
        self._second = (-1, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return the record's time, as the default formatter does."""
        del datefmt
        second, text = self._second
        if second != int(record.created):
            second = int(record.created)
            text = time.strftime(self.default_time_format, self.converter(second))
            self._second = (second, text)
        return f"{text},{int(record.msecs):03d}"


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    `time` (UTC, ISO 8601), `level`, `logger`, `message`, the record's fields (`extra`), and
    `exception` with a traceback if there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, tz=UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


_SHORT = {
    "thread_id": "thread",
    "batch_id": "batch",
    "run_id": "run",
    "request_ids": "requests",
}
_PLAIN = re.compile(r"[\w.:@/+-]+", re.ASCII)


def as_words(fields: dict[str, Any]) -> str:
    """Return fields as `name=value` on one line, in the order given."""
    return " ".join(f"{_SHORT.get(name, name)}={_shown(value)}" for name, value in fields.items())


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return str(value)
    text = ",".join(value) if isinstance(value, list) else str(value)
    # An id may be any string, with line breaks and quotes in it.
    return text if _PLAIN.fullmatch(text.replace(",", "")) else json.dumps(text)


def configure(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Configure the log of a command: this package from `level`, everything else from warnings.

    A root logger that has handlers already keeps them.

    Args:
        level: `DEBUG`, `INFO`, `WARNING` or `ERROR`.
        log_format: `text` or `json`.
        stream: Where lines go; None for stderr.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    handler.addFilter(FieldsFilter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("assistant_queue").setLevel(level)
