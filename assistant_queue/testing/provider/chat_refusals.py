"""Refuse chat completions that OpenAI's server would take, in other servers' words.

Source: the public reports that `personalities.py` names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from assistant_queue.testing.provider.api_errors import ApiProblem
from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.state import Json, is_user_text, text_of
from assistant_queue.testing.provider.troubles import trouble_of
from assistant_queue.testing.provider.unknown_fields import unknown_field
from assistant_queue.testing.provider.wordings import Facts

_SYSTEM = frozenset({"system", "developer"})
_ID_FORMS = {"nine": re.compile(r"[A-Za-z0-9]{9}"), "call_": re.compile(r"call_.+")}


def check_taken(asked: Json, server: Personality) -> None:
    """Refuse what this server does not take.

    Raises:
        ApiProblem: In a server's words.
    """
    check_model(asked, server)
    _check_options(asked, server)
    for place, message in enumerate(asked["messages"]):
        _check_message(place, message, server)
    _check_order(asked["messages"], server)
    check_prompt(
        [text_of(message) for message in asked["messages"] if is_user_text(message)], server
    )


def check_model(asked: Json, server: Personality) -> None:
    """Refuse an unknown model.

    Raises:
        ApiProblem: In the server's words.
    """
    model = asked.get("model")
    if server.models is not None and model is not None and model not in server.models:
        raise trouble_of(server, "unknown_model", Facts(model=model))


def check_streaming(asked: Json, server: Personality) -> None:
    """Refuse to stream to an account that is not verified.

    Raises:
        ApiProblem: In OpenAI's words.
    """
    if asked.get("stream") and server.streams == "refused":
        message = (
            "Your organization must be verified to stream this model. Please go to the settings of "
            "your organization."
        )
        raise ApiProblem(message, code="unsupported_value", param="stream")


def check_prompt(texts: Sequence[str], server: Personality) -> None:
    """Refuse a prompt that the content filter flags.

    Raises:
        ApiProblem: In the server's words.
    """
    if server.moderates is not None and any(server.moderates in text for text in texts):
        raise trouble_of(server, "moderated")


def _check_options(asked: Json, server: Personality) -> None:
    check_streaming(asked, server)
    if asked.get("stream_options") is not None and server.stream_options == "refused":
        path = (
            "stream_options.include_usage"
            if server.unknown_fields == "forbidden"
            else "stream_options"
        )
        raise unknown_field(path, value=True, server=server)
    unknown = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}.get(
        server.reply_limit
    )
    if unknown is None or asked.get(unknown) is None:
        return
    if unknown == "max_completion_tokens":
        raise unknown_field(unknown, value=asked[unknown], server=server)
    message = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead."
    )
    raise ApiProblem(message, code="unsupported_parameter", param="max_tokens")


def _check_message(place: int, message: Json, server: Personality) -> None:
    role = message["role"]
    content = message.get("content")
    if role in _SYSTEM:
        _check_system(place, role, server)
    if role == "assistant" and content is None and server.null_content == "refused":
        raise trouble_of(server, "null_content")
    if role in {"user", "assistant"} and content == "" and server.empty_content == "refused":
        raise ApiProblem("messages: text content blocks must be non-empty")
    calls = message.get("tool_calls") or []
    if calls and server.wants_reasoning and not message.get("reasoning_content"):
        raise ApiProblem(
            f"Missing `reasoning_content` field in the assistant message at message index {place}.",
            code="invalid_request_error",
        )
    for call in calls:
        _check_call(place, call, server)


def _check_system(place: int, role: str, server: Personality) -> None:
    if server.system_role == "refused":
        raise ApiProblem("System role not supported", error_type="BadRequestError")
    if server.system_role == "refused_by_value":
        message = (
            f"Unsupported value: 'messages[{place}].role' does not support '{role}' with this "
            "model."
        )
        raise ApiProblem(message, code="unsupported_value", param=f"messages[{place}].role")
    if server.system_role == "refused_as_developer":
        raise ApiProblem(
            "Developer instruction is not enabled for models/some-model",
            error_type=None,
            more={"status": "INVALID_ARGUMENT"},
        )


def _check_call(place: int, call: Json, server: Personality) -> None:
    ident = call["id"]
    form = _ID_FORMS.get(server.call_id_form)
    if form is not None and not form.fullmatch(ident):
        if server.call_id_form == "nine":
            message = f"Tool call id was {ident} but must be a-z, A-Z, 0-9, with a length of 9."
            raise ApiProblem(message, code="3280", error_type="invalid_function_call")
        path = f"messages[{place}].tool_calls[0].id"
        message = f"Invalid '{path}': '{ident}'. Expected an ID that begins with 'call_'."
        raise ApiProblem(message, code="invalid_value", param=path)
    if server.unreadable_arguments == "refused":
        try:
            json.loads(call["function"]["arguments"])
        except ValueError as error:
            raise ApiProblem(str(error), error_type="BadRequestError") from None


def _check_order(messages: Sequence[Json], server: Personality) -> None:
    for role, following in _neighbours(messages):
        if (
            server.after_tool == "assistant"
            and role == "tool"
            and following not in {"tool", "assistant"}
        ):
            raise ApiProblem(
                f"Unexpected role '{following}' after role 'tool'",
                code="3230",
                error_type="invalid_request_message_order",
            )
    if (
        server.last_role == "user_or_tool"
        and messages
        and messages[-1]["role"] not in {"user", "tool"}
    ):
        message = (
            "Expected last role User or Tool (or Assistant with prefix True) for serving but got "
            f"{messages[-1]['role']}"
        )
        raise ApiProblem(message, code="3230", error_type="invalid_request_message_order")
    if server.wants_turns:
        _check_turns(messages, server)


def _neighbours(messages: Sequence[Json]) -> Iterator[tuple[str, str]]:
    for message, following in pairwise(messages):
        yield message["role"], following["role"]


def _check_turns(messages: Sequence[Json], server: Personality) -> None:
    """Require alternating roles, as some models' templates do.

    After the instructions user, assistant, user ..., tool rounds aside.
    """
    roles = [
        one["role"]
        for one in messages
        if one["role"] not in {"system", "tool"} and not one.get("tool_calls")
    ]
    for place, role in enumerate(roles):
        if role != ("user", "assistant")[place % 2]:
            raise trouble_of(server, "turns")
