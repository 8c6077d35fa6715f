"""Packing of commands in C.

redis-py's asyncio connection packs in Python, and its blocking one looks at every word in Python
before it calls hiredis: three times the time of hiredis alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.connection import HiredisRespSerializer
from redis.utils import HIREDIS_AVAILABLE

if HIREDIS_AVAILABLE:
    import hiredis

_PACKER: Any = HiredisRespSerializer() if HIREDIS_AVAILABLE else None


def pack_all(connection: Any, commands: Sequence[Sequence[Any]]) -> list[bytes]:
    """Return what `connection.pack_commands` returns, in one piece.

    Raises:
        UnicodeEncodeError, redis.DataError: A command cannot be packed.
    """
    if _PACKER is None:
        return list(connection.pack_commands(commands))
    return [b"".join([_packed(words) for words in commands])]


def pack_one(connection: Any, words: Sequence[Any]) -> list[bytes]:
    """Return what `connection.pack_command` returns; raises as `pack_all`."""
    if _PACKER is None:
        return list(connection.pack_command(*words))
    return [_packed(words)]


def _packed(words: Sequence[Any]) -> bytes:
    # What redis-py does beside that is for names with a blank, and for words of other types.
    if type(words[0]) is str and " " not in words[0]:
        try:
            packed: bytes = hiredis.pack_command(tuple(words))
        except TypeError:
            pass
        else:
            return packed
    return b"".join(_PACKER.pack(*words))
