"""Sums of CPU time by file of tests: `python -m pytest -p tests.cpu_sums`.

Each test counts this process and all of its descendants, with what their ended children used; not
a process that has left its parents. Read from Linux's `/proc`, in hundredths of a second. Compare
sums, not durations: a machine that does other things makes a test longer, not dearer.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SHOWN = 40
_TICKS = os.sysconf("SC_CLK_TCK")
_sums: Counter[str] = Counter()
_started = 0.0


def pytest_configure() -> None:
    global _started  # noqa: PLW0603 - a plugin that is a module
    _started = used()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    before = used()
    taken = yield
    _sums[item.nodeid.partition("::")[0]] += round(1000 * (used() - before))
    return taken


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Give the sums to the process that shows them."""
    output = getattr(session.config, "workeroutput", None)
    if output is None and session.config.getoption("numprocesses", None):
        _sums["(scheduling and reports)"] = round(1000 * time.process_time())
        return
    beside = round(1000 * (used() - _started)) - sum(_sums.values())
    _sums["(collection)"] = beside
    if output is not None:
        output["cpu_sums"] = dict(_sums)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _sums.update(getattr(node, "workeroutput", {}).get("cpu_sums", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.section(f"{sum(_sums.values()) / 1000:.0f} s of CPU")
    for name, ms in _sums.most_common(SHOWN):
        terminalreporter.write_line(f"{ms / 1000:8.1f} s {name}")


def used() -> float:
    """Return the CPU seconds of this process and its descendants."""
    times = os.times()
    found = time.process_time() + times.children_user + times.children_system
    left = _children(os.getpid())
    while left:
        pid = left.pop()
        found += _seconds_of(pid)
        left += _children(pid)
    return found


def _seconds_of(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:  # it has ended
        return 0.0
    fields = text.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text(encoding="utf-8").split())
    except OSError:
        pass
    return found
