"""Wordings of smaller clouds, and of those of China and Amazon.

The comments name public reports in which they were seen.
"""

from __future__ import annotations

from assistant_queue.testing.provider.wordings import Wording, Words, spoken

# yihong0618/bilingual_book_maker#464; continuedev/continue#10161 (a wrong key is a 400).
XAI: Words = spoken(
    {
        "overflow": Wording(
            message="This model's maximum prompt length is {limit} but the request contains "
            "{words} tokens.",
            code="Client specified an invalid argument",
        ),
        "unknown_model": Wording(
            message="The model {model} does not exist or your team does not have access to it. "
            "Please ensure you're using the correct API key.",
            status=404,
            code="Some requested entity was not found",
        ),
        "wrong_key": Wording(
            message="Incorrect API key provided: xa***ey. You can obtain an API key from "
            "https://console.x.ai.",
            code="Client specified an invalid argument",
        ),
        "no_quota": Wording(
            message="Your team has either used all available credits or reached its monthly "
            "spending limit.",
            status=403,
            code="The caller does not have permission to execute the specified operation",
        ),
        "rate_limited": Wording(
            message="Too many requests for team and model {model}.",
            status=429,
            code="Some resource has been exhausted",
        ),
    },
    shape="error_text",
)

# MoonshotAI/kimi-cli#1002, MoonshotAI/MoonshotAI-Cookbook#16, harry0703/MoneyPrinterTurbo#339.
KIMI: Words = {
    "overflow": Wording(
        message="Invalid request: Your request exceeded model token limit: {limit}"
    ),
    "moderated": Wording(
        message="The request was rejected because it was considered high risk",
        code=400,
        error_type="content_filter",
        param="prompt",
    ),
    "unknown_model": Wording(
        message="Not found the model {model} or Permission denied",
        status=404,
        error_type="resource_not_found_error",
    ),
    "wrong_key": Wording(
        message="Invalid Authentication", status=401, error_type="invalid_authentication_error"
    ),
    "no_quota": Wording(
        message="Your account is suspended, please check your plan and billing details",
        status=429,
        error_type="exceeded_current_quota_error",
    ),
    "rate_limited": Wording(
        message="Your account request reached max request: 3, please try again after {wait} "
        "seconds",
        status=429,
        error_type="rate_limit_reached_error",
    ),
    "overloaded": Wording(
        message="The engine is currently overloaded, please try again later",
        status=429,
        error_type="engine_overloaded_error",
    ),
}

# QwenLM/qwen-code#4049, camel-ai/owl#432.
DASHSCOPE: Words = {
    "overflow": Wording(
        message="<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, "
        "{limit}]",
        code="invalid_parameter_error",
    ),
    "moderated": Wording(
        message="Input data may contain inappropriate content.",
        code="data_inspection_failed",
        error_type="data_inspection_failed",
    ),
    "unknown_model": Wording(
        message="The model `{model}` does not exist or you do not have access to it.",
        status=404,
        code="model_not_found",
    ),
    "wrong_key": Wording(message="Incorrect API key provided.", status=401, code="invalid_api_key"),
    "no_quota": Wording(
        message="Access denied, please make sure your account is in good standing.",
        code="Arrearage",
        error_type="Arrearage",
    ),
    "rate_limited": Wording(
        message="You have exceeded your current request limit.",
        status=429,
        code="limit_requests",
        error_type="limit_requests",
    ),
}

# leookun/cursor-byok#129, chatboxai/chatbox#2060, chatboxai/chatbox#2573 (a key refused by a JSON
# string).
SILICONFLOW: Words = spoken(
    {
        "overflow": Wording(
            message="number of input tokens ({words}) has exceeded max_prompt_tokens ({limit}) "
            "limit.",
            code=20015,
        ),
        "unknown_model": Wording(
            message="Model does not exist. Please check it carefully.", code=20012
        ),
        "wrong_key": Wording(message="Invalid token", status=401, shape="json_text"),
        "no_quota": Wording(
            message="Sorry, your account balance is insufficient", status=403, code=30001
        ),
        "rate_limited": Wording(
            message="Request was rejected due to rate limiting. If you want more, please contact "
            "us.",
            status=429,
            code=50603,
        ),
        "overloaded": Wording(
            message="Model service overloaded. Please try again later.", status=503, code=50505
        ),
    },
    shape="code_message",
)

# kortix-ai/suna#6368; Amazon's published errors of its runtime.
BEDROCK: Words = spoken(
    {
        "overflow": Wording(message="Input is too long for requested model."),
        "unknown_model": Wording(message="The provided model identifier is invalid."),
        "wrong_key": Wording(
            message="The security token included in the request is invalid.", status=403
        ),
        "rate_limited": Wording(
            message="Too many requests, please wait before trying again.", status=429
        ),
        "overloaded": Wording(
            message="Model is not ready for inference. Please wait and try your request again.",
            status=429,
        ),
        "server_error": Wording(
            message="The system encountered an unexpected error during processing. Try your "
            "request again.",
            status=500,
        ),
    },
    shape="message",
)

# The published errors of Zhipu's and GitHub's models, and of Cerebras, Cohere and Together.
ZHIPU: Words = {
    "overflow": Wording(message="Prompt exceeds max length", code="1261", error_type=None),
    "moderated": Wording(
        message="System detected potentially unsafe or sensitive content in input or generation.",
        code="1301",
        error_type=None,
        more={"contentFilter": [{"level": 1, "role": "user"}]},
    ),
    "unknown_model": Wording(
        message="The model does not exist, please check the model code.",
        code="1211",
        error_type=None,
    ),
    "wrong_key": Wording(
        message="token expired or incorrect", status=401, code="1000", error_type=None
    ),
    "no_quota": Wording(
        message="Insufficient balance or no resource package. Please recharge.",
        status=429,
        code="1113",
        error_type=None,
    ),
    "rate_limited": Wording(
        message="Rate limit reached for requests", status=429, code="1302", error_type=None
    ),
}

GITHUB_MODELS: Words = {
    "overflow": Wording(
        message="Request body too large for {model} model. Max size: {limit} tokens.",
        status=413,
        code="tokens_limit_reached",
        error_type=None,
        more={"details": "Request body too large for {model} model. Max size: {limit} tokens."},
    ),
    "unknown_model": Wording(
        message="Unknown model: {model}", code="unknown_model", error_type=None
    ),
    "rate_limited": Wording(
        message="Rate limit of 10 per 60s exceeded for UserByModelByMinute. Please wait {wait} "
        "seconds before retrying.",
        status=429,
        code="RateLimitReached",
        error_type=None,
        headers={"retry-after": "{wait}"},
    ),
}

CEREBRAS: Words = {
    "overflow": Wording(
        message="Please reduce the length of the messages or completion. Current length is "
        "{words} while limit is {limit}",
        code="context_length_exceeded",
        param="messages",
    ),
    "overloaded": Wording(
        message="We're experiencing high traffic right now! Please try again soon.",
        status=429,
        code="queue_exceeded",
        error_type="too_many_requests_error",
    ),
}

COHERE: Words = {
    "overflow": Wording(
        message="too many tokens: total number of tokens in the prompt cannot exceed {limit} - "
        "received {words}. "
        "Try using a shorter prompt, or enabling prompt truncating."
    )
}

TOGETHER: Words = {
    "overflow": Wording(
        message="Input validation error: `inputs` tokens + `max_new_tokens` must be <= {limit}. "
        "Given: {words} `inputs` tokens "
        "and 512 `max_new_tokens`",
        status=422,
    ),
    "overloaded": Wording(
        message="The server is overloaded or not ready yet.",
        status=503,
        code="service_unavailable",
        error_type="service_unavailable",
    ),
}
