"""Wordings of self-hosted servers and gateways.

The comments name public reports in which they were seen.
"""

from __future__ import annotations

from assistant_queue.testing.provider.wordings import Wording, Words, spoken

# Run: llama.cpp by xllamacpp 2026.10; ggml-org/llama.cpp#15780, earendil-works/pi#1887 (503 while
# the model loads).
LLAMA_CPP: Words = spoken(
    {
        "overflow": Wording(
            message="request ({words} tokens) exceeds the available context size ({limit} "
            "tokens), try increasing it",
            error_type="exceed_context_size_error",
            more={"n_prompt_tokens": 9000, "n_ctx": 8192},
        ),
        "turns": Wording(
            message="Unable to generate parser for this template. Automatic parser generation "
            "failed: \n------------\nWhile executing "
            "CallExpression at line 5, column 20 in source:\n...\nError: Jinja Exception: "
            "Conversation roles must alternate "
            "user/assistant/user/assistant/..."
        ),
        "unknown_model": Wording(
            message="model '{model}' not found", status=404, error_type="not_found_error"
        ),
        "wrong_key": Wording(
            message="Invalid API Key", status=401, error_type="authentication_error"
        ),
        "unknown_path": Wording(message="File Not Found", status=404, error_type="not_found_error"),
        "loading": Wording(message="Loading model", status=503, error_type="unavailable_error"),
        "server_error": Wording(message="Compute error.", status=500, error_type="server_error"),
    },
    codes="status",
)

# vllm-project/vllm#3485 (flat), suitenumerique/conversations#197 (nested since 0.10),
# anomalyco/opencode#17746.
VLLM: Words = spoken(
    {
        "unknown_path": Wording(message="Not Found", status=404, shape="detail"),
        "overflow": Wording(
            message="You passed {words} input tokens and requested 512 output tokens. However, the "
            "model's context length is only {limit} "
            "tokens, resulting in a maximum input length of {limit} tokens. Please reduce the "
            "length of the input prompt. "
            "(parameter=input_tokens, value={words})",
            error_type="BadRequestError",
        ),
        "unknown_model": Wording(
            message="The model `{model}` does not exist.", status=404, error_type="NotFoundError"
        ),
        "wrong_key": Wording(message="Unauthorized", status=401, shape="error_text"),
        "overloaded": Wording(message="Service Unavailable", status=503, shape="text"),
        "server_error": Wording(
            message="EngineCore encountered an issue.", status=500, error_type="InternalServerError"
        ),
    },
    codes="status",
)

# AIDotNet/OpenCowork#82.
SGLANG: Words = spoken(
    {
        "unknown_path": Wording(message="Not Found", status=404, shape="detail"),
        "overflow": Wording(
            message="The input ({words} tokens) is longer than the model's context length "
            "({limit} tokens).",
            error_type="BadRequestError",
        ),
        "wrong_key": Wording(message="Unauthorized", status=401, shape="error_text"),
        "overloaded": Wording(
            message="The request queue is full.", status=503, error_type="ServiceUnavailableError"
        ),
        "server_error": Wording(message="Internal Server Error", status=500, shape="text"),
    },
    shape="flat",
    codes="status",
)

# netease-youdao/QAnything#555, ollama/ollama#4124, SAIL-Research-Lab/cheetahclaws#72 (null).
OLLAMA: Words = {
    "unknown_path": Wording(message="404 page not found", status=404, shape="text"),
    "null_content": Wording(message="invalid message content type: <nil>"),
    "unknown_model": Wording(
        message='model "{model}" not found, try pulling it first',
        status=404,
        error_type="not_found_error",
    ),
    "overloaded": Wording(
        message="server busy, please try again.  maximum pending requests exceeded",
        status=503,
        error_type="api_error",
    ),
    "server_error": Wording(
        message="llama runner process has terminated: exit status 2",
        status=500,
        error_type="api_error",
    ),
}

# lmstudio-ai/lmstudio-bug-tracker#1730, lmstudio-ai/lms#107, lmstudio-ai/lmstudio-bug-tracker#261
# (null).
LM_STUDIO: Words = {
    "null_content": Wording(
        message="Invalid 'content': 'content' field must be a string or an array of objects.",
        error_type=None,
        shape="error_text",
    ),
    "unknown_path": Wording(
        message="Unexpected endpoint or method. ({path}). Returning 200 anyway",
        status=200,
        shape="error_text",
    ),
    "overflow": Wording(
        message="Trying to keep the first {words} tokens when context the overflows. However, the "
        "model is loaded with context length of "
        "only {limit} tokens, which is not enough. Try to load the model with a larger context "
        "length, or provide a shorter input",
        error_type=None,
        is_in_stream=True,
    ),
    "unknown_model": Wording(
        message='Invalid model identifier "{model}". Please specify a valid downloaded model.',
        code="model_not_found",
        param="model",
    ),
    "server_error": Wording(
        message="The model has crashed without additional information. (Exit code: null)",
        status=500,
        error_type=None,
        is_in_stream=True,
    ),
}

# Run: LiteLLM 1.108's proxy. Its codes are the status as text and keep nothing of the other
# server's but its words; zed-industries/zed#30094, OpenHands/OpenHands#17390 (a proxy with a
# database).
_NO_FALLBACK = (
    "\n\nLiteLLM: model group '{model}' failed with the error above. No fallback was attempted."
)
LITELLM: Words = spoken(
    {
        "unknown_path": Wording(message="Not Found", status=404, shape="detail"),
        "overflow": Wording(
            message="litellm.ContextWindowExceededError: litellm.BadRequestError: "
            "ContextWindowExceededError: OpenAIException - This "
            "model's maximum context length is {limit} tokens. However, your messages resulted in "
            "{words} tokens.\nmodel={model}. "
            f"context_window_fallbacks=None. fallbacks=None.{_NO_FALLBACK}"
        ),
        "moderated": Wording(
            message="litellm.BadRequestError: OpenAIException - The response was filtered due to "
            "the prompt triggering Azure OpenAI's "
            f"content management policy. Please modify your prompt and retry.{_NO_FALLBACK}"
        ),
        "unknown_model": Wording(
            message="/chat/completions: Invalid model name passed in model={model}. "
            "Call `/v1/models` to view available models for your key."
        ),
        "wrong_key": Wording(
            message="Authentication Error, Invalid proxy server token passed. Received API Key = "
            "sk-...0000, Key Hash (Token) =0000. "
            "Unable to find token in cache or `LiteLLM_VerificationTokenTable`",
            status=401,
            error_type="token_not_found_in_db",
            param="key",
        ),
        "no_quota": Wording(
            message="litellm.RateLimitError: RateLimitError: OpenAIException - You exceeded your "
            "current quota, please check your plan and "
            f"billing details.{_NO_FALLBACK}",
            status=429,
            error_type="throttling_error",
        ),
        "rate_limited": Wording(
            message="No deployments available for selected model, Try again in {wait} seconds. All "
            "deployments for selected model are in "
            "cooldown. Passed model={model}. pre-call-checks=False, cooldown_list=[]",
            status=429,
            error_type="all_deployments_in_cooldown",
            headers={"retry-after": "{wait}"},
        ),
        "overloaded": Wording(
            message="litellm.ServiceUnavailableError: ServiceUnavailableError: OpenAIException - "
            f"Overloaded{_NO_FALLBACK}",
            status=503,
            error_type="internal_server_error",
            headers={"llm_provider-retry-after": "{wait}"},
        ),
        "gateway": Wording(
            message="litellm.BadGatewayError: BadGatewayError: OpenAIException - Bad "
            f"Gateway{_NO_FALLBACK}",
            status=502,
            error_type="internal_server_error",
        ),
        "server_error": Wording(
            message="litellm.InternalServerError: InternalServerError: OpenAIException - "
            f"Connection error.{_NO_FALLBACK}",
            status=500,
            error_type="internal_server_error",
        ),
    },
    codes="status_text",
)

# The same proxy without a database, and behind it a server that refuses its key or is limited.
LITELLM_BARE: Words = spoken(
    {
        "wrong_key": Wording(message="No connected db.", error_type="no_db_connection"),
        "no_quota": Wording(
            message="Budget has been exceeded! Current cost: 76.16, Max budget: 10.0",
            error_type="budget_exceeded",
        ),
        "rate_limited": Wording(
            message="litellm.RateLimitError: RateLimitError: OpenAIException - Rate limit "
            f"reached{_NO_FALLBACK}",
            status=429,
            error_type="throttling_error",
            headers={"llm_provider-retry-after": "{wait}"},
        ),
    },
    codes="status_text",
)

# OpenRouterTeam/openrouter-examples#74, musistudio/claude-code-router#227,
# Alishahryar1/free-claude-code#772; its page of errors.
OPENROUTER: Words = spoken(
    {
        "overflow": Wording(
            message="This model's maximum context length is {limit} tokens. However, you "
            "requested {words}.",
            code="context_length_exceeded",
            shape="metadata",
        ),
        "moderated": Wording(
            message="Your chosen model requires moderation and your input was flagged",
            status=403,
            error_type=None,
            more={
                "metadata": {
                    "reasons": ["violence"],
                    "flagged_input": "...",
                    "provider_name": "X",
                    "model_slug": "{model}",
                }
            },
        ),
        "unknown_model": Wording(message="{model} is not a valid model ID", error_type=None),
        "wrong_key": Wording(message="No auth credentials found", status=401, error_type=None),
        "no_quota": Wording(
            message="Insufficient credits. This account never purchased credits. Make sure your "
            "key is on the correct account or org, and "
            "if so, purchase more at https://openrouter.ai/settings/credits",
            status=402,
            error_type=None,
        ),
        "rate_limited": Wording(
            message="Rate limit exceeded: free-models-per-min.",
            status=429,
            error_type=None,
            is_in_stream=True,
        ),
        "overloaded": Wording(
            message="Upstream idle timeout exceeded", status=502, error_type=None, is_in_stream=True
        ),
        "gateway": Wording(message="Provider returned error", status=502, error_type=None),
        "server_error": Wording(message="Internal Server Error", status=500, error_type=None),
    },
    codes="status",
)

# Run: OGX 1.5, the successor of llama-stack. It drops the error of the server behind it: a response
# fails with these words.
_LOST = Wording(
    message="An unexpected error occurred while generating the response.",
    code="server_error",
    is_failed_run=True,
)
OGX: Words = spoken(
    {
        "unknown_path": Wording(message="Not Found", status=404, is_in_stream=False),
        "overflow": Wording(
            message="The conversation exceeds the model's context window and could not be reduced "
            "further by truncation.",
            code="context_length_exceeded",
            is_failed_run=True,
        ),
        "unknown_model": Wording(
            message="Model '{model}' not found. Use 'client.models.list()' to list available "
            "Models.",
            status=404,
        ),
        "wrong_key": Wording(message="Authentication failed", status=401, is_in_stream=False),
        **dict.fromkeys(
            (
                "no_quota",
                "moderated",
                "rate_limited",
                "overloaded",
                "loading",
                "gateway",
                "server_error",
            ),
            _LOST,
        ),
    },
    shape="detail",
)

# Text Generation Inference: huggingface/text-generation-inference#439 (overloaded).
TGI: Words = {
    "overflow": Wording(
        message="Input validation error: `inputs` must have less than {limit} tokens. Given: "
        "{words}",
        status=422,
        shape="error_text",
    ),
    "turns": Wording(
        message="Template error: syntax error: Conversation roles must alternate "
        "user/assistant/user/assistant/... (in <string>:1)",
        status=422,
        shape="error_text",
    ),
    "overloaded": Wording(message="Model is overloaded", status=429, shape="error_text"),
    "loading": Wording(
        message="Model {model} is currently loading", status=503, shape="error_text"
    ),
}

# A reverse proxy before any server: its pages are HTML, or there is no body at all.
NGINX: Words = {
    "unknown_path": Wording(message="404 Not Found", status=404, shape="html"),
    "overflow": Wording(message="413 Request Entity Too Large", status=413, shape="html"),
    "wrong_key": Wording(message="401 Authorization Required", status=401, shape="html"),
    "rate_limited": Wording(message="429 Too Many Requests", status=429, shape="html"),
    "overloaded": Wording(message="503 Service Temporarily Unavailable", status=503, shape="html"),
    "loading": Wording(message="502 Bad Gateway", status=502, shape="html"),
    "gateway": Wording(message="504 Gateway Time-out", status=504, shape="html"),
    "server_error": Wording(message="500 Internal Server Error", status=500, shape="empty"),
}
