"""Describe differences in the errors of compatible servers: their shapes and wordings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Shape = Literal[
    "openai",
    "detail",
    "errors",
    "flat",
    "list",
    "error_text",
    "message",
    "code_message",
    "typed",
    "metadata",
    "text",
    "json_text",
    "html",
    "empty",
]
"""Shapes of an error body; `error_bodies.py` renders them."""

SHAPES: tuple[Shape, ...] = get_args(Shape)

Speaker = Literal[
    "openai",
    "openai_tpm",
    "in_stream",
    "azure",
    "gemini",
    "deepseek",
    "mistral",
    "groq",
    "anthropic",
    "xai",
    "kimi",
    "dashscope",
    "siliconflow",
    "bedrock",
    "zhipu",
    "github_models",
    "cerebras",
    "cohere",
    "together",
    "llama_cpp",
    "vllm",
    "sglang",
    "ollama",
    "lmstudio",
    "litellm",
    "litellm_bare",
    "openrouter",
    "ogx",
    "tgi",
    "nginx",
]
"""Servers with known words; `troubles.py` has them."""


@dataclass(frozen=True)
class ErrorFlags:
    """Flags of `Personality` for errors. The default is OpenAI's own form.

    Attributes:
        error_body: The shape of every error. `openai`: `{"error": {"message", "type", "param",
            "code"}}`. `detail`: `{"detail": "..."}`. `errors`: `{"errors": [...]}`. `flat`:
            `{"object": "error", "message", "type", "param", "code"}`. `list`: OpenAI's in a list of
            one. `error_text`: `{"code": "...", "error": "..."}`. `message`: `{"message": "..."}`.
            `code_message`: `{"code", "message", "data"}`. `typed`: `{"type": "error", "error":
            {...}}`. `metadata`: the error of another provider as JSON text in `metadata.raw`.
            `text`: plain text. `json_text`: a JSON string. `html`: a proxy's page. `empty`: no
            body.
        error_codes: The code in a body: the `word`, the HTTP `status` as a number, the
            `status_text` ("400"), or `null`.
        words: Server that the words of each kind of trouble come from; OpenAI's if it has none.
        overflow: Server that the words for a request that is too long are taken from, if another.
        errors_in_stream: A streamed request that is refused gets 200 and an `error` event instead
            of the status, unless its fields are at fault.
        error_event: The `event` name of such events, "" for none.
        masks_failures: An error in the middle of a stream is reported as the server's own failure,
            with the words of the other server.
    """

    error_body: Shape = "openai"
    error_codes: Literal["word", "status", "status_text", "null"] = "word"
    words: Speaker = "openai"
    overflow: Speaker | None = None
    errors_in_stream: bool = False
    error_event: str = ""
    masks_failures: bool = False
