"""Bodies of requests: read to their end within limits, and looked over before anything parses them."""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import accumulate
from typing import Any

import anyio
from fastapi import Request

from assistant_queue.integrations.fastapi.problems import Refusal

BODY_S = 20.0
"""Seconds in which a body has to arrive. Chosen: a million bytes over a bad mobile connection."""
MAX_DEPTH = 64
"""Levels of arrays and objects within each other. Chosen: JSON schemas of tools have some twenty."""
MAX_VALUES = 50_000
"""Arrays, objects and separators of one body. Chosen: parsed in milliseconds; what has more is no message."""
FIRST_LOOK = 65_536
"""Bytes after which a body is looked over for the first time, and whenever it has doubled. Chosen: most are shorter."""
BODIES = 100
"""How many bodies of the greatest length a process holds at once. Chosen: as the 2,000 streams, some hundred megabytes."""
BODIES_EACH = 10
"""The same, of one client."""

_OPENING, _CLOSING = b"[{", b"]}"
_STEPS = bytes.maketrans(_OPENING + _CLOSING, b"\x01\x01\xff\xff")
_OTHER = bytes(set(range(256)) - set(_OPENING + _CLOSING))


class BodyBudget:
    """Counts the bytes of bodies that are being read, in all and of each client."""

    def __init__(self, most: int) -> None:
        """Nothing is read yet; `most` is the length of one body."""
        self._most, self._most_each = BODIES * most, BODIES_EACH * most
        self._held: Counter[str] = Counter()
        self.total = 0

    def take(self, client_key: str, size: int) -> None:
        """Count bytes that have arrived.

        Raises:
            Refusal: The client, or the process, holds as many as it may. These are not counted.
        """
        if self.total + size > self._most or self._held[client_key] + size > self._most_each:
            raise Refusal(503, "too_many_bodies", "Too many bodies arrive at once; nothing was done.", headers={"Retry-After": "5"})
        self._held[client_key] += size
        self.total += size

    def give_back(self, client_key: str, size: int) -> None:
        """No longer count them."""
        self.total -= size
        self._held[client_key] -= size
        if not self._held[client_key]:
            del self._held[client_key]


def check_length(request: Request, most: int) -> None:
    """Refuse a body that says itself that it is too long.

    Raises:
        Refusal: It does; nothing was read.
    """
    said = request.headers.get("content-length", "0")
    if not (said.isascii() and said.isdigit()) or int(said[:20]) > most:
        raise _too_long(most)


async def read_body(request: Request, most: int, budget: BodyBudget, client_key: str) -> Request:
    """Return the request with its body read and looked over, for handlers to read it again.

    Raises:
        Refusal: It is longer, comes more slowly, or nests deeper than it may. What has arrived is thrown away.
    """
    body = bytearray()
    looked_at = FIRST_LOOK
    try:
        with anyio.fail_after(BODY_S):
            more = True
            while more:
                message = await request.receive()
                if message["type"] != "http.request":
                    raise Refusal(422, "invalid_request", "The body ends too early; nothing was done.")  # the client has gone
                piece = message.get("body", b"")
                if len(body) + len(piece) > most:
                    raise _too_long(most)
                budget.take(client_key, len(piece))
                body += piece
                if len(body) > looked_at:  # what is refused anyway need not arrive to its end
                    check_json(body)
                    looked_at = 2 * len(body)
                more = message.get("more_body", False)
    except TimeoutError:
        headers = {"Connection": "close"}
        raise Refusal(408, "body_too_slow", "The rest of the body did not come in time; nothing was done.", headers=headers) from None
    finally:
        budget.give_back(client_key, len(body))
    check_json(body)
    return _replayed(request, bytes(body))


def check_json(text: bytes | bytearray) -> None:
    """Refuse what is costly to parse, without parsing it.

    Raises:
        Refusal: It nests too deep, or holds too many values.
    """
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH and text.count(b",") <= MAX_VALUES:
        return
    if b"\x00" in text:  # UTF-16 and UTF-32, of which single bytes mean nothing; JSON on the wire is UTF-8
        raise Refusal(422, "invalid_request", "The body is not JSON in UTF-8; nothing was done.")
    plain = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * MAX_VALUES:
        raise _too_complex()
    outside = b"".join(plain.split(b'"')[::2])
    if sum(outside.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise _too_complex()
    steps = array("b", outside.translate(_STEPS, _OTHER))
    if max(accumulate(steps), default=0) > MAX_DEPTH:
        raise _too_complex()


def _replayed(request: Request, body: bytes) -> Request:
    is_told = False

    async def receive() -> Any:
        nonlocal is_told
        if is_told:
            return await request.receive()  # waits for the client to go
        is_told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive, request._send)  # noqa: SLF001 - there is no public way to copy a request


def _too_long(most: int) -> Refusal:
    return Refusal(413, "body_too_long", f"The body is longer than {most:,} bytes; nothing was done.")


def _too_complex() -> Refusal:
    detail = f"This nests deeper than {MAX_DEPTH} levels, or holds more than {MAX_VALUES:,} values; nothing was done."
    return Refusal(400, "too_complex", detail)
