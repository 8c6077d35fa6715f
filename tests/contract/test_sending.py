"""One suite for the ways to send a request: what goes out, what is repeated, what failures mean."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from assistant_queue.backends.openai import aiohttp_sender, sender_choice
from assistant_queue.backends.openai.aiohttp_sender import AiohttpSender
from assistant_queue.backends.openai.library_sender import LibrarySender
from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.openai.sender_choice import is_usual, open_sender
from assistant_queue.backends.openai.sending import (
    ASSISTANTS_HEADERS,
    ApiRequest,
    path_of,
    query_of,
)
from assistant_queue.backends.openai.streams import EventStream, fetch
from assistant_queue.errors import BackendError, ConfigurationError, OutcomeUnknown, RequestRefused
from assistant_queue.trouble import Kind
from tests.conftest import PATIENCE_S

KEY = "sk-of-this-test"
OK = b'{"id": "x_1"}'
OWN = {
    "authorization",
    "accept",
    "content-type",
    "openai-organization",
    "openai-project",
    "openai-beta",
    "x-own",
    "cookie",
}
"""Headers that are the same over every sender. The others are telemetry, or of the connection."""


class Server:
    """An HTTP server that keeps the requests, and answers as a test says.

    Attributes:
        requests: Method, target, headers (of `OWN`) and body of each.
        answers: Raw answers, the last one again and again; b"" drops the connection, and a part of
            an answer is never completed.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.answers: list[bytes] = [http(200, OK)]
        self.url = ""
        self.is_cutting = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                break
            first, *lines = head.strip().split("\r\n")
            pairs = (line.partition(":") for line in lines)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            raw = await reader.readexactly(int(headers.get("content-length", 0)))
            method, target, _ = first.split(" ")
            own = {name: value for name, value in headers.items() if name in OWN}
            self.requests.append((method, target, own, json.loads(raw) if raw else None))
            answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
            if not answer:
                break
            writer.write(answer)
            if self.is_cutting:
                break
        writer.close()


def http(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def listening(secure: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    made = Server()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=secure)
    port = server.sockets[0].getsockname()[1]
    made.url = f"{'https' if secure else 'http'}://localhost:{port}/v1"
    yield made
    server.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with listening() as made:
        yield made


@pytest.fixture(params=["aiohttp", "library"])
def sender(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    if request.param == "aiohttp":
        return lambda url: AiohttpSender(api_key=KEY, base_url=url)
    return lambda url: openai.AsyncOpenAI(api_key=KEY, base_url=url)


def channel_over(client: Any, *, limit_s: float = 20.0, **headers: str) -> ProviderChannel:
    return ProviderChannel(
        client,
        request_timeout=limit_s,
        stream_idle_timeout=limit_s,
        closes_client=True,
        headers=headers or None,
    )


# --- what goes out --------------------------------------------------------------------------------

Ours = Callable[[ProviderChannel], Any]
Library = Callable[[openai.AsyncOpenAI], Awaitable[Any]]
ITEMS = [{"type": "message", "role": "user", "content": "Gr\u00fc\u00df dich \U0001f600"}]

SAME: dict[str, tuple[Ours, Library]] = {
    "create a response": (
        lambda to: to.write("/responses", {"input": ITEMS, "model": "m", "stream": True}),
        lambda by: by.responses.with_raw_response.create(
            input=ITEMS,
            model="m",
            stream=True,  # type: ignore[arg-type]
        ),
    ),
    "a query and headers beside the body": (
        lambda to: to.write(
            "/responses",
            {"model": "m"},
            query={"a": "b c", "is": True, "n": 1, "deep": {"x": "y&z"}},
            headers={"X-Own": "mine"},
        ),
        lambda by: by.responses.with_raw_response.create(
            model="m",
            extra_query={"a": "b c", "is": True, "n": 1, "deep": {"x": "y&z"}},
            extra_headers={"X-Own": "mine"},
        ),
    ),
    "resume a stream": (
        lambda to: to.read(path_of("responses", "r_1"), {"starting_after": 7, "stream": True}),
        lambda by: by.responses.with_raw_response.retrieve("r_1", stream=True, starting_after=7),
    ),
    "cancel a response": (
        lambda to: to.write(path_of("responses", "r_1", "cancel")),
        lambda by: by.responses.with_raw_response.cancel("r_1"),
    ),
    "list items": (
        lambda to: to.read(path_of("conversations", "c_1", "items"), {"limit": 2, "order": "asc"}),
        lambda by: by.conversations.items.with_raw_response.list("c_1", limit=2, order="asc"),
    ),
    "delete a conversation": (
        lambda to: to.delete(path_of("conversations", "c_1")),
        lambda by: by.conversations.with_raw_response.delete("c_1"),
    ),
    "create a completion": (
        lambda to: to.write("/chat/completions", {"messages": [], "model": "m"}),
        lambda by: by.chat.completions.with_raw_response.create(messages=[], model="m"),
    ),
    "retrieve a model": (
        lambda to: to.read(path_of("models", "a/b: c")),
        lambda by: by.models.with_raw_response.retrieve("a/b: c"),
    ),
}
ASSISTANTS: dict[str, tuple[Ours, Library]] = {
    "create a thread": (
        lambda to: to.write("/threads", {"metadata": {"a": "b"}}),
        lambda by: by.beta.threads.with_raw_response.create(metadata={"a": "b"}),
    ),
    "create a run": (
        lambda to: to.write(
            path_of("threads", "t_1", "runs"), {"assistant_id": "a_1", "stream": True}
        ),
        lambda by: by.beta.threads.runs.with_raw_response.create(
            "t_1", assistant_id="a_1", stream=True
        ),
    ),
    "submit outputs": (
        lambda to: to.write(
            path_of("threads", "t_1", "runs", "r_1", "submit_tool_outputs"),
            {"tool_outputs": [{"tool_call_id": "c", "output": "o"}], "stream": True},
        ),
        lambda by: by.beta.threads.runs.with_raw_response.submit_tool_outputs(
            "r_1",
            thread_id="t_1",
            tool_outputs=[{"tool_call_id": "c", "output": "o"}],
            stream=True,
        ),
    ),
    "retrieve a run": (
        lambda to: to.read(path_of("threads", "t_1", "runs", "r_1")),
        lambda by: by.beta.threads.runs.with_raw_response.retrieve("r_1", thread_id="t_1"),
    ),
    "list messages": (
        lambda to: to.read(path_of("threads", "t_1", "messages"), {"limit": 3, "run_id": "r"}),
        lambda by: by.beta.threads.messages.with_raw_response.list("t_1", limit=3, run_id="r"),
    ),
}


@pytest.mark.parametrize("name", [*SAME, *ASSISTANTS])
async def test_every_sender_sends_what_the_clients_own_method_does(
    name: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org_1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj_1")
    ours, by_library = {**SAME, **ASSISTANTS}[name]
    headers = ASSISTANTS_HEADERS if name in ASSISTANTS else {}
    client = openai.AsyncOpenAI(api_key=KEY, base_url=server.url)
    await by_library(client)
    over_library = channel_over(client, **headers)
    over_aiohttp = channel_over(open_sender(api_key=KEY, base_url=server.url), **headers)
    assert isinstance(over_aiohttp.sender, AiohttpSender)
    for channel in (over_library, over_aiohttp):
        assert await fetch(ours(channel), thread="t") == {"id": "x_1"}
        await channel.close()
    wanted, *found = server.requests
    assert wanted[2]["authorization"] == f"Bearer {KEY}"
    assert found == [wanted, wanted]


@pytest.mark.parametrize("segment", ["", ".", ".."])
def test_an_id_that_would_lead_elsewhere_is_no_path(segment: str) -> None:
    with pytest.raises(ValueError, match="Invalid id"):
        path_of("threads", segment, "runs")


def test_a_query_leaves_out_what_is_none_and_repeats_lists() -> None:
    assert query_of({"a": None, "b": [1, False], "c": "\u00fc"}) == (
        "b%5B%5D=1&b%5B%5D=false&c=%C3%BC"
    )


async def test_a_cookie_leads_to_the_same_server_again(
    server: Server, sender: Callable[[str], Any]
) -> None:
    server.answers = [http(200, OK, "Set-Cookie: node=b; Path=/"), http(200, OK)]
    channel = channel_over(sender(server.url.replace("localhost", "127.0.0.1")))
    for _ in range(2):
        await fetch(channel.write("/responses", {}), thread="t")
    await channel.close()
    assert [request[2].get("cookie") for request in server.requests] == [None, "node=b"]


# --- what fails -----------------------------------------------------------------------------------


async def failure(call: Any) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await fetch(call, thread="t")
    return caught.value


@pytest.mark.parametrize("answer", [http(503, b"{}", "Retry-After: 0.01"), http(429, b"{}"), b""])
async def test_a_read_is_repeated_and_a_write_never(
    server: Server,
    sender: Callable[[str], Any],
    answer: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aiohttp_sender, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.01)
    channel = channel_over(sender(server.url))
    server.answers = [answer, answer, http(200, OK)]
    assert await fetch(channel.read("/models"), thread="t") == {"id": "x_1"}
    assert len(server.requests) == 3
    for call in (channel.write("/responses", {}), channel.delete("/conversations/c")):
        server.requests.clear()
        await failure(call)
        # A `DELETE` may be sent once more by aiohttp itself: on a connection that the server has
        # just closed, and what is deleted twice is deleted.
        assert len(server.requests) <= (2 if call.args[0].method == "DELETE" else 1)
    await channel.close()


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_an_answer_that_does_not_come_is_a_time_out(
    server: Server, sender: Callable[[str], Any], is_streamed: bool
) -> None:
    server.answers = [http(200, OK), b"HTTP/1.1"]
    client = sender(server.url)
    # On a kept connection: however busy the machine is, it is not connecting that takes too long.
    await fetch(channel_over(client).write("/responses", {}), thread="t")
    channel = channel_over(client, limit_s=0.3)
    call = channel.write("/responses", {}, is_bounded=is_streamed)
    with pytest.raises(OutcomeUnknown) as caught:
        if is_streamed:
            stream = EventStream(call, limits=channel.limits, thread="t")
            [burst async for burst in stream.bursts()]
        else:
            await fetch(call, thread="t")
    await channel.close()
    if not is_streamed:
        assert caught.value.trouble is not None
        assert caught.value.trouble.kind is Kind.TIMEOUT
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("url", "expected", "kind"),
    [
        ("http://127.0.0.1:9/v1", RequestRefused, Kind.UNREACHABLE),
        ("http://nobody.invalid/v1", RequestRefused, Kind.UNREACHABLE),
        ("https", RequestRefused, Kind.UNREACHABLE),
        ("gone", OutcomeUnknown, Kind.CONNECTION_LOST),
        ("gibberish", OutcomeUnknown, Kind.CONNECTION_LOST),
        ("cut", OutcomeUnknown, Kind.CONNECTION_LOST),
    ],
)
async def test_what_was_sent_decides_what_a_lost_connection_means(
    url: str,
    expected: type[BackendError],
    kind: Kind,
    server: Server,
    sender: Callable[[str], Any],
) -> None:
    server.answers = {
        "gone": [b""],
        "gibberish": [b"SSH-2.0-OpenSSH\r\n\r\n"],
        "cut": [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"],
    }.get(url, server.answers)
    address = {"https": server.url.replace("http:", "https:")}.get(url, server.url)
    channel = channel_over(sender(url if "://" in url else address), limit_s=9)
    server.is_cutting = url == "cut"
    error = await failure(channel.write("/responses", {"secret": "body"}))
    await channel.close()
    assert type(error) is expected
    assert error.trouble is not None
    assert error.trouble.kind is kind


async def test_what_arrived_before_the_connection_was_lost_is_read_first(server: Server) -> None:
    event = b'data: {"a": 1}\n\n'
    server.answers = [http(200, event + b" " * 100)[:-100]]
    server.is_cutting = True
    request = ApiRequest("POST", "/chat/completions", body={})
    sender = AiohttpSender(api_key=KEY, base_url=server.url)
    found = []
    with pytest.raises(aiohttp.ClientPayloadError):
        async with sender.send(request, PATIENCE_S) as answer:
            content = answer._answer.content
            while content.exception() is None:  # noqa: ASYNC110 - aiohttp has no event for it
                await asyncio.sleep(0)
            async for chunk in answer.iter_bytes():
                found.append(chunk)
    assert found == [event]
    await sender.close()


async def test_a_refusal_is_one_although_its_body_is_cut(server: Server) -> None:
    whole = http(429, b'{"error": {"message": "slow down"}}', "Retry-After: 7")
    server.answers = [whole[:-9]]
    server.is_cutting = True
    channel = channel_over(AiohttpSender(api_key=KEY, base_url=server.url), limit_s=PATIENCE_S)
    error = await failure(channel.write("/responses", {}))
    await channel.close()
    assert type(error) is RequestRefused
    assert (error.status_code, error.retry_after_s, error.counts) == (429, 7.0, False)


async def test_no_exception_holds_the_key(server: Server, sender: Callable[[str], Any]) -> None:
    words = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()
    channel = channel_over(sender(server.url))
    for answer in (http(401, words), b"SSH-2.0-OpenSSH\r\n\r\n", b""):
        server.answers = [answer]
        error: BaseException | None = await failure(channel.write("/responses", {}))
        while error is not None:
            assert KEY not in f"{error} {error!r} {error.args}"
            error = error.__cause__ or error.__context__
    await channel.close()


async def test_an_illegal_header_is_refused_before_anything_is_sent(
    server: Server, sender: Callable[[str], Any]
) -> None:
    channel = channel_over(sender(server.url))
    error = await failure(channel.write("/responses", {}, headers={"X-Own": "a\r\nX-Evil: b"}))
    await channel.close()
    assert type(error) is RequestRefused
    assert server.requests == []


# --- certificates ---------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate that nothing trusts, with its key."""
    path = tmp_path / "both.pem"
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl on this machine")
    path.write_text((tmp_path / "key.pem").read_text() + (tmp_path / "cert.pem").read_text())
    return path


async def test_a_certificate_is_trusted_if_the_environment_names_it(
    certificate: Path, sender: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with listening(context) as server:
        channel = channel_over(sender(server.url))
        error = await failure(channel.write("/responses", {}))
        assert (type(error), server.requests) == (RequestRefused, [])
        await channel.close()

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        channel = channel_over(sender(server.url))
        assert await fetch(channel.write("/responses", {}), thread="t") == {"id": "x_1"}
        await channel.close()


# --- which sender ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "environment", "is_plain"),
    [
        ("http://127.0.0.1:8000/v1", {}, True),
        ("https://api.openai.com/v1", {}, True),
        ("https://some.openai.azure.com/openai/v1/", {}, True),
        ("https://api.test/v1", {"HTTPS_PROXY": "http://proxy:3128"}, False),
        ("https://api.test/v1", {"ALL_PROXY": "socks5://proxy:1080"}, False),
        ("https://api.test/v1", {"HTTP_PROXY": "http://proxy:3128"}, True),
        ("https://api.test/v1", {"HTTPS_PROXY": "http://p", "NO_PROXY": "api.test"}, True),
        ("https://api.test/v1", {"OPENAI_CUSTOM_HEADERS": "X-A: b"}, False),
        ("https://api.test/v1", {"OPENAI_LOG": "debug"}, False),
        ("https://api.test/v1?api-version=1", {}, False),
        ("https://user:word@api.test/v1", {}, False),
        ("https://b\u00fccher.test/v1", {}, False),
        ("https://api.test:0/v1", {}, False),
        ("https://api.test:x/v1", {}, False),
        ("unix:///run/server", {}, False),
        ("api.test/v1", {}, False),
    ],
)
def test_what_only_the_library_knows_is_left_to_it(
    url: str, environment: dict[str, str], is_plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_usual(KEY, url) == is_plain


@pytest.mark.parametrize("key", ["", "line\nbreak", "k\u00e9y"])
def test_a_key_that_is_no_header_is_left_to_the_library(key: str) -> None:
    assert not is_usual(key, "https://api.test/v1")


async def test_a_given_client_is_the_one_that_sends() -> None:
    given = openai.AsyncAzureOpenAI(
        api_key="k", azure_endpoint="http://x.test", api_version="2026-01-01"
    )
    sender = open_sender(openai_client=given)
    assert isinstance(sender, LibrarySender)
    assert sender.client is given
    await given.close()


async def test_without_aiohttp_the_library_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_choice, "find_spec", lambda _: None)
    sender = open_sender(api_key=KEY, base_url="http://x.test/v1")
    assert isinstance(sender, LibrarySender)
    assert sender.base_url == "http://x.test/v1/"
    await sender.close()


def test_without_a_key_there_is_no_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        open_sender(base_url="http://x.test/v1")


async def test_azures_client_is_asked_for_the_models_deployment(server: Server) -> None:
    given = openai.AsyncAzureOpenAI(
        api_key="k", azure_endpoint=server.url.removesuffix("/v1"), api_version="2026-01-01"
    )
    channel = channel_over(given)
    await fetch(channel.write("/chat/completions", {"model": "gpt", "messages": []}), thread="t")
    await channel.close()
    assert server.requests[0][1] == (
        "/openai/deployments/gpt/chat/completions?api-version=2026-01-01"
    )


def test_a_request_over_aiohttp_imports_no_client_library() -> None:
    code = (
        "import sys\n"
        "from assistant_queue.backends.factory import create_backend\n"
        "options = {'api_key': 'k', 'base_url': 'http://x.test/v1'}\n"
        "create_backend(client_options=options, model='m')\n"
        "create_backend(client_options=options, assistant_id='a')\n"
        "create_backend(client_options=options, model='m', protocol='chat_completions')\n"
        "print([name for name in ('openai', 'httpx', 'httpx2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
