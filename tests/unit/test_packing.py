"""Packing in C, compared with redis-py's own."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from assistant_queue.store.transport.packing import pack_all, pack_one

COMMANDS: list[tuple[Any, ...]] = [
    ("PING",),
    ("SCRIPT LOAD", "return 1"),
    ("EVALSHA", "0" * 40, 2, "a key", b"\xff\x00", "grüße 🌍", 3, 1.5),
    (b"SET", "key", memoryview(b"view")),
    ("SET", "key", bytearray(b"array")),
]


def test_a_command_is_packed_as_redis_py_does() -> None:
    connection = redis.Connection()
    for words in COMMANDS:
        assert b"".join(pack_one(connection, words)) == b"".join(connection.pack_command(*words))


def test_commands_of_one_round_trip_are_packed_in_order() -> None:
    connection = redis.Connection()
    packed = b"".join(pack_all(connection, COMMANDS))
    assert packed == b"".join(connection.pack_commands(COMMANDS))


def test_without_hiredis_redis_py_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant_queue.store.transport.packing._PACKER", None)
    connection = redis.Connection()
    assert pack_all(connection, COMMANDS[:3]) == list(connection.pack_commands(COMMANDS[:3]))


@pytest.mark.parametrize(
    ("word", "error"), [("\ud83d", UnicodeEncodeError), (None, redis.exceptions.DataError)]
)
def test_what_cannot_be_packed_is_refused(word: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        pack_all(redis.Connection(), [("PING",), ("SET", "key", word)])
