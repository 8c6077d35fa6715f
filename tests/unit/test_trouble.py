"""Any error of any server, read into one value: its kind, its words, its wait."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.backends.openai.trouble_reader import read_trouble
from assistant_queue.core.quoting import HIDDEN, without_quotes
from assistant_queue.core.runs import RunEnded
from assistant_queue.errors import RequestRefused
from assistant_queue.trouble import FATES, MAX_WAIT_S, MEANING, Fate, Kind, Trouble
from assistant_queue.user_code import scrubbing
from assistant_queue.user_code.scrubbing import remember, scrubbed


def error(message: str = "It failed.", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


OVERFLOWS: dict[str, tuple[int | None, Any]] = {
    "OpenAI's code": (400, error("Too long.", code="context_length_exceeded")),
    "OpenAI's words for Responses": (
        400,
        error("Your input exceeds the context window of this model."),
    ),
    "vLLM": (
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens, but 5000 were requested.",
            "code": 400,
        },
    ),
    "SGLang": (
        400,
        {
            "object": "error",
            "message": "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
        },
    ),
    "Gemini, as a list": (
        400,
        [
            error(
                "The input token count (9) exceeds the maximum number of tokens allowed (8).",
                code=400,
            )
        ],
    ),
    "xAI, the error as a string": (
        400,
        {
            "code": "invalid argument",
            "error": "The maximum prompt length is 8 but the request has 9 tokens.",
        },
    ),
    "OpenRouter, inside metadata": (
        400,
        error(
            "Provider returned error",
            metadata={"raw": json.dumps(error("x", code="context_length_exceeded"))},
        ),
    ),
    "llama.cpp": (
        400,
        error(
            "the request exceeds the available context size, try increasing it",
            type="exceed_context_size_error",
        ),
    ),
    "llama.cpp, earlier": (
        500,
        error("the request exceeds the available context size", type="server_error", code=500),
    ),
    "LiteLLM": (
        400,
        error(
            "litellm.ContextWindowExceededError: prompt is too long",
            type="ContextWindowExceededError",
        ),
    ),
    "Bedrock": (400, {"message": "Input is too long for requested model."}),
    "DashScope": (
        400,
        error("Range of input length should be [1, 9000]", code="invalid_parameter_error"),
    ),
    "Anthropic": (
        400,
        error("prompt is too long: 9 tokens > 8 maximum", type="invalid_request_error"),
    ),
    "Anthropic, too large": (
        413,
        error("Request exceeds the maximum size", type="request_too_large"),
    ),
    "TGI": (
        422,
        {"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000"},
    ),
    "Cohere": (
        400,
        {
            "message": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000."
        },
    ),
    "GitHub Models": (
        413,
        error(
            "Request body too large for the model. Max size: 8000 tokens.",
            code="tokens_limit_reached",
        ),
    ),
    "a proxy's page": (
        413,
        "<html><head><title>413 Request Entity Too Large</title></head><body></body></html>",
    ),
    "one request over the limit of a minute": (
        429,
        error(
            "Request too large for m on tokens per min (TPM): Limit 8, Requested 9.", type="tokens"
        ),
    ),
    "Moonshot": (400, error("Your request exceeded model token limit: 8192")),
    "Cerebras": (
        400,
        error(
            "Please reduce the length of the messages or completion. Current length is 9 while limit is 8"
        ),
    ),
    "inside a stream": (None, error("Too long", code="context_length_exceeded")),
    "inside a stream, in words": (
        None,
        error("the model is loaded with context length of only 8 tokens, which is not enough"),
    ),
}


@pytest.mark.parametrize("case", OVERFLOWS)
def test_a_conversation_that_is_too_long_is_recognised(case: str) -> None:
    status, body = OVERFLOWS[case]
    for form in (body, json.dumps(body) if not isinstance(body, str) else body.encode()):
        assert read_trouble(form, status=status).kind is Kind.CONTEXT_OVERFLOW


KINDS: dict[str, tuple[Kind, int | None, Any]] = {
    "a limit": (Kind.RATE_LIMITED, 429, error("Slow down")),
    "a limit that names tokens": (
        Kind.RATE_LIMITED,
        429,
        error("Rate limit: tokens per min. Limit 8, Used 7, Requested 2"),
    ),
    "a bound of the answer that is too high": (
        Kind.MALFORMED,
        400,
        error("max_tokens must be less than or equal to 4096"),
    ),
    "a field that is too long": (
        Kind.MALFORMED,
        400,
        error("metadata value exceeds maximum length of 512 characters"),
    ),
    "tokens of a month": (Kind.NO_QUOTA, 400, error("You exceeded your monthly token limit")),
    "a limit, as a number inside a 200": (Kind.RATE_LIMITED, None, error("no", code=429)),
    "a limit, as digits inside a 500": (Kind.RATE_LIMITED, 500, error("no", code="429")),
    "a limit, by its code inside a 200": (
        Kind.RATE_LIMITED,
        None,
        error("no", code="rate_limit_exceeded"),
    ),
    "a limit of Gemini": (
        Kind.RATE_LIMITED,
        429,
        [
            error(
                "You exceeded your current quota, please check your plan",
                status="RESOURCE_EXHAUSTED",
            )
        ],
    ),
    "tokens of a second": (
        Kind.RATE_LIMITED,
        429,
        {"message": "Too many tokens, please wait before trying again."},
    ),
    "no quota": (
        Kind.NO_QUOTA,
        429,
        error("You exceeded your current quota", code="insufficient_quota"),
    ),
    "no quota, by its type": (Kind.NO_QUOTA, 429, error("no", type="insufficient_quota")),
    "no quota, behind a proxy that drops the code": (
        Kind.NO_QUOTA,
        429,
        error("RateLimitError: You exceeded your current quota", code="429"),
    ),
    "a wait in words, behind a proxy that drops the code": (
        Kind.ASKED_TO_WAIT,
        None,
        error("Please try again in 3s.", code="500"),
    ),
    "no balance": (Kind.NO_QUOTA, 402, error("Insufficient Balance")),
    "no credit": (Kind.NO_QUOTA, 400, error("Your credit balance is too low to access the API.")),
    "a gateway's page": (
        Kind.OVERLOADED,
        502,
        "<html><head><title>502 Bad Gateway</title></head></html>",
    ),
    "a gateway's number inside a 200": (
        Kind.OVERLOADED,
        None,
        error("Upstream idle timeout exceeded", code=502),
    ),
    "a model that loads": (
        Kind.OVERLOADED,
        503,
        error("Loading model", type="unavailable_error", code=503),
    ),
    "overloaded, inside a 200": (
        Kind.OVERLOADED,
        None,
        error("Overloaded", type="overloaded_error"),
    ),
    "overloaded, as a 500": (Kind.OVERLOADED, 500, error("The engine is currently overloaded")),
    "too early": (Kind.OVERLOADED, 425, ""),
    "capacity": (Kind.OVERLOADED, 498, error("Flex tier capacity exceeded")),
    "Anthropic's 529": (Kind.OVERLOADED, 529, ""),
    "Cloudflare's 522": (Kind.OVERLOADED, 522, "<html>"),
    "a lock": (Kind.BUSY, 409, error("wait", code="conversation_locked")),
    "an active run": (Kind.BUSY, 400, error("Thread t already has an active run r.")),
    "a filter": (
        Kind.MODERATED,
        400,
        error(
            "filtered", code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}
        ),
    ),
    "a filter in words": (Kind.MODERATED, 400, error("The prompt was flagged by moderation")),
    "a prompt that was refused inside a run": (
        Kind.MODERATED,
        None,
        {"code": "invalid_prompt", "message": "no"},
    ),
    "no such model": (
        Kind.UNKNOWN_MODEL,
        404,
        error("The model `x` does not exist", code="model_not_found"),
    ),
    "no such model, LiteLLM": (
        Kind.UNKNOWN_MODEL,
        400,
        error("Invalid model name passed in model=x."),
    ),
    "no such model, Ollama": (
        Kind.UNKNOWN_MODEL,
        404,
        error('model "x" not found, try pulling it first'),
    ),
    "no such deployment, Azure": (
        Kind.UNKNOWN_MODEL,
        404,
        error("Not here", code="DeploymentNotFound"),
    ),
    "a wrong key": (Kind.UNAUTHORIZED, 401, error("Incorrect API key provided")),
    "a wrong key, as a 400": (
        Kind.UNAUTHORIZED,
        400,
        [error("API key not valid. Please pass a valid API key.", code=400)],
    ),
    "forbidden": (Kind.UNAUTHORIZED, 403, {"detail": "Forbidden"}),
    "broken": (Kind.SERVER_ERROR, 500, ""),
    "broken, inside a 200": (
        Kind.SERVER_ERROR,
        None,
        {"object": "error", "message": "out of memory", "type": "InternalServerError", "code": 500},
    ),
    "broken, by a code": (Kind.SERVER_ERROR, None, {"code": "server_error"}),
    "a time-out": (Kind.TIMEOUT, 408, ""),
    "a gateway that was left": (Kind.TIMEOUT, 499, ""),
    "a conflict": (Kind.CONFLICT, 409, ""),
    "nothing": (Kind.UNKNOWN, None, None),
    "words that say nothing": (Kind.UNKNOWN, None, "oops"),
    "malformed": (
        Kind.MALFORMED,
        422,
        {"detail": [{"loc": ["body", "n"], "msg": "must be a number"}]},
    ),
    "malformed, inside a 200": (Kind.MALFORMED, None, error("no", type="invalid_request_error")),
    "too many tokens wanted": (
        Kind.MALFORMED,
        400,
        error("max_tokens is too large: 9. At most 8 completion tokens.", param="max_tokens"),
    ),
    "no stream": (
        Kind.UNSUPPORTED,
        400,
        error("Your organization must be verified to stream this model.", param="stream"),
    ),
    "no stream, forbidden": (
        Kind.UNSUPPORTED,
        403,
        error("Your organization must be verified to stream this model."),
    ),
    "no system role": (
        Kind.UNSUPPORTED,
        400,
        {"object": "error", "message": "System role not supported"},
    ),
    "a template's error": (
        Kind.UNSUPPORTED,
        500,
        error("Jinja Exception: Conversation roles must alternate user/assistant", code=500),
    ),
    "words of the system in a 500": (
        Kind.SERVER_ERROR,
        500,
        error("The system failed to deliver the message"),
    ),
}


@pytest.mark.parametrize("case", KINDS)
def test_trouble_is_recognised_by_code_then_words_then_status(case: str) -> None:
    kind, status, body = KINDS[case]
    assert read_trouble(body, status=status).kind is kind


@pytest.mark.parametrize(
    ("headers", "status", "body", "wait_s"),
    [
        ({"retry-after": "7"}, 503, "", 7.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 429, "", 1.5),
        ({"llm_provider-retry-after": "7"}, 503, "", 7.0),
        ({"llm_provider-retry-after": "7", "retry-after": "5"}, 429, "", 5.0),
        ({}, 429, error("Please try again in 20ms."), 0.02),
        ({}, 429, error("Please try again in 1m3.5s."), 63.5),
        ({}, 429, error("Please retry after 10 seconds."), 10.0),
        (
            {},
            429,
            [error("no", status="RESOURCE_EXHAUSTED", details=[{"retryDelay": "34s"}])],
            34.0,
        ),
        ({}, 429, {"message": "no", "retry_after": 2.5}, 2.5),
        ({}, 429, error("Please try again later."), None),
        ({"retry-after": "soon"}, 429, "", None),
    ],
)
def test_the_wait_is_read_wherever_it_is_said(
    headers: dict[str, str], status: int, body: Any, wait_s: float | None
) -> None:
    found = read_trouble(body, status=status, headers=headers)
    assert (found.kind.fate, found.retry_after_s) == (Fate.WAIT, wait_s)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 418, 422, 500, 501, 505])
def test_any_status_with_a_wait_is_waited_out(status: int) -> None:
    assert read_trouble("", status=status, headers={"retry-after": "3"}).kind is Kind.ASKED_TO_WAIT


@pytest.mark.parametrize(
    ("status", "body"),
    [(401, ""), (402, ""), (403, error("no", code="permission_denied")),
     (404, error("no", code="model_not_found"))],
)  # fmt: skip
def test_what_is_refused_for_good_is_not_waited_for(status: int, body: Any) -> None:
    assert read_trouble(body, status=status, headers={"retry-after": "3"}).kind.fate is Fate.FINAL


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "9" * 400},
        {"retry-after-ms": "9" * 400},
        {"retry-after": "122773829"},
        {"retry-after": "Fri, 31 Dec 2199 23:59:59 GMT"},
    ],
)
def test_no_server_lets_a_thread_sleep_for_years(headers: dict[str, str]) -> None:
    trouble = read_trouble("", status=503, headers=headers)
    assert trouble.retry_after_s == MAX_WAIT_S
    assert RequestRefused("no", trouble=trouble).retry_after_s == MAX_WAIT_S


@pytest.mark.parametrize(
    ("asked", "obeyed"), [(math.inf, MAX_WAIT_S), (1e18, MAX_WAIT_S), (-5, 0), (math.nan, None)]
)
def test_a_wait_is_a_number_of_seconds_in_every_error(asked: float, obeyed: float | None) -> None:
    assert RequestRefused("no", retry_after_s=asked).retry_after_s == obeyed
    assert RunEnded(run_id="r", status="failed", retry_after_s=asked).retry_after_s == obeyed
    assert Trouble(kind=Kind.BUSY, retry_after_s=asked).retry_after_s == obeyed


def test_the_words_are_those_of_every_level_and_each_once() -> None:
    inner = json.dumps(error("No room for 9,000 tokens", code="rate_limit_exceeded"))
    found = read_trouble(
        error("Provider returned error", code=400, metadata={"raw": inner, "provider_name": "X"}),
        status=400,
    )
    assert found.words == "Provider returned error: No room for 9,000 tokens"
    assert found.code == "rate_limit_exceeded"
    assert (
        read_trouble("<h1>504 Gateway Time-out</h1><p>nginx", status=504).words
        == "504 Gateway Time-out"
    )


def test_a_code_that_says_nothing_is_none() -> None:
    assert read_trouble(error(type="invalid_request_error", code=None), status=400).code is None
    assert (
        read_trouble(error(code="invalid_request_error"), status=400).code
        == "invalid_request_error"
    )


def test_secrets_are_not_in_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the keys of the tests before: one of them may be part of these words.
    monkeypatch.setattr(scrubbing, "_known", set())
    remember("an-unusual-key-4711")
    words = read_trouble(
        error("bad key an-unusual-key-4711, sk-proj-abcdefgh, Bearer abc123, api_key=hunter22"),
        status=401,
    ).words
    assert words == "bad key [key], [key], Bearer [key], api_key=[key]"
    assert scrubbed("x" * 2000) == "x" * 497 + "..."
    assert scrubbed("redis://user:pass@host") == "redis://[key]@host"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "code",
                    "message",
                    "status",
                    "detail",
                    "errors",
                    "metadata",
                    "raw",
                    "type",
                    "x",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(json_values, st.none() | st.integers(300, 599))
def test_no_body_is_too_odd_to_be_read(body: Any, status: int | None) -> None:
    found = read_trouble(body, status=status)
    assert found.kind in FATES
    assert read_trouble(json.dumps(body), status=status).kind in FATES


def test_every_kind_has_a_fate_and_every_fate_a_meaning() -> None:
    assert set(FATES) == set(Kind)
    assert set(MEANING) == set(Fate) == {row.fate for row in FATES.values()}


@pytest.mark.parametrize("kind", Kind)
def test_an_error_says_what_the_table_says(kind: Kind) -> None:
    told = RequestRefused("no", trouble=Trouble(kind=kind))
    assert told.counts == (kind.fate is not Fate.WAIT)
    assert told.retryable == (kind.fate in {Fate.WAIT, Fate.COUNT})


# --- the user's text ------------------------------------------------------------------------------


def test_what_the_words_repeat_of_the_conversation_is_left_out() -> None:
    text = "My card is 4711 0815 and I live in Bergen"
    assert (
        without_quotes("Invalid value: 'My card is 4711 0815 and I live in Bergen'.", [text])
        == f"Invalid value: '{HIDDEN}'."
    )
    assert without_quotes("at 'card is 4711 0815' in body", [text]) == f"at '{HIDDEN}' in body"
    assert without_quotes("Invalid value: 'live'", [text]) == "Invalid value: 'live'"
    assert without_quotes("secret! secret!", ["secret!"]) == f"{HIDDEN} {HIDDEN}"
    assert without_quotes("a model is here", ["a", ""]) == "a model is here"


@given(st.text(min_size=12, max_size=60), st.text(max_size=20), st.text(max_size=20))
def test_a_text_of_a_conversation_is_never_repeated_whole(
    text: str, before: str, after: str
) -> None:
    assert text not in without_quotes(f"{before}{text}{after}", [text]) or text in HIDDEN
