"""The one reader of provider trouble: any error, streamed or not, of any protocol, as a `Trouble`. Pure.

Read are HTTP error bodies, `error` events inside a 200 and the error of a run that failed. The kind is told by code first, then by words,
then by status: gateways put the wrong status on the right words.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from assistant_queue.backends import remedies
from assistant_queue.backends.scrubbing import scrubbed
from assistant_queue.backends.trouble_fields import Fields, fields_of
from assistant_queue.trouble import Fate, Kind, Trouble

LOCKED = "conversation_locked"
ACTIVE_RUN = re.compile(r"already has an active run|while a run \S+ is active|currently operating on this conversation", re.IGNORECASE)
"""Source: the Assistants' wording; these errors carry no code."""

_NUMBER = re.compile(r"\s*\d+(\.\d+)?\s*")
# Source: rate limit messages of OpenAI, Groq and others: "Please try again in 1.2s", "in 20ms", "in 1m3.5s", "Retry in 7 seconds".
_TRY_AGAIN = re.compile(
    r"(?:try again|retry|wait)\D{0,20}(?=\d)(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m(?!s))?(?:(?P<n>\d+(?:\.\d+)?)\s*(?P<unit>ms|milliseconds?|seconds?|s|minutes?)?)?",
    re.IGNORECASE,
)
_UNITS_S = {"ms": 0.001, "milli": 0.001, "minut": 60.0}


def _any(*words: str) -> re.Pattern[str]:
    return re.compile("|".join(words), re.IGNORECASE)


_NO_QUOTA_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance", "arrearage", "quota_exhausted",
     "insufficient_credits", "payment_required"}
)  # fmt: skip
_NO_QUOTA = _any(
    r"insufficient (account )?(balance|credits?|funds|quota)", r"credit balance is too low", r"billing (hard )?limit",
    r"(out of|no|not enough|add more) credits", r"payment required", r"exceeded your current quota, please check your plan",
)  # fmt: skip
_RATE_CODES = frozenset(
    {"rate_limit_exceeded", "rate_limit_error", "ratelimiterror", "rate_limited", "rate_limit", "resource_exhausted", "too_many_requests",
     "toomanyrequests", "throttlingexception", "throttling", "throttled", "requests", "tokens", "rate_limit_reached", "limit_requests"}
)  # fmt: skip
_RATE = _any(
    r"rate[ _-]?limit", r"too many (requests|tokens, please wait)", r"requests per (second|minute|hour|day)", r"\b[RT]P[MDS]\b", r"throttl"
)
_OVERLOADED_CODES = frozenset(
    {"overloaded_error", "overloaded", "engine_overloaded_error", "engine_overloaded", "server_overloaded", "unavailable",
     "unavailable_error", "service_unavailable", "serviceunavailableerror", "capacity_exceeded", "slow_down", "flex_unavailable",
     "model_overloaded", "model_not_ready", "modelnotreadyexception", "no_healthy_deployments", "vector_store_timeout_unavailable"}
)  # fmt: skip
_OVERLOADED = _any(
    r"\boverloaded\b", r"(at|over|no|out of|insufficient) capacity", r"loading (the )?model", r"model .{0,60}(is|still) (currently )?loading",
    r"temporarily (unavailable|overloaded)", r"server is busy", r"service (is )?(temporarily )?unavailable", r"no healthy (upstream|deployment)",
    r"no (available|healthy) (workers?|channels?|backends?|deployments?)", r"bad gateway", r"gateway time-?out", r"upstream (idle )?time-?out",
    r"upstream connect error", r"failed to connect to upstream", r"connection refused",
)  # fmt: skip
_MODERATED_CODES = frozenset(
    {"content_filter", "content_policy_violation", "contentpolicyviolationerror", "moderation_blocked", "responsibleaipolicyviolation",
     "data_inspection_failed", "datainspectionfailed", "invalid_prompt", "content_filtered", "sensitive_content", "prohibited_content",
     "safety", "moderation", "content_moderation", "flagged", "contentfilter", "cyber_policy_violation", "image_content_policy_violation"}
)  # fmt: skip
_MODERATED = _any(
    r"content (management|filter|moderation)", r"content policy", r"flagged (by|as|for)", r"moderation", r"violat\w+ .{0,60}polic",
    r"usage polic(y|ies)", r"safety (system|filter)", r"inappropriate content", r"blocked by .{0,40}(safety|polic|filter)",
    r"sensitive (content|words?)", r"prohibited.content",
)  # fmt: skip
_MODEL_CODES = frozenset(
    {"model_not_found", "unknown_model", "invalid_model", "deploymentnotfound", "model_not_exist", "modelnotfound", "no_such_model",
     "model_not_available", "invalid_model_error", "unsupported_model", "model_does_not_exist"}
)  # fmt: skip
_MODEL = _any(
    r"\bmodels?\b.{0,80}(does(n't| not) exist|do not exist|not exist\b|not found|is unknown|unknown model|not a valid|is invalid|no longer available)",
    r"(invalid|unknown|unsupported|unrecognized|no such) model\b", r"no (such )?(model|deployment) .{0,60}(found|named|exists|available)",
    r"not a valid model", r"deployment .{0,60}(does not exist|not found)", r"could not find (the )?model",
)  # fmt: skip
_KEY_CODES = frozenset(
    {"invalid_api_key", "authentication_error", "authenticationerror", "unauthenticated", "unauthorized", "permission_denied",
     "permission_error", "permissiondeniederror", "api_key_invalid", "invalid_authentication", "account_deactivated", "access_denied"}
)  # fmt: skip
_KEY = _any(
    r"(invalid|incorrect|missing|wrong|unknown|expired) (api|access)[ _-]?(key|token)",
    r"api[ _-]?key (is )?(not valid|invalid|expired|missing)",
)

_OVERFLOW_CODES = frozenset(
    {"context_length_exceeded", "context_window_exceeded", "contextwindowexceedederror", "exceed_context_size_error", "request_too_large",
     "context_too_long", "prompt_too_long", "tokens_limit_reached", "input_too_long", "max_prompt_tokens", "context_limit_exceeded",
     "model_context_window_exceeded", "payload_too_large"}
)  # fmt: skip
_CONTEXT = _any(r"context[ _-]?(length|window|size|limit)", r"context the overflows", r"n_ctx")
_TOO_MUCH = _any(
    r"exceed", r"max", r"longer", r"larger", r"greater", r"\bonly\b", r"overflow", r"too (long|large|big|many)", r"reduce", r"shorten", r"limit", r"[<>]",
    r"not enough",
)  # fmt: skip
_OVERFLOW = _any(
    r"(input|prompt|messages?|conversation|payload|entity|body)\b.{0,60}\btoo (long|large|big)", r"request (body )?(entity )?too (long|large|big)",
    r"too many (input |prompt |total )?tokens", r"token limit", r"tokens? .{0,80}(exceed|must be (<=|less|at most|reduced)|cannot exceed|less than)",
    r"exceed\w* .{0,60}\b(tokens?|max(imum)? (length|input|prompt|message)|prompt length|input length)", r"max\w*[_ ](input|prompt)[_ ](length|len|tokens?)",
    r"range of input length", r"input (length|tokens?|token count)\b.{0,80}(exceed|should be|longer)", r"must have less than \d+ tokens",
    r"reduce (the |your )?(length|size|number|prompt|messages?|message size|input)", r"prompt exceeds", r"(longer|larger|more) than .{0,40}(tokens|can)",
)  # fmt: skip
_PER_TIME = _any(r"per[ _-](min|minute|sec|second|hour|day)", r"\b[RT]P[MDS]\b", r"quota", r"rate[ _-]?limit", r"please wait")
_ONE_REQUEST = _any(r"request too large", r"too large for", r"must be reduced", r"single request")
_OUTPUT_PARAMS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})

_GATEWAY = frozenset({425, 498, 502, 503, 504, 520, 521, 522, 523, 524, 529, 530})
"""Statuses that say "not now". Source: RFC 9110, RFC 8470 (425), Groq (498), Anthropic (529), Cloudflare (520 to 530)."""
_SERVER_CODES = frozenset({"server_error", "internal_error", "internalservererror", "internal_server_error", "internal", "modelerror"})
_MALFORMED_CODES = frozenset(
    {"invalid_request_error", "badrequesterror", "invalid_argument", "invalid_parameter_error", "unprocessableentityerror"}
)
_TIMEOUT_CODES = frozenset({"timeout", "deadline_exceeded", "request_timeout", "timeout_error", "gateway_timeout"})

_BY_STATUS: Mapping[int, Kind] = {401: Kind.UNAUTHORIZED, 402: Kind.NO_QUOTA, 403: Kind.UNAUTHORIZED, 404: Kind.NOT_FOUND, 408: Kind.TIMEOUT,
                                  409: Kind.CONFLICT, 413: Kind.CONTEXT_OVERFLOW, 429: Kind.RATE_LIMITED, 499: Kind.TIMEOUT}  # fmt: skip


def read_trouble(
    body: object, *, status: int | None = None, headers: Mapping[str, str] | None = None, secrets: tuple[str, ...] = ()
) -> Trouble:
    """Make one value of an error.

    Args:
        body: An object, a list, a string, bytes; what a server sent as its error.
        status: The HTTP status, None for an error inside a 200.
        headers: Of the answer, for `Retry-After`.
        secrets: Further secrets to keep out of the words.
    """
    found = fields_of(body)
    text = " | ".join(found.words)
    named = _status(status, found)
    told = retry_after(headers or {})
    kind = _kind(found, text, named, is_told=told is not None)
    waits = kind.fate is Fate.WAIT
    return Trouble(
        kind=kind,
        status=status if status is not None else found.status,
        code=found.code,
        param=found.param,
        words=scrubbed(": ".join(_distinct(found.words)), *secrets),
        text=text,
        retry_after_s=told if told is not None else (found.wait if found.wait is not None else _said_wait(text)) if waits else None,
    )


def _distinct(words: tuple[str, ...]) -> list[str]:
    """Without words that another entry repeats: gateways quote the error that they wrap."""
    return [word for place, word in enumerate(words) if not any(word in other for other in (*words[:place], *words[place + 1 :]))]


def _status(status: int | None, found: Fields) -> int | None:
    """The status that counts: a number in the body, where HTTP says nothing or only that something went wrong."""
    if found.status is not None and (status is None or status in {400, 500}):
        return found.status
    return status


def _kind(found: Fields, text: str, status: int | None, *, is_told: bool) -> Kind:  # noqa: C901, PLR0912 - one line a kind, most specific first
    codes = found.codes
    if LOCKED in codes or (status in {None, 400, 409} and ACTIVE_RUN.search(text)):
        return Kind.BUSY
    if _is_overflow(found, text, status):
        return Kind.CONTEXT_OVERFLOW
    if codes & _NO_QUOTA_CODES or status == 402 or (_NO_QUOTA.search(text) and "resource_exhausted" not in codes):
        return Kind.NO_QUOTA
    if (status != 429 and codes & _MODERATED_CODES) or (status in {None, 400, 403, 422, 451} and _MODERATED.search(text)):
        return Kind.MODERATED
    if status == 429 or codes & (_RATE_CODES - {"requests", "tokens"}) or (status in {None, 400, 403, 500, 503} and _RATE.search(text)):
        return Kind.RATE_LIMITED
    if status in _GATEWAY or (status in {None, 500} and (codes & _OVERLOADED_CODES or _OVERLOADED.search(text))):
        return Kind.OVERLOADED
    if codes & _MODEL_CODES or (status in {None, 400, 403, 404, 422} and _MODEL.search(text)):
        return Kind.UNKNOWN_MODEL
    is_refusal = status is None and bool(codes & _MALFORMED_CODES)
    if remedies.could_help(400 if is_refusal else status, text, found.param):
        return Kind.UNSUPPORTED
    if codes & _KEY_CODES or (status in {None, 400} and _KEY.search(text)):
        return Kind.UNAUTHORIZED
    if is_told and (status is None or status not in {401, 402, 403, 404}):
        return Kind.ASKED_TO_WAIT
    return _by_status(status, codes)


def _by_status(status: int | None, codes: frozenset[str]) -> Kind:
    if status is not None:
        if status in _BY_STATUS:
            return _BY_STATUS[status]
        return Kind.SERVER_ERROR if not 400 <= status < 500 else Kind.MALFORMED
    if codes & _SERVER_CODES:
        return Kind.SERVER_ERROR
    if codes & _TIMEOUT_CODES:
        return Kind.TIMEOUT
    return Kind.MALFORMED if codes & _MALFORMED_CODES else Kind.UNKNOWN


def _is_overflow(found: Fields, text: str, status: int | None) -> bool:
    """Whether the conversation is longer than the model, or the server, takes. A limit per minute is not meant, unless one request exceeds it."""
    if found.codes & _OVERFLOW_CODES:
        return True
    if status not in {None, 400, 413, 422, 429, 500}:
        return False
    if found.param in _OUTPUT_PARAMS and not _CONTEXT.search(text):
        return False
    if _PER_TIME.search(text) or status == 429 or found.codes & _RATE_CODES:
        return bool(_ONE_REQUEST.search(text))
    return status == 413 or bool(_OVERFLOW.search(text) or (_CONTEXT.search(text) and _TOO_MUCH.search(text)))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `Retry-After` (seconds or an HTTP date)."""
    exact, given = headers.get("retry-after-ms", ""), headers.get("retry-after", "")
    if _NUMBER.fullmatch(exact):
        return float(exact) / 1000
    if _NUMBER.fullmatch(given):
        return float(given)
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _said_wait(text: str) -> float | None:
    """Seconds to wait, from words."""
    found = _TRY_AGAIN.search(text)
    if found is None:
        return None
    unit = next((size for name, size in _UNITS_S.items() if (found["unit"] or "").lower().startswith(name)), 1.0)
    return float(found["h"] or 0) * 3600 + float(found["m"] or 0) * 60 + float(found["n"] or 0) * unit
