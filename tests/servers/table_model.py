"""Define the tests' models: the table of successors of words, and the chat templates.

A network can be such a table: every layer's weights are zero, so that the last token's embedding
arrives at the output unchanged; embeddings are one-hot, and the output matrix holds, for each
token, the one that follows it. So the last token of a prompt decides the whole answer, and that
token is chosen by the chat template, which can read the conversation. `gguf_model.py` and
`hf_model.py` write it as files.

Imported by their scripts, which run in the servers' own environments: nothing but the standard
library.
"""

from __future__ import annotations

WIDTH = 384
"""Embedding width. Chosen: one place for each token, and a multiple of 64 times the heads."""

HEADS = 6
HIDDEN = 256

CERTAIN = 4.0
"""Weight of the successor in the output matrix. Chosen: after normalisation its logit is above 70,
the others' are 0."""

END = "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")

ENDLESS = "<|never|>"
CHAINS = {
    "<|plain|>": ("All", "▁is", "▁well", "."),
    "<|again|>": ("You", "▁asked", "▁again", "!"),
    "<|found|>": ("The", "▁order", "▁was", "▁found", ";"),
    "<|think|>": ("<think>", "hmm", "</think>", "Thought", "▁over", "?"),
    "<|call|>": (
        "<tool_call>",
        '{"name":',
        '▁"order_status",',
        '▁"arguments":',
        '▁{"order":',
        "▁7}}",
        "</tool_call>",
    ),
    ENDLESS: ("and", "▁so", "▁on"),
}
"""Texts of the model by the last token of the prompt; the endless chain begins again. A word has
one successor, so it stands in one chain only: even the sentences end differently."""

TEMPLATE = """\
{%- if tools -%}
<|system|>Functions:
{% for tool in tools -%}
{{ tool | tojson }}
{% endfor -%}
Call one as <tool_call>{"name": "...", "arguments": {...}}</tool_call><|end|>
{%- endif -%}
{%- for message in messages -%}
<|{{ message.role }}|>{{ message.content or "" }}
{%- if message.tool_calls -%}
{%- for call in message.tool_calls -%}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor -%}
{%- endif -%}
<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}
<|assistant|>
{%- set last = messages[-1] -%}
{%- if last.role == "tool" -%}<|found|>
{%- elif "for ever" in (last.content or "") -%}<|never|>
{%- elif tools and "order" in (last.content or "") -%}<|call|>
{%- elif "think" in (last.content or "") -%}<|think|>
{%- elif messages | selectattr("role", "equalto", "assistant") | list -%}<|again|>
{%- else -%}<|plain|>
{%- endif -%}
{%- endif -%}"""

ALTERNATING = (
    """\
{%- set turn = namespace(number=0) -%}
{%- for message in messages if message.role == "user" or (message.role == "assistant" and not message.tool_calls) -%}
{%- if (message.role == "user") != (turn.number % 2 == 0) -%}
{{- raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") -}}
{%- endif -%}
{%- set turn.number = turn.number + 1 -%}
{%- endfor -%}
"""
    + TEMPLATE
)

NO_SYSTEM = (
    """\
{%- if messages[0].role == "system" -%}{{- raise_exception("System role not supported") -}}{%- endif -%}
"""
    + TEMPLATE
)

PATIENT = TEMPLATE.replace('"for ever"', '"without an end"')

TEMPLATES = {
    "usual": TEMPLATE,
    "alternating": ALTERNATING,
    "no_system": NO_SYSTEM,
    "patient": PATIENT,
    "slow_to_load": TEMPLATE,
}


def successors() -> dict[str, str]:
    """Successor of each token of a chain; every other token is followed by the end."""
    found: dict[str, str] = {}
    for first, words in CHAINS.items():
        found.update(
            zip([first, *words], [*words, words[0] if first == ENDLESS else END], strict=True)
        )
    return found
