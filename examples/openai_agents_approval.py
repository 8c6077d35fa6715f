"""An agent of the OpenAI Agents SDK with a tool that needs an approval: it parks the batch.

pip install openai-agents
python examples/openai_agents_approval.py                                  # no key, no Redis
OPENAI_API_KEY=... python examples/openai_agents_approval.py --model NAME  # the real service
"""

from __future__ import annotations

import json

from agents import (
    Agent,
    OpenAIResponsesModel,
    Runner,
    RunState,
    function_tool,
    set_tracing_disabled,
)
from approval_by_command import play, scripted
from openai import AsyncOpenAI
from surroundings import surroundings

from assistant_queue import Batch, GuestCall, OpenCalls, RunContext


@function_tool(needs_approval=True)
def refund(order: int, amount: int) -> str:
    """Refund an order."""
    print(f"refund({order}, {amount}) is called")
    return f"Order {order}: {amount} refunded."


async def resumed(agent: Agent, context: RunContext) -> RunState:
    """Return the state of the run, with what came of its interruptions."""
    state = await RunState.from_json(agent, json.loads(context.state or ""))
    for item in state.get_interruptions():
        call = context.settled[item.call_id or ""]
        if call.verdict == "approved" and call.arguments is None:
            state.approve(item)
        elif call.verdict == "approved":  # the SDK runs a call as the model made it, or not at all
            wanted = json.dumps(dict(call.arguments or {}))
            state.reject(item, rejection_message=f"Approved are other arguments: {wanted}")
        else:
            words = call.output or call.reason or f"The call was {call.verdict}."
            state.reject(item, rejection_message=words)
    return state


def main() -> None:
    set_tracing_disabled(disabled=True)
    with surroundings(__doc__, scripted) as options:

        async def answer(_: Batch, context: RunContext) -> str | OpenCalls:
            client = AsyncOpenAI(
                api_key=options.get("openai_api_key"), base_url=options.get("openai_base_url")
            )
            async with client:
                model = OpenAIResponsesModel(options["model"], openai_client=client)
                agent = Agent(name="shop", tools=[refund], model=model)
                if context.state is None:
                    result = await Runner.run(agent, context.text)
                else:
                    result = await Runner.run(agent, await resumed(agent, context))
            if not result.interruptions:
                return str(result.final_output)
            calls = [
                GuestCall(
                    call_id=item.call_id or "",
                    tool=item.name or "",
                    arguments=item.arguments or "{}",
                    question=f"{item.name}: {item.arguments}?",
                )
                for item in result.interruptions
            ]
            return OpenCalls(calls, json.dumps(result.to_state().to_json()))

        play(answer, options)


if __name__ == "__main__":
    main()
