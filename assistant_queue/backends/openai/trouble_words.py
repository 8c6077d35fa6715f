"""Codes and words by which servers report one kind of trouble: tables for `trouble_reader`.

Source: the providers' published error pages, and error bodies of their servers and of gateways in
    public reports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from assistant_queue.trouble import Kind


def any_of(*words: str) -> re.Pattern[str]:
    """Any of the patterns, in any case."""
    return re.compile("|".join(words), re.IGNORECASE)


NO_QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "insufficient_balance",
        "arrearage",
        "quota_exhausted",
        "insufficient_credits",
        "payment_required",
        "exceeded_current_quota_error",
    }
)
NO_QUOTA = any_of(
    r"insufficient (account )?(balance|credits?|funds|quota)",
    r"credit balance is too low",
    r"billing (hard )?limit",
    r"(out of|no|not enough|add more) credits",
    r"payment required",
    r"exceeded your current quota",
    r"monthly .{0,20}(limit|quota|budget)",
    r"account (is|has been) suspended",
)
RATE_CODES = frozenset(
    {
        "rate_limit_exceeded",
        "rate_limit_error",
        "ratelimiterror",
        "rate_limited",
        "rate_limit",
        "resource_exhausted",
        "too_many_requests",
        "toomanyrequests",
        "throttlingexception",
        "throttling",
        "throttled",
        "requests",
        "tokens",
        "rate_limit_reached",
        "limit_requests",
    }
)
RATE = any_of(
    r"rate[ _-]?limit",
    r"too many (requests|tokens, please wait)",
    r"requests per (second|minute|hour|day)",
    r"\b[RT]P[MDS]\b",
    r"throttl",
)
OVERLOADED_CODES = frozenset(
    {
        "capacity",
        "queue_exceeded",
        "service_unavailable_error",
        "overloaded_error",
        "overloaded",
        "engine_overloaded_error",
        "engine_overloaded",
        "server_overloaded",
        "unavailable",
        "unavailable_error",
        "service_unavailable",
        "serviceunavailableerror",
        "capacity_exceeded",
        "slow_down",
        "flex_unavailable",
        "model_overloaded",
        "model_not_ready",
        "modelnotreadyexception",
        "no_healthy_deployments",
        "vector_store_timeout_unavailable",
    }
)
OVERLOADED = any_of(
    r"(server|service) (is )?(too )?busy",
    r"capacity exceeded",
    r"not ready (for inference|yet)",
    r"high traffic",
    r"queue is full",
    r"pending requests exceeded",
    r"\boverloaded\b",
    r"(at|over|no|out of|insufficient) capacity",
    r"loading (the )?model",
    r"model .{0,60}(is|still) (currently )?loading",
    r"temporarily (unavailable|overloaded)",
    r"server is busy",
    r"service (is )?(temporarily )?unavailable",
    r"no healthy (upstream|deployment)",
    r"no (available|healthy) (workers?|channels?|backends?|deployments?)",
    r"bad gateway",
    r"gateway time-?out",
    r"upstream (idle )?time-?out",
    r"upstream connect error",
    r"failed to connect to upstream",
    r"connection refused",
)
MODERATED_CODES = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "contentpolicyviolationerror",
        "moderation_blocked",
        "responsibleaipolicyviolation",
        "data_inspection_failed",
        "datainspectionfailed",
        "invalid_prompt",
        "content_filtered",
        "sensitive_content",
        "prohibited_content",
        "safety",
        "moderation",
        "content_moderation",
        "flagged",
        "contentfilter",
        "cyber_policy_violation",
        "image_content_policy_violation",
    }
)
MODERATED = any_of(
    r"content exists risk",
    r"high[ -]risk",
    r"content (management|filter|moderation)",
    r"content policy",
    r"flagged (by|as|for)",
    r"moderation",
    r"violat\w+ .{0,60}polic",
    r"usage polic(y|ies)",
    r"safety (system|filter)",
    r"inappropriate content",
    r"blocked by .{0,40}(safety|polic|filter)",
    r"sensitive (content|words?)",
    r"prohibited.content",
)
MODEL_CODES = frozenset(
    {
        "model_not_found",
        "unknown_model",
        "invalid_model",
        "deploymentnotfound",
        "model_not_exist",
        "modelnotfound",
        "no_such_model",
        "model_not_available",
        "invalid_model_error",
        "unsupported_model",
        "model_does_not_exist",
    }
)
MODEL = any_of(
    r"\bmodels?\b.{0,80}"
    r"(does(n't| not) exist|do not exist|not exist\b|not found|is unknown|not a valid|is invalid)",
    r"\bmodels?\b.{0,80}no longer available",
    r"(invalid|unknown|unsupported|unrecognized|no such) model\b",
    r"no (such )?(model|deployment) .{0,60}(found|named|exists|available)",
    r"not a valid model",
    r"deployment .{0,60}(does not exist|not found)",
    r"could not find (the )?model",
    r"no endpoints? (found|available)",
    r"not found (the )?model",
)
KEY_CODES = frozenset(
    {
        "invalid_api_key",
        "authentication_error",
        "authenticationerror",
        "unauthenticated",
        "unauthorized",
        "permission_denied",
        "permission_error",
        "permissiondeniederror",
        "api_key_invalid",
        "invalid_authentication",
        "account_deactivated",
        "access_denied",
    }
)
KEY = any_of(
    r"(invalid|incorrect|missing|wrong|unknown|expired) (api|access)[ _-]?(key|token)",
    r"api[ _-]?key (is )?(not valid|invalid|expired|missing)",
)

OVERFLOW_CODES = frozenset(
    {
        "context_length_exceeded",
        "context_window_exceeded",
        "contextwindowexceedederror",
        "exceed_context_size_error",
        "request_too_large",
        "context_too_long",
        "prompt_too_long",
        "tokens_limit_reached",
        "input_too_long",
        "max_prompt_tokens",
        "context_limit_exceeded",
        "model_context_window_exceeded",
        "payload_too_large",
    }
)
CONTEXT = any_of(r"context[ _-]?(length|window|size|limit)", r"context the overflows", r"n_ctx")
TOO_MUCH = any_of(
    r"exceed",
    r"max",
    r"longer",
    r"larger",
    r"greater",
    r"\bonly\b",
    r"overflow",
    r"too (long|large|big|many)",
    r"reduce",
    r"shorten",
    r"limit",
    r"[<>]",
    r"not enough",
)
OVERFLOW = any_of(
    r"(input|prompt|messages?|conversation|payload|entity|body)\b.{0,60}\b(?<!string )"
    r"too (long|large|big)",
    r"request (body )?(entity )?too (long|large|big)",
    r"too many (input |prompt |total )?tokens",
    r"token limit",
    r"tokens? .{0,80}(exceed|must be (<=|less|at most|reduced)|cannot exceed|less than)",
    r"exceed\w* .{0,60}\b"
    r"(tokens?|max(imum)? (length|input|prompt|message)|prompt length|input length)",
    r"max\w*[_ ](input|prompt)[_ ](length|len|tokens?)",
    r"range of input length",
    r"input (length|tokens?|token count)\b.{0,80}(exceed|should be|longer)",
    r"must have less than \d+ tokens",
    r"reduce (the |your )?(length|size|number|prompt|messages?|message size|input)",
    r"prompt exceeds",
    r"(longer|larger|more) than .{0,40}(tokens|can)",
)
OF_THE_ANSWER = any_of(r"max_(completion_|output_|new_)?tokens", r"(completion|output) tokens")
"""Words about the bound of the answer."""
OF_THE_INPUT = any_of(r"\b(input|prompt|message|conversation|request)s?\b")
OF_A_FIELD = any_of(
    r"\b(metadata|arguments?|names?|identifiers?|titles?|descriptions?|urls?|images?|tools?)\b"
    r".{0,40}(exceed|too (long|large|many))",
)
"""Words about a field that is too long; less of the conversation would not help."""
PER_TIME = any_of(
    r"\b(hourly|daily|weekly|monthly)\b",
    r"per[ _-](min|minute|sec|second|hour|day)",
    r"\b[RT]P[MDS]\b",
    r"quota",
    r"rate[ _-]?limit",
    r"please wait",
)
ONE_REQUEST = any_of(r"request too large", r"too large for", r"must be reduced", r"single request")
OUTPUT_PARAMS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})

GATEWAY = frozenset({425, 498, 502, 503, 504, 520, 521, 522, 523, 524, 529, 530})
"""Statuses that say "not now". Source: RFC 9110, RFC 8470 (425), Groq (498), Anthropic (529),
Cloudflare (520 to 530)."""
OPEN_CALLS = any_of(
    r"no tool output found for",
    r"must be followed by tool messages",
    r"did not have response messages",
    r"tool_use.{0,40} ids were found without .{0,20}tool_result",
)
BROKEN = any_of(
    r"internal (server )?error",
    r"unexpected error",
    r"(has|have) (crashed|terminated)",
    r"out of memory",
)
"""Words of a server that failed, if neither a status nor a code says so."""

SERVER_CODES = frozenset(
    {
        "server_error",
        "internal_error",
        "internalservererror",
        "internal_server_error",
        "internal",
        "modelerror",
    }
)
MALFORMED_CODES = frozenset(
    {
        "invalid_request_error",
        "badrequesterror",
        "invalid_argument",
        "invalid_parameter_error",
        "unprocessableentityerror",
    }
)
TIMEOUT_CODES = frozenset(
    {"timeout", "deadline_exceeded", "request_timeout", "timeout_error", "gateway_timeout"}
)

BY_STATUS: Mapping[int, Kind] = {
    401: Kind.UNAUTHORIZED,
    402: Kind.NO_QUOTA,
    403: Kind.UNAUTHORIZED,
    404: Kind.NOT_FOUND,
    408: Kind.TIMEOUT,
    409: Kind.CONFLICT,
    413: Kind.CONTEXT_OVERFLOW,
    429: Kind.RATE_LIMITED,
    499: Kind.TIMEOUT,
}
