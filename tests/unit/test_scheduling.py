"""Tests that must not run beside each other are given to one process of the suite."""

from __future__ import annotations

import fcntl
import threading
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from xdist.remote import Producer

from tests import conftest
from tests.docs.generated import ROOT
from tests.scheduling import LONG, TOGETHER, group_of, lock_of, one_first, place_of

CHAOS = [f"tests/integration/test_chaos_faults.py::test_{number}" for number in range(4)]
PAGE = [f"tests/web/test_page.py::test_[{number}]" for number in range(3)]
OTHERS = [f"tests/unit/test_window.py::test_{number}" for number in range(5)]


class Node:
    """A process of xdist that carries out at once what it is given."""

    def __init__(self) -> None:
        self.gateway = SimpleNamespace(id="node")
        self.given: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indexes: list[int]) -> None:
        self.given.extend(indexes)

    def shutdown(self) -> None:
        self.shutting_down = True


def test_a_group_is_given_to_one_process_and_first() -> None:
    names = sorted([*OTHERS, *PAGE, *CHAOS], key=place_of)
    assert names[:7] == [*CHAOS, *PAGE]
    option = SimpleNamespace(loadscopereorder=True)
    config: Any = SimpleNamespace(option=option, getvalue=lambda _: ["popen", "popen"])
    scheduler = conftest.pytest_xdist_make_scheduler(config, Producer("test", enabled=False))
    nodes = [Node(), Node()]
    for node in nodes:
        scheduler.add_node(node)
        scheduler.add_node_collection(node, names)
    scheduler.schedule()
    done = [0, 0]
    while any(done[at] < len(node.given) for at, node in enumerate(nodes)):
        for at, node in enumerate(nodes):
            if done[at] < len(node.given):
                scheduler.mark_test_complete(node, node.given[done[at]])
                done[at] += 1
    given = [[names[index] for index in node.given] for node in nodes]
    assert sorted([*given[0], *given[1]]) == sorted(names)
    assert [given[0][:4], given[1][:3]] == [CHAOS, PAGE]
    assert all(
        set(group) <= set(given[0]) or set(group) <= set(given[1]) for group in (CHAOS, PAGE)
    )


def test_what_is_long_starts_before_what_is_short() -> None:
    long = [f"{start}test[one]" for start in LONG]
    assert sorted([*OTHERS, *long, *PAGE], key=place_of) == [*PAGE, *long, *OTHERS]


@pytest.mark.parametrize("start", LONG)
def test_what_is_long_exists(start: str) -> None:
    path, _, name = start.partition("::")
    assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("start", TOGETHER)
def test_a_group_names_tests_that_exist(start: str) -> None:
    path, _, name = start.partition("::")
    assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8")
    assert group_of(f"{start}[one]") == TOGETHER[start]


def test_others_wait_until_the_first_has_left() -> None:
    run_id = uuid.uuid4().hex
    order = []

    def follow() -> None:
        with one_first(run_id):
            order.append("follows")

    follower = threading.Thread(target=follow)
    with one_first(run_id), lock_of(run_id).open("ab") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        follower.start()
        order.append("leaves")
    follower.join(conftest.PATIENCE_S)
    assert order == ["leaves", "follows"]
    assert not lock_of(run_id).exists()
    with one_first(None):
        assert not lock_of("None").exists(), "a process alone has nothing to wait for"
