"""Uses that mypy --strict and pyright reject: each line with the mark, and no other."""

from __future__ import annotations

import assistant_queue
from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    BackoffKeywords,
    Batch,
    ErrorInfo,
    FailedBatch,
    FailureReason,
    Message,
    MessageRow,
    MessageStatus,
    RunResult,
    ToolCall,
    Validator,
)
from assistant_queue.core.steps import Completed
from assistant_queue.events import MessageDeleted  # wrong


def send_text(text: str) -> None: ...
def send_nothing() -> None: ...
def send_two(result: RunResult, chat: str) -> None: ...
def no_text(batch: Batch) -> int:
    raise NotImplementedError


async def no_text_async(batch: Batch) -> int:
    raise NotImplementedError


def one_argument(batch: Batch) -> str:
    raise NotImplementedError


def wrong_error(batch: Batch, error: ValueError) -> str:
    raise NotImplementedError


def one_output(thread_id: str, run_id: str, tool_calls: list[ToolCall]) -> str:
    raise NotImplementedError


def no_run(thread_id: str, tool_calls: list[ToolCall]) -> list[dict[str, str]]:
    raise NotImplementedError


async def awaits(message: Message) -> str | None:
    raise NotImplementedError


def says_yes(message: Message) -> bool:
    raise NotImplementedError


def wants_text(message: str) -> str | None:
    raise NotImplementedError


def on_failed(batch: FailedBatch, error: Exception) -> None: ...
def on_completed(result: RunResult) -> None: ...


print(assistant_queue.misspelled)  # wrong
AssistantMessageQueue(mesage_delay=3)  # wrong
AssistantMessageQueue(message_delay="3")  # wrong
AssistantMessageQueue(window="slidng")  # wrong
AssistantMessageQueue(protocol="chat")  # wrong
AssistantMessageQueue("redis://localhost")  # wrong
AssistantMessageQueue(tools="order_status")  # wrong
AssistantMessageQueue(backoff={"type": "linear"})  # wrong
AssistantMessageQueue(backoff={"dely": 5.0})  # wrong
AssistantMessageQueue(on_reply=send_text)  # wrong
AssistantMessageQueue(on_reply=send_nothing)  # wrong
AssistantMessageQueue(on_reply=send_two)  # wrong
AssistantMessageQueue(on_reply="send")  # wrong
AssistantMessageQueue(default_instructions=no_text)  # wrong
AssistantMessageQueue(default_instructions=no_text_async)  # wrong
AssistantMessageQueue(fallback_reply=one_argument)  # wrong
AssistantMessageQueue(fallback_reply=wrong_error)  # wrong
AssistantMessageQueue(handle_requires_action=one_output)  # wrong
AssistantMessageQueue(handle_requires_action=no_run)  # wrong
AssistantMessageQueue(validators=[awaits])  # wrong
AssistantMessageQueue(validators=[says_yes])  # wrong
AsyncAssistantMessageQueue(validators=[wants_text])  # wrong
AsyncAssistantMessageQueue(on_reply=send_text)  # wrong

validator: Validator = awaits  # wrong
backoff: BackoffKeywords = {"type": "fixed", "delay": "2"}  # wrong
reason: FailureReason = "tired"  # wrong
row: MessageRow = {"thread_id": "t"}  # wrong
odd_row: MessageRow = {"thread_id": "t", "message": "Hello", "mesage_id": "m"}  # wrong

numbered: list[dict[str, int]] = [{"thread_id": 7}]


def blocking(queue: AssistantMessageQueue, status: MessageStatus) -> None:
    queue.add_message_to_thread(7, "Hello")  # wrong
    queue.add_message_to_thread("t", b"Hello")  # wrong
    queue.add_messages([{"thread_id": "t"}])  # wrong
    queue.add_messages([{"thread_id": "t", "message": "Hello", "spelled": 1}])  # wrong
    queue.add_messages([{"thread_id": "t", "message": 7}])  # wrong
    queue.add_messages(numbered)  # wrong
    queue.add_messages([{"thread_id": "t", "message": "Hello"}, 7])  # wrong
    queue.list_messages("t", order="up")  # wrong
    if status.status == "done":  # wrong
        print(status)
    worker = queue.start_worker()
    worker.on("complete", on_completed)  # wrong
    worker.on("completed", on_failed)  # wrong
    worker.on("failed", on_completed)  # wrong
    queue.on("complete", on_completed)  # wrong
    queue.on("completed", on_failed)  # wrong
    queue.on("failed", on_completed)  # wrong
    queue.on("started")(on_completed)  # wrong
    queue.feed(after=7)  # wrong
    queue.tool(timeout="5")  # wrong
    queue.nonsense()  # wrong
    reply: str = queue.wait_for_reply("m")  # wrong
    print(reply)


def passes_inside(step: Completed) -> None:
    step.result = step.result  # wrong


async def awaited(queue: AsyncAssistantMessageQueue, error: ErrorInfo) -> None:
    receipt = await queue.add_message_to_thread("t", "Hello")
    print(receipt.id, error.code)  # wrong
    worker = await queue.start_worker()
    worker.on("failed", on_completed)  # wrong
