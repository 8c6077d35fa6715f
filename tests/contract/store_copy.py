"""A copy of what stands in the keys, to be read many times for one round trip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

_COPY = """
local found = {}
for _, pattern in ipairs(ARGV) do
  for _, name in ipairs(redis.call('KEYS', pattern)) do
    local kind = redis.call('TYPE', name).ok
    local held = ''
    if kind == 'hash' then held = redis.call('HGETALL', name)
    elseif kind == 'list' then held = redis.call('LRANGE', name, 0, -1)
    elseif kind == 'zset' then held = redis.call('ZRANGE', name, 0, -1, 'WITHSCORES')
    elseif kind == 'string' then held = redis.call('GET', name)
    elseif kind == 'stream' then held = redis.call('XLEN', name) end
    found[#found + 1] = {name, kind, held}
  end
end
return found
"""


class Copy:
    """The commands of a client that read, on a copy; all others are the client's."""

    def __init__(self, client: redis.Redis, *patterns: str) -> None:
        self._client = client
        self._texts: dict[str, dict[str, str]] = {}
        self._held: dict[str, tuple[bytes, Any]] = {
            name.decode(): (kind, held) for name, kind, held in client.eval(_COPY, 0, *patterns)
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _of(self, key: str, kind: bytes, empty: Any) -> Any:
        found, held = self._held.get(key, (kind, empty))
        assert found == kind, f"{key} is a {found!r}, not a {kind!r}"
        return held

    def exists(self, key: str) -> int:
        return int(key in self._held)

    def type(self, key: str) -> bytes:
        return self._held.get(key, (b"none", None))[0]

    def scan_iter(self, match: str, count: int = 0) -> Iterator[str]:
        start, _, rest = match.partition("*")
        assert not rest, f"{match} is not the start of keys"
        return (key for key in self._held if key.startswith(start))

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        held = self._of(key, b"hash", [])
        return dict(zip(held[::2], held[1::2], strict=True))

    def texts(self, key: str) -> dict[str, str]:
        """Return a hash as texts, the same to all that read it."""
        if key not in self._texts:
            held = [one.decode() for one in self._of(key, b"hash", [])]
            self._texts[key] = dict(zip(held[::2], held[1::2], strict=True))
        return self._texts[key]

    def hmget(self, key: str, *fields: str) -> list[bytes | None]:
        held = self._of(key, b"hash", [])
        found = dict(zip(held[::2], held[1::2], strict=True))
        return [found.get(field.encode()) for field in fields]

    def lrange(self, key: str, first: int, last: int) -> list[bytes]:
        held: list[bytes] = self._of(key, b"list", [])
        return held[first : last + 1 or None]

    def zrange(self, key: str, first: int, last: int, *, withscores: bool = False) -> list[Any]:
        held = self._of(key, b"zset", [])
        members = held[::2][first : last + 1 or None]
        if not withscores:
            return members
        scores = map(float, held[1::2][first : last + 1 or None])
        return list(zip(members, scores, strict=True))

    def get(self, key: str) -> bytes | None:
        return self._of(key, b"string", None)

    def xlen(self, key: str) -> int:
        return int(self._of(key, b"stream", 0))
