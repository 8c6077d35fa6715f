"""No Redis command outside `assistant_queue/store`: other packages run operations of the store."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "assistant_queue"

OUTSIDE = ("store", "testing", "cli/demo")
"""Folders that may send commands: the store, tools of tests, and the demo, which runs a Redis."""

CALLS = frozenset({"plain", "blocking", "Call"})
"""Functions of `store/calls.py` that make a command."""

METHODS = frozenset(
    {
        "blpop", "client_info", "eval", "evalsha", "execute_command", "hdel", "hget", "hgetall", "hset", "lpop", "lpush",
        "lrange", "pipeline", "pubsub", "pubsub_numsub", "register_script", "rpop", "rpush", "sadd", "scan_iter", "scard",
        "script_load", "smembers", "srem", "xadd", "xrange", "xread", "zadd", "zcard", "zrange", "zrangebyscore", "zrem",
    }
)  # fmt: skip
"""Methods of a redis-py client that send a command. Without names that other classes have, too."""


def commands_in(source: str) -> Iterator[tuple[int, str]]:
    """The places of a module that send a command: line and name."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in CALLS:
            yield node.lineno, node.func.id
        if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            is_super = (
                isinstance(node.func.value, ast.Call) and ast.unparse(node.func.value) == "super()"
            )
            if not is_super:  # what RQ does itself
                yield node.lineno, node.func.attr


def modules() -> list[str]:
    """The modules outside the store, by path."""
    found = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]
    return [name for name in sorted(found) if not name.startswith(OUTSIDE)]


def test_no_command_is_sent_outside_the_store() -> None:
    assert [
        f"{name}:{line}: {command}"
        for name in modules()
        for line, command in commands_in((PACKAGE / name).read_text())
    ] == []


@pytest.mark.parametrize(
    "source",
    ['plain("GET", "key")', 'client.hget("key", "field")', "with client.pubsub() as words: ..."],
)
def test_a_command_is_found(source: str) -> None:
    assert list(commands_in(source))


def test_the_store_itself_is_full_of_them() -> None:
    found = [list(commands_in(path.read_text())) for path in (PACKAGE / "store").rglob("*.py")]
    assert sum(map(len, found)) > 50
