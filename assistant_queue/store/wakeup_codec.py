"""Reading what an RQ job carries, whatever was put there: a thread id comes out, or an error.

Time and memory are bounded, and nothing is run. `lua/_wakeup.lua` writes these bytes, RQ's scheduler compresses them when it writes a job
back, and `rq.Queue.enqueue` pickles them its own way.
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
"""Bytes of a wake-up, compressed or not. Chosen: the longest thread id, in the most wasteful pickle, takes 5,200."""
_MAX_MEMO = 256
"""A pickle's memo is an array: one entry with a large number would allocate all those before it."""
_JOB_ID = re.compile(rb"[A-Za-z0-9_-]{1,200}")
"""As RQ makes and takes them. Source: rq, job.py, JOB_ID_PATTERN; RQ has no limit."""

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
"""Opcodes of plain values. Those that name a function are not among them, nor those that repeat a value (DUP, GET): hashing a value that
holds another twice, which holds another twice, takes for ever."""
_OURS = b"\x80\x04(\x8c" + bytes([len(FUNCTION)]) + FUNCTION.encode() + b"N"
_ENDS = b"\x85}t."


def job_id_of(entry: bytes | str) -> str | None:
    """Return an entry of RQ's queue as a job id; None if it can be none."""
    raw = entry if isinstance(entry, bytes) else entry.encode("utf-8", "surrogatepass")
    return raw.decode() if _JOB_ID.fullmatch(raw) else None


def shown(entry: bytes | str) -> str:
    """Return an entry of RQ's queue for a log line: in printable characters, and not at any length."""
    most = 60
    return ascii(entry[:most]) + ("..." if len(entry) > most else "")


class _PlainUnpickler(pickle.Unpickler):
    """Reads plain values only: whatever can write to Redis must not be able to run code here."""

    def find_class(self, module: str, name: str) -> Any:
        msg = f"a wake-up holds plain values only, this one names {module}.{name}"
        raise pickle.UnpicklingError(msg)

    def persistent_load(self, _pid: Any) -> Any:
        msg = "a wake-up holds plain values only, this one has a persistent id"
        raise pickle.UnpicklingError(msg)


def plain_loads(data: bytes) -> Any:
    """Unpickle plain values.

    Raises:
        pickle.UnpicklingError: It is no pickle, larger than a wake-up, or holds anything but plain values. Nothing was executed.
    """
    try:
        _check_size(data)
        for opcode, argument, _ in pickletools.genops(data):
            is_far = opcode.name in {"PUT", "LONG_BINPUT"} and int(argument or 0) > _MAX_MEMO
            if opcode.name not in _PLAIN or is_far:
                msg = f"a wake-up holds plain values only, this one has a {opcode.name}"
                raise pickle.UnpicklingError(msg)
        return _PlainUnpickler(io.BytesIO(data)).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:
        msg = f"not a wake-up: {type(error).__name__}"
        raise pickle.UnpicklingError(msg) from error


def _check_size(data: bytes) -> None:
    if not 0 < len(data) <= MAX_DATA:
        msg = f"not a wake-up: empty, or larger than {MAX_DATA:,} bytes"
        raise pickle.UnpicklingError(msg)


def _unpacked(data: bytes) -> bytes:
    """Return what a job carries, uncompressed.

    Raises:
        pickle.UnpicklingError: It is larger than a wake-up, as it stands or uncompressed.
    """
    _check_size(data)
    unzip = zlib.decompressobj()
    try:
        plain = unzip.decompress(data, MAX_DATA + 1)
    except zlib.error:  # our scripts do not compress
        return data
    if len(plain) > MAX_DATA:
        _check_size(plain)
    return plain if unzip.eof else data


def thread_of(data: bytes) -> str:
    """Return the thread id in a job's `data` field.

    Raises:
        pickle.UnpicklingError: The job is not one of ours.
    """
    _check_size(data)
    if not data.startswith(_OURS[:1]):
        data = _unpacked(data)
    thread_id = _ours(data)
    if thread_id is None:
        thread_id = _pickled(data)
    if not is_text(thread_id):  # a pickle can hold half of a surrogate pair, the name of a key cannot
        msg = "not a wake-up: its thread id is no text"
        raise pickle.UnpicklingError(msg)
    return thread_id


def _ours(data: bytes) -> str | None:
    """Return the thread id in what our scripts have written, None if it is anything else."""
    start, end = len(_OURS), len(data) - len(_ENDS)
    if not data.startswith(_OURS) or not data.endswith(_ENDS):
        return None
    kind, size = data[start : start + 1], 0
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
    msg = "not a wake-up: another function or other arguments"
    raise pickle.UnpicklingError(msg)
