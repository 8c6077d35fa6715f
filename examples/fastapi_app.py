"""Your own FastAPI app with your routes, and the queue's under /assistant.

Without a key it sends itself a few requests and ends.

python examples/fastapi_app.py                                  # no key, no Redis, no account
OPENAI_API_KEY=... python examples/fastapi_app.py --model NAME  # the real service
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.requests import HTTPConnection
from surroundings import surroundings

from assistant_queue import AsyncAssistantMessageQueue
from assistant_queue.integrations.fastapi import (
    CHAT_ACTIONS,
    Action,
    Caller,
    NotAllowed,
    NotAuthenticated,
    create_router,
)

TOKENS = {"token-of-mia": "mia", "token-of-tom": "tom"}


def authorize(request: HTTPConnection, action: Action, thread_id: str | None) -> Caller:
    """Allow each user the threads that begin with the user's name."""
    user = TOKENS.get(request.headers.get("authorization", "").removeprefix("Bearer "))
    if user is None:
        raise NotAuthenticated("no token, or a wrong one")
    if action not in CHAT_ACTIONS or not (thread_id or "").startswith(f"{user}:"):
        raise NotAllowed("not yours")
    return Caller(id=user, name=user.title())


def make_app(queue: AsyncAssistantMessageQueue) -> FastAPI:
    """Build your app, with the queue's routes."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await queue.start_worker()  # leave it out if worker processes do the work
        yield
        await queue.close()

    app = FastAPI(lifespan=lifespan)
    app.include_router(
        create_router(queue, authorize=authorize, rate_limit="20/minute"), prefix="/assistant"
    )

    @app.get("/")
    async def home() -> dict[str, str]:
        return {"hello": "this route is yours"}

    return app


async def ask_it(app: FastAPI) -> None:
    """Call the app as a client would; yours runs elsewhere: `uvicorn myapp:app`."""
    transport = httpx.ASGITransport(app=app)
    mia = {"Authorization": "Bearer token-of-mia"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        taken = await client.post(
            "/assistant/threads/mia:1/messages", json={"message": "Hi!"}, headers=mia
        )
        await client.post(
            "/assistant/threads/mia:1/messages", json={"message": "My lamp is broken"}, headers=mia
        )
        print(
            taken.status_code, {name: taken.json()[name] for name in ("status", "estimated_wait_s")}
        )
        found = (
            await client.get(taken.headers["location"], params={"wait": 30}, headers=mia)
        ).json()
        print(found["status"], "-", found["reply"])
        others = await client.get("/assistant/threads/tom:1/messages", headers=mia)
        print("Tom's thread:", others.status_code, others.json()["code"])


def main() -> None:
    with surroundings(__doc__) as options:
        made: dict[str, Any] = {**options, "message_delay": 1.0}
        asyncio.run(ask_it(make_app(AsyncAssistantMessageQueue(**made))))


if __name__ == "__main__":
    main()
