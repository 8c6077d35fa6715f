"""The one place that turns options into a backend.

Which protocol the options select is decided in `config/protocol.py`. The modules of the protocols
are imported when a backend is created, and `openai` only if it sends the requests: a process that
only adds messages needs none of them.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from assistant_queue.backends.base import Backend
from assistant_queue.backends.reasoning_tags import ReasoningTags
from assistant_queue.config import Config
from assistant_queue.errors import ConfigurationError
from assistant_queue.tools import Offered

_log = logging.getLogger(__name__)


def check_backend(config: Config) -> None:
    """Check that a worker with these options could create its backend.

    A worker with a `fallback_reply` needs no provider; a producer needs none at all.

    Raises:
        ConfigurationError: No backend is configured, the provider's key is missing, or `backend` is
            neither a function nor a Backend. Nothing was started.
    """
    if config.backend is not None:
        _own_backend(config.backend)
    missing = _missing(config)
    if missing is not None and config.fallback_reply is None:
        raise ConfigurationError(missing)


def make_backend(config: Config) -> Backend:
    """Return the backend that the options select.

    Raises:
        ConfigurationError: No backend is configured, or the provider's key is missing.
    """
    missing = _missing(config)
    if missing is not None:
        raise ConfigurationError(missing)
    if config.backend is not None:
        return _own_backend(config.backend)
    key = config.openai_api_key
    return create_backend(
        client_options={
            "api_key": key.get_secret_value() if key else None,
            "base_url": config.openai_base_url,
            "openai_client": config.openai_client,
            "runs": config.concurrency,
        },
        assistant_id=config.assistant_id,
        model=config.model,
        prompt=config.prompt,
        protocol=config.protocol,
        history=config.history,
        history_tokens=config.history_tokens,
        count_tokens=config.count_tokens,
        reasoning_tags=config.reasoning_tags,
        tools=Offered(config.tools or (), config.toolbox),
        run_options=config.run_options,
        request_timeout=config.request_timeout,
        stream_idle_timeout=config.stream_idle_timeout,
        on_context_overflow=config.on_context_overflow,
        parks=config.run_mode == "background",
    )


def make_worker_backend(config: Config) -> Backend:
    """Return a worker's backend; without a provider, `fallback_reply` answers every batch.

    Raises:
        ConfigurationError: As `make_backend` does, if there is no `fallback_reply` either.
    """
    missing = _missing(config)
    if missing is None or config.fallback_reply is None:
        return make_backend(config)
    from assistant_queue.backends.absent import AbsentBackend

    _log.warning(
        "%s; until then every message gets the fallback_reply, "
        "and its batch goes to the failed list",
        missing,
    )
    return AbsentBackend(missing)


def make_reasoning_tags(config: Config) -> ReasoningTags | None:
    """Return the filter that removes the model's reasoning from a run's text; None for no filter.

    The output of a caller's own backend is the reply as it is. The Chat Completions backend filters
    by itself, before it stores the history.
    """
    is_own = config.backend is not None or config.protocol == "chat_completions"
    return None if is_own or config.reasoning_tags == "keep" else ReasoningTags()


def _missing(config: Config) -> str | None:
    """Return the error for a missing model or key; None if nothing is missing."""
    if config.backend is not None:
        return None
    if config.assistant_id is None and config.model is None and config.prompt is None:
        return (
            "no backend is configured: give model= or prompt= (Responses; model= with "
            "protocol='chat_completions' for Chat Completions), assistant_id= (Assistants, or "
            "OPENAI_ASSISTANT_ID), or backend=; a worker of `rq worker` has the options of the app "
            "that ASSISTANT_QUEUE_APP names (myapp:queue)"
        )
    if config.openai_client is None and config.openai_api_key is None:
        return (
            "the provider's key is missing: "
            "set OPENAI_API_KEY, or give openai_api_key= or openai_client="
        )
    return None


def _own_backend(given: Any) -> Backend:
    if isinstance(given, Backend) and not inspect.isclass(given):
        return given
    if callable(given):
        from assistant_queue.backends.function.backend import FunctionBackend

        return FunctionBackend(given)
    raise ConfigurationError(
        f"Invalid backend of type {type(given).__name__}: expected a function, or an object with "
        "the methods of assistant_queue.backends.base.Backend"
    )


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
    parks: bool = False,
) -> Backend:
    """Return a backend over openai for a protocol.

    Assistants if there is an `assistant_id`, else Responses, unless `protocol` names another.

    Args:
        client_options: The arguments of `sender_choice.open_sender`: `api_key`, `base_url`,
            `openai_client`, `runs`.
        assistant_id: Selects the Assistants protocol.
        model: For Responses and Chat Completions.
        prompt: For Responses: a stored prompt's id, or `{"id", "version", "variables"}`.
        protocol: `chat_completions` for that protocol; None for the one that the other options
            select.
        history: For Chat Completions: the most messages of the history.
        history_tokens: For Chat Completions: the most tokens of the history.
        count_tokens: For Chat Completions: counts the tokens of a text.
        reasoning_tags: For Chat Completions, with the history kept here: `strip` leaves
            reasoning between tags out of it, `keep` does not. For the other protocols the worker
            removes the reasoning from the reply.
        tools: Function schemas and the provider's own tools.
        run_options: Further fields of every run's request.
        request_timeout: Seconds until the first byte of an answer, and of every plain call.
        stream_idle_timeout: Seconds between two pieces of an answer.
        on_context_overflow: The reaction to a conversation that outgrows the model.
        parks: Runs are started to be looked at later (`run_mode="background"`).

    Raises:
        ConfigurationError: Two protocols are selected, there is no key, or the given client cannot
            be used.
    """
    if assistant_id is not None and (model is not None or prompt is not None):
        raise ConfigurationError(
            "assistant_id and model or prompt exclude each other: "
            "an assistant brings its own model and instructions"
        )
    from assistant_queue.backends.openai.sender_choice import open_sender

    options = dict(client_options or {})
    given = options.get("openai_client")
    client = open_sender(**options)
    shared: dict[str, Any] = {
        "tools": tools,
        "run_options": run_options,
        "request_timeout": request_timeout,
        "stream_idle_timeout": stream_idle_timeout,
        "on_context_overflow": on_context_overflow,
        # A caller's client that is used unchanged is the caller's to close.
        "closes_client": given is None or getattr(client, "client", None) is not given,
    }
    if assistant_id is not None:
        from assistant_queue.backends.assistants.backend import AssistantsBackend

        return AssistantsBackend(client, assistant_id=assistant_id, parks=parks, **shared)
    if protocol == "chat_completions":
        from assistant_queue.backends.chat_completions.backend import ChatCompletionsBackend

        return ChatCompletionsBackend(
            client,
            model=model or "",
            history=history,
            history_tokens=history_tokens,
            count_tokens=count_tokens,
            reasoning_tags=reasoning_tags,
            **shared,
        )
    from assistant_queue.backends.responses.backend import ResponsesBackend

    return ResponsesBackend(client, model=model, prompt=prompt, parks=parks, **shared)
