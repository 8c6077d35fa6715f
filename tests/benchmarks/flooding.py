"""Hostile clients in a process of their own, until it is ended: `python -m tests.benchmarks.flooding KIND --port N --abreast N`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable
from itertools import count

SOCKET = b"GET /api/socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
HANDSHAKE = SOCKET + b"Sec-WebSocket-Key: " + b"A" * 22 + b"==\r\n\r\n"
POST = b"POST /api/threads/t/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM = b"GET /api/threads/flooded/events HTTP/1.1\r\nHost: x\r\n\r\n"
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


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


async def frames(pair: Pair, sent: bytes) -> None:
    """Open a socket and flood it."""
    reader, writer = pair
    writer.write(HANDSHAKE)
    if b" 101 " not in await reader.readuntil(b"\r\n\r\n"):
        return
    while not reader.at_eof():
        writer.write(sent)
        await writer.drain()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(65536), 0.01)


async def heads(pair: Pair) -> None:
    """Send a head, byte by byte."""
    reader, writer = pair
    writer.write(b"GET / HTTP/1.1\r\nX: ")
    while not reader.at_eof():
        writer.write(b"x")
        await writer.drain()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), 1.0)


async def bodies(pair: Pair) -> None:
    """Send a body that nests deeper and deeper."""
    reader, writer = pair
    writer.write(POST)
    chunk = b"4000\r\n" + b"[" * 0x4000 + b"\r\n"
    while not reader.at_eof() and not reader._buffer:  # type: ignore[attr-defined]
        writer.write(chunk)
        await writer.drain()
        await asyncio.sleep(0)


async def requests(pair: Pair) -> None:
    """Ask as fast as answers come."""
    reader, writer = pair
    while not reader.at_eof():
        writer.write(b"GET /api/threads/t HTTP/1.1\r\nHost: x\r\n\r\n")
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")


async def streams(pair: Pair) -> None:
    """Open a stream and read nothing of it."""
    reader, writer = pair
    writer.write(STREAM)
    if b" 200 " in await reader.readuntil(b"\r\n\r\n"):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(3600)
    await asyncio.sleep(1)


KINDS: dict[str, Callable[[Pair], Awaitable[None]]] = {
    **{name: (lambda pair, sent=sent: frames(pair, sent)) for name, sent in FRAMES.items()},
    "heads": heads,
    "bodies": bodies,
    "requests": requests,
    "streams": streams,
}


async def attack(kind: str, port: int, addresses: list[str], abreast: int) -> None:
    """Keep so many connections at it; each that is closed is opened anew."""
    numbers = count()
    ready = asyncio.Event()

    async def one() -> None:
        while True:
            address = addresses[next(numbers) % len(addresses)]
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                pair = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0), limit=65536)
                ready.set()
                try:
                    await KINDS[kind](pair)
                finally:
                    pair[1].transport.abort()  # type: ignore[attr-defined]
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(one()) for _ in range(abreast)]
    await ready.wait()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.gather(*tasks)


def main() -> None:
    """Attack until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.flooding", description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--address", action="append", default=[])
    parser.add_argument("--abreast", type=int, default=20)
    options = parser.parse_args()
    os.nice(15)  # hostile clients have machines of their own: here they take what the server and the others leave
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(attack(options.kind, options.port, options.address or ["127.0.0.2"], options.abreast))


if __name__ == "__main__":
    main()
