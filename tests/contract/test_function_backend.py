"""Any callable as a backend: what it may be, what it may return and raise, and what a death during a call means."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    Batch,
    BatchFailed,
    ConfigurationError,
    ConversationBusy,
    FunctionBackend,
    Message,
    RequestRefused,
    RunContext,
    UnknownThread,
)
from assistant_queue.backends.base import (
    Backend,
    CannotAsk,
    InputItem,
    NotFound,
    RunAccepted,
    RunEnded,
    RunRequest,
    TextChunk,
)
from assistant_queue.backends.factory import make_backend
from assistant_queue.core.retry import Backoff
from assistant_queue.errors import OutcomeUnknown, RunFailed, RunVanished
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.harness import Crash, InstantWorker
from tests.conftest import PATIENCE_S, RedisServer, with_clock

TEXTS = ("hi", "one question", "about my order")


def request(*texts: str, author: str | None = None, **fields: Any) -> RunRequest:
    messages = tuple(
        Message(id=f"m{place}", content=text, author=author)
        for place, text in enumerate(texts or ("hello",))
    )
    return RunRequest(
        batch=Batch(id="b", thread_id="t", messages=messages),
        conversation_id="",
        anchor=None,
        items=tuple(
            InputItem(content=f"{author or 'you'}: {message.content}", message_ids=(message.id,))
            for message in messages
        ),
        **fields,
    )


async def events_of(function: Callable[..., Any], **options: Any) -> list[Any]:
    backend = FunctionBackend(function, **options)
    return [event async for event in backend.start(request("hello", "you"))]


async def end_of(function: Callable[..., Any]) -> RunEnded:
    first, *_, last = await events_of(function)
    assert isinstance(first, RunAccepted)
    assert isinstance(last, RunEnded)
    assert last.run_id == first.run_id
    return last


# --- what it may be -------------------------------------------------------------------------------


def sync(batch: Batch) -> str:
    return batch.text.upper()


async def on_loop(batch: Batch) -> str:
    return batch.text.upper()


def pieces(batch: Batch) -> Iterator[str]:
    for message in batch.messages:
        yield message.text.upper()
        yield "\n" if message is not batch.messages[-1] else ""


async def pieces_on_loop(batch: Batch) -> AsyncIterator[str]:
    for piece in pieces(batch):
        yield piece


class Agent:
    def run(self, batch: Batch) -> str:
        return sync(batch)

    def __call__(self, batch: Batch) -> str:
        return sync(batch)


class AsyncAgent:
    async def __call__(self, batch: Batch) -> str:
        return sync(batch)


def returns_a_coroutine(batch: Batch) -> Any:
    return on_loop(batch)


def returns_a_stream(batch: Batch) -> Any:
    return pieces_on_loop(batch)


def shouting(end: str, batch: Batch) -> str:
    return sync(batch) + end


@pytest.mark.parametrize(
    "function",
    [
        sync,
        on_loop,
        pieces,
        pieces_on_loop,
        Agent(),
        Agent().run,
        AsyncAgent(),
        lambda batch: batch.text.upper(),
        returns_a_coroutine,
        returns_a_stream,
        functools.partial(shouting, ""),
        functools.partial(on_loop),
    ],
)
async def test_any_callable_answers(function: Callable[..., Any]) -> None:
    ended = await end_of(function)
    assert (ended.status, ended.replies) == ("completed", ("HELLO\nYOU",))


@pytest.mark.parametrize("function", [pieces, pieces_on_loop])
async def test_what_is_yielded_is_streamed(function: Callable[..., Any]) -> None:
    _, *deltas, _ = await events_of(function)
    assert deltas == [TextChunk(text=text) for text in ("HELLO", "\n", "YOU", "")]


@pytest.mark.parametrize(
    ("returned", "replies"),
    [("a", ("a",)), (None, ()), ("", ()), (["a", "b"], ("a", "b")), (("a",), ("a",)), ([], ())],
)
async def test_what_is_returned_is_the_reply(returned: Any, replies: tuple[str, ...]) -> None:
    assert (await end_of(lambda _: returned)).replies == replies


@pytest.mark.parametrize(
    ("returned", "called"),
    [(7, "int"), ({"reply": "a"}, "dict"), (["a", 7], "list"), (b"a", "bytes")],
)
async def test_another_return_value_is_a_failed_run_that_names_the_function(
    returned: Any, called: str
) -> None:
    def answer(_: Batch) -> Any:
        return returned

    ended = await end_of(answer)
    assert ended.status == "failed"
    assert f"answer returned {called}" in ended.error.message


async def test_a_piece_that_is_no_text_is_a_failed_run() -> None:
    ended = await end_of(lambda _: iter(["a", 7]))
    assert (ended.status, ended.replies) == ("failed", ())
    assert "yielded int" in ended.error.message


async def test_a_sync_function_does_not_block_the_loop_and_sees_the_callers_context() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")
    name.set("Mia")
    begun, free = threading.Event(), threading.Event()

    def waits(_: Batch) -> str:
        begun.set()
        assert free.wait(PATIENCE_S)
        return name.get()

    task = asyncio.ensure_future(end_of(waits))
    assert await asyncio.to_thread(begun.wait, PATIENCE_S)
    free.set()
    assert (await task).replies == ("Mia",)


async def test_the_context_says_what_the_model_should_read() -> None:
    seen: list[RunContext] = []

    def by_annotation(batch: Batch, run: RunContext) -> None:
        seen.append(run)

    def by_name(batch: Any, *, context: Any = None) -> None:
        seen.append(context)

    for function in (by_annotation, by_name):
        sent = request("one", "two", author="Mia", instructions="be kind", deadline_s=12.0)
        _ = [event async for event in FunctionBackend(function).start(sent)]
    assert seen[0] == seen[1]
    assert (seen[0].text, seen[0].instructions, seen[0].deadline_s) == (
        "Mia: one\nMia: two",
        "be kind",
        12.0,
    )
    assert seen[0].run_id == "b-1"


def test_the_text_of_content_parts_is_their_text() -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "x"}}]
    context = RunContext(run_id="r", contents=(parts, "and"), instructions=None, deadline_s=1)
    assert context.text == "look\nand"


# --- what it may raise ----------------------------------------------------------------------------


def raising(error: BaseException, *, on_the_loop: bool = False) -> Callable[[Batch], Any]:
    def answer(_: Batch) -> str:
        raise error

    async def answer_on_the_loop(_: Batch) -> str:
        raise error

    return answer_on_the_loop if on_the_loop else answer


@pytest.mark.parametrize("on_the_loop", [False, True])
@pytest.mark.parametrize(
    ("error", "code", "counts", "after"),
    [
        (ValueError("no"), "run_failed", True, None),
        (StopIteration(), "run_failed", True, None),
        (TimeoutError("slow"), "run_failed", True, None),
        (RequestRefused("full", retry_after_s=7, counts=False), "request_refused", False, 7),
        (RequestRefused("bad"), "request_refused", True, None),
        (ConversationBusy("locked"), "conversation_busy", False, None),
        (RunFailed("model down", retry_after_s=3), "run_failed", True, 3),
    ],
)
async def test_what_it_raises_is_a_failed_run(
    error: Exception, code: str, counts: bool, after: float | None, on_the_loop: bool
) -> None:
    ended = await end_of(raising(error, on_the_loop=on_the_loop))
    assert (ended.status, ended.error.code, ended.counts, ended.retry_after_s) == (
        "failed",
        code,
        counts,
        after,
    )


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
async def test_an_exit_on_its_thread_does_not_end_the_worker(error: BaseException) -> None:
    ended = await end_of(raising(error))
    assert ended.status == "failed"
    assert type(error).__name__ in ended.error.message


@pytest.mark.parametrize("error", [UnknownThread("who?"), OutcomeUnknown("perhaps")])
async def test_what_only_it_can_know_is_passed_on(error: Exception) -> None:
    with pytest.raises(type(error)):
        await events_of(raising(error))


async def test_a_task_cancelled_within_the_function_is_a_failed_run() -> None:
    ended = await end_of(raising(asyncio.CancelledError(), on_the_loop=True))
    assert (ended.status, ended.error.code) == ("failed", "run_failed")


# --- what is refused ------------------------------------------------------------------------------


def nothing() -> str:
    return ""


def only_names(*, batch: Batch) -> str:
    return batch.text


def two(batch: Batch, session: object) -> str:
    return batch.text + str(session)


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        (nothing, "function:nothing takes no batch"),
        (only_names, "function:only_names takes no batch"),
        (two, "function:two requires the parameter 'session'"),
        (Agent, "is the class function:Agent"),
        (FunctionBackend, "is the class"),
        (object(), "expected a function, or an object"),
    ],
)
def test_what_cannot_answer_is_refused_before_anything_starts(backend: Any, says: str) -> None:
    with (
        AssistantMessageQueue(backend=backend) as queue,
        pytest.raises(ConfigurationError, match=says),
    ):
        queue.start_worker()


def test_a_callable_is_wrapped_and_a_backend_taken_as_it_is() -> None:
    with AssistantMessageQueue(backend=sync) as queue:
        assert isinstance(make_backend(queue.config), FunctionBackend)
        assert queue.config.fingerprint == {"backend": "function:sync", "tools": False}
    given = FunctionBackend(sync, name="shop", idempotent=True)
    with AssistantMessageQueue(backend=given) as queue:
        assert make_backend(queue.config) is given
        assert queue.config.fingerprint == {"backend": "shop", "tools": False}


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        (functools.partial(shouting, "!"), "function:shouting"),
        (Agent(), "function:Agent"),
        (Agent().run, "function:Agent.run"),
    ],
)
def test_a_callables_name_is_the_same_wherever_it_was_imported_from(
    backend: Any, name: str
) -> None:
    assert FunctionBackend(backend).name == name


def test_it_is_a_backend() -> None:
    assert isinstance(FunctionBackend(sync), Backend)


async def test_what_it_cannot_do_it_says() -> None:
    backend = FunctionBackend(sync)
    assert await backend.open_conversation("t") == "t"
    assert await backend.locate("t") is None
    for stream in (backend.follow(request(), "r"), backend.submit(request(), "r", (), {})):
        with pytest.raises(RunVanished):
            await anext(stream)


@pytest.mark.parametrize(
    ("function", "idempotent", "run_id", "finding"),
    [
        (sync, False, None, CannotAsk),  # a time-out may have left its thread at work
        (sync, False, "b-1", CannotAsk),
        (on_loop, False, None, NotFound),  # it was not called, or was cancelled
        (on_loop, False, "b-1", CannotAsk),
        (sync, True, "b-1", NotFound),
        (on_loop, True, "b-1", NotFound),
    ],
)
async def test_only_idempotent_and_uncalled_functions_are_called_again(
    function: Any, idempotent: bool, run_id: str | None, finding: type
) -> None:
    assert isinstance(
        await FunctionBackend(function, idempotent=idempotent).find(request(), run_id), finding
    )


# --- cancelling -----------------------------------------------------------------------------------


async def test_a_coroutine_is_cancelled_with_its_stream() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hangs(_: Batch) -> str:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()
        return ""

    task = asyncio.ensure_future(end_of(hangs))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_generators_are_closed_when_their_stream_is_closed() -> None:
    closed = threading.Event()

    def endless(_: Batch) -> Iterator[str]:
        try:
            while True:
                yield "a"
        finally:
            closed.set()

    async def endless_on_the_loop(_: Batch) -> AsyncIterator[str]:
        try:
            while True:
                yield "a"
        finally:
            closed.set()

    for function in (endless, endless_on_the_loop):
        closed.clear()
        stream = FunctionBackend(function).start(request())
        assert isinstance(await anext(stream), RunAccepted)
        assert await anext(stream) == TextChunk(text="a")
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator
        assert await asyncio.to_thread(closed.wait, PATIENCE_S)


def test_a_function_that_never_returns_does_not_keep_the_process(
    redis_server: RedisServer, prefix: str
) -> None:
    program = f"""
import threading
from assistant_queue import AssistantMessageQueue
begun = threading.Event()
def hangs(batch):
    begun.set()
    threading.Event().wait()
queue = AssistantMessageQueue(backend=hangs, redis_url={redis_server.url!r}, queue_prefix={prefix!r}, message_delay=0)
worker = queue.start_worker()
queue.add_message_to_thread("t", "hello")
begun.wait()
worker.stop(timeout=0)
queue.close()
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr


# --- in a queue -----------------------------------------------------------------------------------


class Shop:
    """A queue over a function that remembers what it was asked; `answers` are raised or returned, one a call, then the texts."""

    def __init__(
        self,
        redis_server: RedisServer,
        prefix: str,
        *,
        kind: str = "async",
        idempotent: bool = False,
        **options: Any,
    ) -> None:
        self.calls: list[Batch] = []
        self.answers: list[Any] = []
        self.clock = FakeClock()
        backend = FunctionBackend(
            self.answer if kind == "sync" else self.answer_on_loop, idempotent=idempotent
        )
        self.queue = AssistantMessageQueue(
            backend=backend,
            redis_url=redis_server.url,
            queue_prefix=prefix,
            message_delay=5,
            **options,
        )
        self.queue = with_clock(self.queue, self.clock)

    def answer(self, batch: Batch) -> Any:
        self.calls.append(batch)
        answer = self.answers.pop(0) if self.answers else f"You said: {batch.text}"
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def answer_on_loop(self, batch: Batch) -> Any:
        answer = self.answer(batch)
        return await answer if asyncio.isfuture(answer) or asyncio.iscoroutine(answer) else answer

    def add(self, *texts: str) -> list[str]:
        return [self.queue.add_message_to_thread("t", text).message_id for text in texts]

    def work(self, probe: Any = None) -> None:
        InstantWorker(self.queue.config, self.clock, probe=probe).run_until_idle()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_burst_is_one_call(redis_server: RedisServer, prefix: str, kind: str) -> None:
    shop = Shop(redis_server, prefix, kind=kind)
    ids = shop.add(*TEXTS)
    shop.work()
    assert [call.text for call in shop.calls] == ["\n".join(TEXTS)]
    status = shop.queue.get_message(ids[0])
    assert (status.reply, status.run_id) == (
        "You said: " + "\n".join(TEXTS),
        f"{shop.calls[0].id}-1",
    )
    shop.queue.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_function_that_raises_is_called_again_with_the_same_batch_and_buried_at_last(
    redis_server: RedisServer, prefix: str, kind: str
) -> None:
    shop = Shop(redis_server, prefix, kind=kind, max_attempts=2)
    shop.answers = [ValueError("oops")]
    (first,) = shop.add("one")
    shop.work()
    assert shop.queue.wait_for_reply(first, 0) == "You said: one"
    assert len({call.id for call in shop.calls}) == 1
    assert [call.attempts for call in shop.calls] == [1, 2]

    shop.answers = [ValueError("oops")] * 2
    (second,) = shop.add("two")
    shop.work()
    with pytest.raises(BatchFailed, match=r"Shop\.answer\w* raised ValueError: oops"):
        shop.queue.wait_for_reply(second, 0)
    shop.queue.close()


def test_not_accepted_is_tried_again_for_longer_than_attempts_last(
    redis_server: RedisServer, prefix: str
) -> None:
    shop = Shop(redis_server, prefix, max_attempts=1)
    shop.answers = [ConversationBusy("locked")] * 3 + [
        RequestRefused("full", retry_after_s=100, counts=False)
    ]
    (message_id,) = shop.add("one")
    before = shop.clock.ms
    shop.work()
    assert shop.queue.wait_for_reply(message_id, 0) == "You said: one"
    assert shop.clock.ms - before > 100_000
    assert len(shop.calls) == 5
    shop.queue.close()


def test_a_thread_that_the_function_does_not_know_is_buried_at_once(
    redis_server: RedisServer, prefix: str
) -> None:
    shop = Shop(redis_server, prefix)
    shop.answers = [UnknownThread("who?")]
    shop.add("one")
    shop.work()
    assert [failed.reason for failed in shop.queue.list_failed()] == ["unknown_thread"]
    shop.queue.close()


@pytest.mark.parametrize("idempotent", [False, True])
def test_perhaps_is_parked_or_called_again(
    redis_server: RedisServer, prefix: str, idempotent: bool
) -> None:
    shop = Shop(redis_server, prefix, idempotent=idempotent)
    shop.answers = [OutcomeUnknown("the gateway timed out")]
    (message_id,) = shop.add("one")
    shop.work()
    if idempotent:
        assert shop.queue.wait_for_reply(message_id, 0) == "You said: one"
        assert [call.id for call in shop.calls] == [shop.calls[0].id] * 2
    else:
        assert [failed.reason for failed in shop.queue.list_failed()] == ["parked"]
        assert len(shop.calls) == 1
    shop.queue.close()


class CrashAt:
    """Dies at the k-th point it passes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.passed = 0
        self.name = ""

    def __call__(self, name: str, _: Batch) -> None:
        self.passed += 1
        if self.passed == self.number:
            self.name = name
            raise Crash(name)


def crash_everywhere(
    redis_server: RedisServer, prefix: str, **options: Any
) -> Iterator[tuple[str, Shop]]:
    """For each point: run, die there, recover; the point's name and what became of it, at last without a death."""
    number = 0
    name = "first"
    while name:
        number += 1
        shop = Shop(redis_server, f"{prefix}-{number}", **options)
        shop.add(*TEXTS)
        crash = CrashAt(number)
        try:
            shop.work(crash)
        except Crash:
            shop.add("late")
            shop.work()
        name = crash.name
        yield name, shop
        shop.queue.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_idempotent_function_survives_a_death_at_every_step(
    redis_server: RedisServer, prefix: str, kind: str
) -> None:
    names = []
    for name, shop in crash_everywhere(redis_server, prefix, kind=kind, idempotent=True):
        where = f"died {name}"
        names.append(name)
        texts = {call.id: call.text for call in shop.calls}
        assert list(texts.values()) == ["\n".join(TEXTS), *(["late"] if name else [])], where
        again = len(shop.calls) - len(texts)
        assert again == (1 if name in {"after Watch", "before Finish"} else 0), where
        assert shop.queue.list_failed() == [], where
        status = shop.queue.get_queue_status()
        assert (
            status.completed_count,
            status.active_count,
            status.waiting_count,
            status.delayed_count,
        ) == (4 if name else 3, 0, 0, 0)
    assert {
        "before Start",
        "after Start",
        "before Watch",
        "after Watch",
        "before Finish",
        "after Finish",
    } <= set(names)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_any_other_function_is_never_called_twice_and_what_is_not_known_is_parked(
    redis_server: RedisServer, prefix: str, kind: str
) -> None:
    outcomes = {}
    for name, shop in crash_everywhere(redis_server, prefix, kind=kind):
        where = f"died {name}"
        assert len(shop.calls) == len({call.id for call in shop.calls}), where
        parked = shop.queue.list_failed()
        assert {failed.reason for failed in parked} <= {"parked"}, where
        status = shop.queue.get_queue_status()
        assert status.completed_count + status.failed_count == (4 if name else 3), where
        outcomes[name] = bool(parked)
    assert outcomes[""] is False
    assert outcomes["after Watch"] is outcomes["before Finish"] is True
    # While it is being sent a coroutine has not been called yet.
    assert outcomes["before Start"] is outcomes["after Start"] is (kind == "sync")


def test_a_parked_batch_can_be_retried_by_a_person(redis_server: RedisServer, prefix: str) -> None:
    shop = Shop(redis_server, prefix)
    shop.answers = [OutcomeUnknown("perhaps")]
    (message_id,) = shop.add("one")
    shop.work()
    shop.queue.retry_failed(shop.queue.list_failed()[0].batch_id)
    shop.work()
    assert shop.queue.wait_for_reply(message_id, 0) == "You said: one"
    shop.queue.close()


@pytest.mark.parametrize(
    ("kind", "idempotent", "reason"),
    [("async", False, "attempts"), ("sync", False, "parked"), ("sync", True, "attempts")],
)
def test_a_call_that_outlives_run_timeout_is_given_up(
    redis_server: RedisServer, prefix: str, kind: str, idempotent: bool, reason: str
) -> None:
    let_go = threading.Event()

    def hangs(_: Batch) -> None:
        let_go.wait(PATIENCE_S)

    async def hangs_on_the_loop(_: Batch) -> None:
        await asyncio.get_running_loop().create_future()

    backend = FunctionBackend(hangs if kind == "sync" else hangs_on_the_loop, idempotent=idempotent)
    options = {"message_delay": 0, "run_timeout": 0.05, "request_timeout": 0.05, "max_attempts": 2}
    clock = FakeClock()
    with with_clock(
        AssistantMessageQueue(
            backend=backend, redis_url=redis_server.url, queue_prefix=prefix, **options
        ),
        clock,
    ) as queue:
        queue.add_message_to_thread("t", "one")
        InstantWorker(queue.config, clock).run_until_idle()
        assert [failed.reason for failed in queue.list_failed()] == [reason]
    let_go.set()


async def test_the_asyncio_class_calls_it_on_its_own_loop(
    redis_server: RedisServer, prefix: str
) -> None:
    home = asyncio.get_running_loop()

    async def answer(_: Batch) -> str:
        return str(asyncio.get_running_loop() is home)

    async with AsyncAssistantMessageQueue(
        backend=answer, redis_url=redis_server.url, queue_prefix=prefix, message_delay=0
    ) as queue:
        await queue.start_worker()
        assert await queue.ask("t", "?", timeout=PATIENCE_S) == "True"


def test_instructions_and_authors_reach_the_function(
    redis_server: RedisServer, prefix: str
) -> None:
    def answer(batch: Batch, context: RunContext) -> str:
        return f"[{context.instructions}] {context.text}"

    options: dict[str, Any] = {
        "backend": answer,
        "redis_url": redis_server.url,
        "queue_prefix": prefix,
        "message_delay": 0,
    }
    with AssistantMessageQueue(
        **options, default_instructions=lambda batch: f"greet {batch.authors[0]}"
    ) as queue:
        queue.start_worker()
        assert queue.ask("t", "hello", author="Mia", timeout=PATIENCE_S) == "[greet Mia] Mia: hello"


def test_a_backend_that_cannot_follow_is_asked_about_a_cut_stream(
    redis_server: RedisServer, prefix: str
) -> None:
    class Cuts(FunctionBackend):
        async def start(self, request: RunRequest) -> AsyncIterator[Any]:
            yield RunAccepted(run_id="r")
            if request.batch.attempts > 1:
                yield RunEnded(run_id="r", status="completed", replies=("at last",))

    options: dict[str, Any] = {"backoff": {"type": Backoff().type, "delay": 0}, "message_delay": 0}
    clock = FakeClock()
    with with_clock(
        AssistantMessageQueue(
            backend=Cuts(on_loop, idempotent=True),
            redis_url=redis_server.url,
            queue_prefix=prefix,
            **options,
        ),
        clock,
    ) as queue:
        receipt = queue.add_message_to_thread("t", "one")
        InstantWorker(queue.config, clock).run_until_idle()
        assert queue.wait_for_reply(receipt.message_id, 0) == "at last"


# --- what is remembered ---------------------------------------------------------------------------


class Remembering:
    """A function with a history, and what it received."""

    def __init__(self) -> None:
        self.told: list[list[tuple[str, str]]] = []
        self.fails = 0

    def __call__(self, batch: Batch, context: RunContext) -> str:
        self.told.append([(one.role, one.text) for one in context.history])
        if self.fails:
            self.fails -= 1
            raise RuntimeError("not now")
        return f"reply to {batch.text}"


def remembering_queue(
    url: str, prefix: str, function: Any, **options: Any
) -> tuple[AssistantMessageQueue, FakeClock]:
    history = options.pop("history", 4)
    idempotent = options.pop("idempotent", False)
    backend = FunctionBackend(function, name="remembering", history=history, idempotent=idempotent)
    queue = AssistantMessageQueue(redis_url=url, queue_prefix=prefix, backend=backend, **options)
    clock = FakeClock()
    queue = with_clock(queue, clock)
    return queue, clock


def test_a_function_receives_what_was_said_before_and_no_more_than_it_asked_for(
    redis_server: RedisServer, prefix: str
) -> None:
    function = Remembering()
    queue, clock = remembering_queue(redis_server.url, prefix, function)
    with queue:
        for text in ("one", "two", "three"):
            queue.add_message_to_thread("t", text)
            InstantWorker(queue.config, clock).run_until_idle()
        queue.add_message_to_thread("somebody else", "hello")
        InstantWorker(queue.config, clock).run_until_idle()
    one = [("user", "one"), ("assistant", "reply to one")]
    two = [("user", "two"), ("assistant", "reply to two")]
    assert function.told == [[], one, [*one, *two], []]


def test_what_is_remembered_outlives_failures_and_goes_with_the_thread(
    redis_server: RedisServer, prefix: str
) -> None:
    function = Remembering()
    queue, clock = remembering_queue(redis_server.url, prefix, function, max_attempts=2)
    with queue:
        queue.add_message_to_thread("t", "one")
        InstantWorker(queue.config, clock).run_until_idle()
        function.fails = 2
        queue.add_message_to_thread("t", "two")
        InstantWorker(queue.config, clock).run_until_idle()
        assert [failed.reason for failed in queue.list_failed()] == ["attempts"]
        queue.add_message_to_thread("t", "three")
        InstantWorker(queue.config, clock).run_until_idle()
        said = [("user", "one"), ("assistant", "reply to one")]
        assert function.told == [[], said, said, said]
        queue.forget_thread("t")
        queue.add_message_to_thread("t", "four")
        InstantWorker(queue.config, clock).run_until_idle()
        assert function.told[-1] == []


def test_a_history_is_written_once_wherever_the_worker_dies(
    redis_server: RedisServer, prefix: str
) -> None:
    number = 0
    name = "start"
    while name:
        number = number + 1
        name = ""
        function = Remembering()
        passed = 0

        def die(point: str, _: Batch) -> None:
            nonlocal passed, name
            passed += 1
            if passed == number:  # noqa: B023 - used within this turn of the loop only
                name = point
                raise Crash(point)

        queue, clock = remembering_queue(
            redis_server.url, f"{prefix}-{number}", function, idempotent=True, history=10
        )
        with queue:
            queue.add_message_to_thread("t", "one")
            InstantWorker(queue.config, clock).run_until_idle()
            queue.add_message_to_thread("t", "two")
            try:
                InstantWorker(queue.config, clock, probe=die).run_until_idle()
            except Crash:
                InstantWorker(queue.config, clock).run_until_idle()
            queue.add_message_to_thread("t", "three")
            InstantWorker(queue.config, clock).run_until_idle()
        said = [
            (role, text)
            for word in ("one", "two")
            for role, text in (("user", word), ("assistant", f"reply to {word}"))
        ]
        assert function.told[-1] == said, f"died at point {number}, {name}"
    assert number > 8


@pytest.mark.parametrize("history", [-1, 1001, 2.5, True, "all", None])
def test_a_history_of_no_size_is_refused(history: Any) -> None:
    with pytest.raises(ConfigurationError, match="history"):
        FunctionBackend(sync, history=history)
