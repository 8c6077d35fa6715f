"""The bytes of a server's streams: line ends, signs of life, a byte order mark."""

from __future__ import annotations

from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.sse import Style, dumps

_BOM = b"\xef\xbb\xbf"
_LINE_ENDS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}
_SIGNS = {
    "no": b"",
    "comment": b": keep-alive\n\n",
    "ping": b"data: " + dumps({"type": "ping"}) + b"\n\n",
    "data": b"data:\n\n",
}


def sign_of_life(server: Personality) -> bytes:
    """Return what this server sends while it has nothing to say; nothing for most."""
    return _SIGNS[server.keep_alive]


def styled(server: Personality) -> Style:
    """Return a function that gives the bytes of an event this server's form.

    Line ends are the stream's: JSON holds none.
    """
    sign = sign_of_life(server)
    line_end = _LINE_ENDS[server.line_end]

    def change(event: bytes, *, is_first: bool) -> bytes:
        if not server.names_events and event.startswith(b"event: "):
            event = event.partition(b"\n")[2]
        if event != sign:
            event = sign + event
        if line_end != b"\n":
            event = event.replace(b"\n", line_end)
        return _BOM + event if is_first and server.bom else event

    return change
