"""Output of a command: line by line, or in a terminal, for one that looks different there."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from typing import IO

from tests.conftest import PATIENCE_S


def line_of(pipe: IO[str] | None) -> str:
    assert pipe is not None
    return pipe.readline()


def wait_for_line(pipe: IO[str] | None, word: str) -> str:
    """Read on until a line has the word, and return that; a worker says other things of its Redis before."""
    assert pipe is not None
    found = next((line for line in pipe if word in line), None)
    assert found is not None, f"{word!r} was never said"
    return found


def seen_in_a_terminal(
    command: list[str], *, until: str | None = None, **variables: str
) -> tuple[int, str]:
    """Run the command in a terminal; its exit code and everything it wrote.

    With `until`, Ctrl-C once that was seen.
    """
    ours, its = pty.openpty()
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "COLUMNS": "120",
        "LINES": "30",
        **variables,
    }
    process = subprocess.Popen(
        command, env=environment, stdin=its, stdout=its, stderr=its, start_new_session=True
    )
    os.close(its)
    shown = b""
    try:
        while True:
            try:
                said = os.read(ours, 65536)
            except OSError:  # EIO: no process has the other end open any more
                break
            if not said:
                break
            shown += said
            if until is not None and until.encode() in shown:
                process.send_signal(signal.SIGINT)
                until = None
        return process.wait(PATIENCE_S), shown.decode(errors="replace")
    finally:
        os.close(ours)
        if process.poll() is None:
            process.kill()
            process.wait()
