"""A whole service for tests: real Redis, the stand-in provider, a real worker, and the app over ASGI or behind a real uvicorn."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from playwright.async_api import Browser, Page, async_playwright, expect

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import allow_all
from assistant_queue.integrations.fastapi.app import app_of, make_service
from assistant_queue.integrations.fastapi.uvicorn_server import make_server
from assistant_queue.testing import StandInProvider
from tests.conftest import PATIENCE_S, RedisServer
from tests.web.browser import Person, chromium


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let a test of this folder pass when it collects connections that one before it left.

    A service that is stopped on a busy machine may leave the connections of requests that it cut to
    the collector, and their warnings would fail whichever test runs then.
    """
    here = f"{Path(__file__).parent}{os.sep}"
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:loop is closed:ResourceWarning"))


@pytest.fixture(autouse=True)
def rq_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of RQ's, of an earlier test, may still look for its Redis, and log that."""
    monkeypatch.setattr(logging.getLogger("rq.worker"), "disabled", True)


@pytest.fixture
def queue(
    one_redis: RedisServer, provider: StandInProvider, prefix: str
) -> Iterator[AssistantMessageQueue]:
    """A queue without a worker."""
    with AssistantMessageQueue(**queue_options(one_redis.url, provider, prefix)) as made:
        yield made


def queue_options(
    url: str, provider: StandInProvider, prefix: str, **options: Any
) -> dict[str, Any]:
    return {
        "redis_url": url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "model": "stand-in-model",
        "message_delay": 0.2,
        "lock_duration": 3.0,
        "request_timeout": 2.0,
        "max_attempts": 1,
        "backoff": {"type": "fixed", "delay": 0.1},
        **options,
    }


expect.set_options(timeout=1000 * PATIENCE_S)  # on a machine that does other things, too


def patient(queue: AssistantMessageQueue, delay: float = 1.5) -> AssistantMessageQueue:
    """Return the same queue with a window that is long enough for two people to type in."""
    options = {name: getattr(queue.config, name) for name in queue.config.model_fields_set}
    return queue.__class__(**{**options, "message_delay": delay})


class Site:
    """A service behind a real uvicorn, on a separate thread."""

    def __init__(self, queue: Any, **options: Any) -> None:
        page, root_path, mount = (
            options.pop("page", True),
            options.pop("root_path", ""),
            options.pop("mount", None),
        )
        self.service = make_service(queue, options.pop("authorize", allow_all), options)
        self.app = app_of(self.service, page=page, assistant_name="Robin", root_path=root_path)
        if mount is not None:
            inner = self.app
            outer = FastAPI(lifespan=lambda _: inner.router.lifespan_context(inner))
            outer.mount(mount, inner)
            self.app = outer
        self.server = make_server(self.app, self.service, host="127.0.0.1", port=0)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._up = threading.Event()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        # Not `serve()`: that is for main threads, which get signals.
        self.server.config.load()
        self.server.lifespan = self.server.config.lifespan_class(self.server.config)
        await self.server.startup()
        self._up.set()
        await self.server.main_loop()
        await self.server.shutdown()

    def start(self) -> Site:
        self.thread.start()
        assert self._up.wait(PATIENCE_S)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


@contextmanager
def running(queue: Any, **options: Any) -> Iterator[Site]:
    site = Site(queue, **options).start()
    try:
        yield site
    finally:
        site.stop()


@pytest.fixture
def site(queue: AssistantMessageQueue) -> Iterator[Site]:
    """Return a service with a worker that allows every action."""
    queue.start_worker()
    with running(queue) as one:
        yield one


@pytest.fixture
async def asgi(queue: AssistantMessageQueue) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    """Clients of a service of these options, without a socket between."""
    opened: list[Any] = []

    def open_client(**options: Any) -> httpx.AsyncClient:
        headers = options.pop("headers", {})
        address = options.pop("client", ("127.0.0.1", 5000))
        service = make_service(queue, options.pop("authorize", allow_all), options)
        app = app_of(service, page=True, assistant_name="Robin")
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=address)
        client = httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)
        client.service = service
        client.app = app  # type: ignore[attr-defined]
        opened.append((client, service))
        return client

    yield open_client
    for client, service in opened:
        await client.aclose()
        await service.close()


HERE = Path(__file__).parent


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One for all tests: each of them opens contexts, which share nothing."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        yield started
        await started.close()


@pytest_asyncio.fixture(loop_scope="session")
async def person(site: Site, browser: Browser) -> AsyncIterator[Person]:
    """Opens the page under a name, in its own browser context."""
    async with AsyncExitStack() as stack:
        complaints: list[str] = []

        async def open_page(name: str | None, room: str = "kitchen", **options: Any) -> Page:
            url = options.pop("url", site.url)
            context = await browser.new_context(**options)
            stack.push_async_callback(context.close)
            page = await context.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "console",
                lambda said: (
                    complaints.append(said.text) if "Content Security Policy" in said.text else None
                ),
            )
            page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
            page.on(
                "request",
                lambda request: (
                    None
                    if request.url.startswith(url)
                    else complaints.append(f"asked {request.url}")
                ),
            )
            await page.goto(f"{url}/room/{room}")
            if name is not None:
                await page.fill("#nickname", name)
                await page.keyboard.press("Enter")
                await expect(page.locator("html")).to_have_attribute("data-connection", "open")
            return page

        yield open_page
        assert complaints == []
