"""The document says everything that the service does, and nothing else."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.security.base import SecurityBase

from assistant_queue import AssistantMessageQueue, ConfigurationError
from assistant_queue.integrations.fastapi import allow_all, create_app, create_router
from assistant_queue.integrations.fastapi.problems import MEDIA_TYPE
from assistant_queue.testing import StandInProvider
from tests.conftest import PATIENCE_S, SERVERS, RedisServer
from tests.web.conftest import queue_options, running

EXAMPLES = 25
"""For each operation. Chosen: half a minute in all."""


@functools.cache
def document() -> dict[str, Any]:
    """The same for all tests, which only read it."""
    return create_app(AssistantMessageQueue(model="any"), authorize=allow_all).openapi()


def test_every_operation_is_described_with_all_its_answers() -> None:
    found = document()
    for path, methods in found["paths"].items():
        for method, details in methods.items():
            where = f"{method} {path}"
            assert details["description"], where
            assert details["operationId"], where
            answers = details["responses"]
            assert {
                "400",
                "401",
                "403",
                "405",
                "408",
                "422",
                "429",
                "500",
                "503",
            } <= answers.keys(), where
            if "{" in path:
                assert "404" in answers, where
            if "requestBody" in details:
                assert "413" in answers, where
            assert "Retry-After" in answers["429"]["headers"], where
            for status, answer in answers.items():
                if int(status) >= 400:
                    assert list(answer["content"]) == [MEDIA_TYPE], where
    assert "QueueProblem" in found["components"]["schemas"]


def test_every_operation_is_listed_under_its_own_line() -> None:
    lines = [
        details["summary"]
        for methods in document()["paths"].values()
        for details in methods.values()
    ]
    assert len(lines) == len(set(lines))
    assert {
        "Queue a message",
        "Read a message",
        "Pause a thread",
        "Pause all threads",
        "Stream what happens to a thread",
    } <= set(lines)
    assert [line for line in lines if not re.fullmatch(r"[A-Z][a-z' ]+", line)] == []


def test_security_schemes_are_in_the_document_if_given() -> None:
    queue = AssistantMessageQueue(model="any")
    schemes: list[SecurityBase] = [
        HTTPBearer(auto_error=False),
        APIKeyCookie(name="session", auto_error=False),
    ]
    own = FastAPI()
    own.include_router(
        create_router(queue, authorize=allow_all, security=schemes), prefix="/assistant"
    )
    for found in (
        create_app(queue, authorize=allow_all, security=schemes).openapi(),
        own.openapi(),
    ):
        assert set(found["components"]["securitySchemes"]) == {"HTTPBearer", "APIKeyCookie"}
        for methods in found["paths"].values():
            for details in methods.values():
                assert details["security"] == [{"HTTPBearer": []}, {"APIKeyCookie": []}]
    assert "securitySchemes" not in document()["components"]
    with pytest.raises(ConfigurationError, match="Invalid security"):
        create_app(queue, authorize=allow_all, security=["bearer"])  # type: ignore[list-item]


def test_no_two_operations_share_a_name() -> None:
    names = [
        details["operationId"]
        for methods in document()["paths"].values()
        for details in methods.values()
    ]
    assert len(names) == len(set(names))


async def test_the_document_is_written_once(asgi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is long: a client that asks for it again and again must not keep the service busy."""
    client = asgi()
    first = await client.get("/api/openapi.json")
    assert first.json() == client.app.openapi()
    assert first.headers["content-type"] == "application/json"
    monkeypatch.delattr(FastAPI, "openapi")
    assert (await client.get("/api/openapi.json")).content == first.content


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A whole service: real Redis, a worker, the stand-in."""
    server = RedisServer(SERVERS.get("path") or SERVERS["wheel"], tmp_path_factory.mktemp("redis"))
    server.start()
    with (
        StandInProvider(latency=0) as provider,
        AssistantMessageQueue(
            **queue_options(server.url, provider, "fuzz", message_delay=0)
        ) as queue,
    ):
        queue.start_worker()
        with running(queue, max_wait=0.2, max_streams_per_client=1000) as site:
            yield site.url
    server.stop()


CONFIG = """
# Whether the provider knows a run, a file or a cursor is not in a schema: what is well-formed may be
# refused (404, 409, 422).
checks.positive_data_acceptance.enabled = false
# What is longer than a body may be is not looked at: 413.
checks.negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429"]
"""


def test_no_request_gets_an_answer_that_the_document_does_not_know(
    address: str, tmp_path: Path
) -> None:
    """Not over its plugin for pytest: that makes its cases while it collects, in every process.

    Endless streams cannot be read to their end: test_streams.py has them.
    """
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    ended = subprocess.run(
        [
            *(Path(sys.executable).parent / "schemathesis", "--config-file", config, "run"),
            f"{address}/api/openapi.json",
            *("--phases", "examples,coverage,fuzzing", "--exclude-path-regex", "/(events|feed)$"),
            *("--max-examples", str(EXAMPLES), "--generation-deterministic", "--no-shrink"),
            *("--request-timeout", str(PATIENCE_S), "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    operations = sum(len(methods) for methods in document()["paths"].values())
    assert f"Tested: {operations - 2}\n" in ended.stdout
