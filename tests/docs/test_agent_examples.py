"""Examples with agent frameworks, run as a reader runs them, and what their model received."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, Batch, FunctionBackend, RunContext
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import ToolCalls, Turn, refuse
from tests.conftest import PATIENCE_S, RedisServer
from tests.docs.blocks import blocks_of
from tests.docs.generated import ROOT
from tests.docs.test_examples import run

EXAMPLES = [("openai_agents.py", "agents"), ("pydantic_ai_agent.py", "pydantic_ai")]


def need(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install 'assistant-queue[agents]'")


@pytest.mark.parametrize(("name", "module"), EXAMPLES)
def test_three_messages_are_one_call_of_the_agent(
    name: str, module: str, docs_redis: RedisServer
) -> None:
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


@pytest.mark.parametrize(("name", "module"), EXAMPLES)
def test_an_attempt_that_fails_leaves_nothing_in_the_agents_memory(
    name: str, module: str, docs_redis: RedisServer, provider: StandInProvider
) -> None:
    need(module)
    burst = r"Hello\nI have a question\nwhere is order 4711?"

    def model(turn: Turn) -> ToolCalls | str:
        if "4711" in turn.user_texts[-1] and not turn.tool_outputs:
            return ToolCalls([("order_status", {"number": 4711})])
        return "heard"

    provider.model = model
    # 1. the input is refused   2. the tool is called, then its output is refused   3. all goes well
    provider.fault("responses.create", refuse(400), nth=1)
    provider.fault("responses.create", refuse(400), nth=3)
    done = run(
        f"examples/{name}",
        "--model",
        "any",
        REDIS_URL=docs_redis.url.replace("/0", "/4"),
        OPENAI_API_KEY=provider.api_key,
        OPENAI_BASE_URL=provider.base_url,
        ASSISTANT_QUEUE_BACKOFF='{"type": "fixed", "delay": 0.05}',
    )
    assert done.returncode == 0, done.stderr
    *attempts, thanks = [json.dumps(request.body["input"]) for request in provider.requests]
    assert [text.count(burst) for text in attempts] == [1, 1, 1, 1, 1]
    assert [text.count("function_call_output") for text in attempts] == [0, 0, 1, 0, 1]
    assert attempts[0] == attempts[1] == attempts[3]
    assert thanks.count(burst) == 1
    assert thanks.count("function_call_output") == 1
    assert thanks.count("Thanks!") == 1


@pytest.mark.parametrize(
    ("name", "module"),
    [("openai_agents_approval.py", "agents"), ("pydantic_ai_approval.py", "pydantic_ai")],
)
def test_an_agents_call_is_approved_by_another_process_and_made_by_another_worker(
    name: str, module: str, docs_redis: RedisServer
) -> None:
    need(module)
    done = run(f"examples/{name}", REDIS_URL=docs_redis.url.replace("/0", "/5"))
    assert done.returncode == 0, done.stderr
    ended = "the worker has ended\napproved by another process\n"
    assert f"{ended}refund(4711, 30) is called\nBot: Order 4711: 30 refunded.\n" in done.stdout
    assert done.stdout.count("is called") == 1
    assert done.stderr == ""


def test_an_attempt_that_fails_leaves_nothing_in_the_state_of_a_graph(
    reader: Callable[[str], dict[str, Any]],
) -> None:
    reader("langgraph")
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    (block,) = [
        block for block in blocks_of(ROOT / "docs/agents.md", ROOT) if "langgraph" in block.needs
    ]
    recipe: dict[str, Any] = {}
    exec(block.code, recipe)
    seen: list[list[str]] = []

    @tool
    def order_status(number: int) -> str:
        """Look up an order."""
        return "shipped"

    def model(state: MessagesState) -> dict[str, Any]:
        seen.append([str(message.content) for message in state["messages"]])
        last = state["messages"][-1]
        if last.type == "human" and "4711" in str(last.content) and len(seen) != 1:
            return {
                "messages": [
                    AIMessage(
                        "calling",
                        tool_calls=[
                            {"name": "order_status", "args": {"number": 4711}, "id": "call_1"}
                        ],
                    )
                ]
            }
        # 1. the input is refused; 2. the tool is called, its output is refused; 3. success
        if len(seen) in {1, 3}:
            raise ConnectionError("no answer")
        return {"messages": [AIMessage("heard")]}

    graph = StateGraph(MessagesState).add_node(model).add_node("tools", ToolNode([order_status]))
    graph.add_edge(START, "model").add_conditional_edges("model", tools_condition).add_edge(
        "tools", "model"
    )
    recipe["graph"] = graph.compile(checkpointer=recipe["saver"])
    with AssistantMessageQueue(
        backend=FunctionBackend(recipe["answer"], idempotent=True), message_delay=0
    ) as queue:
        queue.start_worker()
        for text in ("where is order 4711?", "thanks"):
            assert queue.ask("ann", text, timeout=PATIENCE_S) == "heard"
    asked = ["where is order 4711?"]
    called = [*asked, "calling", "shipped"]
    assert seen == [asked, asked, called, asked, called, [*called, "heard", "thanks"]]


def test_a_batch_that_a_graph_has_finished_is_not_run_again(
    reader: Callable[[str], dict[str, Any]],
) -> None:
    reader("langgraph")
    (block,) = [
        block for block in blocks_of(ROOT / "docs/agents.md", ROOT) if "langgraph" in block.needs
    ]
    recipe: dict[str, Any] = {}
    exec(block.code, recipe)
    answers: list[str] = []

    def answer(batch: Batch, context: RunContext) -> str:
        answers.append(recipe["answer"](batch, context))
        if len(answers) == 1:
            raise ConnectionError("the graph has finished, its answer does not arrive")
        return answers[-1]

    with AssistantMessageQueue(
        backend=FunctionBackend(answer, idempotent=True), message_delay=0, allow_mismatch=True
    ) as queue:
        queue.start_worker()
        assert queue.ask("bea", "Hello", timeout=PATIENCE_S) == "You said: Hello"
    assert answers == ["You said: Hello", "You said: Hello"]
    held = recipe["graph"].get_state({"configurable": {"thread_id": "bea"}}).values["messages"]
    assert [message.content for message in held] == ["Hello", "You said: Hello"]
