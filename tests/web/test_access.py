"""Nothing is done without a call of `authorize`."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import httpx
import jwt
import pytest
from fastapi import FastAPI
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue, ConfigurationError
from assistant_queue.errors import (
    NotAllowed,
    NotAuthenticated,
    StoreUnavailable,
    UnknownOption,
)
from assistant_queue.integrations.fastapi import (
    CHAT_ACTIONS,
    Action,
    Caller,
    allow_all,
    create_app,
    create_router,
)
from tests.conftest import PATIENCE_S
from tests.docs.generated import ROOT
from tests.web.conftest import running
from tests.web.listening import listening
from tests.web.raw_socket import RawSocket

Asgi = Callable[..., httpx.AsyncClient]


@functools.cache
def operations() -> list[tuple[str, str, str]]:
    """Method, address and action of every route, from the document."""
    app = create_app(AssistantMessageQueue(model="any"), authorize=allow_all)
    found = []
    for path, methods in app.openapi()["paths"].items():
        for method, details in methods.items():
            found.append((method.upper(), path, details["x-action"]))
    return found


NAMES = {"call_id": "c", "thread_id": "t", "message_id": "m", "run_id": "resp_0", "batch_id": "b"}
BODIES = {
    "/api/chat": {"thread_id": "t", "message": "Hi!"},
    "/api/ops/operations": {"operation": "pause", "thread_id": "t"},
}


def test_every_action_belongs_to_a_route_and_every_route_to_an_action() -> None:
    assert {action for _, _, action in operations()} == {action.value for action in Action} - {
        Action.INSTRUCT.value
    }
    assert len(operations()) >= 25


ROLES: dict[str, frozenset[Action]] = {
    "nobody": frozenset(),
    "chat": CHAT_ACTIONS,
    "reader": frozenset({Action.OPERATE_READ}),
    "operator": frozenset({Action.OPERATE_READ, Action.OPERATE_CHANGE}),
    "program": frozenset(Action) - {Action.OPERATE_READ, Action.OPERATE_CHANGE},
}
ROUTES = {
    "GET /ops/overview": "reader operator",
    "GET /ops/history": "reader operator",
    "GET /ops/threads": "reader operator",
    "GET /ops/threads/{thread_id}": "reader operator",
    "GET /ops/threads/{thread_id}/messages": "reader operator",
    "GET /ops/approvals": "reader operator",
    "GET /ops/failed": "reader operator",
    "GET /ops/search": "reader operator",
    "GET /ops/search/audit": "reader operator",
    "GET /ops/operations": "reader operator",
    "POST /ops/operations": "operator",
    "POST /chat": "chat program",
    "GET /threads/{thread_id}": "chat program",
    "GET /threads/{thread_id}/messages": "chat program",
    "POST /threads/{thread_id}/messages": "chat program",
    "GET /threads/{thread_id}/messages/{message_id}": "chat program",
    "PATCH /threads/{thread_id}/messages/{message_id}": "chat program",
    "DELETE /threads/{thread_id}/messages/{message_id}": "chat program",
    "POST /threads/{thread_id}/messages/{message_id}/promote": "chat program",
    "POST /threads/{thread_id}/stop": "chat program",
    "POST /threads/{thread_id}/typing": "chat program",
    "GET /threads/{thread_id}/events": "chat program",
    "WS /socket": "chat program",
    "GET /feed": "program",
    "GET /threads": "program",
    "POST /threads": "program",
    "DELETE /threads/{thread_id}": "program",
    "POST /threads/{thread_id}/say": "program",
    "POST /threads/{thread_id}/pause": "program",
    "POST /threads/{thread_id}/resume": "program",
    "POST /threads/{thread_id}/flush": "program",
    "POST /threads/{thread_id}/take-over": "program",
    "POST /threads/{thread_id}/hand-back": "program",
    "POST /threads/{thread_id}/runs": "program",
    "GET /threads/{thread_id}/runs/{run_id}": "program",
    "POST /threads/{thread_id}/runs/{run_id}/cancel": "program",
    "POST /threads/{thread_id}/runs/{run_id}/tool-outputs": "program",
    "GET /threads/{thread_id}/approvals": "program",
    "POST /threads/{thread_id}/approvals/{call_id}/approve": "program",
    "POST /threads/{thread_id}/approvals/{call_id}/deny": "program",
    "POST /threads/{thread_id}/approvals/{call_id}/answer": "program",
    "GET /threads/{thread_id}/explain": "program",
    "GET /threads/{thread_id}/messages/{message_id}/explain": "program",
    "GET /threads/{thread_id}/timeline": "program",
    "GET /approvals": "program",
    "GET /status": "program",
    "POST /pause": "program",
    "POST /resume": "program",
    "GET /health/live": "program",
    "GET /health/ready": "program",
    "GET /failed": "program",
    "DELETE /failed": "program",
    "POST /failed/all/retry": "program",
    "POST /failed/{batch_id}/retry": "program",
    "DELETE /failed/{batch_id}": "program",
    "GET /metrics": "program",
}
"""Every route, and the roles that may use it: a new one needs a row. The one for the provider's
webhooks, for queues with a secret, checks signatures (`test_provider_webhook.py`)."""
WANTED = {
    "/api/ops/search": "?q=x",
    "/api/ops/search/audit": "?q=x",
    "/api/threads/t/take-over": {"by": "Jo"},
    "/api/threads/t/say": {"text": "Hi!"},
    "/api/threads/t/approvals/c/answer": {"output": "x"},
    "/api/threads": {"thread_id": "t"},
    "/api/threads/t/runs/resp_0/tool-outputs": {"outputs": []},
}


async def test_each_role_may_use_its_routes_and_no_other(
    asgi: Asgi, queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = asgi(authorize=lambda request, action, _: action in ROLES[request.headers["x-role"]])
    router = create_router(client.service.queue, authorize=allow_all)
    assert {
        f"{method} {route.path}"
        for route in router.routes
        for method in getattr(route, "methods", None) or {"WS"}
    } == set(ROUTES)
    asked = 0

    async def refuses(*_: object) -> None:
        nonlocal asked
        asked += 1
        raise StoreUnavailable("no Redis for this test")

    monkeypatch.setattr(client.service.queue._store, "run", refuses)
    for row, roles in ROUTES.items():
        method, path = row.split()
        path = f"/api{path.format(**NAMES)}"
        if method == "WS":
            continue
        more = WANTED.get(path, BODIES.get(path, {"message": "Hi!"}))
        address = path + more if isinstance(more, str) else path
        body = None if method in {"GET", "DELETE"} or isinstance(more, str) else more
        for role in ROLES:
            before = asked
            got = await client.request(method, address, json=body, headers={"x-role": role})
            if role in roles.split():
                assert got.status_code not in {401, 403}, (role, row)
            else:
                assert (got.status_code, asked) == (403, before), (role, row)
    assert asked > 60


async def test_each_role_may_do_in_a_socket_what_its_actions_allow(
    queue: AssistantMessageQueue,
) -> None:
    asks = [
        json.dumps({"type": kind, "thread_id": "t", "message": "Hi!"})
        for kind in ("join", "say", "typing")
    ]
    listener = {"listener": frozenset({Action.LISTEN})}
    for role, actions in {**ROLES, **listener}.items():
        socket = RawSocket(
            queue, asks, authorize=lambda request, action, _, may=actions: action in may
        )
        await asyncio.wait_for(socket.run(), PATIENCE_S)
        first = socket.sent[0]
        if role == "listener":
            codes = [one["code"] for one in socket.received("problem")]
            assert codes == ["not_allowed", "not_allowed"], "say and typing"
        elif role in ROUTES["WS /socket"].split():
            assert first["type"] == "websocket.accept"
            assert socket.received("problem") == []
        else:
            assert (first["type"], first["status"]) == ("websocket.http.response.start", 403)


@pytest.mark.parametrize(
    "answer", [None, False, NotAllowed("x"), NotAuthenticated("x"), "yes", 1, ZeroDivisionError()]
)
async def test_whatever_is_not_a_yes_is_a_no(
    asgi: Asgi, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def authorize(request: Any, asked_action: Action, thread_id: str | None) -> Any:
        asked.append((asked_action.value, thread_id, request.headers["x-who"]))
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = asgi(authorize=authorize)

    async def touched(*_: object) -> None:
        pytest.fail("Redis was asked")

    monkeypatch.setattr(client.service.queue._store, "run", touched)
    expected = {NotAuthenticated: 401, ZeroDivisionError: 500}.get(type(answer), 403)
    for method, path, action in operations():
        asked.clear()
        said = BODIES.get(path, {"message": "Hi!"}) if method in {"POST", "PATCH"} else None
        got = await client.request(method, path.format(**NAMES), json=said, headers={"x-who": "me"})
        assert got.status_code == expected, (method, path)
        assert asked == [
            (
                action,
                "t" if "{thread_id}" in path or (path in BODIES and method == "POST") else None,
                "me",
            )
        ]


@pytest.mark.parametrize(
    "answer", [True, False, NotAuthenticated("who?")], ids=["yes", "no", "unknown"]
)
async def test_own_instructions_are_asked_about_on_top(
    asgi: Asgi, queue: AssistantMessageQueue, answer: Any
) -> None:
    asked: list[tuple[Action, str | None]] = []

    def authorize(request: Any, action: Action, thread_id: str | None) -> bool:
        asked.append((action, thread_id))
        if action is Action.INSTRUCT and isinstance(answer, Exception):
            raise answer
        return action is not Action.INSTRUCT or answer is True

    client = asgi(authorize=authorize)
    said = {"message": "Hi!", "instructions": "Obey me."}
    got = await client.post("/api/threads/t/messages", json=said)
    chat = await client.post("/api/chat", json={**said, "thread_id": "t", "timeout": 0})
    expected = {True: 202, False: 403}.get(answer, 401) if isinstance(answer, bool) else 401
    assert (got.status_code, chat.status_code) == (expected, expected)
    assert asked == 2 * [(Action.SEND_MESSAGE, "t"), (Action.INSTRUCT, "t")]
    assert queue.get_thread_status("t").pending_count == (2 if answer is True else 0)
    asked.clear()
    await client.post("/api/threads/t/messages", json={"message": "Hi!"})
    assert asked == [(Action.SEND_MESSAGE, "t")]


@pytest.mark.parametrize("kind", ["function", "coroutine", "object"])
async def test_authorize_may_be_written_in_any_way(asgi: Asgi, kind: str) -> None:
    where = []

    def function(request: Any, action: Action, thread_id: str | None) -> bool:
        where.append(threading.current_thread() is threading.main_thread())
        return True

    async def coroutine(request: Any, action: Action, thread_id: str | None) -> Caller:
        return Caller(id="me")

    class Authorizer:
        async def __call__(self, request: Any, action: Action, thread_id: str | None) -> bool:
            return True

    given = {"function": function, "coroutine": coroutine, "object": Authorizer()}[kind]
    assert (await asgi(authorize=given).get("/api/status")).status_code == 200
    assert where == (
        [False] if kind == "function" else []
    )  # one that blocks does not block the others


@pytest.mark.parametrize("make", [create_router, create_app])
def test_without_authorize_there_is_no_service(queue: AssistantMessageQueue, make: Any) -> None:
    with pytest.raises(ConfigurationError, match="authorize=allow_all"):
        make(queue)
    with pytest.raises(ConfigurationError, match="not str"):
        make(queue, authorize="everybody")
    with pytest.raises(ConfigurationError, match="queue must be"):
        make("queue", authorize=allow_all)
    with pytest.raises(UnknownOption, match="rate_limits"):
        make(queue, authorize=allow_all, rate_limits="5/minute")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate_limit", "often"),
        ("request_limit", "5 per"),
        ("allowed_origins", ["example.com"]),
        ("allowed_origins", "https://example.com"),
        ("trusted_proxies", ["a proxy"]),
        ("max_body_bytes", 0),
        ("max_body_bytes", 1.5),
        ("max_streams", True),
        ("max_wait", -1),
        ("heartbeat", "15"),
    ],
)
def test_an_option_that_cannot_be_is_refused(
    queue: AssistantMessageQueue, name: str, value: Any
) -> None:
    with pytest.raises(ConfigurationError, match=name):
        create_router(queue, authorize=allow_all, **{name: value})


async def test_a_named_caller_cannot_use_another_name(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    queue.start_worker()
    client = asgi(authorize=lambda *_: Caller(id="7", name="Ann"))
    answer = await client.post(
        "/api/chat", json={"thread_id": "t", "message": "Hi!", "author": "The boss"}
    )
    assert answer.json()["reply"] == "You said: Ann: Hi!"


async def test_keys_of_two_callers_are_two_messages(asgi: Asgi) -> None:
    client = asgi(authorize=lambda request, *_: Caller(id=request.headers["x-who"]))
    ids = set()
    for who in ("ann", "bob"):
        headers = {"x-who": who, "Idempotency-Key": "1"}
        ids.add(
            (
                await client.post(
                    "/api/threads/t/messages", json={"message": "Hi!"}, headers=headers
                )
            ).json()["message_id"]
        )
    assert len(ids) == 2


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
async def test_the_router_goes_into_an_app_of_yours(
    queue: AssistantMessageQueue, kind: str
) -> None:
    queue.start_worker()
    given = (
        queue
        if kind == "blocking"
        else AsyncAssistantMessageQueue(
            **{name: getattr(queue.config, name) for name in queue.config.model_fields_set}
        )
    )
    app = FastAPI()
    app.include_router(create_router(given, authorize=allow_all), prefix="/v1/assistant")

    @app.get("/mine")
    async def mine() -> str:
        return "untouched"

    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client,
    ):
        taken = await client.post("/v1/assistant/threads/t/messages", json={"message": "Hi!"})
        assert taken.headers["location"].startswith("/v1/assistant/threads/t/messages/")
        assert (await client.get(taken.headers["location"], params={"wait": 20})).json()[
            "reply"
        ] == "You said: Hi!"
        assert "x-request-id" not in (await client.get("/mine")).headers
    if kind == "asyncio":
        await given.close()


# --- streams are asked about again ----------------------------------------------------------------


def test_a_stream_ends_when_its_listener_may_not_listen_any_more(
    queue: AssistantMessageQueue,
) -> None:
    answers = iter([True, True, False])
    with (
        running(
            queue,
            authorize=lambda request, action, thread_id: (
                action is not Action.LISTEN or next(answers)
            ),
            recheck_access=0.05,
        ) as site,
        listening(site.url, "t") as stream,
    ):
        found = stream.rest()
    assert found[-1]["type"] == "closed"
    assert found[-1]["code"] == "not_allowed"


def test_a_stream_ends_with_the_token_that_opened_it(queue: AssistantMessageQueue) -> None:
    until: list[datetime] = []

    def authorize(*_: object) -> Caller:
        until.append(datetime.now(UTC) + timedelta(seconds=1))
        return Caller(id="me", expires_at=until[0])

    with running(queue, authorize=authorize) as site, listening(site.url, "t") as stream:
        assert stream.rest()[-1]["code"] == "not_authenticated"
        assert httpx.get(f"{site.url}/api/threads/t").status_code == 401


def test_some_events_are_for_some_eyes_only(queue: AssistantMessageQueue) -> None:
    def authorize(request: Any, action: Action, thread_id: str | None) -> Caller:
        return Caller(sees={"reply_ready"} if request.headers.get("x-role") != "staff" else None)

    queue.start_worker()
    with (
        running(queue, authorize=authorize) as site,
        listening(site.url, "t") as person,
        listening(site.url, "t", headers={"x-role": "staff"}) as staff,
    ):
        person.until("caught_up"), staff.until("caught_up")
        queue.ask("t", "Hi!", timeout=PATIENCE_S)
        for_staff = [
            event["type"]
            for event in staff.until("reply_ready")
            if event["type"] not in {"presence", "caught_up"}
        ]
        for_person = [
            event["type"]
            for event in person.until("reply_ready")
            if event["type"] not in {"presence", "caught_up"}
        ]
    assert "batch_claimed" in for_staff
    assert for_person == ["reply_ready"]


# --- the examples ---------------------------------------------------------------------------------


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", "a secret of thirty-two characters")
    monkeypatch.setenv("SESSION_SECRET", "another")


def token(secret: str = "a secret of thirty-two characters", **claims: Any) -> dict[str, str]:
    made = jwt.encode(
        {"sub": "7", "name": "Ann", "threads": ["t"], "exp": time.time() + 60, **claims},
        secret,
        algorithm="HS256",
    )
    return {"Authorization": f"Bearer {made}"}


async def test_the_token_example_lets_people_into_their_threads_only(
    asgi: Asgi, secrets: None
) -> None:
    client = asgi(authorize=example("jwt_access").authorize)

    async def status(path: str, headers: dict[str, str], method: str = "GET") -> int:
        return (await client.request(method, path, headers=headers)).status_code

    assert await status("/api/threads/t", token()) == 200
    assert await status("/api/threads/other", token()) == 403
    assert await status("/api/failed", token()) == 403
    assert await status("/api/threads/t", token(), "DELETE") == 403
    assert await status("/api/failed", token(role="staff")) == 200
    assert await status("/api/threads/t", {}) == 401
    assert await status("/api/threads/t", token(exp=time.time() - 1)) == 401
    assert await status("/api/threads/t", token("forged by somebody who does not know")) == 401
    none = jwt.encode(
        {"sub": "7", "exp": time.time() + 60, "role": "staff"}, None, algorithm="none"
    )
    assert await status("/api/failed", {"Authorization": f"Bearer {none}"}) == 401
    assert (
        await status(f"/api/threads/t?access_token={token()['Authorization'][7:]}", {}) == 401
    )  # in the address for streams only
    assert await status("/api/health/ready", {}) == 200


def test_the_token_example_opens_streams_and_sockets(
    queue: AssistantMessageQueue, secrets: None
) -> None:
    raw = token()["Authorization"][7:]
    with running(queue, authorize=example("jwt_access").authorize) as site:
        with listening(site.url, "t", access_token=raw) as stream:
            assert stream.next()["type"] == "presence"
        address = f"{site.url.replace('http', 'ws')}/api/socket"
        with connect(f"{address}?access_token={raw}") as socket:
            socket.send('{"type": "join", "thread_id": "other", "ref": 1}')
            assert '"not_allowed"' in socket.recv(10)
            socket.send('{"type": "join", "thread_id": "t", "ref": 2}')
            assert '"joined"' in socket.recv(10)
            socket.send(
                '{"type": "say", "thread_id": "t", "message": "Hi!"}'
            )  # the token in the address is for listening
            answers = iter(lambda: socket.recv(10), None)
            assert '"not_authenticated"' in next(one for one in answers if '"problem"' in one)
        with pytest.raises(InvalidStatus) as refused:
            connect(address)
        assert refused.value.response.status_code == 401
        assert b"not_authenticated" in refused.value.response.body


async def test_the_cookie_example_wants_the_token_beside_the_cookie(
    asgi: Asgi, secrets: None
) -> None:
    module = example("cookie_access")
    client = asgi(authorize=module.authorize)
    cookies = module.cookies_for("7")
    session = {"Cookie": f"{module.SESSION}={cookies[module.SESSION]}", "Origin": "http://test"}
    both = {**session, "X-CSRF-Token": cookies[module.CSRF]}

    async def say(headers: dict[str, str], thread: str = "web:7") -> tuple[int, str]:
        answer = await client.post(
            f"/api/threads/{thread}/messages", json={"message": "Hi!"}, headers=headers
        )
        return answer.status_code, answer.json().get("code", "")

    assert await say(both) == (202, "")
    assert await say(both, "web:8") == (403, "not_allowed")
    assert await say(session) == (403, "not_allowed")
    assert await say({**session, "X-CSRF-Token": module.cookies_for("8")[module.CSRF]}) == (
        403,
        "not_allowed",
    )
    assert await say({}) == (401, "not_authenticated")
    assert await say({**both, "Cookie": f"{module.SESSION}=7|99999999999|forged"}) == (
        401,
        "not_authenticated",
    )
    assert await say({**both, "Origin": "http://evil.example"}) == (403, "foreign_origin")
    assert (await client.get("/api/threads/web:7/messages", headers=session)).status_code == 200
