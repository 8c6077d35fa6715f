"""Groups of tests that run one after another, on one of the suite's processes.

Chaos and a browser need a processor each: two at once only wait for each other, and what they
measure against the clock fails. One process starts one Chromium for all tests of the page. The
tests of the language read each file once.

By node id, in a scheduler: pytest 9.2 keeps the id of a test elsewhere than xdist 3.8 writes the
name of an `xdist_group`, and the marks do nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "tests/integration/test_chaos.py::test_a_moment": "chaos",
    "tests/integration/test_chaos.py::test_the_runner": "chaos",
    "tests/integration/test_chaos_faults.py": "chaos",
    "tests/web/test_operations_page.py": "browser",
    "tests/web/test_page.py": "browser",
    "tests/web/test_page_accessibility.py": "browser",
    "tests/web/test_page_answers.py": "browser",
    "tests/web/test_page_messages.py": "browser",
    "tests/web/test_page_steering.py": "browser",
    "tests/web/test_page_stop.py": "browser",
    "tests/web/test_page_takeover.py": "browser",
    "tests/web/test_page_uploads.py": "browser",
    "tests/docs/test_language.py": "language",
    "tests/servers/test_llama_cpp.py": "llama_cpp",
    "tests/servers/test_litellm.py": "litellm",
    "tests/servers/test_ogx.py": "ogx",
    "tests/servers/test_vllm.py": "vllm",
}
"""The start of node ids, and the group of these tests; the first ones start first."""

LONG = (
    "tests/properties/test_store_machine.py::",
    "tests/web/test_openapi.py::",
    "tests/integration/test_replicas.py::",
    "tests/integration/test_lost_replies.py::",
    "tests/integration/test_overflow_crashes.py::",
    "tests/integration/test_steering_lost_answers.py::",
    "tests/integration/test_event_crashes.py::",
)
"""The start of node ids of tests that take half a minute: each starts before the shorter ones."""

_GROUPS = [*dict.fromkeys(TOGETHER.values())]


def group_of(node_id: str) -> str | None:
    """Return the group of a test that runs after the others of its group."""
    return next((group for start, group in TOGETHER.items() if node_id.startswith(start)), None)


def place_of(node_id: str) -> int:
    """Return a sort key: groups first, then what is long; at the end the others would wait for it."""
    group = group_of(node_id)
    if group is not None:
        return _GROUPS.index(group)
    return len(_GROUPS) + (not node_id.startswith(LONG))


class GroupScheduling(LoadScopeScheduling):
    """Give each group to one process; every other test to the next one that is free.

    A step costs the same however many tests there are: xdist counts all that a process was given
    each time that it completes a test, and searches the collection for each that it gives.
    """

    def __init__(self, config: Any, log: Any = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # the order of collection is the order of work

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid) or nodeid

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {nodeid: place for place, nodeid in enumerate(self.collection or ())}

    def _assign_work_unit(self, node: Any) -> None:
        scope, unit = self.workqueue.popitem(last=False)
        self.assigned_work[node][scope] = unit
        left = [self._places[nodeid] for nodeid, is_complete in unit.items() if not is_complete]
        node.send_runtest_some(left)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        scope = self._split_scope(self.registered_collections[node][item_index])
        unit = self.assigned_work[node][scope]
        super().mark_test_complete(node, item_index, duration)
        if all(unit.values()):
            del self.assigned_work[node][scope]


def lock_of(run_id: str) -> Path:
    return Path(tempfile.gettempdir()) / f"assistant-queue-{run_id}.lock"


@contextlib.contextmanager
def one_first(run_id: str | None) -> Iterator[None]:
    """Let one of a run's processes through, and the others when it has left.

    The first to collect compiles the package and rewrites each test's assertions; the others read
    what it has written, where all would do the same work at the same time.
    """
    if run_id is None:
        yield
        return
    path = lock_of(run_id)
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH)
            fcntl.flock(lock, fcntl.LOCK_UN)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
