"""A client of the event stream, for tests: it reads entries as a browser does, and remembers the last id."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.conftest import PATIENCE_S


class Stream:
    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()
        self.last_id: str | None = None
        self.comments = 0
        self.retry: int | None = None

    def next(self) -> dict[str, Any]:
        """The next entry that has data."""
        data = ""
        entry_id = None
        for line in self._lines:
            if line.startswith(":"):
                self.comments += 1
            elif line.startswith("retry: "):
                self.retry = int(line[7:])
            elif line.startswith("id: "):
                entry_id = line[4:]
            elif line.startswith("data: "):
                data = line[6:]
            elif not line and data:
                self.last_id = entry_id or self.last_id
                return json.loads(data)
        raise EOFError

    def until(self, kind: str) -> list[dict[str, Any]]:
        """Everything up to the first of that type."""
        found = []
        while not found or found[-1]["type"] != kind:
            found.append(self.next())
        return found

    def rest(self) -> list[dict[str, Any]]:
        """Everything until the stream ends."""
        found = []
        try:
            while True:
                found.append(self.next())
        except EOFError:
            return found


@contextmanager
def listening(
    url: str,
    thread_id: str | None,
    *,
    after: str | None = None,
    headers: dict[str, str] | None = None,
    **params: str,
) -> Iterator[Stream]:
    """Listen to a thread; None: to the feed."""
    path = "feed" if thread_id is None else f"threads/{thread_id}/events"
    given = {**({"Last-Event-ID": after} if after else {}), **(headers or {})}
    with (
        httpx.Client(timeout=PATIENCE_S) as client,
        client.stream("GET", f"{url}/api/{path}", headers=given, params=params) as response,
    ):
        yield Stream(response)
