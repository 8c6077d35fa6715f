"""A Pydantic AI agent with a tool that needs an approval: its deferred call parks the batch.

pip install 'pydantic-ai-slim[openai]'
python examples/pydantic_ai_approval.py                                  # no key, no Redis
OPENAI_API_KEY=... python examples/pydantic_ai_approval.py --model NAME  # the real service
"""

from __future__ import annotations

from collections.abc import Mapping

from approval_by_command import play, scripted
from openai import AsyncOpenAI
from pydantic_ai import (
    Agent,
    DeferredToolRequests,
    DeferredToolResults,
    ModelMessagesTypeAdapter,
    ToolApproved,
    ToolDenied,
)
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from surroundings import surroundings

from assistant_queue import Batch, GuestCall, OpenCalls, RunContext, SettledCall

agent = Agent(instructions="Be brief.", output_type=[str, DeferredToolRequests])


@agent.tool_plain(requires_approval=True)
def refund(order: int, amount: int) -> str:
    """Refund an order."""
    print(f"refund({order}, {amount}) is called")
    return f"Order {order}: {amount} refunded."


def left_open(requests: DeferredToolRequests, messages: bytes) -> OpenCalls:
    """Return the agent's deferred calls, with its messages as the state."""
    calls = [
        GuestCall(
            call_id=call.tool_call_id,
            tool=call.tool_name,
            arguments=call.args_as_json_str(),
            question=f"{call.tool_name}: {call.args_as_json_str()}?",
        )
        for call in requests.approvals
    ]
    calls += [
        GuestCall(
            call_id=call.tool_call_id,
            tool=call.tool_name,
            arguments=call.args_as_json_str(),
            kind="answer",
        )
        for call in requests.calls
    ]
    return OpenCalls(calls, messages)


def results_of(settled: Mapping[str, SettledCall]) -> DeferredToolResults:
    """Return what came of the calls, as the agent takes it."""
    results = DeferredToolResults()
    for call_id, call in settled.items():
        if call.verdict == "answered":
            results.calls[call_id] = call.output
        elif call.verdict == "approved":
            changed = None if call.arguments is None else dict(call.arguments)
            results.approvals[call_id] = ToolApproved(override_args=changed)
        else:
            results.approvals[call_id] = ToolDenied(call.reason or f"The call was {call.verdict}.")
    return results


def main() -> None:
    with surroundings(__doc__, scripted) as options:

        async def answer(_: Batch, context: RunContext) -> str | OpenCalls:
            client = AsyncOpenAI(
                api_key=options.get("openai_api_key"), base_url=options.get("openai_base_url")
            )
            async with client:
                model = OpenAIResponsesModel(
                    options["model"], provider=OpenAIProvider(openai_client=client)
                )
                if context.state is None:
                    result = await agent.run(context.text, model=model)
                else:
                    result = await agent.run(
                        model=model,
                        message_history=ModelMessagesTypeAdapter.validate_json(context.state),
                        deferred_tool_results=results_of(context.settled),
                    )
            if isinstance(result.output, DeferredToolRequests):
                return left_open(result.output, result.all_messages_json())
            return result.output

        play(answer, options)


if __name__ == "__main__":
    main()
