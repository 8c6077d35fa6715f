"""The demo bot's replies, in the order of their delivery."""

from __future__ import annotations

import json
import logging
import queue
import threading
from types import TracebackType
from typing import Any, Self

import redis

OUTBOX = "demo:outbox"
"""Key of a list with the bot's replies as JSON; the demo reads it as a chat platform would."""
_POP_S = 1

_log = logging.getLogger(__name__)


class Outbox:
    """Reads the list on its own thread: Redis checks time-outs of blocked clients ten times a second."""

    def __init__(self, url: str) -> None:
        """Reading starts with the `with` block."""
        self._client = redis.Redis.from_url(url)
        self._said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name="demo-outbox", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop reading."""
        self._stopped.set()
        self._thread.join(_POP_S + 1)
        self._client.close()

    def hear(self, timeout: float) -> list[dict[str, Any]]:
        """Return all replies so far; wait up to `timeout` seconds for one."""
        heard = []
        try:
            heard.append(self._said.get(timeout=timeout))
            while True:
                heard.append(self._said.get_nowait())
        except queue.Empty:
            return heard

    def _read(self) -> None:
        client: Any = self._client
        try:
            while not self._stopped.is_set():
                popped = client.blpop([OUTBOX], timeout=_POP_S)
                if popped is not None:
                    self._said.put(json.loads(popped[1]))
        except (redis.RedisError, OSError) as error:
            if not self._stopped.is_set():
                _log.warning("the demo's Redis is gone: %s", error)
