"""What a compatible server refuses of a response that OpenAI's would take.

Source: the public reports that `personalities.py` names.
"""

from __future__ import annotations

from assistant_queue.testing.provider import responses_wire as wire
from assistant_queue.testing.provider.chat_refusals import check_length, check_model, check_prompt, check_streaming
from assistant_queue.testing.provider.checks import missing
from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.problems import ApiProblem
from assistant_queue.testing.provider.response import Response
from assistant_queue.testing.provider.state import Json, is_user_text, text_of


def check_response_taken(asked: Json, server: Personality) -> None:
    """Refuse what this server does not take.

    Raises:
        ApiProblem: In a server's words.
    """
    check_model(asked, server)
    check_streaming(asked, server)
    if asked.get("background") and server.background == "refused":
        raise ApiProblem("Background mode is not supported.", code="unsupported_parameter", param="background")
    if asked.get("background") and asked.get("stream") and server.stream_in_background == "refused":
        raise ApiProblem("Streaming is not supported for background responses.", code="unsupported_parameter", param="stream")
    if not asked.get("input") and server.input == "required":
        raise missing("input")
    if asked.get("truncation") == "auto" and server.truncation == "refused":
        raise ApiProblem("Unsupported parameter: 'truncation' is not supported.", code="unsupported_parameter", param="truncation")
    check_prompt([text_of(item) for item in wire.input_items(asked.get("input") or []) if is_user_text(item)], server)


def check_context(response: Response, server: Personality) -> None:
    """Refuse a conversation that the model cannot read any more, unless the server shortens it by itself.

    Raises:
        ApiProblem: In the server's words.
    """
    is_cut = response.asked.get("truncation") == "auto" or response.asked.get("context_management")
    if is_cut and server.truncation == "takes":
        return
    try:
        check_length([text_of(item) for item in response.context()], server, model=response.model)
    except ApiProblem as problem:
        problem.param = "input" if problem.param == "messages" else problem.param
        raise
