"""What a refusal was about, where a backend can do something about it at once."""

from __future__ import annotations

import re
from http import HTTPStatus

import openai

from assistant_queue.backends.openai_errors import Problem, problem_of
from assistant_queue.errors import BackendError

# Source: the provider's wording; these errors carry no code of their own.
_NO_OUTPUT = re.compile(r"No tool output found for function call ([\w-]+)", re.IGNORECASE)
_NO_CALL = re.compile(r"No tool call found for function call output with call_id ([\w-]+)", re.IGNORECASE)
_NOT_WAITING = re.compile(r"do not accept tool outputs", re.IGNORECASE)


def _cause_of(refusal: BackendError) -> Problem | None:
    cause = refusal.__cause__
    return problem_of(cause) if isinstance(cause, openai.APIStatusError) else None


def refuses_background(refusal: BackendError) -> bool:
    """The server does not take `background`."""
    problem = _cause_of(refusal)
    if problem is None or problem.status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        return False
    return "background" in (problem.param or "") or "background" in problem.text.lower()


def unanswered_call(refusal: BackendError) -> str | None:
    """The id of the call whose missing output made the provider refuse, None if that was not the reason."""
    problem = _cause_of(refusal)
    found = _NO_OUTPUT.search(problem.text) if problem is not None else None
    return found[1] if found else None


def unknown_call(refusal: BackendError) -> str | None:
    """The id of the call that an output of ours was for and that the provider does not know, None if that was not the reason."""
    problem = _cause_of(refusal)
    found = _NO_CALL.search(problem.text) if problem is not None else None
    return found[1] if found else None


def refuses_outputs(refusal: BackendError) -> bool:
    """The run does not wait for outputs: it has them already, or it is over."""
    problem = _cause_of(refusal)
    return problem is not None and bool(_NOT_WAITING.search(problem.text))
