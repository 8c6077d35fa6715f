"""Refusals of responses that OpenAI's server would take, in the wordings of compatible servers.

Source: the public reports that `personalities.py` names.
"""

from __future__ import annotations

from collections.abc import Sequence

from assistant_queue.testing.provider import responses_wire as wire
from assistant_queue.testing.provider.actions import ReplyWith
from assistant_queue.testing.provider.api_errors import ApiProblem, calls_without_tool
from assistant_queue.testing.provider.app_context import check_calls
from assistant_queue.testing.provider.chat_refusals import (
    check_model,
    check_prompt,
    check_streaming,
)
from assistant_queue.testing.provider.checks import missing
from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.response import Response
from assistant_queue.testing.provider.script import RunFailure
from assistant_queue.testing.provider.state import Json, is_user_text, text_of


def check_response_taken(asked: Json, server: Personality) -> None:
    """Refuse what this server does not take.

    Raises:
        ApiProblem: In a server's words.
    """
    check_model(asked, server)
    check_streaming(asked, server)
    if asked.get("background") and server.background == "refused":
        raise ApiProblem(
            "Background mode is not supported.", code="unsupported_parameter", param="background"
        )
    if asked.get("background") and asked.get("stream") and server.stream_in_background == "refused":
        raise ApiProblem(
            "This server does not yet support 'stream' and 'background' together.",
            param="stream",
            is_in_stream=False,
        )
    if not asked.get("input") and server.input == "required":
        raise missing("input")
    check_prompt(
        [
            text_of(item)
            for item in wire.input_items(asked.get("input") or [])
            if is_user_text(item)
        ],
        server,
    )


def check_open_calls(response: Response, server: Personality) -> None:
    """Refuse, or let fail, a response over calls without outputs, and refuse outputs without calls.

    Raises:
        ApiProblem: In the server's words.
    """
    if server.open_calls == "refused":
        check_calls(response.context())
        return
    earlier = response.context()[: -len(response.items) or None]
    opened = _ids(earlier, "function_call") - _ids(earlier, "function_call_output")
    answered = _ids(response.items, "function_call_output")
    unknown = sorted(answered - _ids(response.context(), "function_call"))
    if unknown:
        message = (
            f"Received function_call_output(s) with call_id(s) dict_keys({unknown}), but no "
            "corresponding function_call"
        )
        raise ApiProblem(message, error_type=None)
    says_more = any(item.get("type") != "function_call_output" for item in response.items)
    if opened - answered or (opened and says_more):
        _let_fail(
            response, RunFailure("server_error", calls_without_tool(0, sorted(opened)).message)
        )


def _ids(items: Sequence[Json], kind: str) -> set[str]:
    return {item["call_id"] for item in items if item.get("type") == kind}


def _let_fail(response: Response, failure: RunFailure) -> None:
    response.actions = (ReplyWith(failure), *response.actions)
