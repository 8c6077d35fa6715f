"""JSON of the Assistants side: assistants, threads, messages, runs and steps.

Source: the provider's published API description.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from assistant_queue.testing.provider.ids import new_id
from assistant_queue.testing.provider.state import Json, Thread

if TYPE_CHECKING:
    from assistant_queue.testing.provider.run import Run, Step


def assistant_json(asked: Mapping[str, Any]) -> Json:
    """A new assistant."""
    return {
        "id": new_id("asst"),
        "object": "assistant",
        "created_at": int(time.time()),
        "name": asked.get("name"),
        "description": asked.get("description"),
        "model": asked["model"],
        "instructions": asked.get("instructions"),
        "tools": asked.get("tools") or [],
        "tool_resources": asked.get("tool_resources"),
        "metadata": asked.get("metadata") or {},
        "temperature": asked.get("temperature", 1.0),
        "top_p": asked.get("top_p", 1.0),
        "response_format": asked.get("response_format") or "auto",
    }


def thread_json(thread: Thread) -> Json:
    """A thread."""
    return {
        "id": thread.id,
        "object": "thread",
        "created_at": thread.created_at,
        "metadata": dict(thread.metadata),
        "tool_resources": None,
    }


def text_part(text: str) -> Json:
    """The text part of a message."""
    return {"type": "text", "text": {"value": text, "annotations": []}}


def message_json(
    thread_id: str,
    role: str,
    content: Sequence[Mapping[str, Any]],
    *,
    metadata: Mapping[str, str] | None = None,
    attachments: Sequence[Any] | None = None,
) -> Json:
    """A message that is complete as soon as it is there: what a client adds."""
    now = int(time.time())
    return {
        "id": new_id("msg"),
        "object": "thread.message",
        "created_at": now,
        "thread_id": thread_id,
        "status": "completed",
        "incomplete_details": None,
        "completed_at": now,
        "incomplete_at": None,
        "role": role,
        "content": list(content),
        "assistant_id": None,
        "run_id": None,
        "attachments": list(attachments or []),
        "metadata": dict(metadata or {}),
    }


def asked_message(thread_id: str, asked: Mapping[str, Any]) -> Json:
    """The message a client asks for."""
    content = asked["content"]
    if isinstance(content, str):
        parts = [text_part(content)]
    else:
        parts = [
            text_part(part["text"]) if part["type"] == "text" else dict(part) for part in content
        ]
    return message_json(
        thread_id,
        asked["role"],
        parts,
        metadata=asked.get("metadata"),
        attachments=asked.get("attachments"),
    )


def begun_message(run: Run) -> Json:
    """A message of the assistant that has just begun: no content yet."""
    message = message_json(run.thread.id, "assistant", [])
    message.update(
        status="in_progress", completed_at=None, assistant_id=run.assistant_id, run_id=run.id
    )
    return message


def end_message(message: Json, text: str, status: str) -> None:
    """Give a message its text and its final status.

    `completed`, or `incomplete` for want of tokens.
    """
    now = int(time.time())
    message.update(content=[text_part(text)], status=status)
    if status == "completed":
        message["completed_at"] = now
    else:
        message.update(incomplete_at=now, incomplete_details={"reason": "max_tokens"})


def required_action(run: Run) -> Json | None:
    """Required action of the run, None if it waits for nothing."""
    if run.status != "requires_action":
        return None
    calls = [call_json(call_id, name, arguments) for call_id, name, arguments in run.open_calls]
    return {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}


def call_json(call_id: str, name: str, arguments: str) -> Json:
    """A function call of a run."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def run_json(run: Run, expires_at: Literal["timestamp", "null", "zero"]) -> Json:
    """A run as it stands now."""
    asked = run.asked
    shown_expiry = {"timestamp": int(run.expires_at), "null": None, "zero": 0}[expires_at]
    ended = run.ended_at
    return {
        "id": run.id,
        "object": "thread.run",
        "created_at": run.created_at,
        "thread_id": run.thread.id,
        "assistant_id": run.assistant_id,
        "status": run.status,
        "required_action": required_action(run),
        "last_error": run.last_error,
        # Once a run has ended there is nothing left to expire.
        "expires_at": shown_expiry if ended is None else None,
        "started_at": run.started_at,
        "cancelled_at": ended if run.status == "cancelled" else None,
        "failed_at": ended if run.status == "failed" else None,
        "completed_at": ended if run.status in {"completed", "incomplete"} else None,
        "incomplete_details": run.incomplete,
        "model": run.model,
        "instructions": run.instructions,
        "tools": run.tools,
        "metadata": asked.get("metadata") or {},
        "usage": run.usage,
        "temperature": asked.get("temperature", 1.0),
        "top_p": asked.get("top_p", 1.0),
        "max_prompt_tokens": asked.get("max_prompt_tokens"),
        "max_completion_tokens": asked.get("max_completion_tokens"),
        "truncation_strategy": asked.get("truncation_strategy")
        or {"type": "auto", "last_messages": None},
        "tool_choice": asked.get("tool_choice") or "auto",
        "parallel_tool_calls": asked.get("parallel_tool_calls", True),
        "response_format": asked.get("response_format") or "auto",
    }


def step_json(run: Run, step: Step) -> Json:
    """A step of a run: a message written, or functions called."""
    return {
        "id": step.id,
        "object": "thread.run.step",
        "created_at": step.created_at,
        "assistant_id": run.assistant_id,
        "thread_id": run.thread.id,
        "run_id": run.id,
        "type": step.kind,
        "status": step.status,
        "step_details": step.details,
        "last_error": run.last_error if step.status == "failed" else None,
        "expired_at": run.ended_at if step.status == "expired" else None,
        "cancelled_at": run.ended_at if step.status == "cancelled" else None,
        "failed_at": run.ended_at if step.status == "failed" else None,
        "completed_at": step.completed_at,
        "metadata": {},
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        if step.status == "completed"
        else None,
    }


def message_delta(message_id: str, text: str, *, is_first: bool) -> Json:
    """A piece of a message."""
    piece: Json = {"value": text}
    if is_first:
        piece["annotations"] = []
    delta = {"content": [{"index": 0, "type": "text", "text": piece}]}
    return {"id": message_id, "object": "thread.message.delta", "delta": delta}


def step_delta(step: Step) -> Json:
    """The calls of a step, as a stream shows them."""
    calls = [{"index": index, **call} for index, call in enumerate(step.details["tool_calls"])]
    details = {"type": "tool_calls", "tool_calls": calls}
    return {"id": step.id, "object": "thread.run.step.delta", "delta": {"step_details": details}}
