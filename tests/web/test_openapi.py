"""The document says everything that the service does, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.security.base import SecurityBase
from hypothesis import HealthCheck, Phase, settings

from assistant_queue import AssistantMessageQueue, ConfigurationError
from assistant_queue.integrations.fastapi import allow_all, create_app, create_router
from assistant_queue.integrations.fastapi.problems import MEDIA_TYPE
from assistant_queue.testing import StandInProvider
from tests.conftest import SERVERS, RedisServer
from tests.web.conftest import queue_options, running

EXAMPLES = 25
"""For each operation. Chosen: half a minute in all."""


def document() -> dict[str, Any]:
    return create_app(AssistantMessageQueue(model="any"), authorize=allow_all).openapi()


def test_every_operation_is_described_with_all_its_answers() -> None:
    found = document()
    for path, methods in found["paths"].items():
        for method, details in methods.items():
            where = f"{method} {path}"
            assert details["description"], where
            assert details["operationId"], where
            answers = details["responses"]
            assert {"400", "401", "403", "405", "408", "422", "429", "500", "503"} <= answers.keys(), where
            if "{" in path:
                assert "404" in answers, where
            if "requestBody" in details:
                assert "413" in answers, where
            assert "Retry-After" in answers["429"]["headers"], where
            for status, answer in answers.items():
                if int(status) >= 400:
                    assert list(answer["content"]) == [MEDIA_TYPE], where
    assert "QueueProblem" in found["components"]["schemas"]


def test_every_operation_is_listed_under_a_line_of_its_own() -> None:
    lines = [details["summary"] for methods in document()["paths"].values() for details in methods.values()]
    assert len(lines) == len(set(lines))
    assert {"Queue a message", "Read a message", "Pause a thread", "Pause all threads", "Stream what happens to a thread"} <= set(lines)
    assert [line for line in lines if not re.fullmatch(r"[A-Z][a-z' ]+", line)] == []


def test_how_clients_prove_who_they_are_is_described_if_it_is_said() -> None:
    queue = AssistantMessageQueue(model="any")
    schemes: list[SecurityBase] = [HTTPBearer(auto_error=False), APIKeyCookie(name="session", auto_error=False)]
    own = FastAPI()
    own.include_router(create_router(queue, authorize=allow_all, security=schemes), prefix="/assistant")
    for found in (create_app(queue, authorize=allow_all, security=schemes).openapi(), own.openapi()):
        assert set(found["components"]["securitySchemes"]) == {"HTTPBearer", "APIKeyCookie"}
        for methods in found["paths"].values():
            for details in methods.values():
                assert details["security"] == [{"HTTPBearer": []}, {"APIKeyCookie": []}]
    assert "securitySchemes" not in document()["components"]
    with pytest.raises(ConfigurationError, match="Invalid security"):
        create_app(queue, authorize=allow_all, security=["bearer"])  # type: ignore[list-item]


def test_no_two_operations_share_a_name() -> None:
    names = [details["operationId"] for methods in document()["paths"].values() for details in methods.values()]
    assert len(names) == len(set(names))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A whole service: real Redis, a worker, the stand-in."""
    server = RedisServer(SERVERS.get("path") or SERVERS["wheel"], tmp_path_factory.mktemp("redis"))
    server.start()
    with (
        StandInProvider(latency=0) as provider,
        AssistantMessageQueue(**queue_options(server.url, provider, "fuzz", message_delay=0)) as queue,
    ):
        queue.start_worker()
        with running(queue, max_wait=0.2, max_streams_per_client=1000) as site:
            yield site.url
    server.stop()


schema = schemathesis.openapi.from_dict(document())
_rejection = schema.config.checks.negative_data_rejection
_rejection.expected_statuses = [*_rejection.expected_statuses, "413"]  # what is longer than a body may be is not looked at


@schema.exclude(path_regex="/events$").parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_gets_an_answer_that_the_document_does_not_know(case: Any, address: str) -> None:
    """An endless stream cannot be read to its end: test_streams.py has it."""
    response = case.call(base_url=address)
    assert response.status_code < 500, response.text
    case.validate_response(response, excluded_checks=EXCLUDED)


# Whether the provider knows a run, a file or a cursor is not in a schema: what is well-formed may be refused (404, 409, 422).
EXCLUDED = [schemathesis.checks.CHECKS.get_one("positive_data_acceptance")]
