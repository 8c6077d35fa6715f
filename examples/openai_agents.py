"""An agent of the OpenAI Agents SDK: three messages, one call, its memory in the SDK's session.

pip install 'openai-agents[redis]'
python examples/openai_agents.py                                  # no key, no Redis, no account
OPENAI_API_KEY=... python examples/openai_agents.py --model NAME  # the real service
"""

from __future__ import annotations

from agents import Agent, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from agents.extensions.memory import RedisSession
from openai import AsyncOpenAI
from surroundings import surroundings

from assistant_queue import AssistantMessageQueue, Batch, RunContext
from assistant_queue.testing.provider import Reply, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome


@function_tool
def order_status(number: int) -> str:
    """Look up an order."""
    return f"Order {number} is on its way."


def scripted(turn: Turn) -> Outcome:
    """Play the model."""
    if "4711" in turn.user_texts[-1] and not turn.tool_outputs:
        return ToolCalls([("order_status", {"number": 4711})])
    return Reply(
        turn.tool_outputs[-1].output if "4711" in turn.user_texts[-1] else "You are welcome."
    )


def main() -> None:
    set_tracing_disabled(disabled=True)
    with surroundings(__doc__, scripted) as options:
        # The worker has its own event loop: create objects that belong to a loop, such as an async
        # client, within the function.
        async def answer(batch: Batch, context: RunContext) -> str:
            client = AsyncOpenAI(
                api_key=options.get("openai_api_key"), base_url=options.get("openai_base_url")
            )
            session = RedisSession.from_url(
                batch.thread_id, url=options["redis_url"], key_prefix="agents:session"
            )
            try:
                async with client:
                    model = OpenAIResponsesModel(options["model"], openai_client=client)
                    agent = Agent(
                        name="shop",
                        instructions=context.instructions,
                        tools=[order_status],
                        model=model,
                    )
                    earlier = await session.get_items()
                    # Not `session=session`: with it, Runner.run stores the input before it asks the
                    # model, and an attempt that fails leaves the text behind. The next attempt
                    # would then send and store it once more.
                    result = await Runner.run(
                        agent, [*earlier, {"role": "user", "content": context.text}]
                    )
                    await session.add_items(result.to_input_list()[len(earlier) :])
            finally:
                await session.close()
            return str(result.final_output)

        with AssistantMessageQueue(
            backend=answer,
            redis_url=options["redis_url"],
            queue_prefix=options["queue_prefix"],
            message_delay=1.0,
            default_instructions="Be brief.",
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
