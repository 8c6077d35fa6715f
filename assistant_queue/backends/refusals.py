"""What a refusal was about, where a backend can do something about it at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

import openai

from assistant_queue.backends.openai_errors import Problem, problem_of
from assistant_queue.errors import BackendError

# Source: the provider's wording; these errors carry no code of their own.
_NO_OUTPUT = re.compile(r"No tool output found for (?:\w+ )*call ([\w-]+)", re.IGNORECASE)
_NO_CALL = re.compile(r"No tool call found for (?:\w+ )*call output with call_id ([\w-]+)", re.IGNORECASE)
_ORPHAN = re.compile(r"Item '([^']+)' of type '([^']+)' was provided without its required", re.IGNORECASE)
# Source: the chat templates of Mistral and Gemma, as vLLM tells their errors; vLLM's, llama.cpp's and the provider's own words.
_TURNS = re.compile(r"roles must alternate|alternat\w+ (between )?user", re.IGNORECASE)
_TOO_LONG = re.compile(r"(maximum|available|exceeds?\b.*) context (length|size|window)|prompt is too long", re.IGNORECASE)
_NOT_WAITING = re.compile(r"do not accept tool outputs", re.IGNORECASE)


def _cause_of(refusal: BackendError) -> Problem | None:
    cause = refusal.__cause__
    return problem_of(cause) if isinstance(cause, openai.APIStatusError) else None


def refuses_background(refusal: BackendError) -> bool:
    """The server does not take `background`."""
    return refuses_option(refusal, "background")


def refuses_option(refusal: BackendError, name: str) -> bool:
    """The server does not take an option of the request."""
    problem = _cause_of(refusal)
    if problem is None or problem.status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        return False
    return name in (problem.param or "") or name in problem.text.lower()


def wants_turns(refusal: BackendError) -> bool:
    """The model's template wants user and assistant to take turns, and several messages of one stood together."""
    problem = _cause_of(refusal)
    return problem is not None and bool(_TURNS.search(problem.text))


def has_too_much_context(refusal: BackendError) -> bool:
    """The conversation is longer than the model can read."""
    problem = _cause_of(refusal)
    return problem is not None and (problem.code == "context_length_exceeded" or bool(_TOO_LONG.search(problem.text)))


def unanswered_call(refusal: BackendError) -> str | None:
    """The id of the call whose missing output made the provider refuse, None if that was not the reason."""
    problem = _cause_of(refusal)
    found = _NO_OUTPUT.search(problem.text) if problem is not None else None
    return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Orphan:
    """An item of a conversation without the one it belongs to; `kind` is its type."""

    id: str
    kind: str


def orphaned_item(refusal: BackendError) -> Orphan | None:
    """The item whose counterpart is missing in the conversation, None if that was not the reason.

    Reasoning wants what it led to behind it; a message or a call that came of reasoning wants that before it.
    """
    problem = _cause_of(refusal)
    found = _ORPHAN.search(problem.text) if problem is not None else None
    return Orphan(found[1], found[2]) if found else None


def unknown_call(refusal: BackendError) -> str | None:
    """The id of the call that an output of ours was for and that the provider does not know, None if that was not the reason."""
    problem = _cause_of(refusal)
    found = _NO_CALL.search(problem.text) if problem is not None else None
    return found[1] if found else None


def refuses_outputs(refusal: BackendError) -> bool:
    """The run does not wait for outputs: it has them already, or it is over."""
    problem = _cause_of(refusal)
    return problem is not None and bool(_NOT_WAITING.search(problem.text))
