"""The model requests two functions, the queue answers the round, the model replies.

python examples/function_calling.py                                  # no key, no Redis, no account
OPENAI_API_KEY=... python examples/function_calling.py --model NAME  # the real service
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from surroundings import surroundings

from assistant_queue import AssistantMessageQueue, RunResult, ToolCall
from assistant_queue.testing.provider import Reply, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome


def get_weather(city: str) -> dict[str, Any]:
    return {"city": city, "sky": "clear" if len(city) % 2 else "cloudy", "celsius": 10 + len(city)}


def get_time(city: str) -> str:
    return f"It is half past nine in {city}."


FUNCTIONS = {"get_weather": get_weather, "get_time": get_time}

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {
        "type": "function",
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": CITY,
    },
    {
        "type": "function",
        "name": "get_time",
        "description": "The time in a city.",
        "parameters": CITY,
    },
]


def use_tools(thread_id: str, run_id: str, tool_calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Return an output for each call: `handle_requires_action`.

    Omitted calls, and exceptions, reach the model as errors.
    """
    outputs = []
    for call in tool_calls:
        arguments = json.loads(call.function.arguments)
        # call.id is stable: use it as an idempotency key if a function changes something.
        output = FUNCTIONS[call.function.name](**arguments)
        made = f"{call.function.name}({arguments['city']})"
        print(f"  run {run_id} of {thread_id} calls {made} -> {output}")
        outputs.append({"tool_call_id": call.id, "output": output})
    return outputs


def on_reply(result: RunResult) -> None:
    """Send the answer; at least once, so remember `batch_id` if twice would hurt."""
    answered = f"{result.messages_processed} messages, {result.status}"
    print(f"Bot to {result.thread_id} ({answered}): {result.reply}")


def scripted(turn: Turn) -> Outcome:
    """Play the model: first the two calls, then a reply made of their outputs."""
    if not turn.tool_outputs:
        return ToolCalls([("get_weather", {"city": "Paris"}), ("get_time", {"city": "Paris"})])
    return Reply("In Paris: " + " ".join(output.output for output in turn.tool_outputs))


def main() -> None:
    with (
        surroundings(__doc__, scripted) as options,
        AssistantMessageQueue(
            **options,
            tools=TOOLS,
            handle_requires_action=use_tools,
            on_reply=on_reply,
            message_delay=1.0,
        ) as queue,
    ):
        queue.start_worker()
        for text in ("Good morning", "what is the weather in Paris", "and what time is it there?"):
            print(f"Tom: {text}")
            receipt = queue.add_message_to_thread("travel", text, author="Tom")
        queue.wait_for_reply(receipt.message_id, timeout=120)


if __name__ == "__main__":
    main()
