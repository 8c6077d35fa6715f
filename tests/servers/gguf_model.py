"""Write the tests' model for llama.cpp: a GGUF file of four megabytes, made in a second, without any training (`table_model.py`).

Run by the Python of llama.cpp's own environment, which has `gguf` and `numpy`: `python
gguf_model.py FILE [TEMPLATE]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np
from table_model import CERTAIN, CHAINS, END, HEADS, HIDDEN, ROLES, TEMPLATES, WIDTH, successors

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

SLOW_LAYERS = 48
"""Layers of the model that takes a while to load. Chosen: some tenths of a second, and 130 MB."""


def vocabulary() -> dict[str, gguf.TokenType]:
    """Every token, in order, and its kind: the words of the chains, the roles, and a token for each byte of everything else."""
    kinds = {
        "<unk>": gguf.TokenType.UNKNOWN,
        "<s>": gguf.TokenType.CONTROL,
        END: gguf.TokenType.CONTROL,
    }
    for first, words in CHAINS.items():
        kinds[first] = gguf.TokenType.CONTROL
        for word in words:
            assert word not in kinds, f"{word!r} stands in two chains"
            kinds[word] = (
                gguf.TokenType.USER_DEFINED if word.startswith("<") else gguf.TokenType.NORMAL
            )
    kinds.update(dict.fromkeys(ROLES, gguf.TokenType.CONTROL))
    kinds.update((f"<0x{byte:02X}>", gguf.TokenType.BYTE) for byte in range(256))
    assert len(kinds) <= WIDTH
    return kinds


def write(path: Path, template: str, layers: int) -> None:
    """Write the model with this chat template and so many layers that do nothing."""
    kinds = vocabulary()
    following = successors()
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
