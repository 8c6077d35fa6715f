"""Pages of other origins: those that are allowed get the CORS headers, and the others get none."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import NotAllowed
from assistant_queue.testing import StandInProvider
from tests.conftest import RedisServer
from tests.web.conftest import running
from tests.web.listening import listening
from tests.web.test_serve import command, surroundings

Asgi = Callable[..., httpx.AsyncClient]
OURS = "https://chat.example.com"
FOREIGN = "https://evil.example"
PATH = "/api/threads/t/messages"


def cors(answer: httpx.Response) -> dict[str, str]:
    return {
        name: value for name, value in answer.headers.items() if name.startswith("access-control-")
    }


def preflight(
    origin: str, method: str = "POST", headers: str = "authorization,content-type,x-csrf-token"
) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "GET"])
async def test_a_preflight_of_an_allowed_origin_is_granted_without_authorize(
    asgi: Asgi, method: str
) -> None:
    client = asgi(allowed_origins=[OURS], authorize=lambda *_: pytest.fail("authorize was asked"))
    answer = await client.options(PATH, headers=preflight(OURS, method))
    assert (answer.status_code, answer.content) == (204, b"")
    told = cors(answer)
    assert told["access-control-allow-origin"] == OURS
    assert told["access-control-allow-credentials"] == "true"
    assert method in told["access-control-allow-methods"].split(", ")
    assert told["access-control-allow-headers"] == "authorization,content-type,x-csrf-token"
    assert told["access-control-max-age"] == "600"
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    "origin",
    [FOREIGN, "null", "http://chat.example.com", f"{OURS}.evil.example", f"{OURS}:8443", ""],
)
@pytest.mark.parametrize("allowed", [[OURS], []], ids=["others allowed", "none allowed"])
async def test_a_preflight_of_another_origin_gets_none_of_the_headers(
    asgi: Asgi, origin: str, allowed: list[str]
) -> None:
    answer = await asgi(allowed_origins=allowed).options(PATH, headers=preflight(origin))
    assert answer.status_code == 405
    assert cors(answer) == {}


@pytest.mark.parametrize(
    ("path", "status"),
    [(PATH, 202), ("/api/nothing", 404), (f"{PATH}/none", 405), ("/api/threads/t/runs", 422)],
)
async def test_every_answer_to_an_allowed_page_names_its_origin(
    asgi: Asgi, path: str, status: int
) -> None:
    answer = await asgi(allowed_origins=[f"{OURS}/", "http://other.example"]).post(
        path, json={"message": "Hi!"}, headers={"Origin": OURS}
    )
    assert answer.status_code == status, answer.text
    told = cors(answer)
    assert (told["access-control-allow-origin"], told["access-control-allow-credentials"]) == (
        OURS,
        "true",
    )
    assert {"Location", "Retry-After", "X-Request-ID"} <= set(
        told["access-control-expose-headers"].split(", ")
    )
    assert "Origin" in answer.headers["vary"]


async def test_a_refusal_can_be_read_by_an_allowed_page(asgi: Asgi) -> None:
    def authorize(*_: object) -> bool:
        raise NotAllowed("no")

    answer = await asgi(allowed_origins=[OURS], authorize=authorize).get(
        "/api/threads/t", headers={"Origin": OURS}
    )
    assert (answer.status_code, cors(answer)["access-control-allow-origin"]) == (403, OURS)


@pytest.mark.parametrize("headers", [{}, {"Origin": FOREIGN}])
async def test_what_is_asked_by_others_gets_no_headers_but_caches_learn_of_the_difference(
    asgi: Asgi, headers: dict[str, str]
) -> None:
    answer = await asgi(allowed_origins=[OURS]).get("/api/health/live", headers=headers)
    assert (answer.status_code, cors(answer), answer.headers["vary"]) == (200, {}, "Origin")


@pytest.mark.parametrize("asked", ["a" * 2000, "x-a, b\tc d", "x-a\nb"])
async def test_header_names_that_are_none_are_not_repeated(asgi: Asgi, asked: str) -> None:
    client = asgi(allowed_origins=[OURS])
    headers = httpx.Headers([(b"Access-Control-Request-Headers", asked.encode())])
    headers.update({"Origin": OURS, "Access-Control-Request-Method": "POST"})
    answer = await client.options(PATH, headers=headers)
    assert (answer.status_code, "access-control-allow-headers" in cors(answer)) == (204, False)


def test_an_allowed_page_follows_a_stream(queue: AssistantMessageQueue) -> None:
    with (
        running(queue, allowed_origins=[OURS]) as site,
        listening(site.url, "t", headers={"Origin": OURS}) as stream,
    ):
        assert cors(stream.response)["access-control-allow-origin"] == OURS
        stream.until("caught_up")


def test_the_option_of_the_command_does_all_this(
    one_redis: RedisServer, provider: StandInProvider, prefix: str
) -> None:
    with command(
        "serve",
        "--app",
        "app:queue",
        "--port",
        "0",
        "--origin",
        OURS,
        **surroundings(one_redis, provider, prefix),
    ) as (_, url):
        assert httpx.options(url + PATH, headers=preflight(OURS)).status_code == 204
        sent = httpx.post(url + PATH, json={"message": "Hi!"}, headers={"Origin": OURS})
        assert (sent.status_code, cors(sent)["access-control-allow-origin"]) == (202, OURS)
        foreign = httpx.post(url + PATH, json={"message": "Hi!"}, headers={"Origin": FOREIGN})
        assert (foreign.status_code, cors(foreign)) == (403, {})
        assert re.search(r"\bOrigin\b", foreign.headers["vary"])
