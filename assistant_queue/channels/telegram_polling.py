"""Long polling of Telegram's updates."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from assistant_queue.channels.telegram_api import (
    BotRefusal,
    MethodDone,
    TelegramApi,
    is_wrong_bot,
)
from assistant_queue.errors import (
    ConfigurationError,
    InvalidArgument,
    StoreError,
    ThreadFull,
)

_log = logging.getLogger(__name__)

_POLL_S = 50
"""Seconds that Telegram holds a request. Source: its servers close longer ones."""

_AWAY_S = 3.0
"""Seconds until the next try while Telegram or Redis is away."""

_CONFLICT = 409

Take = Callable[[Mapping[str, Any]], Awaitable[None]]


async def poll(api: TelegramApi, kinds: Sequence[str], take: Take) -> None:
    """Take updates in order until cancelled.

    The next request confirms those before it, so an update is confirmed only when the queue has it;
    after a crash Telegram sends it again, and the queue recognises it.

    Raises:
        ConfigurationError: Telegram does not know the token, or the bot has a webhook.
    """
    offset: int | None = None
    while True:
        answer = await api.call(
            "getUpdates",
            {"offset": offset, "timeout": _POLL_S, "allowed_updates": list(kinds)},
            timeout_s=_POLL_S + 10.0,
        )
        if isinstance(answer, MethodDone) and isinstance(answer.result, list):
            for update in answer.result:
                await _take(take, update)
                offset = int(update["update_id"]) + 1
        elif isinstance(answer, BotRefusal):
            await _wait(answer)
        else:
            reason = getattr(answer, "reason", "it sent no list")
            _log.warning("Telegram's updates: %s", reason)
            await asyncio.sleep(_AWAY_S)


async def wait_for_bot(api: TelegramApi) -> Any:
    """Return Telegram's description of the bot, once Telegram answers.

    Raises:
        ConfigurationError: Telegram does not know the token.
    """
    while True:
        answer = await api.call("getMe", {})
        if isinstance(answer, MethodDone):
            return answer.result
        if isinstance(answer, BotRefusal):
            await _wait(answer)
        else:
            _log.warning("Telegram does not answer: %s", answer.reason)
            await asyncio.sleep(_AWAY_S)


async def _take(take: Take, update: Mapping[str, Any]) -> None:
    """Take one update; wait until the queue accepts it."""
    while True:
        try:
            await take(update)
        except (ThreadFull, StoreError) as error:
            if not error.retryable:
                raise
            _log.warning("Telegram's update waits: %s", error)
            await asyncio.sleep(_AWAY_S)
        except InvalidArgument as error:
            # It would stop all updates after it.
            _log.warning("Telegram's update is left out: %s", error)
            return
        else:
            return


async def _wait(refusal: BotRefusal) -> None:
    if is_wrong_bot(refusal):
        raise ConfigurationError(f"Telegram does not know this token: {refusal.description}")
    if refusal.status == _CONFLICT and "webhook" in refusal.description.lower():
        raise ConfigurationError(
            f"Telegram sends this bot's updates to a webhook: {refusal.description}"
        )
    outcome = refusal.outcome()
    _log.warning("Telegram's updates: %s", outcome.reason)
    await asyncio.sleep(outcome.retry_after or _AWAY_S)
