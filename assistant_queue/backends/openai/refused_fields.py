"""Determine what a refusal names, to repair the request at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

from assistant_queue.errors import BackendError
from assistant_queue.trouble import Kind

# Source: the provider's wording; these errors carry no code.
_NO_OUTPUT = re.compile(
    r"(?:No tool output found for (?:\w+ )*call|did not have response messages:) ([\w-]+)",
    re.IGNORECASE,
)
_NO_CALL = re.compile(
    r"No tool call found for (?:\w+ )*call output with call_id ([\w-]+)", re.IGNORECASE
)
_ORPHAN = re.compile(
    r"Item '([^']+)' of type '([^']+)' was provided without its required", re.IGNORECASE
)
_NOT_WAITING = re.compile(r"do not accept tool outputs", re.IGNORECASE)

_MAY_BE_LENGTH = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)


def _text_of(refusal: BackendError) -> str:
    return "" if refusal.trouble is None else refusal.trouble.text


def has_too_much_context(refusal: BackendError) -> bool:
    """Return whether the conversation is longer than the model can read."""
    return refusal.trouble is not None and refusal.trouble.kind is Kind.CONTEXT_OVERFLOW


def may_have_too_much_context(refusal: BackendError) -> bool:
    """Return whether the refusal may concern the length.

    It names neither a field nor a known reason.
    """
    trouble = refusal.trouble
    return (
        trouble is not None
        and trouble.kind in {Kind.MALFORMED, Kind.UNSUPPORTED}
        and trouble.status in _MAY_BE_LENGTH
        and (trouble.param is None or trouble.param in {"messages", "input", "prompt"})
    )


def names(refusal: BackendError, field: str) -> bool:
    """Return whether the refusal names a field of the request."""
    trouble = refusal.trouble
    if trouble is None or trouble.status not in {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }:
        return False
    return field in (trouble.param or "") or field in trouble.text


def unanswered_call(refusal: BackendError) -> str | None:
    """Return the id of the call without an output, None if that was not the reason."""
    found = _NO_OUTPUT.search(_text_of(refusal))
    return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Orphan:
    """Item of a conversation without its counterpart; `kind` is its type."""

    id: str
    kind: str


def orphaned_item(refusal: BackendError) -> Orphan | None:
    """Return the item without its counterpart, None if that was not the reason.

    Reasoning must be followed by the item it led to; a message or a call that came of reasoning
    must be preceded by it.
    """
    found = _ORPHAN.search(_text_of(refusal))
    return Orphan(found[1], found[2]) if found else None


def unknown_call(refusal: BackendError) -> str | None:
    """Return the id of the unknown call that our output answers.

    None if that was not the reason.
    """
    found = _NO_CALL.search(_text_of(refusal))
    return found[1] if found else None


def refuses_outputs(refusal: BackendError) -> bool:
    """Return whether the run does not wait for outputs: it has them already, or is over."""
    return bool(_NOT_WAITING.search(_text_of(refusal)))
