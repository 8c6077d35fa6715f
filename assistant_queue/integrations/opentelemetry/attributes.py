"""Attributes of spans: of the provider, of rounds, and of contents.

Source of the names: OpenTelemetry's semantic conventions for generative AI and for messaging, which
are in development.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.util.types import AttributeValue

from assistant_queue.accounting import Usage
from assistant_queue.config import Config
from assistant_queue.models import Message, ToolCall
from assistant_queue.observing import Outcome, Round

Attributes = dict[str, AttributeValue]

MESSAGING_SYSTEM = "assistant_queue"
_OPENAI = "https://api.openai.com/v1"
_PROVIDERS = {
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
}
"""Names of `gen_ai.provider.name` by host. Any other server speaks OpenAI's protocol."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


def provider_attributes(config: Config) -> Attributes:
    """Return the attributes of a queue's provider; of a user's function, none are known."""
    if config.backend is not None:
        return {}
    url = str(getattr(config.openai_client, "base_url", None) or config.openai_base_url or _OPENAI)
    parts = urlsplit(url)
    host = parts.hostname or ""
    names = (name for end, name in _PROVIDERS.items() if host == end or host.endswith(f".{end}"))
    found: Attributes = {"gen_ai.provider.name": next(names, "openai"), "server.address": host}
    if parts.port is not None and parts.port != _DEFAULT_PORTS.get(parts.scheme):
        found["server.port"] = parts.port
    if config.model is not None:
        found["gen_ai.request.model"] = config.model
    if config.assistant_id is not None:
        found["gen_ai.agent.id"] = config.assistant_id
    return found


def usage_attributes(usage: Usage | None) -> Attributes:
    """Return the tokens of a round; details that the provider does not report are left out."""
    if usage is None:
        return {}
    details = {
        "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        **{name: count for name, count in details.items() if count},
    }


def round_outcome(outcome: Outcome) -> Attributes:
    """Return the attributes of a round's end."""
    found = usage_attributes(outcome.usage)
    if outcome.run_id:
        found["gen_ai.response.id"] = outcome.run_id
    if outcome.model:
        found["gen_ai.response.model"] = outcome.model
    if outcome.finish_reason:
        found["gen_ai.response.finish_reasons"] = [outcome.finish_reason]
    if outcome.first_text_s is not None:
        found["gen_ai.response.time_to_first_chunk"] = outcome.first_text_s
    return found


def input_content(subject: Round) -> Attributes:
    """Return what is sent to the model, in the conventions' form."""
    rows = (
        [_row(message.role, [_text(message)]) for message in subject.batch.messages]
        if subject.outputs is None
        else [
            _row("tool", [{"type": "tool_call_response", "id": call_id, "response": output}])
            for call_id, output in subject.outputs.items()
        ]
    )
    found: Attributes = {}
    if not subject.is_followed:
        found["gen_ai.input.messages"] = _json(rows)
    if subject.instructions:
        found["gen_ai.system_instructions"] = _json(
            [{"type": "text", "content": subject.instructions}]
        )
    return found


def output_content(outcome: Outcome) -> Attributes:
    """Return what the model answered, in the conventions' form."""
    parts = [{"type": "text", "content": reply} for reply in outcome.replies]
    parts += map(_call, outcome.calls)
    if not parts:
        return {}
    row = _row("assistant", parts)
    return {"gen_ai.output.messages": _json([{**row, "finish_reason": outcome.finish_reason}])}


def _text(message: Message) -> dict[str, Any]:
    return {"type": "text", "content": message.text}


def _call(call: ToolCall) -> dict[str, Any]:
    function = call.function
    return {
        "type": "tool_call",
        "id": call.id,
        "name": function.name,
        "arguments": function.arguments,
    }


def _row(role: str, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"role": role, "parts": list(parts)}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
