"""The small server of a worker, on requests that are none and addresses that are taken."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from assistant_queue.errors import ConfigurationError
from assistant_queue.worker import small_server
from assistant_queue.worker.small_server import PageAnswer, listen, serving
from tests.conftest import PATIENCE_S


def listening() -> tuple[list[socket.socket], int]:
    sockets = listen("127.0.0.1", 0, purpose="tests", option="--port")
    return sockets, sockets[0].getsockname()[1]


async def ask(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        (found,) = await asyncio.gather(reader.read(), return_exceptions=True)
    writer.close()
    return b"" if isinstance(found, ConnectionError) else found


@pytest.mark.parametrize(
    "sent", [b"x" * 100_000, b"\xff\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTT"]
)
async def test_what_is_no_request_is_cut_without_a_traceback(sent: bytes) -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    sockets, port = listening()
    async with serving({}, sockets):
        assert await ask(port, sent) == b""
    assert problems == []


async def test_a_page_gets_the_headers_and_other_paths_name_the_pages() -> None:
    async def page(headers: Mapping[str, str]) -> PageAnswer:
        return PageAnswer(200, "text/plain", headers["accept"].encode())

    sockets, port = listening()
    async with serving({"/metrics": page, "/live": page}, sockets):
        found = await ask(port, b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nACCEPT: this\r\n\r\n")
        assert found.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")
        assert found.endswith(b"\r\n\r\nthis")
        for line in (b"GET /other", b"POST /metrics"):
            found = await ask(port, line + b" HTTP/1.1\r\n\r\n")
            assert found.startswith(b"HTTP/1.1 404 ")
            assert found.endswith(b"unknown path: /metrics or /live\n")


async def test_a_page_that_raises_is_a_500_and_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def page(headers: Mapping[str, str]) -> PageAnswer:
        raise RuntimeError("a secret")

    sockets, port = listening()
    async with serving({"/metrics": page}, sockets):
        found = await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in found
    assert [record.message for record in caplog.records] == ["the page /metrics cannot be made"]


async def test_an_answer_that_is_not_taken_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_server, "_TAKE_S", 0.05)

    async def page(headers: Mapping[str, str]) -> PageAnswer:
        return PageAnswer(200, "text/plain", b"x" * 50_000_000)

    sockets, port = listening()
    async with serving({"/metrics": page}, sockets):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            await reader.read(1)
            await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})  # it gives up
            (found,) = await asyncio.gather(reader.read(), return_exceptions=True)
        assert isinstance(found, ConnectionError) or len(found) < 50_000_000
        writer.close()


def test_a_port_that_is_taken_names_the_option() -> None:
    sockets, port = listening()
    with pytest.raises(
        ConfigurationError,
        match=rf"cannot listen at 127\.0\.0\.1:{port} for metrics: .* give another --metrics-port",
    ):
        listen("127.0.0.1", port, purpose="metrics", option="--metrics-port")
    with pytest.raises(ConfigurationError, match=r"cannot listen at no\.such\.host\.invalid:1 for"):
        listen("no.such.host.invalid", 1, purpose="metrics", option="--metrics-port")
    sockets[0].close()


def test_addresses_of_a_host_are_bound_together_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sockets, port = listening()
    found = [(socket.AF_INET, 0, 0, "", ("127.0.0.1", one)) for one in (0, port)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(ConfigurationError, match="cannot listen"):
        listen("here", port, purpose="metrics", option="--metrics-port")
    sockets[0].close()


async def test_two_processes_may_answer_on_one_socket() -> None:
    """As workers of `--processes` do: the socket is the parent's, and a duplicate is like a fork's."""

    async def page(headers: Mapping[str, str]) -> PageAnswer:
        return PageAnswer(200, "text/plain", b"here")

    sockets, port = listening()
    twins = [one.dup() for one in sockets]
    async with serving({"/metrics": page}, sockets):
        async with serving({"/metrics": page}, twins):
            assert (await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")).endswith(b"here")
        assert (await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")).endswith(b"here")
