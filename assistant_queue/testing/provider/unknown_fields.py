"""Fields that a server does not know: ignored, or refused in its own words."""

from __future__ import annotations

import copy
import re
from typing import Any

from assistant_queue.testing.provider.api_errors import ApiProblem
from assistant_queue.testing.provider.checks import Check
from assistant_queue.testing.provider.personality import Personality

_UNKNOWN = "unknown_parameter"
_STEPS = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_UNPROCESSABLE = 422


def check_known(body: dict[str, Any], check: Check, server: Personality) -> None:
    """Check a body as this server does: unknown fields are ignored or refused.

    Raises:
        ApiProblem: The server does not take it.
    """
    for name in server.unknown_options:
        if name in body and server.unknown_fields != "ignored":
            raise unknown_field(name, value=body[name], server=server)
    left = body
    while True:
        try:
            check(left, "")
        except ApiProblem as problem:
            if (
                problem.code != _UNKNOWN
                or problem.param is None
                or server.unknown_fields == "refused"
            ):
                raise
            if server.unknown_fields != "ignored":
                raise unknown_field(
                    problem.param, value=_at(body, problem.param), server=server
                ) from None
            left = _without(left, problem.param)
        else:
            return


def unknown_field(path: str, *, value: Any, server: Personality) -> ApiProblem:
    """Return the refusal of a field, in this server's words."""
    if server.unknown_fields == "forbidden":
        place = {
            "type": "extra_forbidden",
            "loc": ["body", *_steps(path)],
            "msg": "Extra inputs are not permitted",
            "input": value,
        }
        body: dict[str, Any] = {"detail": [place]}
        if server.error_body == "flat":
            body = {
                "object": "error",
                "message": body,
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            }
        return ApiProblem("Extra inputs are not permitted", status=_UNPROCESSABLE, body=body)
    if server.unknown_fields == "unsupported":
        return ApiProblem(_unsupported(path))
    return ApiProblem(f"Unrecognized request argument supplied: {path}")


def _unsupported(path: str) -> str:
    steps = _steps(path)
    what = f"property '{steps[-1]}' is unsupported"
    if len(steps) == 1:
        return what
    where = ".".join(map(str, steps[:2]))
    return f"'{where}' : for 'role:assistant' the following must be satisfied[('{where}' : {what})]"


def _steps(path: str) -> list[str | int]:
    return [int(index) if index else name for index, name in _STEPS.findall(path)]


def _at(value: Any, path: str) -> Any:
    for step in _steps(path):
        value = value[step]
    return value


def _without(body: dict[str, Any], path: str) -> dict[str, Any]:
    *way, last = _steps(path)
    left = copy.deepcopy(body)
    owner: Any = left
    for step in way:
        owner = owner[step]
    del owner[last]
    return left
