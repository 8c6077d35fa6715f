"""A shared room: several people in one thread, and instructions made for each batch.

Each person's screen shows the others at once. Without a key it plays a scene and ends.

python examples/shared_room.py                                  # no key, no Redis, no account
OPENAI_API_KEY=... python examples/shared_room.py --model NAME  # the real service
"""

from __future__ import annotations

import asyncio

from surroundings import surroundings

from assistant_queue import AsyncAssistantMessageQueue, Batch
from assistant_queue.events import MessageQueued, ReplyReady
from assistant_queue.testing.provider import Turn

ROLES = {"Mia": "bakes for a living", "Tom": "has never baked"}


def instructions(batch: Batch) -> str:
    """Describe the batch's authors; they are known only when the window has ended."""
    people = "; ".join(f"{name} {ROLES.get(name, 'is new here')}" for name in batch.authors)
    return f"You are the host of a room. In this round: {people}. Answer everybody by name, once."


def stand_in(turn: Turn) -> str:
    """Play the model: show what it received."""
    return f"({turn.instructions}) I heard: {' / '.join(turn.user_texts)}"


async def watch(queue: AsyncAssistantMessageQueue, nickname: str, begin: str) -> None:
    """Print the thread's events as one person's screen."""
    async for event in queue.events("kitchen", after=begin):
        if isinstance(event, MessageQueued):
            print(f"  [{nickname}'s screen] {event.author}: {event.content}")
        elif isinstance(event, ReplyReady):
            print(f"  [{nickname}'s screen] Host: {event.reply}")
            return


async def play(queue: AsyncAssistantMessageQueue) -> None:
    """Play a scene with two people."""
    async with queue:
        await queue.start_worker()
        begin = await queue.open_events("kitchen")
        screens = [asyncio.create_task(watch(queue, name, begin)) for name in ("Mia", "Tom")]
        for author, text in [
            ("Mia", "Hello!"),
            ("Tom", "How do I start a cake?"),
            ("Mia", "He has no eggs"),
        ]:
            await queue.add_message_to_thread("kitchen", text, author=author)
        await asyncio.gather(*screens)


def main() -> None:
    with surroundings(__doc__, stand_in) as options:
        asyncio.run(
            play(
                AsyncAssistantMessageQueue(
                    **options, message_delay=1.0, default_instructions=instructions
                )
            )
        )
    print("\nThe same with a page in a browser: assistant-queue demo --web")


if __name__ == "__main__":
    main()
