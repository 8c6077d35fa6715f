"""Error bodies of compatible servers: JSON of many shapes, pages, texts, or nothing."""

from __future__ import annotations

from typing import Any

from assistant_queue.testing.provider.api_errors import JSON_TYPE, ApiProblem
from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.script import Protocol
from assistant_queue.testing.provider.sse import dumps, frame


def body_of(problem: ApiProblem, personality: Personality) -> tuple[bytes, str]:
    """Return the body of an error in this server's shape, and its content type ("" for none)."""
    if problem.body is not None:
        raw = problem.body if isinstance(problem.body, bytes) else dumps(problem.body)
        return raw, problem.content_type
    shape = problem.shape or personality.error_body
    if shape == "html":
        title = problem.message
        page = (
            f"<html>\r\n<head><title>{title}</title></head>\r\n"
            f"<body>\r\n<center><h1>{title}</h1></center>\r\n"
        )
        return f"{page}<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n".encode(), "text/html"
    if shape == "text":
        return problem.message.encode(), "text/plain; charset=utf-8"
    if shape == "empty":
        return b"", ""
    return dumps(error_json(problem, personality)), JSON_TYPE


def error_event(problem: ApiProblem, personality: Personality, protocol: Protocol) -> bytes:
    """Return the error as an event of a stream.

    On Responses an event with a type, else in the shape of the server's bodies.
    """
    if protocol == "responses":
        fields = {
            "code": _code(problem, personality),
            "message": problem.message,
            "param": problem.param,
        }
        return frame("error", {"type": "error", "sequence_number": 0, **fields})
    value = dumps(error_json(problem, personality))
    name = f"event: {personality.error_event}\n".encode() if personality.error_event else b""
    return name + b"data: " + value + b"\n\n"


def error_json(problem: ApiProblem, personality: Personality) -> Any:
    """Return the error as a JSON value.

    Shapes that are not JSON become OpenAI's object, as they do inside a stream.
    """
    error = {**problem.as_error(), "code": _code(problem, personality), **problem.more}
    shape = problem.shape or personality.error_body
    if shape == "metadata":
        return _wrapped(problem, error)
    shapes: dict[str, Any] = {
        "detail": {"detail": problem.message},
        "errors": {"errors": [{"message": problem.message}]},
        "flat": {"object": "error", **error},
        "list": [{"error": {name: held for name, held in error.items() if held is not None}}],
        "error_text": {
            **({} if problem.code is None else {"code": error["code"]}),
            "error": problem.message,
        },
        "message": {"message": problem.message},
        "code_message": {"code": error["code"], "message": problem.message, "data": None},
        "typed": {
            "type": "error",
            "error": {"type": problem.error_type, "message": problem.message},
            "request_id": "req_011",
        },
        "json_text": problem.message,
    }
    return shapes.get(shape, {"error": error})


def _wrapped(problem: ApiProblem, error: dict[str, Any]) -> dict[str, Any]:
    """Return an error that wraps another provider's error as JSON in a text."""
    raw = dumps({"error": {**error, "code": problem.code}}).decode()
    metadata = {"raw": raw, "provider_name": "X"}
    return {
        "error": {
            "message": "Provider returned error",
            "code": problem.status,
            "metadata": metadata,
        },
        "user_id": "user_x",
    }


def _code(problem: ApiProblem, personality: Personality) -> str | int | None:
    if personality.error_codes == "status":
        return problem.status
    if personality.error_codes == "status_text":
        return str(problem.status)
    return None if personality.error_codes == "null" else problem.code
