"""Lines of a scene: messages with their times, and their file format."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant_queue.cli.exit_errors import Misuse
from assistant_queue.client import arguments
from assistant_queue.errors import InvalidArgument

_FIELDS = frozenset({"t", "thread", "text", "author"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One message of a scene; `at` is in seconds from its beginning."""

    at: float
    thread: str
    text: str
    author: str | None = None


def read_lines(path: Path) -> tuple[Line, ...]:
    """Read the messages of a JSONL file, in the order of their times; the earliest is at 0.

    Raises:
        Misuse: The file cannot be read, holds no message, or a line of it is wrong: file, line and
            problem. Exit code 2.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Misuse(f"{path}: {error.strerror or error}; name a file of JSON lines") from error
    lines: list[Line] = []
    problems: list[str] = []
    for number, row in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not row.strip():
            continue
        try:
            lines.append(parse_line(row))
        except BadLine as error:
            problems.append(f"{path}, line {number}: {error}")
    if problems:
        more = len(problems) - 1
        others = f" ({more} more {'line is' if more == 1 else 'lines are'} wrong)" if more else ""
        raise Misuse(f"{problems[0]}{others}; nothing was started")
    if not lines:
        raise Misuse(
            f'{path} holds no message; a line is {{"t": 0.5, "thread": "mia", "text": "Hello!"}}'
        )
    first = min(line.at for line in lines)
    moved = [
        Line(at=line.at - first, thread=line.thread, text=line.text, author=line.author)
        for line in lines
    ]
    return tuple(sorted(moved, key=lambda line: line.at))


class BadLine(Exception):
    """An invalid line."""


def parse_line(row: bytes) -> Line:
    """Parse one line of a file.

    Raises:
        BadLine: What is wrong with it.
    """
    try:
        value = json.loads(row.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadLine(f"it is not UTF-8 (byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        raise BadLine(f"it is not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise BadLine("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise BadLine(
            f"it is {type(value).__name__}, not an object with t, thread, text and perhaps author"
        )
    missing = [name for name in ("t", "thread", "text") if name not in value]
    if missing:
        raise BadLine(f"{' and '.join(missing)} missing")
    unknown = sorted(value.keys() - _FIELDS)
    if unknown:
        raise BadLine(
            f"{', '.join(repr(name) for name in unknown)} unknown; the fields are t, thread, text and author"
        )
    return _line(value)


def _line(value: dict[str, Any]) -> Line:
    at = value["t"]
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
        raise BadLine(f"t must be a number of seconds, not {json.dumps(at)[:40]}")
    if not isinstance(value["text"], str):
        raise BadLine(f"text must be a string, not {type(value['text']).__name__}")
    try:
        arguments.check_thread_id(value["thread"])
        arguments.make_message(
            value["text"],
            message_id=None,
            instructions=None,
            author=value.get("author"),
            metadata=None,
        )
    except InvalidArgument as error:
        raise BadLine(str(error).partition(";")[0]) from None
    return Line(
        at=float(at), thread=value["thread"], text=value["text"], author=value.get("author")
    )
