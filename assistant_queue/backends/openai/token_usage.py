"""Read the token counts of an answer, in the spellings of many servers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assistant_queue.models import Usage

_MOST_TOKENS = 10**12
"""Largest number accepted as a token count. Chosen: a million requests of a million tokens."""

_MOST_NAME_CHARS = 200
"""Longest name of a model or a tier that is kept. Chosen: it is stored with each result."""

_CACHED = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
_CACHE_WRITES = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")
_REASONING = ("reasoning_tokens",)
"""Names of the parts of a count. The first of each is OpenAI's; Source of the others:
api-docs.deepseek.com/guides/kv_cache, platform.claude.com/docs/en/build-with-claude/prompt-caching,
docs.litellm.ai/docs/completion/prompt_caching."""


def usage_of(
    usage: object, *, model: object = None, service_tier: object = None, rounds: int = 1
) -> Usage | None:
    """Return the tokens of one answer, under the names of any protocol, None if none can be read.

    Counts that are null, negative or not a number are left out: a paid reply is worth more than its
    token counts.

    Args:
        usage: The provider's value.
        model: The answer's `model`.
        service_tier: The answer's `service_tier`.
        rounds: The rounds that are counted; 0 if the server does not say.
    """
    if not isinstance(usage, Mapping):
        return None
    given = _count(usage, "input_tokens", "prompt_tokens")
    made = _count(usage, "output_tokens", "completion_tokens")
    total = _count(usage, "total_tokens")
    if given is None and made is None and total is None:
        return None
    of_given = _details(usage, "input_tokens_details", "prompt_tokens_details")
    of_made = _details(usage, "output_tokens_details", "completion_tokens_details")
    given = given or 0
    made = made or 0
    return Usage(
        input_tokens=given,
        cached_input_tokens=_part(_CACHED, of_given, usage),
        cache_write_tokens=_part(_CACHE_WRITES, of_given, usage),
        output_tokens=made,
        reasoning_tokens=_part(_REASONING, of_made, usage),
        total_tokens=total or given + made,
        rounds=rounds,
        model=name_of(model),
        service_tier=name_of(service_tier),
    )


def name_of(given: object) -> str | None:
    """Return a model's or a tier's name; None if the server sent none that can be kept."""
    is_name = isinstance(given, str) and 0 < len(given) <= _MOST_NAME_CHARS
    return str(given) if is_name else None


def _part(names: tuple[str, ...], details: Mapping[str, Any], usage: Mapping[str, Any]) -> int:
    """Return a part of a count: it is among the details, or beside the counts."""
    return _count(details, *names) or _count(usage, *names) or 0


def _details(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        found = usage.get(name)
        if isinstance(found, Mapping):
            return found
    return {}


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of these fields that is a token count.

    Zeros are passed over: some servers fill one of two fields and leave the other at 0.
    """
    found = None
    for name in names:
        value = usage.get(name)
        if value is None or isinstance(value, bool) or not isinstance(value, int | float | str):
            continue
        try:
            number = float(value)
        except (ValueError, OverflowError):
            continue
        if 0 <= number <= _MOST_TOKENS:
            found = found or int(number)
    return found
