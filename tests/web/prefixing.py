"""A proxy that serves sites below paths: a real one, on a socket, for pages, streams and sockets alike."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

FIRST_LINE = re.compile(rb"(?P<method>[A-Z]+) (?P<target>\S+) (?P<version>HTTP/1\.1)")


class Proxy(socketserver.ThreadingTCPServer):
    """Forwards what is asked below a path to the port of that path, and answers everything else itself, with 418."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, ports: Mapping[str, int], *, strips: bool) -> None:
        super().__init__(("127.0.0.1", 0), Forwarding)
        self.ports = {path.encode(): port for path, port in ports.items()}
        self.strips = strips
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.strayed: list[str] = []

    def forwarded(self, head: bytes) -> tuple[int, bytes] | None:
        """The port that a request is passed to, and its head; None if it is below none of the paths."""
        line, rest = head.split(b"\r\n", 1)
        found = FIRST_LINE.fullmatch(line)
        assert found is not None, line
        target = found["target"]
        asked = target.split(b"?")[0]
        path = next(
            (path for path in self.ports if asked == path or asked.startswith(path + b"/")), None
        )
        if path is None:
            self.strayed.append(target.decode())
            return None
        if self.strips:
            target = target.removeprefix(path)
            target = target if target.startswith(b"/") else b"/" + target
        is_socket = b"\r\nupgrade: websocket" in head.lower()
        if not is_socket:  # one request a connection: only its first head is looked at
            rest = re.sub(rb"(?im)^connection:[^\r]*\r\n", b"", rest)
            rest = b"Connection: close\r\n" + rest
        return self.ports[path], b" ".join(
            (found["method"], target, found["version"])
        ) + b"\r\n" + rest


class Forwarding(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        read = b""
        while b"\r\n\r\n" not in read:
            more = self.request.recv(65536)
            if not more:
                return
            read += more
        head, body = read.split(b"\r\n\r\n", 1)
        forwarded = self.server.forwarded(head + b"\r\n")
        if forwarded is None:
            self.request.sendall(
                b"HTTP/1.1 418 Elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            return
        port, head = forwarded
        with socket.create_connection(("127.0.0.1", port)) as onward:
            onward.sendall(head + b"\r\n" + body)
            sending = threading.Thread(target=_pump, args=(self.request, onward), daemon=True)
            sending.start()
            _pump(onward, self.request)
            with suppress(OSError):
                self.request.shutdown(socket.SHUT_RDWR)
            sending.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Bytes as they come, until either side ends."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def proxied(ports: Mapping[str, int], *, strips: bool) -> Iterator[Proxy]:
    with Proxy(ports, strips=strips) as proxy:
        threading.Thread(
            target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        yield proxy
        proxy.shutdown()
