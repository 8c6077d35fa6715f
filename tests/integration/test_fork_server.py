"""Processes of the suite's fork server are what `subprocess.Popen` would have started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import fork_server
from tests.conftest import PATIENCE_S
from tests.integration.conftest import BIN, wait_until

STARTS = {"forked": fork_server.start, "popen": subprocess.Popen}
DESCRIBE = """
import json, os, random, signal, sys, threading
print(json.dumps({
    "argv": sys.argv, "name": __name__, "path": sys.path[0], "cwd": os.getcwd(),
    "environment": dict(os.environ), "leads": os.getsid(0) == os.getpgrp() == os.getpid(),
    "threads": threading.active_count(), "open": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
    "stdin": sys.stdin.read(), "child": int(signal.getsignal(signal.SIGCHLD)),
    "interrupt": str(signal.getsignal(signal.SIGINT)),
    "pipe": int(signal.getsignal(signal.SIGPIPE)),
}))
print("to stderr", file=sys.stderr)
sys.exit(7)
"""


@pytest.fixture(params=sorted(STARTS))
def start(request: pytest.FixtureRequest) -> Any:
    """Start a process in each way; a right expectation holds for both."""
    if request.param == "forked":
        return fork_server.start
    options: dict[str, Any] = {"start_new_session": True, "stdin": subprocess.DEVNULL}
    return lambda command, **more: subprocess.Popen([*map(str, command)], **options, **more)


def communicate(process: subprocess.Popen[str]) -> tuple[str, str]:
    return process.communicate(timeout=PATIENCE_S)


@pytest.mark.parametrize("way", ["-c", "-m", "script"])
def test_a_command_finds_the_surroundings_that_it_was_given(
    start: Any, way: str, tmp_path: Path
) -> None:
    (tmp_path / "describing.py").write_text(DESCRIBE)
    command = {
        "-c": [sys.executable, "-c", DESCRIBE, "a", "b"],
        "-m": [sys.executable, "-m", "describing", "a", "b"],
        "script": [tmp_path / "describing", "a", "b"],
    }[way]
    (tmp_path / "describing").write_text(f"#!{sys.executable}\n{DESCRIBE}")
    (tmp_path / "describing").chmod(0o755)
    environment = {"PYTHONPATH": "/somewhere", "LANG": "C.UTF-8"}
    process = start(
        command,
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said, to_stderr = communicate(process)
    assert (process.returncode, to_stderr) == (7, "to stderr\n")
    found = json.loads(said)
    environment_found = found.pop("environment")
    assert {name: environment_found[name] for name in environment} == environment
    assert environment_found.keys() - environment.keys() <= {"LC_CTYPE"}
    first = {"-c": "-c", "-m": str(tmp_path / "describing.py"), "script": str(command[0])}[way]
    assert found == {
        "argv": [first, "a", "b"],
        "name": "__main__",
        "path": "" if way == "-c" else str(tmp_path),
        "cwd": str(tmp_path),
        "leads": True,
        "threads": 1,
        "open": [0, 1, 2],
        "stdin": "",
        "child": 0,
        "interrupt": str(signal.default_int_handler),
        "pipe": 1,
    }


def test_an_exit_code_waits_until_it_is_asked_for(start: Any) -> None:
    """Until then the process id belongs to no other process."""
    process = start(
        [sys.executable, "-c", "raise SystemExit(3)"], env=os.environ, stdout=subprocess.PIPE
    )
    one = psutil.Process(process.pid)
    wait_until(lambda: one.status() == psutil.STATUS_ZOMBIE, "it has ended")
    assert process.wait(PATIENCE_S) == 3
    wait_until(lambda: not psutil.pid_exists(process.pid), "it is gone")
    assert process.poll() == 3
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_signals_arrive(start: Any, number: signal.Signals) -> None:
    code = "import signal; print('here', flush=True); signal.pause()"
    process = start([sys.executable, "-c", code], env=os.environ, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0)
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == -number
    process.send_signal(number)  # as to a Popen that has ended: nothing
    process.stdout.close()


def test_an_error_ends_it_as_an_interpreter_does(start: Any) -> None:
    process = start(
        [sys.executable, "-c", "import atexit; atexit.register(print, 'bye'); 1 / 0"],
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said, to_stderr = communicate(process)
    assert process.returncode == 1
    assert said == "bye\n"
    assert to_stderr.rstrip().endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("said", ["", "two\nlines", "x" * 1_000_000], ids=len)
def test_a_command_that_is_run_reads_what_it_is_given_and_ends(said: str) -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; print(len(sys.stdin.read())); sys.exit('to stderr')",
    ]
    forked = fork_server.run(command, env=os.environ, said=said, timeout=PATIENCE_S)
    popen = subprocess.run(
        command, input=said, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert vars(forked) == vars(popen) == {
        "args": command, "returncode": 1, "stdout": f"{len(said)}\n", "stderr": "to stderr\n"
    }  # fmt: skip


def test_a_child_of_the_server_has_no_imports_to_make() -> None:
    code = "import sys; print({'openai', 'rq.worker', 'redis'} <= sys.modules.keys())"
    process = fork_server.start(
        [sys.executable, "-c", code], env=os.environ, stdout=subprocess.PIPE, text=True
    )
    assert communicate(process)[0] == "True\n"


def test_it_runs_the_programs_of_the_environment(start: Any) -> None:
    process = start(
        [BIN / "assistant-queue", "worker", "--nonsense"],
        env={**os.environ, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said, _ = communicate(process)
    assert process.returncode == 2
    assert said.startswith("Usage: assistant-queue worker")
