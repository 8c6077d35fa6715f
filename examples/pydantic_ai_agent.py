"""A Pydantic AI agent with its own memory, which makes the function idempotent.

pip install 'pydantic-ai-slim[openai]'
python examples/pydantic_ai_agent.py                                  # no key, no Redis, no account
OPENAI_API_KEY=... python examples/pydantic_ai_agent.py --model NAME  # the real service
"""

from __future__ import annotations

import json

import redis.asyncio
from openai import AsyncOpenAI
from pydantic_ai import Agent, ModelMessage, ModelMessagesTypeAdapter
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from surroundings import surroundings

from assistant_queue import AssistantMessageQueue, Batch, FunctionBackend, RunContext
from assistant_queue.testing.provider import Reply, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome

TURNS = 20
"""Number of batches of a thread that the agent remembers."""

agent = Agent(instructions="Be brief.")


@agent.tool_plain
def order_status(number: int) -> str:
    """Look up an order."""
    return f"Order {number} is on its way."


class Memory:
    """The history of each thread, batch by batch.

    One batch of a thread runs at a time, so plain reading and writing is enough.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def before(self, batch: Batch) -> dict[str, list[object]]:
        """Return the turns before this batch.

        After a crash the function is called again, and its own turn is written anew.
        """
        turns: dict[str, list[object]] = json.loads(
            await self.client.get(f"memory:{batch.thread_id}") or "{}"
        )
        turns.pop(batch.id, None)
        return turns

    async def keep(self, batch: Batch, turns: dict[str, list[object]], new: bytes) -> None:
        """Write the batch's turn; writing it twice has the same effect."""
        turns[batch.id] = json.loads(new)
        kept = dict(list(turns.items())[-TURNS:])
        await self.client.set(f"memory:{batch.thread_id}", json.dumps(kept))


def scripted(turn: Turn) -> Outcome:
    """Play the model."""
    if "4711" in turn.user_texts[-1] and not turn.tool_outputs:
        return ToolCalls([("order_status", {"number": 4711})])
    return Reply(
        turn.tool_outputs[-1].output if "4711" in turn.user_texts[-1] else "You are welcome."
    )


def main() -> None:
    with surroundings(__doc__, scripted) as options:

        async def answer(batch: Batch, context: RunContext) -> str:
            client = AsyncOpenAI(
                api_key=options.get("openai_api_key"), base_url=options.get("openai_base_url")
            )
            async with client, redis.asyncio.Redis.from_url(options["redis_url"]) as store:
                memory = Memory(store)
                turns = await memory.before(batch)
                history: list[ModelMessage] = [
                    m
                    for turn in turns.values()
                    for m in ModelMessagesTypeAdapter.validate_python(turn)
                ]
                model = OpenAIResponsesModel(
                    options["model"], provider=OpenAIProvider(openai_client=client)
                )
                result = await agent.run(context.text, model=model, message_history=history)
                await memory.keep(batch, turns, result.new_messages_json())
            return result.output

        with AssistantMessageQueue(
            backend=FunctionBackend(answer, idempotent=True),
            redis_url=options["redis_url"],
            queue_prefix=options["queue_prefix"],
            message_delay=1.0,
        ) as queue:
            queue.start_worker()
            for text in ("Hello", "I have a question", "where is order 4711?"):
                print(f"Mia: {text}")
                receipt = queue.add_message_to_thread("mia", text)
            print(f"Bot: {queue.wait_for_reply(receipt.message_id, timeout=120)}")
            print("Mia: Thanks!")
            print(f"Bot: {queue.ask('mia', 'Thanks!', timeout=120)}")


if __name__ == "__main__":
    main()
