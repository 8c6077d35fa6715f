"""How a compatible server tells of trouble: the shape of its error bodies, and whose words it uses."""

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
"""The shapes of an error body; `error_bodies.py` makes them."""

SHAPES: tuple[str, ...] = get_args(Shape)


@dataclass(frozen=True)
class ErrorFlags:
    """Flags of `Personality` for errors. The default is OpenAI's own form.

    Attributes:
        error_body: The shape of every error.
            `openai`: `{"error": {"message", "type", "param", "code"}}`. `detail`: `{"detail": "..."}`. `errors`: `{"errors": [...]}`.
            `flat`: `{"object": "error", "message", "type", "param", "code"}`. `list`: OpenAI's in a list of one.
            `error_text`: `{"code": "...", "error": "..."}`. `message`: `{"message": "..."}`. `code_message`: `{"code", "message", "data"}`.
            `typed`: `{"type": "error", "error": {...}}`. `metadata`: the error of another provider as JSON text in `metadata.raw`.
            `text`: plain text. `json_text`: a JSON string. `html`: a proxy's page. `empty`: no body.
        error_codes: The code in a body: the `word`, the HTTP `status` as a number, the `status_text` ("400"), or `null`.
        words: Whose words are used for each kind of trouble: a name of `wordings.WORDS`.
        overflow: Whose words are used for a request that is too long, if others: a name of `wordings.WORDS`.
        errors_in_stream: A streamed request that is refused gets 200 and an `error` event instead of the status.
        error_event: The `event` name of such events, "" for none.
    """

    error_body: Shape = "openai"
    error_codes: Literal["word", "status", "status_text", "null"] = "word"
    words: str = "openai"
    overflow: str | None = None
    errors_in_stream: bool = False
    error_event: str = ""
