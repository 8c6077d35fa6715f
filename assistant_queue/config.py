"""Every option, validated once: from keywords or from the environment, in seconds.

A keyword wins over the environment, the environment over the default. `where` says which process reads an option: the producer
(where `add_message_to_thread` is called), the worker, or both.
"""

from __future__ import annotations

import difflib
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
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError
from typing_extensions import TypedDict

from assistant_queue.choices import choose_backend, name_of_backend
from assistant_queue.errors import ConfigurationError, UnknownOption
from assistant_queue.tools.toolbox import Toolbox, names_in

_log = logging.getLogger(__name__)

ENV_PREFIX = "ASSISTANT_QUEUE_"
DEFAULT_INSTRUCTIONS = "Reply to all messages logically."
NO_CLUSTER = (
    "Redis Cluster is not supported: one step changes keys that a cluster keeps on several nodes; use one Redis or Valkey, "
    "with replicas and Sentinel for failover (redis+sentinel://host:port,.../service/db)"
)
"""What is said of a cluster, whether it is given or found."""
GRACE_MARGIN_S = 5.0
"""How much longer than `request_timeout` an ambiguous batch is held before the provider is asked. Source: docs/reliability.md."""

MAX_SECONDS = 1e9
"""Chosen: three decades are enough for every time, and a date that far is still a date: to Python, to Redis, to the operating system."""

LONG_S = 3600.0
"""Chosen: a person waits for what these options measure, and a number of milliseconds is nearly always above it."""
_BOOLS = frozenset({"remove_on_complete", "allow_mismatch", "allow_eviction", "log_tracebacks"})
_WAITED_FOR = ("message_delay", "max_wait", "attachment_wait", "lock_duration", "request_timeout")

Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]


def _option(default: Any, description: str, *, where: str = "worker", unit: str = "", **rules: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"where": where, "unit": unit}, **rules)


def _env(name: str, *others: str) -> AliasChoices:
    return AliasChoices(name, *others, f"{ENV_PREFIX}{name.upper()}")


def _variables_of(alias: Any) -> Sequence[Any]:
    """Return the variables among the names of an alias: all but the option's own."""
    return alias.choices[1:] if isinstance(alias, AliasChoices) else ()


class BackoffOptions(BaseModel):
    """How the waits between attempts grow: `{"type": "exponential" | "fixed", "delay": seconds}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["exponential", "fixed"] = "exponential"
    delay: Seconds = 5.0


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
        "where Redis is: redis://, rediss://, unix:// or redis+sentinel://host:port,host:port/service/db",
        where="both",
        validation_alias=_env("redis_url", "REDIS_URL"),
        repr=False,
    )
    redis: Any = _option(None, "a ready redis client, sync or async, instead of redis_url", where="both", repr=False)

    openai_api_key: SecretStr | None = _option(
        None, "the provider's key; never written anywhere", validation_alias=_env("openai_api_key", "OPENAI_API_KEY")
    )
    openai_base_url: str | None = _option(
        None, "a compatible server's address; None for OpenAI", validation_alias=_env("openai_base_url", "OPENAI_BASE_URL")
    )
    openai_client: Any = _option(None, "a ready openai client instead of a key; OpenAI or AsyncOpenAI", repr=False)
    assistant_id: str | None = _option(
        None, "an assistant: chooses the Assistants protocol", validation_alias=_env("assistant_id", "OPENAI_ASSISTANT_ID")
    )
    model: str | None = _option(None, "a model: chooses Responses + Conversations")
    prompt: str | dict[str, Any] | None = _option(None, "a stored prompt (id, or {id, version, variables}): chooses Responses, too")
    protocol: Literal["responses", "assistants", "chat_completions"] | None = _option(
        None, "what to speak with the model's server; None for what assistant_id, model and prompt choose", where="both"
    )
    history: int | None = _option(
        None,
        "Chat Completions: messages remembered of a thread, 0 for none; 50 unless tokens are the bound",
        unit="messages",
        ge=0,
        le=1000,
    )
    history_tokens: int | None = _option(None, "Chat Completions: tokens remembered of a thread", unit="tokens", ge=1)
    count_tokens: Callable[[str], int] | None = _option(None, "counts the tokens of a text for history_tokens; None estimates them")
    reasoning_tags: Literal["strip", "keep"] = _option(
        "strip",
        "what a model writes between <think> tags, or the like, before its answer: left out of replies, deltas and history, or kept",
    )
    tools: list[dict[str, Any]] | None = _option(None, "tool definitions, as the protocol spells them")
    backend: Any = _option(None, "a Backend of your own, or any callable: a function or an agent")

    queue_prefix: str = _option("assistant", "the prefix of every key, and the RQ queue's name", where="both", min_length=1, max_length=128)
    message_delay: Seconds = _option(10.0, "the window: how long a message waits for others", where="producer", unit="s")
    window: Literal["fixed", "sliding"] = _option(
        "fixed", "fixed: from the oldest waiting message; sliding: each message starts it again", where="producer"
    )
    max_wait: PositiveSeconds | None = _option(None, "the longest a sliding window holds a message", where="producer", unit="s")
    attachment_wait: PositiveSeconds | None = _option(
        None, "text alone keeps its window open this long for the picture or file that follows", where="producer", unit="s"
    )
    max_batch_size: int | None = _option(None, "this many messages end the window at once", where="both", unit="messages", ge=1)
    after_run: Literal["immediate", "window"] = _option(
        "immediate", "what came during a run is answered when it ends, or waits for its window", where="producer"
    )
    max_pending: int | None = _option(
        None, "a thread with this many waiting messages takes no more", where="producer", unit="messages", ge=1
    )

    events: Literal["listened", "always", "off"] = _option(
        "listened", "what happens to a thread is kept for those who listen: from the first of them on, always, or never", where="both"
    )
    event_ttl: PositiveSeconds = _option(3600.0, "how long a thread's events live after the last one", where="both", unit="s", ge=1)
    event_limit: int = _option(
        1000, "events of a thread that are kept at least; older ones go in steps of about 100", where="both", unit="events", ge=100
    )
    validators: Any = _option(
        (), "callables of the message that give a reason to refuse it: [max_length(2000), no_markup(), your_own]", where="producer"
    )

    max_attempts: int = _option(3, "failures that count before a batch goes to the failed list", ge=1)
    backoff: BackoffOptions = _option(BackoffOptions(), "how the waits between attempts grow; delay in seconds")
    retry_for: Seconds = _option(600.0, "how long rate limits, locks and refused connections do not count", unit="s")
    concurrency: int = _option(5, "runs at once in one asyncio worker", unit="runs", ge=1, le=100_000)
    lock_duration: PositiveSeconds = _option(30.0, "the lease on a thread; renewed at a third of it", unit="s", ge=0.5)
    run_timeout: PositiveSeconds = _option(600.0, "one attempt's deadline, tool rounds included", unit="s")
    callback_timeout: PositiveSeconds = _option(
        60.0,
        "how long one call of on_reply, default_instructions, fallback_reply, a validator or a listener may take; never longer than "
        "run_timeout",
        where="both",
        unit="s",
    )
    request_timeout: PositiveSeconds = _option(30.0, "how long the provider may take to accept a request", unit="s")
    stream_idle_timeout: PositiveSeconds = _option(120.0, "how long a run's stream may be silent", unit="s")
    on_context_overflow: Literal["truncate", "compact", "fail"] = _option(
        "truncate",
        "what happens when a conversation outgrows the model: truncate it, have the provider compact it where it can, or fail the batch",
    )
    max_tool_rounds: int = _option(20, "rounds of tool calls in one batch", unit="rounds", ge=1)
    default_instructions: str | Callable[..., Any] | None = _option(
        DEFAULT_INSTRUCTIONS, "for messages without their own: a text, None, or a callable of the batch"
    )
    run_options: dict[str, Any] = _option({}, "passed on to the run: max_output_tokens, temperature, ...")
    remove_on_complete: bool = _option(True, "a message's text goes when it has been answered")
    durability: Literal["local", "replicated"] = _option(
        "local",
        "replicated: an add, and the note that a request or a reply is about to leave, wait until a Redis replica has them",
        where="both",
    )
    result_ttl: PositiveSeconds = _option(86400.0, "how long a reply can be asked for and a duplicate is known", where="both", unit="s")
    thread_ids: Literal["auto", "provider", "mapped"] = _option(
        "auto", "whether a thread id is the provider's own, is mapped to a conversation, or is told apart by its form"
    )
    after_failure: Literal["continue", "pause"] = _option("continue", "what a thread does when a batch of it has gone to the failed list")
    allow_mismatch: bool = _option(
        False, "a worker that differs from its producers (backend, assistant, model, tools) goes on all the same"
    )
    allow_eviction: bool = _option(False, "a worker goes on with a Redis whose maxmemory-policy may throw messages away")
    handle_requires_action: Callable[..., Any] | None = _option(None, "your tools: (thread_id, run_id, tool_calls) -> outputs")
    fallback_reply: str | Callable[..., Any] | None = _option(
        None, "what people get for a batch that fails for good, or without a provider: a text, or a callable of (batch, error)"
    )
    on_reply: Callable[..., Any] | None = _option(None, "called with each RunResult, at least once, keyed by batch_id")
    log_tracebacks: bool = _option(
        False, "exceptions of your functions are logged with their tracebacks; without it by type and message, secrets hidden in both"
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Any, env_settings: Any, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read keywords and documented variables: not the bare name of an option with an alias, which may be another program's variable."""
        documented = {str(one).lower() for field in settings_cls.model_fields.values() for one in _variables_of(field.validation_alias)}
        kept = env_settings.env_vars.items()
        env_settings.env_vars = {name: value for name, value in kept if name not in settings_cls.model_fields or name in documented}
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
            msg = "must be a client: a redis.Redis or a redis.asyncio.Redis; or leave it out and give redis_url"
            raise ValueError(msg)
        return value

    @field_validator("assistant_id", "model", "prompt", "openai_api_key", "openai_base_url")
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
            msg = "holds a blank, a line break or a letter that no key has: was it read from a file with its line break?"
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
        if value != value.strip() or any(not char.isprintable() or char.isspace() for char in value):
            msg = "must be printable and without spaces: it is the RQ queue's name, too"
            raise ValueError(msg)
        return value

    @field_validator("validators")
    @classmethod
    def _quick_callables(cls, value: Any) -> Any:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence) or not all(callable(one) for one in value):
            msg = "must be a list of callables made in Python, such as max_length(2000)"
            raise ValueError(msg)
        if any(inspect.iscoroutinefunction(one) or inspect.isclass(one) for one in value):
            msg = "a validator is called where the message is added: it must be a plain function, no coroutine and no class"
            raise ValueError(msg)
        return tuple(value)

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
        taken = sorted(value.keys() & {"stream", "background", "conversation", "input", "metadata", "additional_messages", "timeout"})
        if taken:
            msg = f"{', '.join(taken)}: the queue decides these itself; leave them out"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _bounds(self) -> Config:
        if self.window == "sliding" and self.max_wait is None:
            msg = "window='sliding' needs max_wait: without a bound a talkative person is never answered"
            raise ValueError(msg)
        if self.max_wait is not None and self.window == "fixed":
            msg = "max_wait belongs to window='sliding'; a fixed window ends after message_delay"
            raise ValueError(msg)
        if self.attachment_wait is not None and self.attachment_wait <= self.message_delay:
            msg = "attachment_wait must be longer than message_delay: without it text waits for message_delay"
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
                "history= and history_tokens= belong to protocol='chat_completions': with the other protocols the server remembers, and a "
                "function gets FunctionBackend(function, history=N)"
            )
            raise ValueError(msg)
        return self

    _toolbox: Toolbox = PrivateAttr(default_factory=Toolbox)

    def model_post_init(self, _context: Any, /) -> None:
        """A typed function must not have the name of a function in `tools`."""
        self._toolbox.reserved = names_in(self.tools)

    @property
    def toolbox(self) -> Toolbox:
        """What `@queue.tool` has registered; copies of this configuration share it."""
        return self._toolbox

    @property
    def fingerprint(self) -> dict[str, Any] | None:
        """What this queue is, as far as this process knows; None if it has no backend configured (a producer need not).

        `tools` says whether there are any, by `tools=` or `@queue.tool`. A worker is not refused because its producers have none: they need
        not import the functions (`store.control.check_in`).
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
    def callback_limit(self) -> float:
        """Seconds that one call of a callback may take."""
        return min(self.callback_timeout, self.run_timeout)

    @property
    def grace(self) -> float:
        """Seconds from an ambiguous request to the question what became of it."""
        return self.request_timeout + GRACE_MARGIN_S


class Options(TypedDict, total=False):
    """The keywords of `AssistantMessageQueue`, for type checkers; `Config` documents and validates them."""

    redis_url: str
    redis: Any
    openai_api_key: str | None
    openai_base_url: str | None
    openai_client: Any
    assistant_id: str | None
    model: str | None
    prompt: str | dict[str, Any] | None
    protocol: Literal["responses", "assistants", "chat_completions"] | None
    history: int | None
    history_tokens: int | None
    count_tokens: Callable[[str], int] | None
    reasoning_tags: Literal["strip", "keep"]
    tools: Sequence[Mapping[str, Any]] | None
    backend: Any
    queue_prefix: str
    message_delay: float
    window: Literal["fixed", "sliding"]
    max_wait: float | None
    attachment_wait: float | None
    max_batch_size: int | None
    after_run: Literal["immediate", "window"]
    max_pending: int | None
    events: Literal["listened", "always", "off"]
    event_ttl: float
    event_limit: int
    validators: Sequence[Callable[..., Any]]
    max_attempts: int
    backoff: Mapping[str, Any]
    retry_for: float
    concurrency: int
    lock_duration: float
    run_timeout: float
    callback_timeout: float
    request_timeout: float
    stream_idle_timeout: float
    on_context_overflow: Literal["truncate", "compact", "fail"]
    max_tool_rounds: int
    default_instructions: str | Callable[..., Any] | None
    run_options: Mapping[str, Any]
    remove_on_complete: bool
    durability: Literal["local", "replicated"]
    result_ttl: float
    thread_ids: Literal["auto", "provider", "mapped"]
    after_failure: Literal["continue", "pause"]
    allow_mismatch: bool
    allow_eviction: bool
    handle_requires_action: Callable[..., Any] | None
    fallback_reply: str | Callable[..., Any] | None
    on_reply: Callable[..., Any] | None
    log_tracebacks: bool


def configure(options: Mapping[str, Any]) -> Config:
    """Options from keywords, completed from the environment.

    Raises:
        UnknownOption: A keyword that does not exist; the message names the nearest.
        ConfigurationError: A value of the wrong type or outside its bounds, or options that exclude each other. Nothing was started.
    """
    for name in options:
        if name not in Config.model_fields:
            near = difflib.get_close_matches(name, Config.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; the options are {', '.join(Config.model_fields)}"
            msg = f"unknown option {name!r}{hint}"
            raise UnknownOption(msg)
    try:
        config = Config(**options)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, options)) from None
    except SettingsError as error:
        name = next((name for name in Config.model_fields if f'"{name}"' in str(error)), "")
        raise ConfigurationError(f"{name}{_told_by(name)}: cannot be read: it is JSON in the environment") from None
    for name in _WAITED_FOR:
        seconds = getattr(config, name)
        if seconds is not None and seconds > LONG_S:
            _log.warning("%s is %g seconds, that is %.1f hours: options are in seconds, not in milliseconds", name, seconds, seconds / 3600)
    return choose_backend(config, options)


def _explain(error: ValidationError, options: Mapping[str, Any]) -> str:
    lines = []
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(str(part) for part in one["loc"]) or "options"
        name = where.partition(".")[0]
        source = _told_by(name) if name not in options else ""
        lines.append(f"{where}{source}: {one['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)


def _told_by(name: str) -> str:
    """The environment variable that says what an option is, in brackets; nothing where there is none."""
    field = Config.model_fields.get(name)
    if field is None:
        return ""
    names = _variables_of(field.validation_alias) or [f"{ENV_PREFIX}{name.upper()}"]
    there = {variable.upper(): variable for variable in os.environ}
    return next((f" (from {there[str(one).upper()]})" for one in names if str(one).upper() in there), "")


def to_ms(seconds: float) -> int:
    """Seconds of the Python side as the milliseconds of the Redis side, rounded up: nothing starts before its time."""
    return math.ceil(round(seconds * 1000, 6))
