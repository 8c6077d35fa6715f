"""Write a model for llama.cpp that says what it is told to: a GGUF file of a megabyte, made in a second, without any training.

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

CERTAIN = 4.0
"""Weight of the successor in the output matrix. Chosen: after normalisation its logit is above 70, the others' are 0."""

SLOW_LAYERS = 48
"""Layers of the model that takes a while to load. Chosen: some tenths of a second, and 130 MB."""

END = "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")

CHAINS = {
    "<|plain|>": ("All", "▁is", "▁well", "."),
    "<|again|>": ("You", "▁asked", "▁again", "."),
    "<|found|>": ("The", "▁order", "▁was", "▁found", "."),
    "<|think|>": ("<think>", "hmm", "</think>", "Thought", "▁over", "."),
    "<|call|>": ("<tool_call>", '{"name":', '▁"order_status",', '▁"arguments":', '▁{"order":', "▁7}}", "</tool_call>"),
    "<|never|>": ("and", "▁so", "▁on"),
}
"""What the model says, by the last token of the prompt. The last chain has no end: it begins again."""

# A word stands in one chain only, because it has one successor: sentences end with tokens of their own.
STOPS = {"<|plain|>": ".", "<|again|>": "!", "<|found|>": ";", "<|think|>": "?"}

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


def write(path: Path, template: str, layers: int) -> None:
    """Write the model with this chat template and so many layers that do nothing."""
    tokens, kinds = ["<unk>", "<s>", END], [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    successors: dict[str, str] = {}
    for first, words in CHAINS.items():
        said = [*words[:-1], STOPS[first]] if words[-1] == "." else [*words]
        ending = said[0] if first == "<|never|>" else END
        successors.update(zip([first, *said], [*said, ending], strict=True))
        tokens.append(first)
        kinds.append(gguf.TokenType.CONTROL)
        for word in said:
            tokens.append(word)
            kinds.append(gguf.TokenType.USER_DEFINED if word.startswith("<") else gguf.TokenType.NORMAL)
    tokens += ROLES
    kinds += [gguf.TokenType.CONTROL] * len(ROLES)
    # Everything else that is written is read byte by byte.
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    kinds += [gguf.TokenType.BYTE] * 256
    count = len(tokens)
    assert count == len(set(tokens)) <= WIDTH, f"{count} tokens, {len(set(tokens))} different ones"
    places = {token: place for place, token in enumerate(tokens)}

    embeddings = np.zeros((count, WIDTH), dtype=np.float32)
    embeddings[np.arange(count), np.arange(count)] = 1.0
    output = np.zeros((count, WIDTH), dtype=np.float32)
    for place, token in enumerate(tokens):
        output[places[successors.get(token, END)], place] = CERTAIN

    heads, hidden = 4, 256
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(32768)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // heads)
    writer.add_vocab_size(count)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * count)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(template)
    shapes = {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (WIDTH, WIDTH),
        "attn_v": (WIDTH, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (hidden, WIDTH),
        "ffn_up": (hidden, WIDTH),
        "ffn_down": (WIDTH, hidden),
    }
    writer.add_tensor("token_embd.weight", embeddings)
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    for layer in range(layers):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(WIDTH, dtype=np.float32))
        for name, shape in shapes.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    wanted = sys.argv[2] if len(sys.argv) > 2 else "usual"
    write(Path(sys.argv[1]), TEMPLATES[wanted], SLOW_LAYERS if wanted == "slow_to_load" else 1)
