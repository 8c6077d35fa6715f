"""Rules of runs and deliveries, as the options of a queue set them."""

from __future__ import annotations

from assistant_queue.backends.base import Backend
from assistant_queue.backends.function.backend import FunctionBackend
from assistant_queue.config import DEFAULT_INSTRUCTIONS, Config
from assistant_queue.core.delivery import DeliveryRules
from assistant_queue.core.first_send import FirstSend, first_send_of
from assistant_queue.core.flow import AuthorRule, Rules
from assistant_queue.core.retry import Backoff


def rules_of(config: Config, *, takes_default: bool) -> Rules:
    """Return the options that the flow decides by."""
    instructions = config.default_instructions
    if instructions == DEFAULT_INSTRUCTIONS and not takes_default:
        instructions = None
    return Rules(
        max_attempts=config.max_attempts,
        backoff=Backoff(type=config.backoff.type, delay_s=config.backoff.delay),
        retry_for_s=config.retry_for,
        run_timeout_s=config.run_limit,
        grace_s=config.grace,
        max_tool_rounds=config.max_tool_rounds,
        thread_ids=config.thread_ids,
        instructions=True if callable(instructions) else instructions,
        delivers=delivers(config),
        fallback=True if callable(config.fallback_reply) else config.fallback_reply,
        max_batch_chars=config.max_batch_chars,
        authors=_author_rule(config),
        max_interrupts=config.max_interrupts,
        approval_timeout_s=config.approval_timeout,
        remembers_stopped=config.on_stop == "remember",
        background=config.run_mode == "background",
    )


def _author_rule(config: Config) -> AuthorRule:
    if callable(config.separate_authors):
        return AuthorRule.ASK
    return AuthorRule.SEPARATE if config.separate_authors else AuthorRule.SHARE


def first_sending(
    config: Config, backend: Backend, rules: Rules, worker_name: str
) -> FirstSend | None:
    """Return what claims store of new batches; None if marks must reach a replica, too.

    Of a backend that the user has written, the capabilities say nothing about its start.
    """
    is_own = backend is config.backend or isinstance(backend, FunctionBackend)
    if is_own or config.durability == "replicated":
        return None
    return first_send_of(backend.capabilities, rules, worker_name)


def delivers(config: Config) -> bool:
    """Return whether the queue's replies are delivered."""
    return config.on_reply is not None or bool(config.channels)


def delivery_rules_of(config: Config) -> DeliveryRules:
    """Return the options that a delivery decides by."""
    backoff = config.delivery_backoff
    return DeliveryRules(
        backoff=Backoff(type=backoff.type, delay_s=backoff.delay),
        max_delay_s=backoff.max_delay,
        for_s=config.delivery_for,
        attempts=config.delivery_attempts,
        resends_unknown=config.on_unknown_delivery == "resend",
    )
