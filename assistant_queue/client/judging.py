"""Judgement of a message before it is queued: the validators, and `flush_when`."""

from __future__ import annotations

from dataclasses import replace

from assistant_queue.client.additions import Addition
from assistant_queue.config import Config
from assistant_queue.models import Message
from assistant_queue.user_code.flush_calls import is_flushed, is_flushed_async
from assistant_queue.user_code.validator_calls import validate, validate_async


def judge(config: Config, row: Addition) -> Addition:
    """Run the validators, and `flush_when`.

    Raises:
        MessageRefused: A validator refused the message.
    """
    if config.validators:
        judge_content(config, row.message, row.thread_id)
    rule = config.flush_when
    if rule is None:
        return row
    return replace(row, flushes=is_flushed(rule, row.message, row.thread_id, config.callback_limit))


async def judge_async(config: Config, row: Addition) -> Addition:
    """`judge`, without blocking the event loop."""
    if config.validators:
        await judge_content_async(config, row.message, row.thread_id)
    rule = config.flush_when
    if rule is None:
        return row
    limit_s = config.callback_limit
    flushes = await is_flushed_async(rule, row.message, row.thread_id, limit_s)
    return replace(row, flushes=flushes)


def judge_content(config: Config, made: Message, thread_id: str | None) -> None:
    """Run the validators.

    Raises:
        MessageRefused: One of them refused the message.
    """
    validate(config.validators, made, thread_id, config.callback_limit)


async def judge_content_async(config: Config, made: Message, thread_id: str | None) -> None:
    """`judge_content`, without blocking the event loop."""
    await validate_async(config.validators, made, thread_id, config.callback_limit)
