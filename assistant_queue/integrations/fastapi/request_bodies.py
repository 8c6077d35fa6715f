"""Request bodies: read within limits, and scanned before they are parsed."""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import accumulate
from typing import Any

import anyio
from fastapi import Request

from assistant_queue.integrations.fastapi.problems import ProblemRefusal

BODY_S = 20.0
"""Seconds in which a body has to arrive. Chosen: a million bytes over a bad mobile connection."""
MAX_DEPTH = 64
"""Levels of arrays and objects within each other. Chosen: JSON schemas of tools have some
twenty."""
MAX_VALUES = 50_000
"""Arrays, objects and separators of one body. Chosen: parsed in milliseconds."""
BODIES = 100
"""Bodies of maximum length that a process holds at once. Chosen: as the 2,000 streams, some hundred
megabytes."""
BODIES_EACH = 10
"""Bodies of maximum length that one client may have in transit. Chosen: a tenth of all."""

_OPENING = b"[{"
_CLOSING = b"]}"
_STEPS = bytes.maketrans(_OPENING + _CLOSING, b"\x01\x01\xff\xff")
_OTHER = bytes(set(range(256)) - set(_OPENING + _CLOSING))


class BodyBudget:
    """Counts the bytes of bodies in transit, in all and per client."""

    def __init__(self, most: int) -> None:
        """`most` is the maximum length of one body."""
        self._most = BODIES * most
        self._most_each = BODIES_EACH * most
        self._held: Counter[str] = Counter()
        self.total = 0

    def take(self, client_key: str, size: int) -> None:
        """Count bytes that have arrived.

        Raises:
            ProblemRefusal: The client or the process is at its limit. These bytes are not counted.
        """
        if self.total + size > self._most or self._held[client_key] + size > self._most_each:
            raise ProblemRefusal(
                503,
                "too_many_bodies",
                "Too many bodies arrive at once; nothing was done.",
                headers={"Retry-After": "5"},
            )
        self._held[client_key] += size
        self.total += size

    def give_back(self, client_key: str, size: int) -> None:
        """Uncount bytes."""
        self.total -= size
        self._held[client_key] -= size
        if not self._held[client_key]:
            del self._held[client_key]


def check_length(request: Request, most: int) -> None:
    """Refuse a body with a `Content-Length` that is too long.

    Raises:
        ProblemRefusal: The length is over `most` or invalid; nothing was read.
    """
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length[:20]) > most:
        raise _too_long(most)


async def read_body(request: Request, most: int, budget: BodyBudget, client_key: str) -> Request:
    """Read and scan a request's body; return a request from which handlers can read it again.

    Raises:
        ProblemRefusal: The body is too long, too slow or too complex. It is discarded.
    """
    body = bytearray()
    scanner = JsonScanner()
    try:
        with anyio.fail_after(BODY_S):
            more = True
            while more:
                message = await request.receive()
                if message["type"] != "http.request":
                    # The client has gone.
                    raise ProblemRefusal(
                        422, "invalid_request", "The body ends too early; nothing was done."
                    )
                piece = message.get("body", b"")
                if len(body) + len(piece) > most:
                    raise _too_long(most)
                budget.take(client_key, len(piece))
                body += piece
                scanner.feed(piece)  # a body that is refused need not arrive to its end
                more = message.get("more_body", False)
    except TimeoutError:
        headers = {"Connection": "close"}
        raise ProblemRefusal(
            408,
            "body_too_slow",
            "The rest of the body did not come in time; nothing was done.",
            headers=headers,
        ) from None
    finally:
        budget.give_back(client_key, len(body))
    return _replayed(request, bytes(body))


class JsonScanner:
    """Count what makes JSON costly to parse, piece by piece, without parsing it.

    Each byte is scanned once, when it arrives, so that no long body blocks the event loop.
    """

    def __init__(self) -> None:
        self._in_string = self._escaped = self._has_nul = False
        self._marks = self._values = self._depth = self._deepest = 0

    def feed(self, piece: bytes | bytearray) -> None:
        """Scan the next bytes.

        Raises:
            ProblemRefusal: The text nests too deep, holds too many values, or is not in UTF-8.
        """
        self._has_nul = self._has_nul or b"\x00" in piece
        self._marks += sum(piece.count(mark) for mark in (b",", b"[", b"{"))
        self._scan(piece)
        if self._marks <= MAX_DEPTH:
            return
        if self._has_nul:
            # In UTF-16 and UTF-32 single bytes mean nothing; JSON on the wire is UTF-8.
            raise ProblemRefusal(
                422, "invalid_request", "The body is not JSON in UTF-8; nothing was done."
            )
        if self._values > MAX_VALUES or self._deepest > MAX_DEPTH:
            raise _too_complex()

    def _scan(self, piece: bytes | bytearray) -> None:
        if not piece:
            return
        if self._escaped:
            piece = piece[1:]  # the character after a backslash at the end of the piece before
        self._escaped = (len(piece) - len(piece.rstrip(b"\\"))) % 2 == 1
        if self._escaped:
            piece = piece[:-1]
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b"".join(parts[int(self._in_string) :: 2])
        self._in_string ^= len(parts) % 2 == 0
        opened = outside.count(b"[") + outside.count(b"{")
        self._values += outside.count(b",") + opened
        if self._depth + opened > MAX_DEPTH:
            steps = array("b", outside.translate(_STEPS, _OTHER))
            self._deepest = max(self._deepest, self._depth + max(accumulate(steps), default=0))
        self._depth += opened - outside.count(b"]") - outside.count(b"}")


def check_json(text: bytes | bytearray) -> None:
    """Refuse what is costly to parse, without parsing it.

    Raises:
        ProblemRefusal: The text nests too deep, holds too many values, or is not in UTF-8.
    """
    JsonScanner().feed(text)


def _replayed(request: Request, body: bytes) -> Request:
    is_replayed = False

    async def receive() -> Any:
        nonlocal is_replayed
        if is_replayed:
            return await request.receive()  # waits for the client to disconnect
        is_replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive, request._send)  # noqa: SLF001 - no public way to copy a request


def _too_long(most: int) -> ProblemRefusal:
    return ProblemRefusal(
        413, "body_too_long", f"The body is longer than {most:,} bytes; nothing was done."
    )


def _too_complex() -> ProblemRefusal:
    detail = (
        f"This nests deeper than {MAX_DEPTH} levels, or holds more than {MAX_VALUES:,} values; "
        "nothing was done."
    )
    return ProblemRefusal(400, "too_complex", detail)
