"""The service below a path of a proxy: its routes, its socket, and the addresses that it names."""

from __future__ import annotations

import json

import httpx
import pytest
from click.testing import CliRunner
from websockets.sync.client import connect

from assistant_queue import AssistantMessageQueue
from assistant_queue.cli import main
from assistant_queue.errors import ConfigurationError
from assistant_queue.integrations.fastapi import allow_all, create_app
from assistant_queue.testing import StandInProvider
from tests.conftest import RedisServer
from tests.web.conftest import running
from tests.web.listening import listening
from tests.web.prefixing import proxied
from tests.web.test_serve import command, surroundings


@pytest.mark.parametrize("strips", [True, False], ids=["stripped", "whole"])
def test_addresses_that_it_names_lead_back_through_the_proxy(
    queue: AssistantMessageQueue, strips: bool
) -> None:
    queue.start_worker()
    with (
        running(queue, root_path="/chat") as site,
        proxied({"/chat": site.port}, strips=strips) as proxy,
    ):
        sent = httpx.post(
            f"{proxy.url}/chat/api/threads/t/messages", json={"message": "Hi!", "message_id": "one"}
        )
        assert sent.headers["location"] == "/chat/api/threads/t/messages/one"
        assert (
            httpx.get(proxy.url + sent.headers["location"], params={"wait": 20}).json()["status"]
            == "completed"
        )
        waiting = httpx.post(
            f"{proxy.url}/chat/api/chat",
            json={"thread_id": "t", "message": "Hi!", "timeout": 0.001},
        )
        assert (waiting.status_code, waiting.headers["location"].rpartition("/")[0]) == (
            202,
            "/chat/api/threads/t/messages",
        )
        assert httpx.put(f"{proxy.url}/chat/api/threads/t").headers["allow"] == "DELETE, GET"
        document = httpx.get(f"{proxy.url}/chat/api/openapi.json").json()
        assert document["servers"] == [{"url": "/chat"}]
        bare = httpx.get(f"{proxy.url}/chat?q=1")
        assert bare.headers.get("location") == (None if strips else "/chat/?q=1"), (
            "a proxy that removes the path makes a slash of it"
        )
        assert (
            httpx.get(f"{proxy.url}/chat/room/a%2Fb%20c/").headers.get("location", "none") == "none"
        ), "no id has a slash"
        assert (
            httpx.get(f"{proxy.url}/chat/room/%C3%BC%20c/").headers["location"] == "../%C3%BC%20c"
        )
        assert proxy.strayed == []


@pytest.mark.parametrize("strips", [True, False], ids=["stripped", "whole"])
def test_streams_and_sockets_go_through_the_proxy(
    queue: AssistantMessageQueue, strips: bool
) -> None:
    with (
        running(queue, root_path="/chat") as site,
        proxied({"/chat": site.port}, strips=strips) as proxy,
    ):
        with connect(
            f"{proxy.url.replace('http', 'ws')}/chat/api/socket", origin=proxy.url
        ) as socket:
            socket.send(json.dumps({"type": "join", "thread_id": "t", "after": "0"}))
            assert json.loads(socket.recv())["type"] == "joined"
            with listening(f"{proxy.url}/chat", "t") as stream:
                stream.until("caught_up")
                socket.send(json.dumps({"type": "say", "thread_id": "t", "message": "Hi!"}))
                assert stream.until("message_queued")[-1]["content"] == "Hi!"
        assert proxy.strayed == []


def test_a_mounted_app_knows_the_methods_of_its_addresses(queue: AssistantMessageQueue) -> None:
    with running(queue, mount="/chat") as site:
        assert httpx.put(f"{site.url}/chat/api/threads/t").headers["allow"] == "DELETE, GET"
        sent = httpx.post(
            f"{site.url}/chat/api/threads/t/messages", json={"message": "Hi!", "message_id": "one"}
        )
        assert sent.headers["location"] == "/chat/api/threads/t/messages/one"


def test_without_a_proxy_the_path_may_be_there_or_not(queue: AssistantMessageQueue) -> None:
    with running(queue, root_path="/chat") as site:
        for url in (site.url, f"{site.url}/chat"):
            assert httpx.get(f"{url}/").status_code == 200
            assert httpx.get(f"{url}/api/health/live").status_code == 200
        assert httpx.get(f"{site.url}/chatter/").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "chat",
        "/chat//x",
        "//evil.example",
        "/a b",
        "/a/../b",
        "/api",
        "/room/x",
        "/page",
        "/ä",
        "/x?y",
        "https://example.com/chat",
    ],
)
def test_a_root_path_that_cannot_be_is_refused(queue: AssistantMessageQueue, path: str) -> None:
    with pytest.raises(ConfigurationError, match="Invalid root_path"):
        create_app(queue, authorize=allow_all, root_path=path)
    done = CliRunner().invoke(
        main, ["serve", "--port", "0", "--root-path", path], env={"ASSISTANT_QUEUE_MODEL": "any"}
    )
    assert done.exit_code == 2
    assert "Invalid root_path" in done.stderr


def test_the_command_serves_below_a_path(
    one_redis: RedisServer, provider: StandInProvider, prefix: str
) -> None:
    options = ("--app", "app:queue", "--worker", "--port", "0", "--root-path", "/chat/")
    with command("serve", *options, **surroundings(one_redis, provider, prefix)) as (_, url):
        assert url.endswith("/chat"), "it says the address that works"
        assert (
            httpx.post(f"{url}/api/chat", json={"thread_id": "t", "message": "Hi!"}).status_code
            == 200
        )
        assert 'src="/chat/page/main.js"' in httpx.get(f"{url}/").text
