"""Start worker processes by forking one process that has imported what workers import.

A worker spends more CPU on its imports than on a test's batches. A `ForkServer` imports once and
forks for each start; the child then runs the named program, script or code as an interpreter would:
a process with its own session, `sys.argv`, environment, directory, output and exit code, to signal
and wait for like any `subprocess.Popen`. Different from a fresh interpreter: modules are
imported already, `/proc/PID/cmdline` is the server's, the parent is the server, and the
interpreter's own options (`-W`, `PYTHONHASHSEED`) are too. Tests about any of these, and some of
each kind of worker, start the true command.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parent.parent
LENGTH_BYTES = 4
PRELOADED = (
    "rq.cli",
    "openai.resources.beta",
    "openai.resources.chat",
    "openai.resources.conversations",
    "openai.resources.responses",
)
PACKAGES = ("backends", "client", "config", "core", "store", "worker")
"""Our packages that a worker imports."""

Streams = tuple[int, int, int]
"""File descriptors of stdin, stdout and stderr."""


# --- in the test's process ------------------------------------------------------------------------


class ForkedProcess(subprocess.Popen[Any]):
    """A child of the fork server, in the place of a `Popen`.

    Like a child of this process it stays a zombie until `poll` or `wait` has its exit code: its id
    is not given to another process before.
    """

    def __init__(
        self, args: Sequence[str], pid: int, status: socket.socket, streams: Sequence[Any]
    ) -> None:
        self.args = args
        self.pid = pid
        self.stdin, self.stdout, self.stderr = streams
        self.returncode: int | None = None
        self.text_mode = any(isinstance(one, io.TextIOBase) for one in streams)
        self._child_created = True
        self._communication_started = False
        self._input = None
        self._sigint_wait_secs = 0.0
        self._status = status

    def _ended(self, timeout: float | None) -> int | None:
        """Return the exit code, or None if the process still runs after `timeout` seconds."""
        if self.returncode is None:
            self._status.settimeout(timeout)
            with contextlib.suppress(TimeoutError, BlockingIOError):
                said = self._status.recv(64)
                self.returncode = int(said) if said else -signal.SIGKILL  # the server died
                self._status.close()
        return self.returncode

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        return self._ended(0)

    def _wait(self, timeout: float | None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def __del__(self, *_: Any) -> None:
        """Leave a process that still runs to the server, without a warning."""
        self._status.close()


class ForkServer:
    """Start processes from one that has imported what workers need."""

    def __init__(self) -> None:
        ours, its = socket.socketpair()
        with its:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.fork_server", str(its.fileno())],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._socket = ours
        self._lock = threading.Lock()

    def start(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        stdout: int | IO[Any],
        stderr: int | IO[Any] = subprocess.STDOUT,
        stdin: int = subprocess.DEVNULL,
        cwd: str | Path | None = None,
        text: bool = False,
    ) -> ForkedProcess:
        """Run a command of Python: `[sys.executable, "-m" or "-c", ...]` or `[script, ...]`."""
        words = [str(word) for word in command]
        ours, its = socket.socketpair()
        with contextlib.ExitStack() as to_close, its:
            theirs, streams = _descriptors((stdin, stdout, stderr), to_close, text=text)
            request = {"command": words, "env": dict(env), "cwd": str(cwd or Path.cwd())}
            said = json.dumps(request).encode()
            with self._lock:
                length = len(said).to_bytes(LENGTH_BYTES)
                socket.send_fds(self._socket, [length], [its.fileno(), *theirs])
                self._socket.sendall(said)
                pid = int.from_bytes(self._socket.recv(LENGTH_BYTES))
        assert pid, "the fork server has ended"
        return ForkedProcess(words, pid, ours, streams)

    def close(self) -> None:
        self._socket.close()
        self._server.wait()


@functools.cache
def _server() -> ForkServer:
    """The server of this test process, which ends with it."""
    server = ForkServer()
    atexit.register(server.close)
    return server


def start(command: Sequence[str | Path], **options: Any) -> ForkedProcess:
    """Run a command on this test process's server: `ForkServer.start`."""
    return _server().start(command, **options)


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: str | Path | None = None,
    said: str = "",
    timeout: float,
) -> subprocess.CompletedProcess[str]:
    """Run a command until it ends, as `subprocess.run` does; `said` is its input."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with start(command, env=env, cwd=cwd, text=True, **pipes) as process:
        try:
            out, err = process.communicate(said, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _descriptors(
    streams: tuple[int, int | IO[Any], int | IO[Any]],
    to_close: contextlib.ExitStack,
    *,
    text: bool,
) -> tuple[Streams, list[IO[Any] | None]]:
    """Return what the child reads and writes, and our ends of its pipes."""
    theirs: list[int] = []
    ours: list[IO[Any] | None] = []
    for number, stream in enumerate(streams):
        pipe: IO[Any] | None = None
        if stream == subprocess.PIPE:
            read_end, write_end = os.pipe()
            its, own, mode = (
                (read_end, write_end, "w") if number == 0 else (write_end, read_end, "r")
            )
            to_close.callback(os.close, its)
            pipe = os.fdopen(own, mode if text else f"{mode}b")
        elif stream == subprocess.DEVNULL:
            its = os.open(os.devnull, os.O_RDWR)
            to_close.callback(os.close, its)
        elif stream == subprocess.STDOUT:
            its = theirs[1]
        else:
            its = stream if isinstance(stream, int) else stream.fileno()
        theirs.append(its)
        ours.append(pipe)
    return (theirs[0], theirs[1], theirs[2]), ours


# --- in the server --------------------------------------------------------------------------------


def _preload() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    for package in PACKAGES:
        top = importlib.import_module(f"assistant_queue.{package}")
        for found in pkgutil.walk_packages(top.__path__, f"{top.__name__}."):
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(found.name)
    importlib.import_module("assistant_queue.cli.worker")
    assert threading.active_count() == 1, "a thread is not inherited by a fork"
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page


class _Server:
    """Fork for each request; report each end; reap when the report has been read."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._children: dict[int, socket.socket | None] = {}
        self._reported: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ)
        wake, self._woken = socket.socketpair()
        wake.setblocking(False)
        self._wake = wake
        signal.set_wakeup_fd(wake.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def serve(self) -> list[str]:
        """Return a command in each child; leave by SystemExit when the requests end."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._requests:
                    command = self._answer()
                    if command is not None:
                        return command
                elif key.fileobj is self._woken:
                    self._woken.recv(4096)
                else:
                    self._let_go(key.data)
            self._report()

    def _answer(self) -> list[str] | None:
        head, descriptors, *_ = socket.recv_fds(self._requests, LENGTH_BYTES, 4)
        if not head:
            raise SystemExit
        length = int.from_bytes(head)
        said = b""
        while len(said) < length:
            said += self._requests.recv(length - len(said))
        request = json.loads(said)
        status, *streams = descriptors
        pid = os.fork()
        if pid == 0:
            self._become(request, streams)
            os.close(status)
            command: list[str] = request["command"]
            return command
        self._requests.sendall(pid.to_bytes(LENGTH_BYTES))
        for descriptor in streams:
            os.close(descriptor)
        self._children[pid] = socket.socket(fileno=status)
        self._selector.register(self._children[pid], selectors.EVENT_READ, pid)
        return None

    def _become(self, request: dict[str, Any], streams: list[int]) -> None:
        """Leave the server's life behind, in the child."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for one in (self._requests, self._wake, self._woken, *self._children.values()):
            if one is not None:
                one.close()
        os.setsid()
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        for descriptor in set(streams):
            os.close(descriptor)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        if "PYTHONUNBUFFERED" in os.environ:
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    def _report(self) -> None:
        for pid in [*self._children]:
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                continue
            if self._children[pid] is None:
                os.waitpid(pid, 0)
                del self._children[pid]
            elif pid not in self._reported:
                code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
                self._reported.add(pid)
                with contextlib.suppress(BrokenPipeError):
                    self._children[pid].sendall(str(code).encode())

    def _let_go(self, pid: int) -> None:
        """Reap a child when it has ended: its exit code was read, or is not asked for any more."""
        status = self._children[pid]
        self._selector.unregister(status)
        status.close()
        self._children[pid] = None
        self._reported.discard(pid)


def _run(command: list[str]) -> None:
    """Run it as the interpreter would, in this process."""
    program, *words = command
    added = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    sys.path[:] = [*added, *(one for one in sys.path[1:] if one not in added)]
    if program != sys.executable:
        sys.argv = command
        sys.path.insert(0, str(Path(program).parent))
        runpy.run_path(program, run_name="__main__")
    elif words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        assert words[0] == "-c", command
        sys.argv = ["-c", *words[2:]]
        sys.path.insert(0, "")
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    _preload()
    _run(_Server(socket.socket(fileno=int(sys.argv[1]))).serve())
