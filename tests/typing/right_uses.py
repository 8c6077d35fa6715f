"""Uses that mypy --strict and pyright accept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    BackoffKeywords,
    Batch,
    Content,
    ErrorInfo,
    Event,
    FailedBatch,
    FailureReason,
    LoopWorkerHandle,
    Message,
    MessageRow,
    MessageState,
    MessageStatus,
    OnReply,
    PostponedBatch,
    Receipt,
    RunResult,
    ToolCall,
    ToolOutput,
    Validator,
    WorkerHandle,
    max_length,
    no_markup,
)
from assistant_queue.events import ReplyReady, TextDelta


def send(result: RunResult) -> None:
    print(result.reply)


async def send_async(result: RunResult) -> bool:
    return result.status == "completed"


def send_anything(result: object) -> None:
    print(result)


def send_untyped(result: Any) -> Any:
    return result


def send_with_more(result: RunResult, channel: str = "default") -> None:
    print(channel, result.reply)


class Sender:
    def __call__(self, result: RunResult) -> None:
        print(self, result.replies)

    async def send(self, result: RunResult) -> None:
        print(self, result.replies)


def instructions(batch: Batch) -> str:
    return f"Speak to {', '.join(batch.authors)}."


async def instructions_async(batch: Batch) -> str | None:
    return batch.text or None


def fall_back(batch: Batch, error: ErrorInfo) -> str | None:
    return None if error.code == "parked" else f"Sorry: {len(batch.messages)}"


async def fall_back_async(batch: Batch, error: ErrorInfo) -> str:
    return f"{batch.id}: {error.message}"


def handle(thread_id: str, run_id: str, tool_calls: list[ToolCall]) -> list[dict[str, Any]]:
    return [
        {"tool_call_id": one.id, "output": thread_id + run_id + one.function.arguments}
        for one in tool_calls
    ]


def handle_plain(thread_id: str, run_id: str, calls: Sequence[ToolCall]) -> list[dict[str, str]]:
    return [{"tool_call_id": one.id, "output": thread_id + run_id} for one in calls]


async def handle_async(thread_id: str, run_id: str, calls: list[ToolCall]) -> list[ToolOutput]:
    return [ToolOutput(one.id, {"thread": thread_id, "run": run_id}) for one in calls]


def polite(message: Message) -> str | None:
    return None if "please" in message.text else "say please"


def strict(message: Message) -> None:
    if message.author is None:
        raise ValueError("an author is needed")


backoff: BackoffKeywords = {"type": "fixed", "delay": 2}
deliveries: list[OnReply] = [
    send, send_async, send_anything, send_untyped, send_with_more, Sender(), Sender().send, print,
    lambda result: print(result.reply),
]  # fmt: skip
checks: list[Validator] = [max_length(2000), no_markup(), polite, strict, lambda message: None]

queue = AssistantMessageQueue(
    redis_url="redis://localhost:6379/0",
    model="any",
    message_delay=3,
    window="sliding",
    max_wait=20,
    backoff={"type": "exponential", "delay": 1.5},
    validators=[max_length(2000), polite],
    on_reply=send_async,
    default_instructions=instructions_async,
    fallback_reply="Sorry, something went wrong.",
    handle_requires_action=handle,
    tools=[{"type": "function", "name": "order_status"}],
)
second = AssistantMessageQueue(
    assistant_id="asst_1",
    backoff=backoff,
    default_instructions=instructions,
    fallback_reply=fall_back,
    handle_requires_action=handle_async,
    on_reply=lambda result: send(result),
    validators=(polite,),
)
third = AsyncAssistantMessageQueue(
    backend=instructions,
    default_instructions=None,
    fallback_reply=fall_back_async,
    handle_requires_action=handle_plain,
    on_reply=None,
)

rows: list[MessageRow] = [
    {"thread_id": "t", "message": "Hello", "author": "Mia", "metadata": {"k": "v"}},
    {"thread_id": "t", "message": [{"type": "text", "text": "Hi"}], "message_id": None},
]


from_json: list[dict[str, Any]] = [{"thread_id": "t", "message": "Hello"}]


def generated() -> Iterator[MessageRow]:
    for number in range(3):
        yield {"thread_id": f"t{number}", "message": "Hello"}


@queue.tool
def order_status(order: int) -> str:
    """Look an order up."""
    return f"{order} is on its way"


@queue.tool(name="weather", timeout=5)
async def weather_in(city: str) -> dict[str, str]:
    """Look the weather up."""
    return {city: "sunny"}


def on_completed(result: RunResult) -> None:
    print(result.usage)


async def on_failed(batch: FailedBatch, error: Exception) -> None:
    reason: FailureReason = batch.reason
    print(reason, error)


@queue.on("completed")
def count_tokens(result: RunResult) -> None:
    print(result.usage)


@queue.on("undelivered")
async def page_staff(failed: FailedBatch) -> None:
    print(failed.reason)


@queue.on("retrying")
def note_retry(batch: PostponedBatch) -> str:
    return batch.retry_at.isoformat()


queue.on("started", lambda batch: print(batch.messages))
queue.on("delivered", lambda reply: print(reply.result.reply, reply.channel))
queue.on("failed", page_staff)
queue.on("stopped", print)
as_given: Callable[[RunResult], None] = count_tokens
also: Callable[[FailedBatch], object] = queue.on("failed", page_staff)


def blocking(content: Content) -> None:
    with queue:
        receipt: Receipt = queue.add_message_to_thread("t", content, author="Mia")
        receipts: list[Receipt] = queue.add_messages(rows)
        queue.add_messages(generated())
        queue.add_messages(from_json)
        queue.add_messages(row for row in from_json if row["thread_id"])
        queue.add_messages([{"thread_id": "t", "message": "Hello", "wants_reply": False}])
        status: MessageStatus | None = queue.get_message(receipt.message_id)
        if status is not None and status.status == MessageState.COMPLETED.value:
            print(status.reply)
        if status is not None and status.status == MessageState.CANCELLED:
            print(status.run_id)
        if status is not None and status.status in {MessageState.QUEUED, MessageState.PROCESSING}:
            print(status.reply)
        if status is not None and status.status == "failed":
            print(status.error)
        reply: str | None = queue.wait_for_reply(receipts[0].message_id, 5)
        event: Event
        for event in queue.events("t", timeout=1):
            if event.type == "text_delta":
                print(event.text)
            if isinstance(event, ReplyReady):
                print(event.reply)
        for event in queue.feed(after="0", timeout=1):
            print(event.thread_id, event.type)
        said: Receipt = queue.say("t", "One moment", author="Jo", kind="notice")
        worker: WorkerHandle = queue.start_worker()
        worker.on("completed", on_completed).on("failed", on_failed).on("completed", print).stop()
        number: str = order_status(4711)
        queue.submit_tool_outputs("t", "run_1", [{"tool_call_id": "c", "output": "x"}])
        print(said, reply, number, queue.list_messages("t", order="asc"))


async def awaited() -> None:
    async with third as opened:
        receipt = await opened.add_message_to_thread("t", "Hello")
        await opened.add_messages(rows)
        async for event in opened.events("t", after="0"):
            if isinstance(event, TextDelta):
                print(event.text, receipt.due_at.isoformat())
        async for event in opened.feed():
            print(event.thread_id)
        opened.on("failed", page_staff)
        worker: LoopWorkerHandle = await opened.start_worker()
        worker.on("failed", on_failed).on("completed", on_completed)
        await worker.stop()
        weather: Awaitable[dict[str, str]] = weather_in("Rome")
        print(await weather)


def choose(fast: bool) -> Callable[[RunResult], None]:
    return send if fast else send_with_more
