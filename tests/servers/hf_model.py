"""Write the tests' model for vLLM: a folder of four megabytes, made in a second, without any training (`table_model.py`).

Run by the Python of vLLM's own environment: `python hf_model.py FOLDER`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from table_model import CERTAIN, CHAINS, END, HEADS, HIDDEN, ROLES, TEMPLATE, WIDTH, successors
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

CONTEXT = 512


def spelled(word: str) -> str:
    """The word with a blank where the table has a mark for it."""
    return word.replace("▁", " ")


def tokenizer() -> Tokenizer:
    """Read the words of the chains as tokens, and everything else byte by byte."""
    made = Tokenizer(
        models.BPE(
            vocab={
                char: place
                for place, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
            },
            merges=[],
        )
    )
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    words = [spelled(word) for chain in CHAINS.values() for word in chain]
    made.add_tokens(
        [AddedToken(word, special=False, normalized=False) for word in words if len(word) > 1]
    )
    made.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in (END, *ROLES, *CHAINS)]
    )
    return made


def weights(places: dict[str, int]) -> dict[str, np.ndarray]:
    """One layer that does nothing, and the table as the output."""
    following = {spelled(token): spelled(after) for token, after in successors().items()}
    head = np.zeros((len(places), WIDTH), dtype=np.float32)
    for token, place in places.items():
        head[places[following.get(token, END)], place] = CERTAIN
    layer = "model.layers.0"
    shapes = {
        **{f"self_attn.{name}_proj": (WIDTH, WIDTH) for name in "qkvo"},
        "mlp.gate_proj": (HIDDEN, WIDTH),
        "mlp.up_proj": (HIDDEN, WIDTH),
        "mlp.down_proj": (WIDTH, HIDDEN),
    }
    norms = ("model.norm", f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm")
    return {
        "model.embed_tokens.weight": np.eye(len(places), WIDTH, dtype=np.float32),
        "lm_head.weight": head,
        **{f"{name}.weight": np.ones(WIDTH, dtype=np.float32) for name in norms},
        **{
            f"{layer}.{name}.weight": np.zeros(shape, dtype=np.float32)
            for name, shape in shapes.items()
        },
    }


def write(folder: Path) -> None:
    """Write weights, tokenizer and configuration."""
    made = tokenizer()
    places = made.get_vocab()
    assert len(places) <= WIDTH
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    save_file(weights(places), str(folder / "model.safetensors"), metadata={"format": "pt"})
    told = {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "model_max_length": CONTEXT,
            "chat_template": TEMPLATE,
            "clean_up_tokenization_spaces": False,
        },
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": WIDTH,
            "intermediate_size": HIDDEN,
            "num_hidden_layers": 1,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-5,
            "vocab_size": len(places),
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "eos_token_id": places[END],
            "hidden_act": "silu",
        },
        "generation_config.json": {"eos_token_id": places[END]},
    }
    for name, content in told.items():
        (folder / name).write_text(json.dumps(content))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
