"""Write a model for llama.cpp that says what it is told to: a GGUF file of four megabytes, made in a second, without any training.

Run by the Python of llama.cpp's own environment, which has `gguf` and `numpy`: `python tiny_model.py FILE [TEMPLATE]`.

The network is a table. Every layer's weights are zero, so that the last token's embedding arrives at the output unchanged; embeddings are
one-hot, and the output matrix holds, for each token, the one that follows it. So the last token of a prompt decides the whole answer, and
that token is chosen by the chat template, which can read the conversation.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np

WIDTH = 384
"""Embedding width. Chosen: one place for each token, and a multiple of 32 times the heads."""

HEADS, HIDDEN = 4, 256
SILENT = {
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (WIDTH, WIDTH),
    "attn_v": (WIDTH, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_gate": (HIDDEN, WIDTH),
    "ffn_up": (HIDDEN, WIDTH),
    "ffn_down": (WIDTH, HIDDEN),
}
"""The weights of a layer that are all zero."""

CERTAIN = 4.0
"""Weight of the successor in the output matrix. Chosen: after normalisation its logit is above 70, the others' are 0."""

SLOW_LAYERS = 48
"""Layers of the model that takes a while to load. Chosen: some tenths of a second, and 130 MB."""

END = "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")

ENDLESS = "<|never|>"
CHAINS = {
    "<|plain|>": ("All", "▁is", "▁well", "."),
    "<|again|>": ("You", "▁asked", "▁again", "!"),
    "<|found|>": ("The", "▁order", "▁was", "▁found", ";"),
    "<|think|>": ("<think>", "hmm", "</think>", "Thought", "▁over", "?"),
    "<|call|>": ("<tool_call>", '{"name":', '▁"order_status",', '▁"arguments":', '▁{"order":', "▁7}}", "</tool_call>"),
    ENDLESS: ("and", "▁so", "▁on"),
}
"""What the model says, by the last token of the prompt; the endless chain begins again. A word has one successor, so it stands in one chain
only: even the sentences end differently."""

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

TEMPLATES = {"usual": TEMPLATE, "alternating": ALTERNATING, "no_system": NO_SYSTEM, "patient": PATIENT, "slow_to_load": TEMPLATE}


def vocabulary() -> dict[str, gguf.TokenType]:
    """Every token, in order, and its kind: the words of the chains, the roles, and a token for each byte of everything else."""
    kinds = {"<unk>": gguf.TokenType.UNKNOWN, "<s>": gguf.TokenType.CONTROL, END: gguf.TokenType.CONTROL}
    for first, words in CHAINS.items():
        kinds[first] = gguf.TokenType.CONTROL
        for word in words:
            assert word not in kinds, f"{word!r} stands in two chains"
            kinds[word] = gguf.TokenType.USER_DEFINED if word.startswith("<") else gguf.TokenType.NORMAL
    kinds.update(dict.fromkeys(ROLES, gguf.TokenType.CONTROL))
    kinds.update((f"<0x{byte:02X}>", gguf.TokenType.BYTE) for byte in range(256))
    assert len(kinds) <= WIDTH
    return kinds


def successors() -> dict[str, str]:
    """What follows each token of a chain; everything else is followed by the end."""
    found: dict[str, str] = {}
    for first, words in CHAINS.items():
        found.update(zip([first, *words], [*words, words[0] if first == ENDLESS else END], strict=True))
    return found


def write(path: Path, template: str, layers: int) -> None:
    """Write the model with this chat template and so many layers that do nothing."""
    kinds, following = vocabulary(), successors()
    places = {token: place for place, token in enumerate(kinds)}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(65536)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(kinds))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(list(kinds))
    writer.add_token_scores([0.0] * len(kinds))
    writer.add_token_types(list(kinds.values()))
    writer.add_bos_token_id(places["<s>"])
    writer.add_eos_token_id(places[END])
    writer.add_unk_token_id(places["<unk>"])
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(template)

    output = np.zeros((len(kinds), WIDTH), dtype=np.float32)
    for token, place in places.items():
        output[places[following.get(token, END)], place] = CERTAIN
    writer.add_tensor("token_embd.weight", np.eye(len(kinds), WIDTH, dtype=np.float32))
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    for layer in range(layers):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(WIDTH, dtype=np.float32))
        for name, shape in SILENT.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    wanted = sys.argv[2] if len(sys.argv) > 2 else "usual"
    write(Path(sys.argv[1]), TEMPLATES[wanted], SLOW_LAYERS if wanted == "slow_to_load" else 1)
