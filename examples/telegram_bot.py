"""A Telegram bot: bursts, typing, streamed and split replies, edits and retries, in forty lines.

python examples/telegram_bot.py                     # a fake Telegram, no token, no key, no account
TELEGRAM_TOKEN=... python examples/telegram_bot.py  # your bot
"""

from __future__ import annotations

import asyncio
import os

from surroundings import surroundings

from assistant_queue import AsyncAssistantMessageQueue
from assistant_queue.channels import Telegram
from assistant_queue.testing.channels import StandInTelegram


async def play(platform: StandInTelegram) -> None:
    """Write to the bot on the fake Telegram, and show the chat."""
    chat = platform.chat(42)
    for text in ("Hi!", "I want to bake a cake", "but I have no eggs"):
        await asyncio.to_thread(platform.say, 42, text, name="Mia")
    await asyncio.to_thread(platform.wait_for, lambda: "".join(chat.shown).endswith("eggs"))
    for message in chat.messages.values():
        print(f"{'Bot' if message.from_bot else 'Mia'}: {message.text}")


async def run(token: str, platform: StandInTelegram | None, options: dict[str, str]) -> None:
    telegram = Telegram(token, api_url=platform.url) if platform else Telegram(token)
    async with AsyncAssistantMessageQueue(
        **options, channels=[telegram], message_delay=1.0
    ) as queue:
        await queue.start_worker()
        polling = asyncio.create_task(telegram.poll(queue))
        await (play(platform) if platform else polling)
        polling.cancel()


def main() -> None:
    token = os.environ.get("TELEGRAM_TOKEN")
    with surroundings(__doc__) as options, StandInTelegram() as platform:
        asyncio.run(run(token or platform.token, None if token else platform, options))


if __name__ == "__main__":
    main()
