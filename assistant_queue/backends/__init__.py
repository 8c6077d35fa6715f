"""The providers a queue can talk to. Nothing heavy is imported here: `openai` takes a second, and a web process may never need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from assistant_queue.errors import ConfigurationError

if TYPE_CHECKING:
    from assistant_queue.backends.base import Backend

__all__ = ["create_backend"]


def create_backend(
    *,
    client_options: Mapping[str, Any] | None = None,
    assistant_id: str | None = None,
    model: str | None = None,
    prompt: str | Mapping[str, Any] | None = None,
    protocol: str | None = None,
    history: int | None = None,
    history_tokens: int | None = None,
    count_tokens: Callable[[str], int] | None = None,
    reasoning_tags: Literal["strip", "keep"] = "strip",
    tools: Sequence[Mapping[str, Any]] | None = None,
    run_options: Mapping[str, Any] | None = None,
    request_timeout: float = 30.0,
    stream_idle_timeout: float = 120.0,
    on_context_overflow: Literal["truncate", "compact", "fail"] = "truncate",
) -> Backend:
    """The backend that these options ask for: Assistants if there is an assistant, else Responses + Conversations, unless `protocol` says.

    Args:
        client_options: The arguments of `openai_clients.build_client`: `api_key`, `base_url`, `openai_client`, `runs`.
        assistant_id: Asks for the Assistants protocol.
        model: For Responses and Chat Completions.
        prompt: For Responses: a stored prompt's id, or `{"id", "version", "variables"}`.
        protocol: `chat_completions` for that protocol; None for what the other options choose.
        history: For Chat Completions: most messages that are remembered.
        history_tokens: For Chat Completions: most tokens that are remembered.
        count_tokens: For Chat Completions: counts the tokens of a text.
        reasoning_tags: For Chat Completions, which remembers what was said: whether reasoning between tags is left out of it, or stays. The
            other backends give what the provider says, and the worker takes the reasoning out.
        tools: Function schemas and the provider's own tools.
        run_options: Further fields of every run's request.
        request_timeout: Seconds until the first byte of an answer, and of every plain call.
        stream_idle_timeout: Seconds between two pieces of an answer.
        on_context_overflow: What follows when a conversation outgrows the model.

    Raises:
        ConfigurationError: Both protocols are asked for, there is no key, or the ready client cannot be used.
    """
    if assistant_id is not None and (model is not None or prompt is not None):
        raise ConfigurationError("assistant_id and model or prompt exclude each other: an assistant brings its own model and instructions")
    from assistant_queue.backends.openai_clients import build_client

    options = dict(client_options or {})
    client = build_client(**options)
    shared: dict[str, Any] = {
        "tools": tools,
        "run_options": run_options,
        "request_timeout": request_timeout,
        "stream_idle_timeout": stream_idle_timeout,
        "on_context_overflow": on_context_overflow,
        # A client that the caller brought and that is used as it is stays the caller's to close.
        "closes_client": client is not options.get("openai_client"),
    }
    if assistant_id is not None:
        from assistant_queue.backends.assistants import AssistantsBackend

        return AssistantsBackend(client, assistant_id=assistant_id, **shared)
    if protocol == "chat_completions":
        from assistant_queue.backends.chat_completions import ChatCompletionsBackend

        return ChatCompletionsBackend(
            client,
            model=model or "",
            history=history,
            history_tokens=history_tokens,
            count_tokens=count_tokens,
            reasoning_tags=reasoning_tags,
            **shared,
        )
    from assistant_queue.backends.responses import ResponsesBackend

    return ResponsesBackend(client, model=model, prompt=prompt, **shared)
