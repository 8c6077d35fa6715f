"""The health server of a worker, on requests that are none."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from assistant_queue.worker.health_server import serving_health
from tests.conftest import PATIENCE_S, free_port


@pytest.mark.parametrize(
    "sent", [b"x" * 100_000, b"\xff\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTT"]
)
async def test_what_is_no_request_is_cut_without_a_traceback(sent: bytes) -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    port = free_port()
    async with serving_health(cast("Any", None), "127.0.0.1", port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            with_reset = await asyncio.gather(reader.read(), return_exceptions=True)
        writer.close()
    assert with_reset[0] == b"" or isinstance(with_reset[0], ConnectionError)
    assert problems == []
