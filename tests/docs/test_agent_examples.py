"""The examples with agent frameworks: as a reader runs them, and what their model was really given."""

from __future__ import annotations

import importlib.util
import json

import pytest

from assistant_queue.testing import StandInProvider
from tests.conftest import RedisServer
from tests.docs.test_examples import run

EXAMPLES = [("openai_agents.py", "agents"), ("pydantic_ai_agent.py", "pydantic_ai")]


def need(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install 'assistant-queue[agents]'")


@pytest.mark.parametrize(("name", "module"), EXAMPLES)
def test_three_messages_are_one_call_of_the_agent(name: str, module: str, docs_redis: RedisServer) -> None:
    need(module)
    done = run(f"examples/{name}", REDIS_URL=docs_redis.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Bot: ") == 2
    assert "Bot: Order 4711 is on its way.\nMia: Thanks!\nBot: You are welcome.\n" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(("name", "module"), EXAMPLES)
def test_the_agent_gets_the_burst_as_one_and_remembers_the_thread(
    name: str, module: str, docs_redis: RedisServer, provider: StandInProvider
) -> None:
    need(module)
    provider.model = lambda turn: f"heard {turn.user_texts[-1]!r}"
    done = run(
        f"examples/{name}",
        "--model",
        "any",
        REDIS_URL=docs_redis.url.replace("/0", "/1"),
        OPENAI_API_KEY=provider.api_key,
        OPENAI_BASE_URL=provider.base_url,
    )
    assert done.returncode == 0, done.stderr
    first, second = [request.body["input"] for request in provider.requests]
    assert len(first) == 1
    assert r"Hello\nI have a question\nwhere is order 4711?" in json.dumps(first)
    assert second[0] == first[0]
    assert "Thanks!" in json.dumps(second[-1])
    assert len(second) == 3
