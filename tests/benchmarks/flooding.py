"""Hostile clients in a separate process, until it is ended: `python -m tests.benchmarks.flooding KIND --port N --abreast N`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count

SOCKET = b"GET /api/socket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
HANDSHAKE = SOCKET + b"Sec-WebSocket-Key: " + b"A" * 22 + b"==\r\n\r\n"
POST = b"POST /api/threads/t/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM = b"GET /api/threads/flooded/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Begun = Callable[[], None]
PATIENCE_S = 60.0
"""Seconds in which the server has to let the first connection begin."""


def frame(opcode: int, data: bytes) -> bytes:
    """A frame of a client."""
    return bytes([0x80 | opcode, 0x80 | len(data)]) + bytes(4) + data


LEAVE = frame(1, b'{"type": "leave", "thread_id": "t"}')
FRAMES = {
    "messages": LEAVE * 200,
    "unreadable": frame(1, b"nonsense") * 500,
    "binary": frame(2, b"\xff\xfe") * 500,
    "pings": frame(9, b"") * 2000,
    "pongs": frame(10, b"x" * 100) * 500,
    "pieces": bytes([1, 0x80]) + bytes(4) + (bytes([0, 0x80]) + bytes(4)) * 2000,
}


async def frames(pair: Pair, begun: Begun, sent: bytes) -> None:
    """Open a socket and flood it."""
    reader, writer = pair
    writer.write(HANDSHAKE)
    if b" 101 " not in await reader.readuntil(b"\r\n\r\n"):
        return
    begun()
    while not reader.at_eof():
        writer.write(sent)
        await writer.drain()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(65536), 0.01)


async def heads(pair: Pair, begun: Begun) -> None:
    """Send a head, byte by byte."""
    reader, writer = pair
    writer.write(b"GET / HTTP/1.1\r\nX: ")
    begun()
    while not reader.at_eof():
        writer.write(b"x")
        await writer.drain()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), 1.0)


async def bodies(pair: Pair, begun: Begun) -> None:
    """Send a body that nests deeper and deeper."""
    reader, writer = pair
    writer.write(POST)
    begun()
    chunk = b"4000\r\n" + b"[" * 0x4000 + b"\r\n"
    while not reader.at_eof() and not reader._buffer:  # type: ignore[attr-defined]
        writer.write(chunk)
        await writer.drain()
        await asyncio.sleep(0)


async def requests(pair: Pair, begun: Begun, host: bytes = b"127.0.0.1") -> None:
    """Ask as fast as answers come."""
    reader, writer = pair
    while not reader.at_eof():
        writer.write(b"GET /api/threads/t HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        begun()


async def strangers(pair: Pair, begun: Begun) -> None:
    """Ask under a name that the server refuses."""
    await requests(pair, begun, b"x")


async def streams(pair: Pair, begun: Begun) -> None:
    """Open a stream and read nothing of it."""
    reader, writer = pair
    writer.write(STREAM)
    if b" 200 " in await reader.readuntil(b"\r\n\r\n"):
        begun()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(3600)
    await asyncio.sleep(1)


async def idle(pair: Pair, begun: Begun) -> None:
    """Open a stream, and read what little comes."""
    reader, writer = pair
    writer.write(STREAM)
    if b" 200 " in await reader.readuntil(b"\r\n\r\n"):
        begun()
        while await reader.read(65536):
            pass


async def slow(pair: Pair, begun: Begun) -> None:
    """Ask for many long answers and read none of them."""
    reader, writer = pair
    writer.write(b"GET /api/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 16)
    if b" 200 " in await reader.readuntil(b"\r\n\r\n"):
        begun()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(2)  # the flood: answers that are not read for so long


KINDS: dict[str, Callable[[Pair, Begun], Awaitable[None]]] = {
    **{name: partial(frames, sent=sent) for name, sent in FRAMES.items()},
    "heads": heads,
    "bodies": bodies,
    "requests": requests,
    "strangers": strangers,
    "crowd": requests,
    "streams": streams,
    "idle": idle,
    "slow": slow,
}
PATIENT = "idle"
"""The kind that begins when every connection is open, `OPENING` at a time."""
OPENING = 50


async def attack(kind: str, port: int, addresses: list[str], abreast: int) -> None:
    """Keep so many connections at it; each that is closed is opened anew."""
    numbers = count()
    began: set[int] = set()
    opening = asyncio.Semaphore(OPENING if kind == PATIENT else abreast)
    ready = asyncio.Event()

    def begin(number: int) -> None:
        if number not in began:
            began.add(number)
            opening.release()
        if len(began) == abreast or kind != PATIENT:
            ready.set()

    async def one(number: int) -> None:
        await opening.acquire()
        while True:
            address = addresses[next(numbers) % len(addresses)]
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                pair = await asyncio.open_connection(
                    "127.0.0.1", port, local_addr=(address, 0), limit=65536
                )
                try:
                    await KINDS[kind](pair, partial(begin, number))
                finally:
                    pair[1].transport.abort()
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(one(number)) for number in range(abreast)]
    await asyncio.wait_for(ready.wait(), None if kind == PATIENT else PATIENCE_S)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.gather(*tasks)


def main() -> None:
    """Attack until the process is ended."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.flooding", description=__doc__
    )
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--address", action="append", default=[])
    parser.add_argument("--abreast", type=int, default=20)
    options = parser.parse_args()
    # They have other machines: here they take what the server and the others leave.
    if hasattr(os, "SCHED_FIFO") and os.sched_getscheduler(0) == os.SCHED_FIFO:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.nice(-15)
    else:
        os.nice(15)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            attack(options.kind, options.port, options.address or ["127.0.0.2"], options.abreast)
        )


if __name__ == "__main__":
    main()
