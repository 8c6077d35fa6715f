"""Typed functions as tools, end to end: a real Redis, the real openai client, the stand-in."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import assistant_queue
from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    Batch,
    BatchFailed,
    ConfigurationMismatch,
    FunctionCall,
    Message,
    ToolCall,
    ToolContext,
)
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.fake_clock import START_MS, FakeClock
from assistant_queue.testing.harness import Crash, InstantWorker
from assistant_queue.testing.provider import Reply, ToolCalls, Turn
from assistant_queue.tools import Toolbox
from assistant_queue.user_code import caller
from assistant_queue.worker import tool_calls
from tests.conftest import PATIENCE_S, RedisServer, with_clock
from tests.integration.test_crash_points import CHOSEN

BIN = Path(sys.executable).parent


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        yield standing
        assert standing.model_errors == ()
        assert standing.overlaps == ()


@pytest.fixture(params=["responses", "assistants", "chat_completions"])
def options(
    request: pytest.FixtureRequest, one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> dict[str, Any]:
    chosen = CHOSEN.get(request.param, {"assistant_id": provider.assistant_id})
    return {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "message_delay": 0,
        **chosen,
    }


@pytest.fixture
def queue(options: dict[str, Any]) -> Iterator[AssistantMessageQueue]:
    with AssistantMessageQueue(**options) as made:
        yield made


def calls_then_outputs(*calls: tuple[str, Any]) -> Any:
    """A model that makes these calls in one round, then says their outputs, a line each."""

    def model(turn: Turn) -> Any:
        return (
            Reply("\n".join(output.output for output in turn.tool_outputs))
            if turn.round
            else ToolCalls(list(calls))
        )

    return model


def asked(
    queue: AssistantMessageQueue, provider: StandInProvider, *calls: tuple[str, Any], **message: Any
) -> list[str]:
    """Return the outputs of one round, as the model reads them."""
    provider.model = calls_then_outputs(*calls)
    if not queue._workers:
        queue.start_worker()
    return str(queue.ask("t", "please", timeout=PATIENCE_S, **message)).split("\n")


def test_the_model_is_offered_the_tools_and_gets_what_they_return(
    queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    offered: list[tuple[str, ...]] = []

    @dataclass
    class Weather:
        city: str
        celsius: float

    @queue.tool
    def weather(city: str) -> Weather:
        """The weather."""
        return Weather(city, 21.5)

    @queue.tool(name="clock")
    async def state_time(city: str, zone: str = "UTC") -> str:
        return f"noon in {city}, {zone}"

    def model(turn: Turn) -> Any:
        offered.append(turn.tools)
        return calls_then_outputs(
            ("weather", {"city": "Rome"}), ("clock", {"city": "Oslo", "zone": None})
        )(turn)

    provider.model = model
    queue.start_worker()
    assert (
        queue.ask("t", "?", timeout=PATIENCE_S)
        == '{"city":"Rome","celsius":21.5}\nnoon in Oslo, UTC'
    )
    assert offered == [("weather", "clock"), ("weather", "clock")]


def test_tools_that_are_defined_after_the_worker_has_started_are_offered(
    queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    queue.start_worker()

    @queue.tool
    def late() -> str:
        return "in time"

    assert asked(queue, provider, ("late", {})) == ["in time"]


def test_the_calls_of_a_round_run_at_the_same_time(
    queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    together = threading.Barrier(3, timeout=PATIENCE_S)

    @queue.tool
    def meet(number: int) -> int:
        together.wait()
        return number

    @queue.tool
    async def meet_on_the_loop() -> str:
        await asyncio.get_running_loop().run_in_executor(None, together.wait)
        return "loop"

    assert asked(
        queue, provider, ("meet", {"number": 1}), ("meet", {"number": 2}), ("meet_on_the_loop", {})
    ) == ["1", "2", "loop"]


def test_a_tool_that_takes_too_long_is_an_error_that_the_model_reads(
    queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    let_go = threading.Event()
    was_cancelled = threading.Event()

    @queue.tool(timeout=0.05)
    def hangs() -> None:
        let_go.wait(PATIENCE_S)

    @queue.tool(timeout=0.05)
    async def hangs_on_the_loop() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            was_cancelled.set()

    @queue.tool(timeout=PATIENCE_S)
    def answers() -> str:
        return "here"

    try:
        late = '{"error": "the function did not answer within 0.05 seconds"}'
        assert asked(
            queue, provider, ("hangs", {}), ("hangs_on_the_loop", {}), ("answers", {})
        ) == [late, late, "here"]
        assert was_cancelled.wait(PATIENCE_S)
    finally:
        let_go.set()


def test_more_calls_than_threads_are_answered(
    options: dict[str, Any], provider: StandInProvider
) -> None:
    with AssistantMessageQueue(**options, concurrency=1) as queue:

        @queue.tool
        def counted(number: int) -> int:
            return number

        calls = [("counted", {"number": number}) for number in range(20)]
        assert asked(queue, provider, *calls) == [str(number) for number in range(20)]


def test_wrong_arguments_exceptions_and_odd_outputs_are_reported_to_the_model(
    queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    @queue.tool
    def strict(number: int) -> int:
        return number

    @queue.tool
    def fails() -> None:
        raise ValueError("a secret")

    @queue.tool
    async def cancels() -> None:
        raise asyncio.CancelledError

    @queue.tool
    async def times_out() -> None:
        raise TimeoutError("mine")

    @queue.tool
    def odd() -> Any:
        return {1: frozenset({2}), "half": "ok", "set": {1}}

    @queue.tool
    def half() -> str:
        return "\ud800"

    @queue.tool
    def nothing() -> None:
        pass

    names = ["fails", "cancels", "times_out", "odd", "half", "nothing"]
    outputs = asked(
        queue,
        provider,
        ("strict", {"number": "x"}),
        ("strict", "{nonsense"),
        *[(name, {}) for name in names],
    )
    assert "number: Input should be a valid integer" in json.loads(outputs[0])["error"]
    assert "not valid JSON" in json.loads(outputs[1])["error"]
    assert outputs[2:5] == ['{"error": "the function failed"}'] * 3
    assert json.loads(outputs[5]) == {"1": [2], "half": "ok", "set": [1]}
    assert outputs[6:] == ["?", "null"]


def test_the_context_names_the_author(
    queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    seen: list[ToolContext] = []

    @queue.tool
    def whoami(context: ToolContext) -> str:
        seen.append(context)
        return "; ".join(
            f"{message.author} {dict(message.metadata)}" for message in context.batch.messages
        )

    output = asked(queue, provider, ("whoami", {}), author="Mia", metadata={"shop": "7"})
    assert output == ["Mia {'shop': '7'}"]
    (context,) = seen
    assert context.thread_id == "t"
    assert context.run_id in {run.id for run in provider.runs}
    assert context.call_id.startswith("call_")


def test_tools_come_first_and_the_handler_gets_the_rest(
    options: dict[str, Any], provider: StandInProvider
) -> None:
    handled: list[str] = []

    def handle(_thread_id: str, _run_id: str, calls: list[ToolCall]) -> list[dict[str, str]]:
        handled.extend(call.function.name for call in calls)
        return [{"tool_call_id": call.id, "output": "by hand"} for call in calls]

    definition = {
        "type": "function",
        "name": "other",
        "parameters": {"type": "object", "properties": {}},
    }
    with AssistantMessageQueue(
        **options, tools=[definition], handle_requires_action=handle
    ) as queue:
        queue.tool(name="mine")(lambda: "mine")
        outputs = asked(queue, provider, ("other", {}), ("mine", {}))
        assert outputs == ["by hand", "mine"]
        assert handled == ["other"]


def test_an_unknown_function_name_is_reported_to_the_model(
    queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    queue.tool(name="mine")(lambda: "mine")
    assert asked(queue, provider, ("mine", {}), ("unheard", {})) == [
        "mine",
        '{"error": "no function of this name is available"}',
    ]


def test_a_handler_that_answers_nonsense_fails_the_batch_though_tools_answered(
    options: dict[str, Any], provider: StandInProvider
) -> None:
    with AssistantMessageQueue(
        **options, handle_requires_action=lambda *_: "nonsense", max_attempts=1
    ) as queue:
        queue.tool(name="mine")(lambda: "mine")
        with pytest.raises(BatchFailed, match="lambda"):
            asked(queue, provider, ("mine", {}), ("other", {}))


def test_on_assistants_the_assistants_own_tools_stay_while_none_are_registered(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    options: dict[str, Any] = {
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "redis_url": one_redis.url,
    }
    with AssistantMessageQueue(
        **options, assistant_id=provider.assistant_id, queue_prefix=prefix, message_delay=0
    ) as queue:
        queue.start_worker()
        queue.ask("t", "one", timeout=PATIENCE_S)
        queue.tool(name="mine")(lambda: "mine")
        queue.ask("t", "two", timeout=PATIENCE_S)
        bodies = [request.body for request in provider.requests if request.path.endswith("/runs")]
        assert ["tools" in body for body in bodies] == [False, True]
        assert bodies[1]["tools"] == [
            {
                "type": "function",
                "function": {
                    "name": "mine",
                    "parameters": {
                        "type": "object",
                        "properties": {},
                        "required": [],
                        "additionalProperties": False,
                    },
                    "strict": True,
                },
            }
        ]


async def test_the_asyncio_class_has_them_too(
    options: dict[str, Any], provider: StandInProvider
) -> None:
    async with AsyncAssistantMessageQueue(**options) as queue:
        home = asyncio.get_running_loop()

        @queue.tool
        async def where() -> bool:
            return asyncio.get_running_loop() is home

        provider.model = calls_then_outputs(("where", {}))
        await queue.start_worker()
        assert await queue.ask("t", "?", timeout=PATIENCE_S) == "true"


def test_a_death_at_any_step_of_a_round_calls_a_tool_again_only_with_the_same_call_id(
    options: dict[str, Any], provider: StandInProvider
) -> None:
    provider.model = calls_then_outputs(("pay", {"euros": 3}), ("pay", {"euros": 4}))
    number = 0
    name = "first"
    while name:
        number += 1
        paid: list[tuple[str, int]] = []
        passed: list[str] = []
        clock = FakeClock()
        with with_clock(
            AssistantMessageQueue(
                **{**options, "queue_prefix": f"{options['queue_prefix']}-{number}"}
            ),
            clock,
        ) as queue:
            queue.tool(name="pay")(payer(paid))

            def die(step: str, _: Any, number: int = number, passed: list[str] = passed) -> None:
                passed.append(step)
                if len(passed) == number:
                    raise Crash(step)

            receipt = queue.add_message_to_thread("t", "pay both")
            try:
                InstantWorker(queue.config, clock, probe=die).run_until_idle()
                name = ""
            except Crash as crash:
                name = str(crash)
                InstantWorker(queue.config, clock).run_until_idle()
            assert queue.wait_for_reply(receipt.message_id, 0) == "3 paid\n4 paid", name
            assert {euros for _, euros in paid} == {3, 4}
            assert len({call_id for call_id, _ in paid}) == 2, (
                f"died at {name}: the ids are not the same"
            )
            assert len(paid) == 2 or name in {"after Answer", "before Save"}, name
    assert number > 15


def payer(paid: list[tuple[str, int]]) -> Any:
    def pay(euros: int, context: ToolContext) -> str:
        paid.append((context.call_id, euros))
        return f"{euros} paid"

    return pay


APP = """
from assistant_queue import AssistantMessageQueue

queue = AssistantMessageQueue(message_delay=0)


@queue.tool
def where(number: int) -> str:
    import os

    return f"{number} in {os.getpid()}"
"""


@pytest.mark.parametrize("kind", ["asyncio", "forking", "stock"])
def test_worker_processes_have_the_tools_of_their_app(
    options: dict[str, Any], provider: StandInProvider, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "shop.py").write_text(APP, encoding="utf-8")
    provider.model = calls_then_outputs(("where", {"number": 7}))
    chosen = (
        {"OPENAI_ASSISTANT_ID": options["assistant_id"]}
        if "assistant_id" in options
        else {"ASSISTANT_QUEUE_MODEL": options["model"]}
    )
    if "protocol" in options:
        chosen["ASSISTANT_QUEUE_PROTOCOL"] = options["protocol"]
    environment = {
        **os.environ,
        **chosen,
        "REDIS_URL": options["redis_url"],
        "OPENAI_API_KEY": options["openai_api_key"],
        "OPENAI_BASE_URL": options["openai_base_url"],
        "ASSISTANT_QUEUE_QUEUE_PREFIX": options["queue_prefix"],
        "ASSISTANT_QUEUE_APP": "shop:queue",
        "PYTHONPATH": os.pathsep.join(
            [str(tmp_path), str(Path(assistant_queue.__file__).parent.parent)]
        ),
    }
    ours = ["worker", "--burst"] + (["--fork"] if kind == "forking" else [])
    command = (
        ["-m", "assistant_queue.cli", *ours]
        if kind != "stock"
        else [str(BIN / "rq"), "worker", "--burst", options["queue_prefix"]]
    )
    with AssistantMessageQueue(**options) as queue:
        receipt = queue.add_message_to_thread("t", "where is it?")
        extra = ["-u", options["redis_url"]] if kind == "stock" else []
        done = subprocess.run(
            [sys.executable, *command, *extra],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert str(queue.wait_for_reply(receipt.message_id, 0)).startswith("7 in ")


def test_producers_need_not_have_the_tools_and_workers_need_them_if_they_do(
    options: dict[str, Any],
) -> None:
    with AssistantMessageQueue(**options) as bare, AssistantMessageQueue(**options) as full:
        full.tool(name="mine")(lambda: "mine")
        bare.add_message_to_thread("t", "hello")
        full.start_worker().stop()
        full.add_message_to_thread("t", "hello")
        with pytest.raises(ConfigurationMismatch, match="tools: producers True, here False"):
            bare.start_worker()


async def test_waiting_for_a_thread_is_not_a_tools_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "MIN_THREADS", 1)
    monkeypatch.setattr(caller, "THREADS_PER_RUN", 1)
    code = caller.UserCode(1)
    let_go = threading.Event()
    loop = asyncio.get_running_loop()
    box = Toolbox()
    box.add(lambda: "in time", name="quick", timeout=PATIENCE_S)
    call = ToolCall(id="c", function=FunctionCall(name="quick", arguments="{}"))
    batch = Batch(id="b", thread_id="t", messages=(Message(id="m", content="hi"),))
    busy = asyncio.ensure_future(code.call(let_go.wait))
    await asyncio.sleep(0)
    waits = asyncio.ensure_future(
        tool_calls.ToolRound(code, batch, "r", now_ms=lambda: START_MS).answer(box, None, [call])
    )
    for _ in range(5):
        await asyncio.sleep(0)
    assert code._threads._waiting
    real_time = loop.time
    monkeypatch.setattr(
        loop, "time", lambda: real_time() + 2 * PATIENCE_S
    )  # longer than the tool may take
    for _ in range(5):
        await asyncio.sleep(0)
    let_go.set()
    assert (await waits).outputs == {"c": "in time"}
    await busy
