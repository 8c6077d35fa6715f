"""Decoding of an RQ job's data, whatever it contains, into a thread id or an error.

Time and memory are bounded, and no code is run. `lua/_wakeup.lua` writes these bytes, RQ's
scheduler compresses them when it writes a job back, and `rq.Queue.enqueue` pickles them its own
way.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zlib
from contextlib import suppress
from typing import Any

from assistant_queue.store.sendable import is_text
from assistant_queue.store.wakeups import FUNCTION

MAX_DATA = 8192
"""Maximum bytes of a wake-up, compressed or not. Chosen: the longest thread id, in the most
wasteful pickle, takes 5,200."""
_MAX_MEMO = 256
"""A pickle's memo is an array: one entry with a large number would allocate all those before it."""
_JOB_ID = re.compile(rb"[A-Za-z0-9_-]{1,200}")
"""Job ids that RQ accepts. Source: rq, job.py, JOB_ID_PATTERN; RQ has no limit."""

_PLAIN = frozenset(
    {
        "PROTO",
        "FRAME",
        "STOP",
        "MARK",
        "MEMOIZE",
        "PUT",
        "BINPUT",
        "LONG_BINPUT",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "BINFLOAT",
        "FLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINBYTES",
        "SHORT_BINBYTES",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "EMPTY_LIST",
        "LIST",
        "APPEND",
        "APPENDS",
        "EMPTY_DICT",
        "DICT",
        "SETITEM",
        "SETITEMS",
    }
)
"""Opcodes of plain values. Those that name a function are excluded, and those that repeat a value
(DUP, GET): hashing a value that contains another twice, which contains another twice, never
ends."""
_OURS = b"\x80\x04(\x8c" + bytes([len(FUNCTION)]) + FUNCTION.encode() + b"N"
_ENDS = b"\x85}t."


def job_id_of(entry: bytes | str) -> str | None:
    """Return an entry of RQ's queue as a job id; None if it is not a valid one."""
    raw = entry if isinstance(entry, bytes) else entry.encode("utf-8", "surrogatepass")
    return raw.decode() if _JOB_ID.fullmatch(raw) else None


def shown(entry: bytes | str) -> str:
    """Return an entry of RQ's queue for a log line: printable, and of limited length."""
    most = 60
    return ascii(entry[:most]) + ("..." if len(entry) > most else "")


class _PlainUnpickler(pickle.Unpickler):
    """Read plain values only: a program that writes to Redis must not be able to run code here."""

    def find_class(self, module: str, name: str) -> Any:
        msg = f"Invalid wake-up: expected plain values only, found the name {module}.{name}"
        raise pickle.UnpicklingError(msg)

    def persistent_load(self, _pid: Any) -> Any:
        msg = "Invalid wake-up: expected plain values only, found a persistent id"
        raise pickle.UnpicklingError(msg)


def plain_loads(data: bytes) -> Any:
    """Unpickle plain values.

    Raises:
        pickle.UnpicklingError: The data is no pickle, is larger than a wake-up, or contains
            anything but plain values. Nothing was executed.
    """
    try:
        _check_size(data)
        for opcode, argument, _ in pickletools.genops(data):
            is_far = opcode.name in {"PUT", "LONG_BINPUT"} and int(argument or 0) > _MAX_MEMO
            if opcode.name not in _PLAIN or is_far:
                msg = f"Invalid wake-up: expected plain values only, found a {opcode.name}"
                raise pickle.UnpicklingError(msg)
        return _PlainUnpickler(io.BytesIO(data)).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:
        msg = f"Invalid wake-up: {type(error).__name__}"
        raise pickle.UnpicklingError(msg) from error


def _check_size(data: bytes) -> None:
    if not 0 < len(data) <= MAX_DATA:
        msg = f"Invalid wake-up of {len(data):,} bytes: expected 1 to {MAX_DATA:,}"
        raise pickle.UnpicklingError(msg)


def _unpacked(data: bytes) -> bytes:
    """Return a job's data, uncompressed.

    Raises:
        pickle.UnpicklingError: The data is larger than a wake-up, as it is or uncompressed.
    """
    _check_size(data)
    unzip = zlib.decompressobj()
    try:
        plain = unzip.decompress(data, MAX_DATA + 1)
    except zlib.error:  # the scripts do not compress
        return data
    if len(plain) > MAX_DATA:
        _check_size(plain)
    return plain if unzip.eof else data


def thread_of(data: bytes) -> str:
    """Return the thread id in a job's `data` field.

    Raises:
        pickle.UnpicklingError: The job is not a wake-up.
    """
    _check_size(data)
    if not data.startswith(_OURS[:1]):
        data = _unpacked(data)
    thread_id = _ours(data)
    if thread_id is None:
        thread_id = _pickled(data)
    # A pickle can contain half of a surrogate pair, the name of a key cannot.
    if not is_text(thread_id):
        msg = f"Invalid wake-up: the thread id {thread_id!a} is not UTF-8"
        raise pickle.UnpicklingError(msg)
    return thread_id


def _ours(data: bytes) -> str | None:
    """Return the thread id in data that the scripts wrote, None for any other data."""
    start = len(_OURS)
    end = len(data) - len(_ENDS)
    if not data.startswith(_OURS) or not data.endswith(_ENDS):
        return None
    kind = data[start : start + 1]
    size = 0
    if kind == b"\x8c":
        start, size = start + 2, data[start + 1]
    elif kind == b"X":
        start, size = start + 5, int.from_bytes(data[start + 1 : start + 5], "little")
    if not size or start + size != end:
        return None
    with suppress(UnicodeDecodeError):
        return data[start:end].decode()
    return None


def _pickled(data: bytes) -> str:
    payload = plain_loads(data)
    if (
        isinstance(payload, tuple)
        and len(payload) == 4  # noqa: PLR2004 - RQ's (function, instance, args, kwargs)
        and payload[0] == FUNCTION
        and isinstance(payload[2], tuple | list)
        and len(payload[2]) == 1
        and isinstance(payload[2][0], str)
    ):
        return payload[2][0]
    msg = "Invalid wake-up: another function or other arguments"
    raise pickle.UnpicklingError(msg)
