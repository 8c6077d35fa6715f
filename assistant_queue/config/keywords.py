"""Keywords of both queue classes, for type checkers and editors.

The docstrings are written from the model in `options.py` by `python -m tests.docs.keyword_docs`; a
test compares names, types and docstrings. Annotations are evaluated (no `from __future__ import
annotations`), since the constructor's signature shows them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from assistant_queue.callback_types import (
    FallbackReply,
    FlushCallable,
    InstructionsCallable,
    OnReply,
    RequiresActionHandler,
    ShareCallable,
    Validator,
)
from assistant_queue.models import BackoffKeywords, DeliveryBackoffKeywords


class Options(TypedDict, total=False):
    """Keywords of both queue classes. `Config` validates them; times are in seconds."""

    redis_url: str
    """Address of Redis: redis://, rediss://, unix:// or
    redis+sentinel://host:port,host:port/service/db. Default: 'redis://localhost:6379/0'.
    Environment: REDIS_URL. Used by: producer and worker."""
    redis: Any
    """A ready redis client, sync or async, instead of redis_url. Default: None. Used by: producer
    and worker."""
    openai_api_key: str | None
    """The provider's API key; never written to Redis, logs or errors. Default: None. Environment:
    OPENAI_API_KEY. Used by: worker."""
    openai_base_url: str | None
    """Base URL of an OpenAI-compatible server; None for OpenAI. Default: None. Environment:
    OPENAI_BASE_URL. Used by: worker."""
    openai_client: Any
    """A ready openai client (OpenAI or AsyncOpenAI) instead of a key. Default: None. Used by:
    worker."""
    assistant_id: str | None
    """Id of an assistant; selects the Assistants protocol. Default: None. Environment:
    OPENAI_ASSISTANT_ID. Used by: worker."""
    model: str | None
    """Name of a model; selects Responses with Conversations. Default: None. Environment:
    ASSISTANT_QUEUE_MODEL. Used by: worker."""
    prompt: str | dict[str, Any] | None
    """A stored prompt (id, or {id, version, variables}); selects Responses, too. Default: None.
    Environment: ASSISTANT_QUEUE_PROMPT. Used by: worker."""
    protocol: Literal["responses", "assistants", "chat_completions"] | None
    """Protocol of the model's server; None derives it from assistant_id, model and prompt. Default:
    None. Environment: ASSISTANT_QUEUE_PROTOCOL. Used by: producer and worker."""
    history: int | None
    """Chat Completions: messages of a thread kept as its history, 0 for none; 50 unless
    history_tokens is set. Default: None, in messages. Environment: ASSISTANT_QUEUE_HISTORY. Used
    by: worker."""
    history_tokens: int | None
    """Chat Completions: tokens of a thread kept as its history. Default: None, in tokens.
    Environment: ASSISTANT_QUEUE_HISTORY_TOKENS. Used by: worker."""
    count_tokens: Callable[[str], int] | None
    """Function that counts the tokens of a text for history_tokens; None estimates them. Default:
    None. Used by: worker."""
    reasoning_tags: Literal["strip", "keep"]
    """Text that a model writes between <think> or similar tags before its answer: left out of
    replies, deltas and history, or kept. Default: 'strip'. Environment:
    ASSISTANT_QUEUE_REASONING_TAGS. Used by: worker."""
    tools: Sequence[Mapping[str, Any]] | None
    """Tool definitions in the protocol's format. Default: None. Environment: ASSISTANT_QUEUE_TOOLS.
    Used by: worker."""
    backend: Any
    """A custom Backend, or any callable: a function or an agent. Default: None. Used by: worker."""
    queue_prefix: str
    """Prefix of every key, and name of the RQ queue. Default: 'assistant'. Environment:
    ASSISTANT_QUEUE_QUEUE_PREFIX. Used by: producer and worker."""
    message_delay: float
    """Length of the window: how long a message waits for further ones. Default: 10.0 s.
    Environment: ASSISTANT_QUEUE_MESSAGE_DELAY. Used by: producer."""
    window: Literal["fixed", "sliding", "adaptive"]
    """Fixed: measured from the oldest waiting message; sliding: each message restarts it; adaptive:
    sliding, with a length that follows the pace of each thread. Default: 'fixed'. Environment:
    ASSISTANT_QUEUE_WINDOW. Used by: producer."""
    max_wait: float | None
    """Longest time that a sliding or adaptive window holds a message. Default: None, in s.
    Environment: ASSISTANT_QUEUE_MAX_WAIT. Used by: producer."""
    attachment_wait: float | None
    """Length of the window after a message with text only, for the picture or file that follows.
    Default: None, in s. Environment: ASSISTANT_QUEUE_ATTACHMENT_WAIT. Used by: producer."""
    max_batch_size: int | None
    """Number of messages that ends the window at once. Default: None, in messages. Environment:
    ASSISTANT_QUEUE_MAX_BATCH_SIZE. Used by: producer and worker."""
    max_batch_chars: int | None
    """Most characters of one batch; a longer message goes alone, and as many waiting ones end the
    window. Default: None, in characters. Environment: ASSISTANT_QUEUE_MAX_BATCH_CHARS. Used by:
    producer and worker."""
    flush_when: Sequence[str] | FlushCallable | None
    """Messages that end the window at once: words, or a function of the message that returns True.
    Default: None. Environment: ASSISTANT_QUEUE_FLUSH_WHEN. Used by: producer."""
    separate_authors: bool | ShareCallable
    """Messages of different authors go into different batches; a function of two names returns True
    for those that may share one. Default: False. Environment: ASSISTANT_QUEUE_SEPARATE_AUTHORS.
    Used by: worker."""
    after_run: Literal["immediate", "window"]
    """Messages added during a run: answered when it ends, or after their own window. Default:
    'immediate'. Environment: ASSISTANT_QUEUE_AFTER_RUN. Used by: producer."""
    mid_run: Literal["collect", "interrupt", "steer", "reject"]
    """Messages added while a batch of their thread is not over: they wait for the next, cancel its
    run and are answered with it, join it with the outputs of its next tool round, or raise
    ThreadBusy. Default: 'collect'. Environment: ASSISTANT_QUEUE_MID_RUN. Used by: producer."""
    max_interrupts: int
    """Most interruptions of one batch by messages; further ones wait for the next. Default: 3
    interruptions. Environment: ASSISTANT_QUEUE_MAX_INTERRUPTS. Used by: worker."""
    approval_timeout: float
    """Time for which a tool call waits for an approval, or for `answer_tool`; then it is denied.
    Default: 86400.0 s. Environment: ASSISTANT_QUEUE_APPROVAL_TIMEOUT. Used by: worker."""
    approval_secret: str | Sequence[str] | None
    """Secret that signs links which approve and deny without a login, of at least 16 characters; of
    several the first signs, and links signed by any are taken. Default: None. Environment:
    ASSISTANT_QUEUE_APPROVAL_SECRET. Used by: producer."""
    on_stop: Literal["remember", "forget"]
    """The conversation is given what it does not hold of a stopped batch, texts and partial answer,
    or not. Default: 'remember'. Environment: ASSISTANT_QUEUE_ON_STOP. Used by: worker."""
    max_pending: int | None
    """Most waiting messages of a thread; further ones raise ThreadFull. Default: None, in messages.
    Environment: ASSISTANT_QUEUE_MAX_PENDING. Used by: producer."""
    events: Literal["listened", "always", "off"]
    """Events of a thread are kept from its first subscriber on, always, or never. Default:
    'listened'. Environment: ASSISTANT_QUEUE_EVENTS. Used by: producer and worker."""
    event_ttl: float
    """Lifetime of a thread's events after the last one. Default: 3600.0 s. Environment:
    ASSISTANT_QUEUE_EVENT_TTL. Used by: producer and worker."""
    event_limit: int
    """Least number of events kept for a thread; older ones are trimmed in steps of about 100.
    Default: 1000 events. Environment: ASSISTANT_QUEUE_EVENT_LIMIT. Used by: producer and worker."""
    journal: int
    """Batches of a thread of which times, attempts, tokens and deliveries are kept, without texts;
    0 for none. Default: 200 batches. Environment: ASSISTANT_QUEUE_JOURNAL. Used by: producer and
    worker."""
    journal_ttl: float
    """Time that a batch is kept in its thread's journal. Default: 604800.0 s. Environment:
    ASSISTANT_QUEUE_JOURNAL_TTL. Used by: producer and worker."""
    validators: Sequence[Validator]
    """Functions that return a reason to refuse a message, or None: [max_length(2000), no_markup(),
    your_own]. Default: (). Used by: producer."""
    max_attempts: int
    """Counted failures before a batch moves to the failed list. Default: 3. Environment:
    ASSISTANT_QUEUE_MAX_ATTEMPTS. Used by: worker."""
    backoff: BackoffKeywords
    """Growth of the waits between attempts; delay in seconds. Default: {'type': 'exponential',
    'delay': 5.0}. Environment: ASSISTANT_QUEUE_BACKOFF. Used by: worker."""
    retry_for: float
    """Time during which rate limits, locks and refused connections use up no attempt. Default:
    600.0 s. Environment: ASSISTANT_QUEUE_RETRY_FOR. Used by: worker."""
    concurrency: int
    """Concurrent runs in one asyncio worker. Default: 5 runs. Environment:
    ASSISTANT_QUEUE_CONCURRENCY. Used by: worker."""
    lock_duration: float
    """Lease on a thread, renewed after a third of it. Default: 30.0 s. Environment:
    ASSISTANT_QUEUE_LOCK_DURATION. Used by: worker."""
    run_timeout: float
    """Deadline of one attempt, tool rounds included. Default: 600.0 s. Environment:
    ASSISTANT_QUEUE_RUN_TIMEOUT. Used by: worker."""
    callback_timeout: float
    """Time limit for one call of on_reply, default_instructions, fallback_reply, a validator, a
    hook or a listener; never longer than run_timeout. Default: 60.0 s. Environment:
    ASSISTANT_QUEUE_CALLBACK_TIMEOUT. Used by: producer and worker."""
    delivery_for: float
    """Time during which the delivery of a reply is tried. Default: 86400.0 s. Environment:
    ASSISTANT_QUEUE_DELIVERY_FOR. Used by: worker."""
    delivery_attempts: int | None
    """Failed tries after which a reply goes to the failed list; None for as many as delivery_for
    allows. Default: None. Environment: ASSISTANT_QUEUE_DELIVERY_ATTEMPTS. Used by: worker."""
    delivery_backoff: DeliveryBackoffKeywords
    """Growth of the waits between two tries of a delivery; delay and max_delay in seconds. Default:
    {'type': 'exponential', 'delay': 2.0, 'max_delay': 60.0}. Environment:
    ASSISTANT_QUEUE_DELIVERY_BACKOFF. Used by: worker."""
    delivery_concurrency: int
    """Concurrent deliveries of each channel in one asyncio worker, beside its runs. Default: 20
    deliveries. Environment: ASSISTANT_QUEUE_DELIVERY_CONCURRENCY. Used by: worker."""
    on_unknown_delivery: Literal["park", "resend"]
    """After a delivery of unknown outcome: the failed list, or the part again. Default: 'park'.
    Environment: ASSISTANT_QUEUE_ON_UNKNOWN_DELIVERY. Used by: worker."""
    request_timeout: float
    """Time limit for the provider to accept a request. Default: 30.0 s. Environment:
    ASSISTANT_QUEUE_REQUEST_TIMEOUT. Used by: worker."""
    stream_idle_timeout: float
    """Longest silence of a run's stream. Default: 120.0 s. Environment:
    ASSISTANT_QUEUE_STREAM_IDLE_TIMEOUT. Used by: worker."""
    on_context_overflow: Literal["truncate", "compact", "fail"]
    """Reaction to a conversation that outgrows the model: truncate it, have the provider compact it
    if it can, or fail the batch. Default: 'truncate'. Environment:
    ASSISTANT_QUEUE_ON_CONTEXT_OVERFLOW. Used by: worker."""
    run_mode: Literal["stream", "background"]
    """Stream: a worker reads each run as it is written; background: the provider works alone, and a
    webhook or a poll says that a run has ended (Responses and Assistants). Default: 'stream'.
    Environment: ASSISTANT_QUEUE_RUN_MODE. Used by: worker."""
    poll_rate: float
    """Background: most polls a second, of all workers together. Default: 50.0 polls/s. Environment:
    ASSISTANT_QUEUE_POLL_RATE. Used by: worker."""
    webhook_secret: str | None
    """Secret of the provider's webhooks (whsec_...), for handle_provider_webhook. Default: None.
    Environment: OPENAI_WEBHOOK_SECRET. Used by: producer."""
    max_tool_rounds: int
    """Most rounds of tool calls in one batch. Default: 20 rounds. Environment:
    ASSISTANT_QUEUE_MAX_TOOL_ROUNDS. Used by: worker."""
    default_instructions: str | InstructionsCallable | None
    """Instructions for messages without their own: a text, None, or a callable of the batch.
    Default: 'Reply to all messages logically.'. Environment: ASSISTANT_QUEUE_DEFAULT_INSTRUCTIONS.
    Used by: worker."""
    run_options: Mapping[str, Any]
    """Further fields of the provider's request: max_output_tokens, temperature, .... Default: {}.
    Environment: ASSISTANT_QUEUE_RUN_OPTIONS. Used by: worker."""
    remove_on_complete: bool
    """Delete a message's text once it is answered. Default: True. Environment:
    ASSISTANT_QUEUE_REMOVE_ON_COMPLETE. Used by: worker."""
    durability: Literal["local", "replicated"]
    """Replicated: an add, and the note that a request or a reply is about to be sent, wait until a
    Redis replica has them. Default: 'local'. Environment: ASSISTANT_QUEUE_DURABILITY. Used by:
    producer and worker."""
    result_ttl: float
    """Time that a reply can be read and a duplicate is recognised. Default: 86400.0 s. Environment:
    ASSISTANT_QUEUE_RESULT_TTL. Used by: producer and worker."""
    thread_ids: Literal["auto", "provider", "mapped"]
    """Mapping of thread ids: provider uses the id as is, mapped creates a conversation on first
    use, auto decides by the form (conv_..., thread_...). Default: 'auto'. Environment:
    ASSISTANT_QUEUE_THREAD_IDS. Used by: worker."""
    after_failure: Literal["continue", "pause"]
    """Reaction of a thread to a batch that moves to the failed list: continue with the next, or
    pause. Default: 'continue'. Environment: ASSISTANT_QUEUE_AFTER_FAILURE. Used by: worker."""
    allow_mismatch: bool
    """Start a worker that differs from its producers (backend, assistant, model, tools). Default:
    False. Environment: ASSISTANT_QUEUE_ALLOW_MISMATCH. Used by: worker."""
    allow_eviction: bool
    """Start a worker on a Redis with a maxmemory-policy that may evict messages. Default: False.
    Environment: ASSISTANT_QUEUE_ALLOW_EVICTION. Used by: worker."""
    handle_requires_action: RequiresActionHandler | None
    """Function that answers tool calls: (thread_id, run_id, tool_calls) -> outputs. Default: None.
    Used by: worker."""
    fallback_reply: str | FallbackReply | None
    """Reply to a batch that failed for good, or without a provider: a text, or a callable of
    (batch, error). Default: None. Environment: ASSISTANT_QUEUE_FALLBACK_REPLY. Used by: worker."""
    on_reply: OnReply | None
    """Function that delivers each RunResult; called at least once, keyed by batch_id. Default:
    None. Used by: worker."""
    channels: Sequence[Any]
    """Chat platforms: replies of their threads are delivered there, and shown while they are
    written: [Telegram(token)]. Default: (). Used by: worker."""
    metrics: bool
    """Count what is done in Redis, for get_metrics(): exact over processes and kills. Default:
    True. Environment: ASSISTANT_QUEUE_METRICS. Used by: worker."""
    audit: Any
    """Sink that keeps every batch, prompt and reply in a database: SqlAudit(url). Default: None.
    Used by: producer and worker."""
    log_tracebacks: bool
    """Log exceptions of your functions with tracebacks; otherwise with type and message; secrets
    are hidden in both. Default: False. Environment: ASSISTANT_QUEUE_LOG_TRACEBACKS. Used by:
    worker."""
