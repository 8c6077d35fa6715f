"""Wordings of hosted models. The comments name public reports in which they were seen."""

from __future__ import annotations

from assistant_queue.testing.provider.wordings import Wording, Words, spoken

_RETRY_AFTER = {"retry-after": "{wait}"}
_BOTH_WAITS = {"retry-after": "{wait}", "retry-after-ms": "{wait_ms}"}

OPENAI: Words = {
    "overflow": Wording(
        message="This model's maximum context length is {limit} tokens. However, your messages "
        "resulted in {words} tokens.",
        code="context_length_exceeded",
        param="messages",
    ),
    "null_content": Wording(message="Invalid value for 'content': expected a string, got null."),
    "turns": Wording(
        message="Conversation roles must alternate user/assistant/user/assistant/...",
        error_type="BadRequestError",
    ),
    "moderated": Wording(
        message="Invalid prompt: your prompt was flagged as potentially violating our usage "
        "policy. "
        "Please try again with a different prompt.",
        code="invalid_prompt",
    ),
    "unknown_model": Wording(
        message="The model `{model}` does not exist or you do not have access to it.",
        status=404,
        code="model_not_found",
    ),
    "wrong_key": Wording(message="Incorrect API key provided.", status=401, code="invalid_api_key"),
    "unknown_path": Wording(message="Invalid URL ({path})", status=404),
    "no_quota": Wording(
        message="You exceeded your current quota, please check your plan and billing details.",
        status=429,
        code="insufficient_quota",
        error_type="insufficient_quota",
    ),
    "rate_limited": Wording(
        message="Rate limit reached for {model} in organization org-x on requests per min (RPM): "
        "Limit 3, Used 3, Requested 1. "
        "Please try again in {wait}s.",
        status=429,
        code="rate_limit_exceeded",
        error_type="requests",
        headers=_BOTH_WAITS,
    ),
    "overloaded": Wording(
        message="The engine is currently overloaded, please try again later",
        status=503,
        error_type="service_unavailable_error",
    ),
    "loading": Wording(
        message="That model is currently loading. Please try again later.",
        status=503,
        error_type="server_error",
    ),
    "gateway": Wording(message="502 Bad Gateway", status=502, shape="html"),
    "server_error": Wording(
        message="The server had an error while processing your request. Sorry about that!",
        status=500,
        error_type="server_error",
    ),
}

# A request that is larger than a whole minute's tokens: never helped by waiting
# (Significant-Gravitas/AutoGPT, many).
OPENAI_TPM: Words = {
    "overflow": Wording(
        message="Request too large for {model} in organization org-x on tokens per min (TPM): "
        "Limit {limit}, Requested {words}. "
        "The input or output tokens must be reduced in order to run successfully.",
        status=429,
        code="rate_limit_exceeded",
        error_type="tokens",
    )
}

# Some proxies and servers see it only when the stream has begun.
IN_STREAM: Words = {
    "overflow": Wording(message="too long", code="context_length_exceeded", is_in_stream=True),
    "rate_limited": Wording(
        message="Rate limit reached. Please try again in {wait}s.",
        status=429,
        code="rate_limit_exceeded",
        error_type="tokens",
        is_in_stream=True,
    ),
    "overloaded": Wording(
        message="Overloaded", status=529, error_type="overloaded_error", is_in_stream=True
    ),
}

# chatboxai/chatbox#861, microsoft/semantic-kernel#5319; the filter: Azure's published page of its
# content filter.
AZURE: Words = {
    "moderated": Wording(
        message="The response was filtered due to the prompt triggering Azure OpenAI's content "
        "management policy. "
        "Please modify your prompt and retry.",
        code="content_filter",
        error_type=None,
        param="prompt",
        more={
            "status": 400,
            "innererror": {
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": {
                    "hate": {"filtered": True, "severity": "high"},
                    "jailbreak": {"filtered": False},
                },
            },
        },
    ),
    "unknown_model": Wording(
        message="The API deployment for this resource does not exist. If you created the "
        "deployment within the last 5 minutes, "
        "please wait a moment and try again.",
        status=404,
        code="DeploymentNotFound",
        error_type=None,
    ),
    "wrong_key": Wording(
        message="Access denied due to invalid subscription key or wrong API endpoint. Make sure to "
        "provide a valid key for an active "
        "subscription and use a correct regional API endpoint for your resource.",
        status=401,
        code="401",
        error_type=None,
    ),
    "rate_limited": Wording(
        message="Requests to the ChatCompletions_Create Operation under Azure OpenAI API have "
        "exceeded call rate limit of your current "
        "pricing tier. Please retry after {wait} seconds.",
        status=429,
        code="429",
        error_type=None,
        headers=_BOTH_WAITS,
    ),
}

# n4ze3m/page-assist#406 (a list of one), continuedev/continue#9570 (a limit that speaks of a
# quota), google-gemini/gemini-cli#15745.
GEMINI: Words = spoken(
    {
        "overflow": Wording(
            message="The input token count ({words}) exceeds the maximum number of tokens allowed "
            "({limit}).",
            error_type=None,
            more={"status": "INVALID_ARGUMENT"},
        ),
        "unknown_model": Wording(
            message="models/{model} is not found for API version v1main, or is not supported for "
            "generateContent. "
            "Call ListModels to see the list of available models and their supported methods.",
            status=404,
            error_type=None,
            more={"status": "NOT_FOUND"},
        ),
        "wrong_key": Wording(
            message="API key not valid. Please pass a valid API key.",
            error_type=None,
            more={
                "status": "INVALID_ARGUMENT",
                "details": [
                    {
                        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                        "reason": "API_KEY_INVALID",
                        "domain": "googleapis.com",
                    }
                ],
            },
        ),
        "rate_limited": Wording(
            message="You exceeded your current quota, please check your plan and billing details.\n"
            "* Quota exceeded for metric: generate_content_free_tier_requests, limit: 10\nPlease "
            "retry in {wait}s.",
            status=429,
            error_type=None,
            more={"status": "RESOURCE_EXHAUSTED"},
        ),
        "overloaded": Wording(
            message="The model is overloaded. Please try again later.",
            status=503,
            error_type=None,
            more={"status": "UNAVAILABLE"},
        ),
        "server_error": Wording(
            message="Internal error encountered.",
            status=500,
            error_type=None,
            more={"status": "INTERNAL"},
        ),
    },
    shape="list",
    codes="status",
)

# continuedev/continue#9942, #11820; evalstate/fast-agent#621.
DEEPSEEK: Words = {
    "overflow": Wording(
        message="This model's maximum context length is {limit} tokens. However, you requested "
        "{words} tokens ({words} in the messages, "
        "0 in the completion). Please reduce the length of the messages or completion.",
        code="invalid_request_error",
    ),
    "moderated": Wording(message="Content Exists Risk", code="invalid_request_error"),
    "unknown_model": Wording(message="Model Not Exist", code="invalid_request_error"),
    "wrong_key": Wording(
        message="Authentication Fails, Your api key: ****-key is invalid",
        status=401,
        code="invalid_request_error",
        error_type="authentication_error",
    ),
    "no_quota": Wording(
        message="Insufficient Balance",
        status=402,
        code="invalid_request_error",
        error_type="unknown_error",
    ),
    "overloaded": Wording(
        message="Service is too busy. We advise users to temporarily switch to alternative LLM "
        "API service providers.",
        status=503,
        error_type="service_unavailable_error",
    ),
}

# mistralai/platform-docs-public#7 (422), editor-code-assistant/eca#233 (codes as text).
MISTRAL: Words = spoken(
    {
        "overflow": Wording(
            message="Prompt contains {words} tokens and 0 draft tokens, too large for model with "
            "{limit} maximum context length",
            code="3051",
            error_type="invalid_request_prompt",
        ),
        "unknown_model": Wording(
            message="Invalid model: {model}", code="1500", error_type="invalid_model"
        ),
        "wrong_key": Wording(message="Unauthorized", status=401, shape="detail"),
        "rate_limited": Wording(
            message="Rate limit exceeded", status=429, code="1300", error_type="rate_limited"
        ),
        "overloaded": Wording(
            message="Service tier capacity exceeded for this model.",
            status=429,
            code="3505",
            error_type="capacity",
        ),
    },
    shape="flat",
)

# continuedev/continue#10218 (413), groq's page of errors (498 for the flex tier).
GROQ: Words = {
    "overflow": Wording(
        message="Request too large for model `{model}` in organization `org_x` service tier "
        "`on_demand` on tokens per minute (TPM): "
        "Limit {limit}, Requested {words}, please reduce your message size and try again.",
        status=413,
        code="rate_limit_exceeded",
        error_type="tokens",
    ),
    "wrong_key": Wording(message="Invalid API Key", status=401, code="invalid_api_key"),
    "rate_limited": Wording(
        message="Rate limit reached for model `{model}` in organization `org_x` service tier "
        "`on_demand` on requests per minute (RPM): "
        "Limit 30, Used 30, Requested 1. Please try again in {wait}s.",
        status=429,
        code="rate_limit_exceeded",
        error_type="requests",
        headers=_RETRY_AFTER,
    ),
    "overloaded": Wording(
        message="Flex tier capacity exceeded.",
        status=498,
        code="capacity_exceeded",
        error_type="capacity_exceeded",
    ),
}

# anthropics/claude-code#70365 (529); aaif-goose/goose#3635 (too long).
ANTHROPIC: Words = {
    "overflow": Wording(
        message="input length and `max_tokens` exceed context limit: {words} + 8192 > {limit}, "
        "decrease input length or `max_tokens` "
        "and try again"
    ),
    "unknown_model": Wording(message="model: {model}", status=404, error_type="not_found_error"),
    "wrong_key": Wording(
        message="invalid x-api-key", status=401, error_type="authentication_error"
    ),
    "no_quota": Wording(
        message="Your credit balance is too low to access the Anthropic API. Please go to Plans & "
        "Billing to upgrade or purchase credits."
    ),
    "rate_limited": Wording(
        message="This request would exceed your organization's rate limit of 50 requests per "
        "minute.",
        status=429,
        error_type="rate_limit_error",
        headers=_RETRY_AFTER,
    ),
    "overloaded": Wording(
        message="Overloaded", status=529, error_type="overloaded_error", shape="typed"
    ),
    "server_error": Wording(
        message="Internal server error", status=500, error_type="api_error", shape="typed"
    ),
}
