"""Calls on the provider's threads beside the queue: each protocol, both queues."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    BackendError,
    ConfigurationError,
    ConversationBusy,
    InvalidArgument,
    NotSupported,
    OutcomeUnknown,
    RequestRefused,
    RunVanished,
    ThreadBusy,
    ToolOutput,
    UnknownThread,
)
from assistant_queue.core.runs import Capabilities, FoundBy
from assistant_queue.testing import Personality, StandInProvider
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.harness import InstantWorker
from assistant_queue.testing.provider import (
    Reply,
    Request,
    ToolCalls,
    delay,
    drop_connection,
    never_answer,
    refuse,
)
from tests.conftest import PATIENCE_S, RedisServer, with_clock
from tests.integration.conftest import wait_until

ORDER = {"type": "function", "name": "order", "parameters": {"type": "object", "properties": {}}}


class Awaited:
    """The blocking class with the asyncio class's methods, so that one scenario serves both."""

    def __init__(self, queue: AssistantMessageQueue) -> None:
        self._queue = queue

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._queue, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(target, *args, **kwargs)

        return call


class Queues:
    """Opens queues of one kind, on one protocol."""

    def __init__(
        self, kind: str, protocol: str, url: str, prefix: str, provider: StandInProvider
    ) -> None:
        self.kind = kind
        self.protocol = protocol
        self.url = url
        self.prefix = prefix
        self.provider = provider
        self.is_responses = protocol == "responses"
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self.opened: list[Any] = []
        self.adds = "items.create" if self.is_responses else "messages.create"
        self.opens = "conversations.create" if self.is_responses else "threads.create"

    def options(self, **options: Any) -> dict[str, Any]:
        chosen = (
            {"model": "stand-in-model"}
            if self.is_responses
            else {"assistant_id": self.provider.assistant_id}
        )
        return {
            "redis_url": self.url,
            "queue_prefix": self.prefix,
            "openai_api_key": self.provider.api_key,
            "openai_base_url": self.provider.base_url,
            "message_delay": 0,
            **chosen,
            **options,
        }

    def open(self, **options: Any) -> Any:
        made = self.options(**options)
        queue = (
            Awaited(AssistantMessageQueue(**made))
            if self.kind == "blocking"
            else AsyncAssistantMessageQueue(**made)
        )
        self.opened.append(queue)
        return queue

    def lease(self, thread_id: str) -> str | None:
        return self.redis.hget(f"{self.prefix}:thread:{thread_id}", "token")

    def conversation(self, thread_id: str) -> dict[str, str]:
        return self.redis.hgetall(f"{self.prefix}:conversation:{thread_id}")

    async def ended(self, runs: int) -> None:
        await asyncio.to_thread(self.provider.wait_for, runs_ended=runs)


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def queues(
    kind: str, protocol: str, one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> AsyncIterator[Queues]:
    made = Queues(kind, protocol, one_redis.url, prefix, provider)
    yield made
    for queue in made.opened:
        await queue.close()
    made.redis.close()


@pytest.fixture(params=["responses", "assistants"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


only_responses = pytest.mark.parametrize("protocol", ["responses"])


# --- what they do ---------------------------------------------------------------------------------


async def test_a_thread_from_its_creation_to_its_reply(queues: Queues) -> None:
    queue = queues.open()
    thread = await queue.create_thread({"customer": "42"})
    info = await queue.get_thread(thread)
    assert (info.id, info.thread_id, info.metadata) == (thread, thread, {"customer": "42"})
    assert info.created_at.utcoffset().total_seconds() == 0
    first = await queue.create_message(thread, "hello")
    await queue.create_message(
        thread, [{"type": "text", "text": "are you"}, {"type": "text", "text": "there?"}]
    )
    run = await queue.create_run(thread, instructions="Be brief.", metadata={"why": "test"})
    assert run.thread_id == thread
    assert run.status in {"queued", "in_progress"}
    assert (run.required_calls, run.metadata) == ((), {"why": "test"})
    await queues.ended(1)
    over = await queue.get_run(thread, run.id)
    assert (over.id, over.status, over.error) == (run.id, "completed", None)
    assert over.usage.total_tokens > 0
    newest, *others = await queue.list_messages(thread)
    assert (newest.role, newest.text) == ("assistant", "You said: hello | are you\nthere?")
    assert [message.text for message in others] == ["are you\nthere?", "hello"]
    assert others[-1].id == first
    assert [len(message.content) for message in others] == [2, 1]
    if not queues.is_responses:
        assert (newest.run_id, others[0].run_id) == (run.id, None)
        assert newest.created_at is not None
    (record,) = queues.provider.runs
    assert record.instructions.endswith("Be brief.")
    assert not record.stream
    assert record.background == queues.is_responses
    assert queues.lease(thread) is None


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_of_messages_are_cut_as_asked(queues: Queues, order: str) -> None:
    queue = queues.open()
    queues.provider.model = lambda turn: (
        ToolCalls([("order", {})], text="let me see") if not turn.tool_outputs else Reply("shipped")
    )
    thread = await queue.create_thread()
    for number in range(2):
        await queue.create_message(thread, f"m{number}")
    run = await queue.create_run(thread, tools=[ORDER])
    waiting = await _waiting(queues, queue, thread, run.id)
    await queue.submit_tool_outputs(
        thread, run.id, [ToolOutput(call.id, "x") for call in waiting.required_calls]
    )
    await queues.ended(2 if queues.is_responses else 1)
    await queue.create_message(thread, "m2")
    everything = [
        message.text for message in await queue.list_messages(thread, limit=100, order="asc")
    ]
    assert everything == ["m0", "m1", "let me see", "shipped", "m2"]
    ids = [message.id for message in await queue.list_messages(thread, limit=100, order="asc")]
    if order == "desc":
        ids.reverse()

    async def page(**cursors: Any) -> list[int]:
        return [
            ids.index(message.id)
            for message in await queue.list_messages(thread, order=order, **cursors)
        ]

    assert await page() == [0, 1, 2, 3, 4]
    assert await page(limit=2) == [0, 1]
    assert await page(limit=2, after=ids[1]) == [2, 3]
    assert await page(limit=2, before=ids[4]) == [2, 3]
    assert await page(before=ids[2]) == [0, 1]
    assert await page(after=ids[0], before=ids[3]) == [1, 2]
    assert await page(after=ids[4]) == []


async def _waiting(queues: Queues, queue: Any, thread: str, run_id: str) -> Any:
    def has_stopped(_: Any) -> bool:
        return queues.provider.runs[-1].status in {"completed", "requires_action"}

    await asyncio.to_thread(queues.provider.wait_for, has_stopped)
    return await queue.get_run(thread, run_id)


async def test_a_run_that_calls_tools_is_answered_and_continues(queues: Queues) -> None:
    queue = queues.open()
    queues.provider.model = lambda turn: (
        Reply(" / ".join(output.output for output in turn.tool_outputs))
        if turn.tool_outputs
        else ToolCalls([("order", {"id": 7}), ("order", {})])
    )
    await queue.create_message("t", "where is it?")
    run = await queue.create_run("t", tools=[ORDER])
    waiting = await _waiting(queues, queue, "t", run.id)
    assert waiting.status == "requires_action"
    first, second = waiting.required_calls
    assert (first.function.name, first.function.arguments) == ("order", '{"id": 7}')
    sent = len(queues.provider.requests)
    with pytest.raises(InvalidArgument, match=f"waits for the outputs of .*{second.id}"):
        await queue.submit_tool_outputs(
            "t", run.id, [{"tool_call_id": first.id, "output": "on its way"}]
        )
    assert {request.method for request in queues.provider.requests[sent:]} == {"GET"}
    on = await queue.submit_tool_outputs(
        "t",
        run.id,
        [
            {"tool_call_id": first.id, "output": "on its way"},
            ToolOutput(second.id, {"status": "lost"}),
        ],
    )
    assert (on.id == run.id) is not queues.is_responses
    await queues.ended(2 if queues.is_responses else 1)
    assert (await queue.get_run("t", on.id)).status == "completed"
    (reply, *_) = await queue.list_messages("t", limit=1)
    assert reply.text == 'on its way / {"status":"lost"}'
    assert queues.provider.runs[-1].tools == ("order",)


async def test_a_run_is_cancelled(queues: Queues) -> None:
    queue = queues.open()
    await queue.create_message("t", "hello")
    with queues.provider.hold() as gate:
        run = await queue.create_run("t")
        await asyncio.to_thread(gate.wait_reached)
        with pytest.raises(ConversationBusy, match="create_message, thread 't': a run is working"):
            await queue.create_message("t", "and another")
        assert (await queue.cancel_run("t", run.id)).status in {"cancelling", "cancelled"}
    await queues.ended(1)
    assert (await queue.get_run("t", run.id)).status == "cancelled"
    await queue.create_message("t", "and another")


# --- ownership of a thread ------------------------------------------------------------------------


async def test_a_callers_own_id_is_mapped_once_and_is_the_queues_too(queues: Queues) -> None:
    queue = queues.open()
    for call in ("get_thread", "list_messages"):
        with pytest.raises(UnknownThread, match="no conversation at the provider yet"):
            await getattr(queue, call)("customer 42")
    for call in ("get_run", "cancel_run"):
        with pytest.raises(UnknownThread, match="no conversation at the provider yet"):
            await getattr(queue, call)("customer 42", "run_1")
    with pytest.raises(UnknownThread, match="no conversation at the provider yet"):
        await queue.submit_tool_outputs(
            "customer 42", "run_1", [{"tool_call_id": "c", "output": "x"}]
        )
    assert queues.provider.requests == ()
    await queue.create_message("customer 42", "one")
    await queue.create_message("customer 42", "two")
    await queue.start_worker()
    assert (
        await queue.ask("customer 42", "three", timeout=PATIENCE_S) == "You said: one | two | three"
    )
    assert len(queues.provider.calls(queues.opens)) == 1
    info = await queue.get_thread("customer 42")
    assert info.id == queues.conversation("customer 42")["id"]
    assert info.thread_id == "customer 42"


async def test_the_loser_of_a_race_for_a_mapping_deletes_its_own(queues: Queues) -> None:
    queue = queues.open()
    winner = (
        queues.provider.create_conversation()
        if queues.is_responses
        else queues.provider.create_thread()
    )

    def lose(_: Request) -> bool:
        return bool(queues.redis.hset(f"{queues.prefix}:conversation:t", "id", winner))

    queues.provider.fault(queues.opens, delay(0), when=lose)
    await queue.create_message("t", "hello")
    assert queues.provider.user_texts(winner) == ["hello"]
    deletes = "conversations.delete" if queues.is_responses else "threads.delete"
    assert len(queues.provider.calls(deletes)) == 1


@pytest.mark.parametrize("mode", ["auto", "provider", "mapped"])
async def test_a_created_thread_can_be_used_whatever_thread_ids_says(
    queues: Queues, mode: str
) -> None:
    queue = queues.open(thread_ids=mode)
    thread = await queue.create_thread()
    await queue.create_message(thread, "hello")
    assert queues.provider.user_texts(thread) == ["hello"]
    assert (await queue.get_thread(thread)).id == thread


async def test_a_thread_or_run_that_the_provider_does_not_know_is_said_to_be_unknown(
    queues: Queues,
) -> None:
    queue = queues.open()
    unknown = f"{'conv' if queues.is_responses else 'thread'}_{'0' * 24}"
    with pytest.raises(UnknownThread):
        await queue.get_thread(unknown)
    with pytest.raises(UnknownThread):
        await queue.create_message(unknown, "hello")
    await queue.create_message("t", "hello")
    for call in (queue.get_run, queue.cancel_run):
        with pytest.raises(RunVanished, match="does not know this run"):
            await call("t", "run_unknown")


# --- beside the queue -----------------------------------------------------------------------------


async def test_what_writes_is_refused_while_a_worker_holds_the_thread(queues: Queues) -> None:
    queue = queues.open(max_attempts=1)
    await queue.start_worker()
    await queue.create_message("t", "before")
    with queues.provider.hold() as gate:
        receipt = await queue.add_message_to_thread("t", "hello")
        (run_id,) = await asyncio.to_thread(gate.wait_reached)
        output = {"tool_call_id": "c", "output": "x"}
        for call, *args in (
            ("create_message", "no"),
            ("create_run",),
            ("submit_tool_outputs", run_id, [output]),
        ):
            with pytest.raises(ThreadBusy, match="'t' is busy; nothing was sent"):
                await getattr(queue, call)("t", *args)
        assert [request.op for request in queues.provider.requests if request.method == "POST"] == [
            queues.opens,
            queues.adds,
            "responses.create" if queues.is_responses else "runs.create",
        ]
        assert (await queue.get_run("t", run_id)).status in {"queued", "in_progress"}
        assert (await queue.get_thread("t")).thread_id == "t"
        assert len(await queue.list_messages("t", limit=1)) == 1
    assert await queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: before | hello"
    await queue.create_message("t", "after")
    assert queues.provider.overlaps == ()


async def test_a_workers_run_can_be_cancelled(queues: Queues) -> None:
    queue = queues.open(max_attempts=1)
    await queue.start_worker()
    with queues.provider.hold() as gate:
        receipt = await queue.add_message_to_thread("t", "hello")
        (run_id,) = await asyncio.to_thread(gate.wait_reached)
        await queue.cancel_run("t", run_id)
        with pytest.raises(Exception, match="failed batch"):
            await queue.wait_for_reply(receipt.message_id, PATIENCE_S)
    assert queues.provider.runs[0].status == "cancelled"


async def test_a_message_added_during_a_call_is_answered_after_it(queues: Queues) -> None:
    queue = queues.open()
    await queue.start_worker()
    await queue.create_message("t", "one")
    producer = AssistantMessageQueue(**queues.options())
    receipts: list[str] = []

    def add(_: Request) -> bool:
        assert queues.lease("t") is not None
        receipts.append(producer.add_message_to_thread("t", "three").message_id)
        return True

    queues.provider.fault(queues.adds, delay(0.2), when=add)
    await queue.create_message("t", "two")
    assert await queue.wait_for_reply(receipts[0], PATIENCE_S) == "You said: one | two | three"
    assert len(queues.provider.runs) == 1
    producer.close()


@only_responses
async def test_the_lease_lasts_as_long_as_the_call(queues: Queues) -> None:
    queues.provider.personality = Personality(background="refused")
    queue = queues.open(request_timeout=0.5)
    await queue.create_message("t", "hello")
    key = f"{queues.prefix}:thread:t"
    with queues.provider.hold() as gate:
        call = asyncio.create_task(queue.create_run("t"))
        await asyncio.to_thread(gate.wait_reached)
        until = int(queues.redis.hget(key, "until"))
        await asyncio.to_thread(
            wait_until,
            lambda: int(queues.redis.hget(key, "until")) > until + 700,
            "the lease is renewed twice",
        )
        with pytest.raises(ThreadBusy):
            await queue.create_message("t", "another")
    run = await call
    assert run.status == "completed"
    assert not queues.provider.runs[-1].background
    assert queues.lease("t") is None
    assert (await queue.create_run("t")).status == "completed"
    assert [
        request.body.get("background") for request in queues.provider.calls("responses.create")
    ] == [True, None, None]


# --- what goes wrong ------------------------------------------------------------------------------


async def test_nothing_is_sent_twice_and_the_lease_is_given_back_after_an_error(
    queues: Queues,
) -> None:
    queue = queues.open(request_timeout=1.0)
    await queue.create_message("t", "hello")
    failures = [
        (refuse(500), OutcomeUnknown, "create_message, thread 't': .*HTTP 500.*list_messages"),
        (drop_connection(), OutcomeUnknown, "whether it was done is not known"),
        (refuse(429), RequestRefused, "HTTP 429.*try again later"),
        (refuse(400), RequestRefused, "HTTP 400.*correct the arguments"),
    ]
    for action, kind, words in failures:
        sent = len(queues.provider.calls(queues.adds))
        queues.provider.fault(queues.adds, action)
        with pytest.raises(kind, match=words) as caught:
            await queue.create_message("t", "again")
        assert isinstance(caught.value, BackendError)
        assert caught.value.__cause__ is not None
        assert queues.provider.api_key not in str(caught.value)
        assert len(queues.provider.calls(queues.adds)) == sent + 1
        assert queues.lease("t") is None
    await queue.create_message("t", "at last")


@pytest.mark.parametrize("kind", ["asyncio"])
async def test_a_cancelled_call_gives_the_lease_back(queues: Queues) -> None:
    queue = queues.open()
    await queue.create_message("t", "hello")
    queues.provider.fault(queues.adds, never_answer())
    call = asyncio.create_task(queue.create_message("t", "lost"))
    await asyncio.to_thread(
        queues.provider.wait_for, lambda asked: len(asked.calls(queues.adds)) == 2
    )
    assert queues.lease("t") is not None
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert queues.lease("t") is None
    await queue.create_message("t", "again")


class Shouting:
    """A backend of a user's own, with one direct call."""

    name = "shouting"
    capabilities = Capabilities(found_by=FoundBy.NOT_AT_ALL, conversations=False)

    async def _nothing(self, *_: Any) -> None: ...

    open_conversation = drop_conversation = locate = start = submit = follow = find = cancel = (
        close
    ) = _nothing

    def direct(self) -> Shouting:
        return self

    async def create_message(self, place: Any, content: str) -> str:
        return f"{place.thread_id}/{place.conversation_id}: {content.upper()}"


async def test_a_backend_without_a_call_says_so(queues: Queues) -> None:
    queue = queues.open(backend=Shouting(), model=None, assistant_id=None)
    assert await queue.create_message("t", "hello") == "t/: HELLO"
    for call, *args in (
        ("create_thread",),
        ("get_thread", "t"),
        ("create_run", "t"),
        ("get_run", "t", "run_1"),
    ):
        with pytest.raises(NotSupported, match=rf"'shouting' has no {call}\(\); nothing was sent"):
            await getattr(queue, call)(*args)
    assert queues.lease("t") is None


async def test_a_function_as_backend_has_no_direct_calls(queues: Queues) -> None:
    queue = queues.open(backend=lambda batch: batch.text, model=None, assistant_id=None)
    with pytest.raises(NotSupported, match=r"has no create_message\(\)"):
        await queue.create_message("t", "hello")
    with pytest.raises(NotSupported, match=r"has no list_messages\(\)"):
        await queue.list_messages("t")


async def test_without_a_backend_the_first_call_says_what_is_missing(queues: Queues) -> None:
    queue = queues.open(model=None, assistant_id=None)
    with pytest.raises(ConfigurationError, match="model="):
        await queue.create_thread()


async def test_wrong_arguments_are_refused_before_anything_is_done(queues: Queues) -> None:
    queue = queues.open()
    for call, *args in (
        ("create_thread", {"a": 1}),
        ("get_thread", ""),
        ("create_message", "t", "  "),
        ("list_messages", "t", 101),
        ("list_messages", "t", 20, "newest"),
        ("create_run", "t", ""),
        ("create_run", "t", None, "order"),
        ("get_run", "t", "../threads"),
        ("cancel_run", "t", ""),
        ("submit_tool_outputs", "t", "run_1", []),
    ):
        with pytest.raises(InvalidArgument):
            await getattr(queue, call)(*args)
    assert queues.provider.requests == ()
    assert list(queues.redis.scan_iter(match=f"{queues.prefix}:*")) == []


@pytest.mark.parametrize("kind", ["blocking"])
async def test_calls_after_close_open_again(queues: Queues) -> None:
    queue = queues.open()
    thread = await queue.create_thread()
    await queue.close()
    await queue.close()
    assert (await queue.get_thread(thread)).id == thread


# --- the next batch -------------------------------------------------------------------------------


@pytest.mark.parametrize("is_accepted", [True, False])
def test_a_batch_after_direct_calls_is_not_mistaken_for_them(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, *, is_accepted: bool
) -> None:
    """The same words were said and answered directly; then the batch's answer is lost."""
    queues = Queues("blocking", "responses", one_redis.url, prefix, provider)
    provider.latency = 0
    clock = FakeClock()
    with with_clock(AssistantMessageQueue(**queues.options()), clock) as queue:
        worker = InstantWorker(queue.config, clock)
        queue.add_message_to_thread("t", "first")
        worker.run_until_idle()
        assert "anchor" in queues.conversation("t")
        queue.create_message("t", "hello")
        assert "anchor" not in queues.conversation("t")
        queue.create_run("t")
        provider.wait_for(runs_ended=2)
        receipt = queue.add_message_to_thread("t", "hello")
        provider.fault(
            "responses.create", drop_connection(accept=True) if is_accepted else refuse(500)
        )
        worker.run_until_idle()
        status = queue.get_message(receipt.message_id)
        assert status.status == "completed"
        assert provider.user_texts(queues.conversation("t")["id"]) == ["first", "hello", "hello"]
        assert [run.user_texts for run in provider.runs] == [
            ("first",),
            (),
            ("hello",),
        ]  # a run without input has none
        assert provider.overlaps == ()
    queues.redis.close()


def test_openai_is_imported_at_the_first_call_and_not_before() -> None:
    code = (
        "import sys; from assistant_queue import AssistantMessageQueue as Q, AsyncAssistantMessageQueue as A; "
        "q = Q(model='m', openai_api_key='k'); a = A(model='m', openai_api_key='k'); q.close(); sys.exit('openai' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, timeout=PATIENCE_S).returncode
        == 0
    )


@pytest.mark.parametrize("protocol", ["chat_completions"])
async def test_what_the_queue_remembers_can_be_read_where_the_provider_keeps_nothing(
    queues: Queues,
) -> None:
    queue = queues.open(
        model="stand-in-model", protocol="chat_completions", assistant_id=None, message_delay=0
    )
    assert await queue.list_messages("t") == []
    await queue.start_worker()
    for text in ("one", "two", "three"):
        await queue.ask("t", text, timeout=PATIENCE_S)
    texts = ["one", "You said: one", "two", "You said: two", "three", "You said: three"]
    oldest = await queue.list_messages("t", order="asc")
    assert [message.text for message in oldest] == texts
    assert [message.role for message in oldest] == ["user", "assistant"] * 3
    assert [message.run_id for message in oldest if message.run_id] == [
        run.id for run in queues.provider.runs
    ]
    assert [message.text for message in await queue.list_messages("t", limit=2)] == texts[:3:-1]
    page = await queue.list_messages("t", limit=2, order="asc", after=oldest[1].id)
    assert [message.text for message in page] == texts[2:4]
    page = await queue.list_messages("t", limit=2, order="asc", before=oldest[4].id)
    assert [message.text for message in page] == texts[2:4]
    for call, arguments in {
        "create_message": ("t", "hi"),
        "create_run": ("t",),
        "create_thread": (),
        "get_run": ("t", "chatcmpl-1"),
    }.items():
        with pytest.raises(NotSupported, match=rf"'chat_completions' has no {call}\(\)"):
            await getattr(queue, call)(*arguments)
    assert len(await queue.list_messages("t")) == 6, "a call that is not there changes nothing"
    await queue.forget_thread("t")
    assert await queue.list_messages("t") == []
