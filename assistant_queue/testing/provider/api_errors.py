"""Build the errors of the stand-in, in the provider's words and shape.

Source: the provider's published API description, its error guide and public issue threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assistant_queue.testing.provider.error_flags import Shape

JSON_TYPE = "application/json"
BAD_REQUEST = 400
NOT_FOUND = 404
CONFLICT = 409


class ApiProblem(Exception):
    """Raised to refuse a request with this status, these headers and this body.

    Nothing was changed.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = BAD_REQUEST,
        code: str | int | None = None,
        param: str | None = None,
        error_type: str | None = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON_TYPE,
        more: Mapping[str, Any] | None = None,
        shape: Shape | None = None,
        is_in_stream: bool | None = None,
    ) -> None:
        """Describe the answer.

        Args:
            message: For a person.
            status: The HTTP status.
            code: For programs; null in many of the provider's errors.
            param: The parameter at fault, as a path.
            error_type: The provider's class of errors.
            headers: Further headers, `Retry-After` say.
            body: Sent as it is instead of the usual shape: bytes, or what becomes JSON.
            content_type: Of such a body; "" sends no such header.
            more: Further fields of the error object.
            shape: The shape of the body, if not the personality's.
            is_in_stream: Sent as an event inside a 200 if a stream was asked for; None leaves it to
                the personality.
        """
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.param = param
        self.error_type = error_type
        self.headers = dict(headers or {})
        self.body = body
        self.content_type = content_type
        self.more = dict(more or {})
        self.shape = shape
        self.is_in_stream = is_in_stream

    def as_error(self) -> dict[str, Any]:
        """The error object itself, as it also appears in a stream."""
        return {
            "message": self.message,
            "type": self.error_type,
            "param": self.param,
            "code": self.code,
        }


def unreadable_body() -> ApiProblem:
    """The body is not a JSON object."""
    return ApiProblem(
        "We could not parse the JSON body of your request. The OpenAI API expects a JSON payload."
    )


def response_side_not_found(kind: str, ident: str, param: str | None = None) -> ApiProblem:
    """An unknown conversation, response or item, in the words of the Responses side."""
    return ApiProblem(f"{kind} with id '{ident}' not found.", status=NOT_FOUND, param=param)


def cannot_cancel(response_id: str, status: int) -> ApiProblem:
    """Refuse to cancel a foreground response: 400 as OpenAI, 409 as other servers."""
    if status == BAD_REQUEST:
        return ApiProblem("Cannot cancel a synchronous response.")
    return ApiProblem(
        f"Response '{response_id}' does not run in the background and cannot be cancelled.",
        status=status,
    )


def assistant_side_not_found(kind: str, ident: str) -> ApiProblem:
    """An unknown thread, run, message or assistant, in the words of the Assistants side."""
    return ApiProblem(f"No {kind} found with id '{ident}'.", status=NOT_FOUND)


def conversation_locked(*, as_conflict: bool) -> ApiProblem:
    """Another response is working on the conversation."""
    return ApiProblem(
        "Another process is currently operating on this conversation. Please retry in a few "
        "seconds.",
        status=CONFLICT if as_conflict else BAD_REQUEST,
        code="conversation_locked",
    )


def thread_has_active_run(thread_id: str, run_id: str, *, as_conflict: bool) -> ApiProblem:
    """A run is created while another is active."""
    return ApiProblem(
        f"Thread {thread_id} already has an active run {run_id}.",
        status=CONFLICT if as_conflict else BAD_REQUEST,
    )


def message_during_run(thread_id: str, run_id: str, *, as_conflict: bool) -> ApiProblem:
    """A message is added while a run is active."""
    return ApiProblem(
        f"Can't add messages to {thread_id} while a run {run_id} is active.",
        status=CONFLICT if as_conflict else BAD_REQUEST,
    )


def no_output_for(call_id: str, kind: str = "function_call") -> ApiProblem:
    """A call of the conversation was never answered: the conversation is poisoned until it is."""
    return ApiProblem(
        f"No tool output found for {kind.replace('_', ' ')} {call_id}.", param="input"
    )


def no_call_for(call_id: str, kind: str = "function_call_output") -> ApiProblem:
    """An output answers a call that was never made."""
    return ApiProblem(
        f"No tool call found for {kind.replace('_', ' ')} with call_id {call_id}.", param="input"
    )


def nothing_follows(item_id: str, kind: str) -> ApiProblem:
    """An item stands without the one it led to."""
    return ApiProblem(
        f"Item '{item_id}' of type '{kind}' was provided without its required following item.",
        param="input",
    )


def tool_without_calls(place: int) -> ApiProblem:
    """A tool message of a chat completion answers nothing."""
    return ApiProblem(
        "Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
        "with 'tool_calls'.",
        param=f"messages.[{place}].role",
    )


def calls_without_tool(place: int, call_ids: Sequence[str]) -> ApiProblem:
    """Calls of a chat completion that no tool message answers."""
    return ApiProblem(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to "
        "each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {', '.join(call_ids)}",
        param=f"messages.[{place}].role",
    )


def only_with(name: str, other: str) -> ApiProblem:
    """A parameter that makes no sense without another one."""
    return ApiProblem(
        f"The '{name}' parameter is only allowed when '{other}' is enabled.", param=name
    )


def wrong_outputs(expected: Sequence[str], got: Sequence[str]) -> ApiProblem:
    """Some outputs of a run are missing or belong to no call."""
    return ApiProblem(f"Expected tool outputs for call_ids {list(expected)}, got {list(got)}")


def outputs_not_accepted(status: str) -> ApiProblem:
    """The run is not waiting for outputs."""
    return ApiProblem(f'Runs in status "{status}" do not accept tool outputs.')


def run_not_cancellable(status: str) -> ApiProblem:
    """The run has ended, or is being cancelled already."""
    return ApiProblem(f"Cannot cancel run with status '{status}'.")
