"""The demo's own Redis, on a free port of this machine: a redis-server or fakeredis."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from assistant_queue.cli.exit_errors import Misuse, Problem
from assistant_queue.testing import redis_programs
from assistant_queue.worker.parent_process import die_with_parent

OLDEST = (6, 2)
"""Source: docs/production.md: the Lua runs on Redis 6.2 and later."""
START_S = 10.0
"""Seconds for a redis-server to answer. Chosen: many times what it needs."""
_TRIES = 3


@contextlib.contextmanager
def private_redis(kinds: tuple[str, ...] = ("path", "wheel", "fake")) -> Iterator[tuple[str, str]]:
    """Start the first available of these; yield its URL and description, and remove all afterwards.

    Args:
        kinds: `path` (a server on the PATH), `wheel` (one that an installed package brings),
            `fake` (fakeredis' TCP server on a thread).

    Raises:
        Problem: None of them is there.
    """
    for kind in kinds:
        program = {"path": _on_path, "wheel": _in_wheel}.get(kind, lambda: None)()
        if program is not None:
            version = ".".join(map(str, version_of(program)))
            name = Path(program).name
            product = "Valkey" if name == "valkey-server" else "Redis"
            where = f"{name} on the PATH" if kind == "path" else f"{name} of an installed wheel"
            with _server(program) as url:
                yield url, f"{product} {version} ({where})"
            return
        if kind == "fake" and _has_fake():
            with _fake() as url:
                yield url, "fakeredis on a thread (there is no redis-server)"
            return
    raise Misuse(
        "there is no Redis to play with: install redis-server, or pip install 'assistant-queue[demo]'"
    )


def version_of(program: str) -> tuple[int, ...]:
    """Return the version of a redis-server; (0,) if it is unknown."""
    try:
        said = subprocess.run(  # noqa: S603
            [program, "--version"], capture_output=True, text=True, timeout=START_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0,)
    found = re.search(r"v=(\d+)\.(\d+)\.(\d+)", said)
    return tuple(int(part) for part in found.groups()) if found else (0,)


def _usable(program: str | None) -> str | None:
    return program if program is not None and version_of(program) >= OLDEST else None


def _on_path() -> str | None:
    return _usable(redis_programs.on_path())


def _in_wheel() -> str | None:
    return next(filter(_usable, redis_programs.in_packages().values()), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _server(program: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="assistant-queue-demo-") as directory:
        port, process = _start(program, Path(directory))
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()  # its data is temporary
            process.wait()


def _start(program: str, directory: Path) -> tuple[int, subprocess.Popen[bytes]]:
    """Start a server that answers, on another port if the first is taken meanwhile."""
    said = directory / "redis.log"
    for _ in range(_TRIES):
        port = _free_port()
        options = [
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            str(directory),
        ]
        with said.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - as above
                [program, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo; it stops the server last
                preexec_fn=die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no other thread runs yet
            )
        if _answers(port, process):
            return port, process
        process.kill()
        process.wait()
    last = said.read_text(errors="replace").strip().splitlines()[-1:]
    raise Problem(f"{program} did not start: {''.join(last) or 'it says nothing'}; try it by hand")


def _answers(port: int, process: subprocess.Popen[bytes] | None) -> bool:
    until = time.monotonic() + START_S
    with redis.Redis(host="127.0.0.1", port=port, socket_timeout=1) as client:
        while time.monotonic() < until and (process is None or process.poll() is None):
            with contextlib.suppress(redis.RedisError, OSError):
                client.ping()
                return True
            time.sleep(0.02)
    return False


def _has_fake() -> bool:
    try:
        import fakeredis
    except ImportError:
        return False
    return hasattr(fakeredis, "TcpFakeServer")


@contextlib.contextmanager
def _fake() -> Iterator[str]:
    from fakeredis import TcpFakeServer

    port = _free_port()
    server = TcpFakeServer(("127.0.0.1", port), server_type="redis")
    server.daemon_threads = True
    server.RequestHandlerClass = _answering(server.RequestHandlerClass)
    thread = threading.Thread(target=server.serve_forever, name="fakeredis", daemon=True)
    thread.start()
    try:
        if not _answers(port, None):
            raise Problem("fakeredis does not answer; install redis-server")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def _answering(handler: Any) -> Any:
    """The handler of a connection, as clients of a real Redis expect it of fakeredis.

    1. an error is an answer like any other: fakeredis' own ends the connection with it
    2. CLIENT INFO reports an address as `host:port`: fakeredis' own has a blank in it, which splits
       the line
    """

    class Answering(handler):  # type: ignore[misc]  # the class depends on the version of fakeredis
        def setup(self) -> None:
            super().setup()
            read = self.current_client.read_response

            def read_response(*args: Any, **kwargs: Any) -> Any:
                try:
                    return read(*args, **kwargs)
                except redis.ResponseError as error:
                    return error

            self.current_client.read_response = read_response
            with contextlib.suppress(AttributeError):  # absent in some versions
                info = self.current_client.get_socket()._client_info  # noqa: SLF001 - there is no public way
                info.update(
                    {
                        name: f"{info[name][0]}:{info[name][1]}"
                        for name in ("addr", "laddr")
                        if isinstance(info.get(name), tuple)
                    }
                )

    return Answering
