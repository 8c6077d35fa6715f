"""The chat page's files, as they are sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from posixpath import dirname, join, normpath

import httpx
import pytest

from assistant_queue.config import Config
from assistant_queue.config.protocol import takes_files
from assistant_queue.integrations.fastapi import ops_page
from assistant_queue.integrations.fastapi.page import page_files
from assistant_queue.integrations.fastapi.static_files import files_in

Clients = Callable[..., httpx.AsyncClient]


async def test_every_file_that_the_page_names_is_served(asgi: Clients) -> None:
    client = asgi()
    index = (await client.get("/")).text
    left = re.findall(r'(?:href|src)="(page/[^"]+)"', index)
    seen = set()
    while left:
        path = left.pop()
        answer = await client.get(f"/{path}")
        assert answer.status_code == 200, path
        assert "trusted-types 'none'" in answer.headers["content-security-policy"]
        seen.add(path)
        if path.endswith("js"):
            assert answer.headers["content-type"].startswith("text/javascript"), path
            imports = re.findall(r'^import [^;]*?from "(\./[^"]+)"', answer.text, re.MULTILINE)
            left += [normpath(join(dirname(path), one)) for one in imports]
    assert {f"page/{name}" for name in page_files()} - seen == {"page/index.html"}


async def test_every_file_that_the_operations_page_names_is_served(asgi: Clients) -> None:
    client = asgi()
    left = re.findall(r'(?:href|src)="(ops/[^"]+)"', (await client.get("/ops")).text)
    seen = set()
    while left:
        path = left.pop()
        answer = await client.get(f"/{path}")
        assert answer.status_code == 200, path
        assert "trusted-types 'none'" in answer.headers["content-security-policy"]
        seen.add(path.removeprefix("ops/"))
        if path.endswith("js"):
            imports = re.findall(r'from "\./([^"]+)"', answer.text)
            left += [f"ops/{one}" for one in imports if one not in seen]
    assert seen == set(files_in(ops_page.__name__)) - {"index.html"}
    assert (await client.get("/ops/settings.json")).json() == {"api": "api"}
    assert (await client.get("/ops/__init__.py")).status_code == 404


PATHS = ["/", "/room/x", "/page/main.js", "/page/icon.svg", "/ops", "/ops/main.js"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_file_is_sent_compressed_and_once(asgi: Clients, path: str) -> None:
    client = asgi()
    plain = await client.get(path, headers={"Accept-Encoding": "identity"})
    packed = await client.get(path, headers={"Accept-Encoding": "br, gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
    again = await client.get(path, headers={"If-None-Match": plain.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await client.get(path, headers={"If-None-Match": 'W/"0"'})
    assert other.status_code == 200


async def test_licences_and_sources_are_not_served(asgi: Clients) -> None:
    client = asgi()
    for path in ("/page/vendor/README.md", "/page/__init__.py", "/page/vendor/../__init__.py"):
        assert (await client.get(path)).status_code == 404, path


def test_protocols_and_backends_say_whether_they_take_files() -> None:
    class WithoutFiles:
        class capabilities:  # noqa: N801 - as an attribute of a backend
            inline_files = False

    assert takes_files(Config(model="any"))
    assert not takes_files(Config(assistant_id="asst_1"))
    assert takes_files(Config.model_construct(backend=lambda batch: batch))
    assert not takes_files(Config.model_construct(backend=WithoutFiles()))
