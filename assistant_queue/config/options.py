"""The model of all options, read from keywords and from the environment. Times are in seconds.

A keyword overrides the environment, the environment overrides the default. `where` names the
process that reads an option: the producer (it calls `add_message_to_thread`), the worker, or both.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from assistant_queue.config.protocol import choose_backend, name_of_backend, window_s
from assistant_queue.errors import ConfigurationError, UnknownOption
from assistant_queue.observing import Observers
from assistant_queue.tools.toolbox import Toolbox, names_in
from assistant_queue.user_code.functions import is_async
from assistant_queue.user_code.hooks import Hooks
from assistant_queue.user_code.scrubbing import remember

_log = logging.getLogger(__name__)

ENV_PREFIX = "ASSISTANT_QUEUE_"
DEFAULT_INSTRUCTIONS = "Reply to all messages logically."
NO_CLUSTER = (
    "Redis Cluster is not supported: one step changes keys that a cluster keeps on several nodes; "
    "use one Redis or Valkey, with replicas and Sentinel for failover "
    "(redis+sentinel://host:port,.../service/db)"
)
"""The error for a cluster client, and for a server in cluster mode."""

GRACE_MARGIN_S = 5.0
"""Seconds beyond `request_timeout` before the provider is asked about an ambiguous batch.
Source: docs/reliability.md."""

MIN_SECRET = 16
"""Characters of a secret that signs. Chosen: 96 bits of base64; `secrets.token_urlsafe(32)` has 43."""

MAX_SECONDS = 1e9
"""The longest time of an option. Chosen: three decades are enough, and a date that far is valid in
Python, in Redis and in the operating system."""

HOUR_S = 3600.0
_USUAL_MOST = {
    "message_delay": HOUR_S,
    "max_wait": HOUR_S,
    "attachment_wait": HOUR_S,
    "lock_duration": HOUR_S,
    "request_timeout": HOUR_S,
    "callback_timeout": HOUR_S,
    "stream_idle_timeout": HOUR_S,
    "run_timeout": 24 * HOUR_S,
    "retry_for": 48 * HOUR_S,
    "delivery_for": 30 * 24 * HOUR_S,
    "approval_timeout": 366 * 24 * HOUR_S,
    "event_ttl": 30 * 24 * HOUR_S,
    "journal_ttl": 366 * 24 * HOUR_S,
    "result_ttl": 366 * 24 * HOUR_S,
}
"""The longest usual time of an option; more is logged as a probable confusion of units. Chosen: a
thousand times the default, or a usual value in milliseconds, is above it."""
_NEAR = 0.7
"""Likeness from which an option is suggested for an unknown one. Chosen: `max_retries` is not taken
for `metrics`, a word with a wrong letter is recognised."""
_BOOLS = frozenset(
    {
        "remove_on_complete",
        "separate_authors",
        "allow_mismatch",
        "allow_eviction",
        "log_tracebacks",
        "metrics",
    }
)

Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]


def _option(
    default: Any, description: str, *, where: str = "worker", unit: str = "", **rules: Any
) -> Any:
    return Field(
        default, description=description, json_schema_extra={"where": where, "unit": unit}, **rules
    )


def _env(name: str, *others: str) -> AliasChoices:
    return AliasChoices(name, *others, f"{ENV_PREFIX}{name.upper()}")


def _variables_of(alias: Any) -> Sequence[Any]:
    """Return the variables among the names of an alias: all but the option's own."""
    return alias.choices[1:] if isinstance(alias, AliasChoices) else ()


@functools.cache
def _documented_variables(settings_cls: type[BaseSettings]) -> frozenset[str]:
    """Return all variables that are read, in lower case."""
    aliases = {name: field.validation_alias for name, field in settings_cls.model_fields.items()}
    return frozenset(
        str(one).lower()
        for name, alias in aliases.items()
        for one in _variables_of(alias) or [f"{ENV_PREFIX}{name}"]
    )


class BackoffOptions(BaseModel):
    """Growth of the waits between attempts: `{"type": "exponential" | "fixed", "delay": seconds}`.

    `exponential` doubles the wait after each attempt, `fixed` keeps it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["exponential", "fixed"] = "exponential"
    delay: Seconds = 5.0


class DeliveryBackoffOptions(BackoffOptions):
    """Growth of the waits between tries of a delivery; `max_delay` bounds it, in seconds."""

    delay: Seconds = 2.0
    max_delay: Seconds = 60.0


class Config(BaseSettings):
    """The options of one queue. Frozen; every field is a keyword of `AssistantMessageQueue`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,  # `OPENAI_BASE_URL=` in an env file means: not set
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    redis_url: str = _option(
        "redis://localhost:6379/0",
        "address of Redis: redis://, rediss://, unix:// or "
        "redis+sentinel://host:port,host:port/service/db",
        where="both",
        validation_alias=_env("redis_url", "REDIS_URL"),
        repr=False,
    )
    redis: Any = _option(
        None, "a ready redis client, sync or async, instead of redis_url", where="both", repr=False
    )

    openai_api_key: SecretStr | None = _option(
        None,
        "the provider's API key; never written to Redis, logs or errors",
        validation_alias=_env("openai_api_key", "OPENAI_API_KEY"),
    )
    openai_base_url: str | None = _option(
        None,
        "base URL of an OpenAI-compatible server; None for OpenAI",
        validation_alias=_env("openai_base_url", "OPENAI_BASE_URL"),
    )
    openai_client: Any = _option(
        None, "a ready openai client (OpenAI or AsyncOpenAI) instead of a key", repr=False
    )
    assistant_id: str | None = _option(
        None,
        "id of an assistant; selects the Assistants protocol",
        validation_alias=_env("assistant_id", "OPENAI_ASSISTANT_ID"),
    )
    model: str | None = _option(None, "name of a model; selects Responses with Conversations")
    prompt: str | dict[str, Any] | None = _option(
        None, "a stored prompt (id, or {id, version, variables}); selects Responses, too"
    )
    protocol: Literal["responses", "assistants", "chat_completions"] | None = _option(
        None,
        "protocol of the model's server; None derives it from assistant_id, model and prompt",
        where="both",
    )
    history: int | None = _option(
        None,
        "Chat Completions: messages of a thread kept as its history, 0 for none; 50 "
        "unless history_tokens is set",
        unit="messages",
        ge=0,
        le=1000,
    )
    history_tokens: int | None = _option(
        None, "Chat Completions: tokens of a thread kept as its history", unit="tokens", ge=1
    )
    count_tokens: Callable[[str], int] | None = _option(
        None, "function that counts the tokens of a text for history_tokens; None estimates them"
    )
    reasoning_tags: Literal["strip", "keep"] = _option(
        "strip",
        "text that a model writes between <think> or similar tags before its answer: "
        "left out of replies, deltas and history, or kept",
    )
    tools: list[dict[str, Any]] | None = _option(None, "tool definitions in the protocol's format")
    backend: Any = _option(None, "a custom Backend, or any callable: a function or an agent")

    queue_prefix: str = _option(
        "assistant",
        "prefix of every key, and name of the RQ queue",
        where="both",
        min_length=1,
        max_length=128,
    )
    message_delay: Seconds = _option(
        10.0,
        "length of the window: how long a message waits for further ones",
        where="producer",
        unit="s",
    )
    window: Literal["fixed", "sliding", "adaptive"] = _option(
        "fixed",
        "fixed: measured from the oldest waiting message; sliding: each message restarts it; "
        "adaptive: sliding, with a length that follows the pace of each thread",
        where="producer",
    )
    max_wait: PositiveSeconds | None = _option(
        None,
        "longest time that a sliding or adaptive window holds a message",
        where="producer",
        unit="s",
    )
    attachment_wait: PositiveSeconds | None = _option(
        None,
        "length of the window after a message with text only, for the picture or file that follows",
        where="producer",
        unit="s",
    )
    max_batch_size: int | None = _option(
        None, "number of messages that ends the window at once", where="both", unit="messages", ge=1
    )
    max_batch_chars: int | None = _option(
        None,
        "most characters of one batch; a longer message goes alone, and as many waiting ones end "
        "the window",
        where="both",
        unit="characters",
        ge=1,
    )
    flush_when: Sequence[str] | Callable[..., Any] | None = _option(
        None,
        "messages that end the window at once: words, or a function of the message that returns "
        "True",
        where="producer",
    )
    separate_authors: bool | Callable[..., Any] = _option(
        False,
        "messages of different authors go into different batches; a function of two names returns "
        "True for those that may share one",
        where="worker",
    )
    after_run: Literal["immediate", "window"] = _option(
        "immediate",
        "messages added during a run: answered when it ends, or after their own window",
        where="producer",
    )
    mid_run: Literal["collect", "interrupt", "steer", "reject"] = _option(
        "collect",
        "messages added while a batch of their thread is not over: they wait for the next, cancel "
        "its run and are answered with it, join it with the outputs of its next tool round, or raise "
        "ThreadBusy",
        where="producer",
    )
    max_interrupts: int = _option(
        3,
        "most interruptions of one batch by messages; further ones wait for the next",
        where="worker",
        unit="interruptions",
        ge=0,
    )
    approval_timeout: PositiveSeconds = _option(
        86_400.0,
        "time for which a tool call waits for an approval, or for `answer_tool`; then it is denied",
        where="worker",
        unit="s",
    )
    approval_secret: SecretStr | Sequence[SecretStr] | None = _option(
        None,
        "secret that signs links which approve and deny without a login, of at least 16 characters; "
        "of several the first signs, and links signed by any are taken",
        where="producer",
    )
    on_stop: Literal["remember", "forget"] = _option(
        "remember",
        "the conversation is given what it does not hold of a stopped batch, texts and partial "
        "answer, or not",
        where="worker",
    )
    max_pending: int | None = _option(
        None,
        "most waiting messages of a thread; further ones raise ThreadFull",
        where="producer",
        unit="messages",
        ge=1,
    )

    events: Literal["listened", "always", "off"] = _option(
        "listened",
        "events of a thread are kept from its first subscriber on, always, or never",
        where="both",
    )
    event_ttl: PositiveSeconds = _option(
        3600.0, "lifetime of a thread's events after the last one", where="both", unit="s", ge=1
    )
    event_limit: int = _option(
        1000,
        "least number of events kept for a thread; older ones are trimmed in steps of about 100",
        where="both",
        unit="events",
        ge=100,
    )
    journal: int = _option(
        200,
        "batches of a thread of which times, attempts, tokens and deliveries are kept, without "
        "texts; 0 for none",
        where="both",
        unit="batches",
        ge=0,
        le=10_000,
    )
    journal_ttl: PositiveSeconds = _option(
        604800.0, "time that a batch is kept in its thread's journal", where="both", unit="s", ge=1
    )
    validators: Any = _option(
        (),
        "functions that return a reason to refuse a message, or None: [max_length(2000), "
        "no_markup(), your_own]",
        where="producer",
    )

    max_attempts: int = _option(3, "counted failures before a batch moves to the failed list", ge=1)
    backoff: BackoffOptions = _option(
        BackoffOptions(), "growth of the waits between attempts; delay in seconds"
    )
    retry_for: Seconds = _option(
        600.0,
        "time during which rate limits, locks and refused connections use up no attempt",
        unit="s",
    )
    concurrency: int = _option(
        5, "concurrent runs in one asyncio worker", unit="runs", ge=1, le=100_000
    )
    lock_duration: PositiveSeconds = _option(
        30.0, "lease on a thread, renewed after a third of it", unit="s", ge=0.5
    )
    run_timeout: PositiveSeconds = _option(
        600.0, "deadline of one attempt, tool rounds included", unit="s"
    )
    callback_timeout: PositiveSeconds = _option(
        60.0,
        "time limit for one call of on_reply, default_instructions, fallback_reply, a "
        "validator, a hook or a listener; never longer than run_timeout",
        where="both",
        unit="s",
    )
    delivery_for: PositiveSeconds = _option(
        86400.0, "time during which the delivery of a reply is tried", unit="s"
    )
    delivery_attempts: int | None = _option(
        None,
        "failed tries after which a reply goes to the failed list; None for as many as "
        "delivery_for allows",
        ge=1,
    )
    delivery_backoff: DeliveryBackoffOptions = _option(
        DeliveryBackoffOptions(),
        "growth of the waits between two tries of a delivery; delay and max_delay in seconds",
    )
    delivery_concurrency: int = _option(
        20,
        "concurrent deliveries of each channel in one asyncio worker, beside its runs",
        unit="deliveries",
        ge=1,
        le=100_000,
    )
    on_unknown_delivery: Literal["park", "resend"] = _option(
        "park",
        "after a delivery of unknown outcome: the failed list, or the part again",
    )
    request_timeout: PositiveSeconds = _option(
        30.0, "time limit for the provider to accept a request", unit="s"
    )
    stream_idle_timeout: PositiveSeconds = _option(
        120.0, "longest silence of a run's stream", unit="s"
    )
    on_context_overflow: Literal["truncate", "compact", "fail"] = _option(
        "truncate",
        "reaction to a conversation that outgrows the model: truncate it, have the "
        "provider compact it if it can, or fail the batch",
    )
    run_mode: Literal["stream", "background"] = _option(
        "stream",
        "stream: a worker reads each run as it is written; background: the provider works alone, "
        "and a webhook or a poll says that a run has ended (Responses and Assistants)",
    )
    poll_rate: float = _option(
        50.0,
        "background: most polls a second, of all workers together",
        unit="polls/s",
        gt=0,
        le=100_000,
        allow_inf_nan=False,
    )
    webhook_secret: SecretStr | None = _option(
        None,
        "secret of the provider's webhooks (whsec_...), for handle_provider_webhook",
        where="producer",
        # Without the prefix: that variable is the secret of `serve --webhook`, for webhooks sent.
        validation_alias=AliasChoices("webhook_secret", "OPENAI_WEBHOOK_SECRET"),
    )
    max_tool_rounds: int = _option(
        20, "most rounds of tool calls in one batch", unit="rounds", ge=1
    )
    default_instructions: str | Callable[..., Any] | None = _option(
        DEFAULT_INSTRUCTIONS,
        "instructions for messages without their own: a text, None, or a callable of the batch",
    )
    run_options: dict[str, Any] = _option(
        {}, "further fields of the provider's request: max_output_tokens, temperature, ..."
    )
    remove_on_complete: bool = _option(True, "delete a message's text once it is answered")
    durability: Literal["local", "replicated"] = _option(
        "local",
        "replicated: an add, and the note that a request or a reply is about to be sent, "
        "wait until a Redis replica has them",
        where="both",
    )
    result_ttl: PositiveSeconds = _option(
        86400.0,
        "time that a reply can be read and a duplicate is recognised",
        where="both",
        unit="s",
    )
    thread_ids: Literal["auto", "provider", "mapped"] = _option(
        "auto",
        "mapping of thread ids: provider uses the id as is, mapped creates a "
        "conversation on first use, auto decides by the form (conv_..., thread_...)",
    )
    after_failure: Literal["continue", "pause"] = _option(
        "continue",
        "reaction of a thread to a batch that moves to the failed list: continue with "
        "the next, or pause",
    )
    allow_mismatch: bool = _option(
        False,
        "start a worker that differs from its producers (backend, assistant, model, tools)",
    )
    allow_eviction: bool = _option(
        False, "start a worker on a Redis with a maxmemory-policy that may evict messages"
    )
    handle_requires_action: Callable[..., Any] | None = _option(
        None, "function that answers tool calls: (thread_id, run_id, tool_calls) -> outputs"
    )
    fallback_reply: str | Callable[..., Any] | None = _option(
        None,
        "reply to a batch that failed for good, or without a provider: a text, or a "
        "callable of (batch, error)",
    )
    on_reply: Callable[..., Any] | None = _option(
        None, "function that delivers each RunResult; called at least once, keyed by batch_id"
    )
    channels: Any = _option(
        (),
        "chat platforms: replies of their threads are delivered there, and shown while they are "
        "written: [Telegram(token)]",
    )
    metrics: bool = _option(
        True, "count what is done in Redis, for get_metrics(): exact over processes and kills"
    )
    audit: Any = _option(
        None,
        "sink that keeps every batch, prompt and reply in a database: SqlAudit(url)",
        where="both",
    )
    log_tracebacks: bool = _option(
        False,
        "log exceptions of your functions with tracebacks; otherwise with type and "
        "message; secrets are hidden in both",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: Any,
        env_settings: Any,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read keywords and documented variables.

        The bare name of an option with an alias is not read: it may be another program's variable.
        """
        documented = _documented_variables(settings_cls)
        found = {name: value for name, value in env_settings.env_vars.items() if name in documented}
        if not found:
            return (init_settings,)  # the other source asks for each option, for milliseconds
        env_settings.env_vars = found
        return init_settings, env_settings

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and info.field_name not in _BOOLS:
            msg = "a bool is not a value of this option"
            raise ValueError(msg)
        return value

    @field_validator("redis", "openai_client", "backend")
    @classmethod
    def _an_object(cls, value: Any) -> Any:
        if isinstance(value, str | bytes | int | float):
            msg = "must be an object made in Python; it cannot come from the environment"
            raise ValueError(msg)  # noqa: TRY004 - pydantic wants ValueErrors
        return value

    @field_validator("redis")
    @classmethod
    def _a_client(cls, value: Any) -> Any:
        if any(base.__name__ == "RedisCluster" for base in type(value).__mro__):
            raise ValueError(NO_CLUSTER)
        if value is not None and (inspect.isclass(value) or not hasattr(value, "connection_pool")):
            msg = (
                "must be a client (redis.Redis or redis.asyncio.Redis); or leave it out and give "
                "redis_url"
            )
            raise ValueError(msg)
        return value

    @field_validator(
        "assistant_id", "model", "prompt", "openai_api_key", "openai_base_url", "webhook_secret"
    )
    @classmethod
    def _not_blank(cls, value: Any) -> Any:
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        if plain is not None and not (plain.strip() if isinstance(plain, str) else plain):
            msg = "is blank: give a value, or leave it out"
            raise ValueError(msg)
        return value

    @field_validator("openai_api_key")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        plain = "" if value is None else value.get_secret_value()
        if not plain.isascii() or any(char.isspace() or not char.isprintable() for char in plain):
            msg = (
                "holds a blank, a line break or a letter that no key has: was it read from a file "
                "with its line break?"
            )
            raise ValueError(msg)
        return value

    @field_validator("approval_secret", mode="before")
    @classmethod
    def _long_secrets(cls, value: Any) -> Any:
        given = list(value) if isinstance(value, list | tuple) else [value]
        if value is None:
            return value
        plain = [one.get_secret_value() if isinstance(one, SecretStr) else one for one in given]
        if not plain or not all(
            isinstance(one, str) and len(one.strip()) >= MIN_SECRET for one in plain
        ):
            msg = (
                f"must be a secret of at least {MIN_SECRET} characters, such as of "
                "secrets.token_urlsafe(32), or a list of them"
            )
            raise ValueError(msg)
        return value

    @field_validator("openai_base_url")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            msg = "must begin with http:// or https://, as in http://localhost:8000/v1"
            raise ValueError(msg)
        return value

    @field_validator("queue_prefix")
    @classmethod
    def _plain_prefix(cls, value: str) -> str:
        if value != value.strip() or any(
            not char.isprintable() or char.isspace() for char in value
        ):
            msg = "must be printable and without spaces: it is the RQ queue's name, too"
            raise ValueError(msg)
        return value

    @field_validator("channels")
    @classmethod
    def _distinct_channels(cls, value: Any) -> Any:
        is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        names = [getattr(one, "name", None) for one in value] if is_list else [None]
        if not all(isinstance(name, str) and name for name in names) or not all(
            callable(getattr(one, "deliver", None)) for one in value
        ):
            msg = "must be a list of channels made in Python, such as [Telegram(token)]"
            raise ValueError(msg)
        if len(set(names)) < len(names):
            msg = f"two channels have one name, of {', '.join(map(str, names))}: give each its own"
            raise ValueError(msg)
        return tuple(value)

    @field_validator("audit")
    @classmethod
    def _audit_sink(cls, value: Any) -> Any:
        if value is not None and not all(
            callable(getattr(value, name, None)) for name in ("take_over", "write", "close")
        ):
            msg = "must be a sink made in Python, such as SqlAudit('postgresql+psycopg://...')"
            raise ValueError(msg)
        return value

    @field_validator("validators")
    @classmethod
    def _quick_callables(cls, value: Any) -> Any:
        if (
            isinstance(value, str | bytes)
            or not isinstance(value, Sequence)
            or not all(callable(one) for one in value)
        ):
            msg = "must be a list of callables made in Python, such as max_length(2000)"
            raise ValueError(msg)
        if any(is_async(one) or inspect.isclass(one) for one in value):
            msg = (
                "a validator is called in the process that adds the message: it must be a plain "
                "function, no coroutine function and no class"
            )
            raise ValueError(msg)
        return tuple(value)

    @field_validator("flush_when")
    @classmethod
    def _words_or_function(cls, value: Any) -> Any:
        if value is None or (
            callable(value) and not is_async(value) and not inspect.isclass(value)
        ):
            return value
        is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if not is_list or not all(isinstance(one, str) and one.strip() for one in value):
            msg = (
                "must be a list of words, such as ['stop', 'urgent'], or a plain function of the "
                "message: it is called in the process that adds the message, so it is no "
                "coroutine function and no class"
            )
            raise ValueError(msg)
        return tuple(value)

    @field_validator("separate_authors", mode="before")
    @classmethod
    def _a_plain_function(cls, value: Any) -> Any:
        if callable(value) and (is_async(value) or inspect.isclass(value)):
            msg = "must be True, False, or a plain function of two names that returns True or False"
            raise ValueError(msg)
        return value

    @field_validator("fallback_reply")
    @classmethod
    def _a_text(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            msg = "is blank: give a text, or None for no fallback"
            raise ValueError(msg)
        return value

    @field_validator("run_options")
    @classmethod
    def _free_options(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(
            value.keys()
            & {
                "stream",
                "background",
                "conversation",
                "input",
                "metadata",
                "additional_messages",
                "timeout",
            }
        )
        if taken:
            msg = f"{', '.join(taken)}: the queue decides these itself; leave them out"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _bounds(self) -> Config:
        if self.window != "fixed" and self.max_wait is None:
            msg = (
                f"window={self.window!r} needs max_wait: without a bound, a thread whose messages "
                "keep coming is never answered"
            )
            raise ValueError(msg)
        if self.max_wait is not None and self.window == "fixed":
            msg = (
                "max_wait belongs to window='sliding' or 'adaptive'; a fixed window ends after "
                "message_delay"
            )
            raise ValueError(msg)
        if self.attachment_wait is not None and self.window == "adaptive":
            msg = (
                "attachment_wait belongs to fixed and sliding windows: an adaptive one has its own"
            )
            raise ValueError(msg)
        if self.attachment_wait is not None and self.attachment_wait <= self.message_delay:
            msg = "attachment_wait must be longer than message_delay, the wait for texts without it"
            raise ValueError(msg)
        if self.max_wait is not None and self.max_wait < self.message_delay:
            msg = "max_wait must not be shorter than message_delay"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _one_protocol(self) -> Config:
        chat = self.protocol == "chat_completions"
        if self.count_tokens is not None and self.history_tokens is None:
            msg = "count_tokens= counts for history_tokens=: give that, too"
            raise ValueError(msg)
        if not chat and (self.history is not None or self.history_tokens is not None):
            msg = (
                "history= and history_tokens= belong to protocol='chat_completions': with the "
                "other protocols the server keeps the history, and a function gets "
                "FunctionBackend(function, history=N)"
            )
            raise ValueError(msg)
        return self

    _toolbox: Toolbox = PrivateAttr(default_factory=Toolbox)
    _observers: Observers = PrivateAttr(default_factory=Observers)
    _hooks: Hooks = PrivateAttr(default_factory=Hooks)

    def model_post_init(self, _context: Any, /) -> None:
        """Reserve the names of functions in `tools`: a typed function must not have one."""
        self._toolbox.reserved = names_in(self.tools)
        if self.webhook_secret is not None:
            remember(self.webhook_secret.get_secret_value())
        for secret in self.approval_secrets:
            remember(secret)

    @property
    def approval_secrets(self) -> tuple[str, ...]:
        """Secrets of links that approve and deny: the first signs. Empty: there are no links."""
        found = self.approval_secret or ()
        several = (found,) if isinstance(found, SecretStr) else found
        return tuple(one.get_secret_value() for one in several)

    @property
    def toolbox(self) -> Toolbox:
        """Functions registered by `@queue.tool`; copies of this configuration share them."""
        return self._toolbox

    @property
    def observers(self) -> Observers:
        """The observer of the queue, if it has one; copies of this configuration share it."""
        return self._observers

    @property
    def hooks(self) -> Hooks:
        """Functions registered by `queue.on`; copies of this configuration share them."""
        return self._hooks

    @property
    def fingerprint(self) -> dict[str, Any] | None:
        """Backend, model and tools of this queue; None if no backend is configured.

        A producer needs no backend.

        `tools` says whether there are any, by `tools=` or `@queue.tool`. A worker is not refused
        if its producers have none: they need not import the functions (`store.ops.control`).
        """
        tools = bool(self.tools) or len(self._toolbox) > 0
        if self.backend is not None:
            return {"backend": name_of_backend(self.backend), "tools": tools}
        if self.assistant_id is not None:
            return {"backend": "assistants", "assistant": self.assistant_id, "tools": tools}
        if self.protocol == "chat_completions" and self.model is not None:
            return {"backend": "chat_completions", "model": self.model, "tools": tools}
        if self.model is not None or self.prompt is not None:
            prompt = self.prompt.get("id") if isinstance(self.prompt, dict) else self.prompt
            return {"backend": "responses", "model": self.model, "prompt": prompt, "tools": tools}
        return None

    @property
    def run_limit(self) -> float:
        """Seconds that a run may take: `run_timeout`, beyond the window it is to be run in."""
        return self.run_timeout + window_s(self.run_options)

    @property
    def callback_limit(self) -> float:
        """Seconds that one call of a callback may take."""
        return min(self.callback_timeout, self.run_timeout)

    @property
    def grace(self) -> float:
        """Seconds from an ambiguous request until the provider is asked about it."""
        return self.request_timeout + GRACE_MARGIN_S


def configure(options: Mapping[str, Any]) -> Config:
    """Return the options from keywords and from the environment.

    Raises:
        UnknownOption: A keyword does not exist; the message names the nearest one.
        ConfigurationError: A value is of the wrong type or outside its bounds, or options exclude
            each other. Nothing was started.
    """
    for name in options:
        if name not in Config.model_fields:
            near = difflib.get_close_matches(name, Config.model_fields, n=1, cutoff=_NEAR)
            hint = (
                f"; did you mean {near[0]!r}?"
                if near
                else f"; the options are {', '.join(Config.model_fields)}"
            )
            msg = f"unknown option {name!r}{hint}"
            raise UnknownOption(msg)
    try:
        config = Config(**options)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, options)) from None
    except SettingsError as error:
        name = next((name for name in Config.model_fields if f'"{name}"' in str(error)), "")
        raise ConfigurationError(
            f"{name}{_source_of(name)}: cannot be read: it is JSON in the environment"
        ) from None
    _warn_of_milliseconds(config)
    return choose_backend(config, options)


def _warn_of_milliseconds(config: Config) -> None:
    given = {name: (getattr(config, name), most) for name, most in _USUAL_MOST.items()}
    given["backoff.delay"] = (config.backoff.delay, HOUR_S)
    given["delivery_backoff.delay"] = (config.delivery_backoff.delay, HOUR_S)
    given["delivery_backoff.max_delay"] = (config.delivery_backoff.max_delay, 24 * HOUR_S)
    for name, (seconds, most) in given.items():
        if seconds is not None and seconds > most:
            _log.warning(
                "%s is %g seconds, that is %.1f hours: options are in seconds, not in milliseconds",
                name,
                seconds,
                seconds / HOUR_S,
            )


def _explain(error: ValidationError, options: Mapping[str, Any]) -> str:
    lines = []
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(str(part) for part in one["loc"]) or "options"
        name = where.partition(".")[0]
        source = _source_of(name) if name not in options else ""
        lines.append(f"{where}{source}: {one['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)


def _source_of(name: str) -> str:
    """Return the environment variable that sets an option, in brackets; "" if none does."""
    field = Config.model_fields.get(name)
    if field is None:
        return ""
    names = _variables_of(field.validation_alias) or [f"{ENV_PREFIX}{name.upper()}"]
    there = {variable.upper(): variable for variable in os.environ}
    return next(
        (f" (from {there[str(one).upper()]})" for one in names if str(one).upper() in there), ""
    )


def to_ms(seconds: float) -> int:
    """Return seconds of the Python API as milliseconds of Redis, rounded up: never too early."""
    return math.ceil(round(seconds * 1000, 6))
