"""From the configuration to the backend."""

from __future__ import annotations

import inspect
import logging
from typing import Any

from assistant_queue.backends.base import Backend
from assistant_queue.backends.reasoning_tags import ReasoningTags
from assistant_queue.config import Config
from assistant_queue.errors import ConfigurationError
from assistant_queue.tools import Offered
from assistant_queue.worker.callbacks import check_callbacks

_log = logging.getLogger(__name__)


def check_backend(config: Config) -> None:
    """Say at once what a worker would lack; producers need none of it. With a `fallback_reply` it needs no provider.

    Raises:
        ConfigurationError: No backend is configured, the provider's key is missing, or a function of the user's does not take what it
            will be given. Nothing was started.
    """
    check_callbacks(config)
    if config.backend is not None:
        _given_backend(config.backend)
    missing = _missing(config)
    if missing is not None and config.fallback_reply is None:
        raise ConfigurationError(missing)


def _missing(config: Config) -> str | None:
    """What is missing for a provider that could answer."""
    if config.backend is not None:
        return None
    if config.assistant_id is None and config.model is None and config.prompt is None:
        return (
            "the worker does not know what to run: give model= or prompt= (Responses; model= with protocol='chat_completions' for that "
            "one), assistant_id= (Assistants, or OPENAI_ASSISTANT_ID), or backend="
        )
    if config.openai_client is None and config.openai_api_key is None:
        return "the provider's key is missing: set OPENAI_API_KEY, or give openai_api_key= or openai_client="
    return None


def _given_backend(given: Any) -> Backend:
    if isinstance(given, Backend) and not inspect.isclass(given):
        return given
    if callable(given):
        from assistant_queue.backends.function import FunctionBackend

        return FunctionBackend(given)
    raise ConfigurationError(
        f"backend= is neither a function nor a Backend: {type(given).__name__} lacks methods of assistant_queue.backends.base.Backend"
    )


def make_workers_backend(config: Config) -> Backend:
    """The backend of a worker; without a provider, the one that leaves every batch to `fallback_reply`. Raises as `check_backend` does."""
    missing = _missing(config)
    if missing is None or config.fallback_reply is None:
        return make_backend(config)
    from assistant_queue.backends.absent import AbsentBackend

    _log.warning("%s; until then every message gets the fallback_reply, and its batch goes to the failed list", missing)
    return AbsentBackend(missing)


def tags_of(config: Config) -> ReasoningTags | None:
    """What takes the model's reasoning out of what a run says; None if nothing has to.

    What a function or a Backend of the user's says is the answer. Chat Completions takes the reasoning out before it remembers the rest.
    """
    is_own = config.backend is not None or config.protocol == "chat_completions"
    return None if is_own or config.reasoning_tags == "keep" else ReasoningTags()


def make_backend(config: Config) -> Backend:
    """The backend that the options choose.

    Raises:
        ConfigurationError: No backend is configured, or the provider's key is missing.
    """
    missing = _missing(config)
    if missing is not None:
        raise ConfigurationError(missing)
    if config.backend is not None:
        return _given_backend(config.backend)
    from assistant_queue.backends import create_backend

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
    )
