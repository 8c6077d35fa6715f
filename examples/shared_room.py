"""A shared room: several people in one thread, who see each other at once, and instructions that are made for each batch.

python examples/shared_room.py                                  # no key, no Redis, no account needed: plays a scene, and ends
python examples/shared_room.py --model NAME                     # with OPENAI_API_KEY: the real service
"""

from __future__ import annotations

import asyncio

from surroundings import surroundings

from assistant_queue import AsyncAssistantMessageQueue, Batch
from assistant_queue.event_models import MessageQueued, ReplyReady
from assistant_queue.testing.provider import Turn

ROLES = {"Mia": "bakes for a living", "Tom": "has never baked"}


def instructions(batch: Batch) -> str:
    """Made for each batch: who is in it is known only when the window has ended."""
    people = "; ".join(f"{name} {ROLES.get(name, 'is new here')}" for name in batch.authors)
    return f"You are the host of a room. In this round: {people}. Answer everybody by name, once."


def stand_in(turn: Turn) -> str:
    """Without a key: shows what the model was given."""
    return f"({turn.instructions}) I heard: {' / '.join(turn.user_texts)}"


async def watch(queue: AsyncAssistantMessageQueue, nickname: str, begin: str) -> None:
    """One person's screen."""
    async for event in queue.events("kitchen", after=begin):
        if isinstance(event, MessageQueued):
            print(f"  [{nickname}'s screen] {event.author}: {event.content}")
        elif isinstance(event, ReplyReady):
            print(f"  [{nickname}'s screen] Host: {event.reply}")
            return


async def play(queue: AsyncAssistantMessageQueue) -> None:
    async with queue:
        await queue.start_worker()
        begin = await queue.open_events("kitchen")
        screens = [asyncio.create_task(watch(queue, name, begin)) for name in ("Mia", "Tom")]
        for author, text in [("Mia", "Hello!"), ("Tom", "How do I start a cake?"), ("Mia", "He has no eggs")]:
            await queue.add_message_to_thread("kitchen", text, author=author)
        await asyncio.gather(*screens)


def main() -> None:
    with surroundings(__doc__, stand_in) as options:
        asyncio.run(play(AsyncAssistantMessageQueue(**options, message_delay=1.0, default_instructions=instructions)))
    print("\nThe same with a page in a browser: assistant-queue demo --web")


if __name__ == "__main__":
    main()
