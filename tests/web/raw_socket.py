"""A socket without a network: what a client sends is there at once, and what it is sent is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from tests.web.conftest import allow_all, app_of, make_service


class RawSocket:
    """One connection of a client to `/api/socket`.

    Attributes:
        turns: For each message that was sent to the client, the number of the event loop's turn.
    """

    def __init__(
        self,
        queue: Any,
        said: Iterable[str | bytes] = (),
        *,
        reads: bool = True,
        denial: bool = True,
        **options: Any,
    ) -> None:
        self.service = make_service(queue, options.pop("authorize", allow_all), options)
        self.app = app_of(self.service, page=False, assistant_name="Robin")
        self.said = iter(said)
        self.reads = reads
        self.sent: list[dict[str, Any]] = []
        self.turns: list[int] = []
        self.taken = self.turn = 0
        extensions: dict[str, Any] = {"websocket.http.response": {}} if denial else {}
        self.scope = {
            "type": "websocket", "asgi": {"version": "3.0"}, "scheme": "ws", "path": "/api/socket", "raw_path": b"/api/socket",
            "query_string": b"", "root_path": "", "headers": [(b"host", b"test")], "subprotocols": [], "client": ("127.0.0.1", 5000),
            "server": ("test", 80), "extensions": extensions, "state": {},
        }  # fmt: skip

    async def run(self) -> None:
        """Until the app is done with it."""
        ticking = asyncio.create_task(self._tick())
        try:
            await self.app(self.scope, self._receive, self._send)
        finally:
            ticking.cancel()
            await self.service.close()

    async def _tick(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)

    async def _receive(self) -> dict[str, Any]:
        if not self.taken:
            self.taken = 1
            return {"type": "websocket.connect"}
        for said in self.said:
            self.taken += 1
            return {
                "type": "websocket.receive",
                **({"text": said} if isinstance(said, str) else {"bytes": said}),
            }
        if self.is_closed:
            return {"type": "websocket.disconnect", "code": 1006}
        return await self.gone()

    async def gone(self) -> dict[str, Any]:
        """The client has said everything."""
        return {"type": "websocket.disconnect", "code": 1000}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send" and not self.reads:
            await asyncio.Event().wait()
        self.sent.append(message)
        self.turns.append(self.turn)

    @property
    def is_closed(self) -> bool:
        return bool(self.sent) and self.sent[-1]["type"] == "websocket.close"

    @property
    def closed(self) -> tuple[int, str]:
        """The code and reason of the close frame."""
        assert self.is_closed, self.sent[-1:]
        return self.sent[-1]["code"], self.sent[-1]["reason"]

    def received(self, kind: str) -> list[dict[str, Any]]:
        """Return the client's received messages of one type."""
        found = [json.loads(one["text"]) for one in self.sent if one["type"] == "websocket.send"]
        return [one for one in found if one["type"] == kind]
