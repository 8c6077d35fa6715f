"""The desk of `demo --web`: what a visitor changes while the chat and the operations page look on.

    /demo           the page: the chat, the controls, and the thread's page of operations
    /demo/state     what is set, and the workers
    /demo/change    sets the window, the policy and the model
    /demo/kill      kills a worker; another one starts

What is set reaches the queue as it would from any program: each message is added over HTTP with its
own `message_delay` and `mid_run`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant_queue.cli.demo.stand_in import STARTS, DemoProvider, Protocol, too_many
from assistant_queue.cli.demo.worker_processes import WorkerFleet
from assistant_queue.integrations.fastapi.service import Service
from assistant_queue.integrations.fastapi.static_files import HEADERS, files_in, serving
from assistant_queue.testing.provider import Reply, RunFailure, ToolCalls, Turn
from assistant_queue.testing.provider.script import ModelScript, Outcome

ROOM = "desk"
"""The conversation that the desk shows."""
SLOWER = 5
"""Factor by which the model is slower when it is slow. Chosen: long enough to write, stop and kill
meanwhile."""
REFUSED = 3
"""Requests that are refused at once. Chosen: a back-off is seen to grow."""
MOST_WINDOW_S = 10.0
_ADDS = re.compile(r"^/api/threads/[^/]+/messages$")
_MOST_BYTES = 2_000_000

MidRun = Literal["collect", "interrupt", "steer", "reject"]


class Change(BaseModel, extra="forbid"):
    """A change of what is set; what is left out stays as it is."""

    window_s: float | None = Field(default=None, ge=0, le=MOST_WINDOW_S)
    mid_run: MidRun | None = None
    slow: bool | None = None
    fails: bool = Field(default=False, description="The next run fails.")
    refuses: bool = Field(default=False, description="The next requests are refused with 429.")


class Kill(BaseModel, extra="forbid"):
    """A worker that is killed."""

    pid: int


@dataclass(slots=True)
class Desk:
    """Settings of a desk, and the parts that they act on.

    Attributes:
        fleet: The workers.
        provider: The stand-in; without one the model is as it is.
        protocol: The provider's API.
        window_s: The window of the next messages.
        mid_run: The policy of the next messages.
        slow: The model takes its time.
        failing: Runs that are still to fail.
    """

    fleet: WorkerFleet
    provider: DemoProvider
    protocol: Protocol
    window_s: float
    mid_run: MidRun = "collect"
    slow: bool = False
    failing: int = 0

    def change(self, change: Change) -> None:
        """Make a change."""
        if change.window_s is not None:
            self.window_s = change.window_s
        if change.mid_run is not None:
            self.mid_run = change.mid_run
        if change.slow is not None:
            self.slow = change.slow
        self.failing += change.fails
        stand_in = self.provider.stand_in
        if change.refuses and stand_in is not None:
            stand_in.fault(STARTS[self.protocol], too_many(), times=REFUSED)

    def state(self) -> dict[str, Any]:
        """Return what the page shows."""
        return {
            "room": ROOM,
            "window_s": self.window_s,
            "most_window_s": MOST_WINDOW_S,
            "mid_run": self.mid_run,
            "slow": self.slow,
            "has_stand_in": self.provider.stand_in is not None,
            "workers": [one.process.pid for one in self.fleet.workers],
        }

    def model(self, script: ModelScript) -> Callable[[Turn], Outcome]:
        """Return the model with what is set."""

        def answer(turn: Turn) -> Outcome:
            if self.failing:
                self.failing -= 1
                return RunFailure(delay=0.5)
            outcome = script(turn)
            if self.slow and isinstance(outcome, Reply | ToolCalls):
                outcome.delay = (outcome.delay or 1.0) * SLOWER
            return outcome

        return answer

    def options(self) -> Mapping[str, Any]:
        """Return the options of the next message."""
        return {"message_delay": self.window_s, "mid_run": self.mid_run}


def add_desk(app: FastAPI, service: Service, desk: Desk) -> None:
    """Serve the desk beside the other pages, and let it show them."""
    found = files_in(f"{__package__}.desk_page")
    for path, name in (("/demo", "index.html"), *((f"/demo/{name}", name) for name in found)):
        app.add_route(
            path,
            serving(service, found[name], name.rpartition(".")[2]),
            methods=["GET"],
            include_in_schema=False,
        )

    @app.get("/demo/state", include_in_schema=False)
    async def state(request: Request) -> dict[str, Any]:
        service.check_host(request)
        return desk.state()

    # A body of JSON: a page of another origin cannot send one.
    @app.post("/demo/change", include_in_schema=False)
    async def change(request: Request, body: Change) -> dict[str, Any]:
        service.check_host(request)
        desk.change(body)
        return desk.state()

    @app.post("/demo/kill", include_in_schema=False)
    async def kill(request: Request, body: Kill) -> dict[str, Any]:
        service.check_host(request)
        await asyncio.to_thread(desk.fleet.kill, body.pid)
        return desk.state()

    del state, change, kill
    app.add_middleware(AsSet, desk=desk)


class AsSet:
    """Add what is set at the desk to the messages of the chat page, and let the desk show pages."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        """Wrap an application."""
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "POST" and _ADDS.match(scope["path"]):
            scope, receive = await self._with_options(scope, receive)

        async def showing(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if "x-frame-options" in headers:
                    headers["x-frame-options"] = "SAMEORIGIN"
                    headers["content-security-policy"] = _SHOWN
            await send(message)

        await self._app(scope, receive, showing)

    async def _with_options(self, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
        body = b""
        is_whole = False
        while not is_whole and len(body) <= _MOST_BYTES:
            message = await receive()
            body += message.get("body", b"")
            is_whole = not message.get("more_body")
        try:
            fields = json.loads(body)
            body = json.dumps({**self._desk.options(), **fields}).encode()
        except (ValueError, TypeError):
            pass  # the route refuses it
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        length = (b"content-length", str(len(body)).encode())
        sent = [{"type": "http.request", "body": body, "more_body": not is_whole}]

        async def again() -> Message:
            return sent.pop() if sent else await receive()

        return {**scope, "headers": [*headers, length]}, again


_SHOWN = HEADERS["Content-Security-Policy"].replace(
    "frame-ancestors 'none'", "frame-ancestors 'self'; frame-src 'self'"
)
