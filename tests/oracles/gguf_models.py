"""The tiny GGUF files that are stored: Llama, Qwen and BERT, with a vocabulary of all bytes."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Quant
from gguf_writing import (
    SPECIAL,
    Arrays,
    Config,
    begin,
    byte_pairs,
    finish,
    head_dim,
    interleave,
    llama3_divisors,
    rope_scaling,
    tensor_name,
    wordpieces,
)

MERGES = [
    "Ġ t",
    "h e",
    "Ġt he",
    "i n",
    "Ġ a",
    "e r",
    "o n",
    "r e",
    "Ġ s",
    "Ġ w",
    "a t",
    "n d",
    "i s",
    "o u",
    "e n",
    "in g",
    "Ġ o",
    "l l",
    "Ċ Ċ",
    "1 2",
    "Ġ Ġ",
    "ĠĠ ĠĠ",
    "' s",
    "! !",
    "Ġ 1",
]


def byte_letters() -> list[str]:
    """GPT-2's letter for each byte: printable ones stand for themselves, the others follow from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in plain)
    letters = {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def gpt2_vocab() -> list[str]:
    return [*byte_letters(), *(merge.replace(" ", "") for merge in MERGES), *SPECIAL]


def write(path: Path, config: Config, weights: Arrays, quant: Quant, pre: str) -> None:
    """Write `weights` as a GGUF file; matrices in `quant`, vectors in float32, as the converter does."""
    writer = begin(path, config["model_type"], config, quant, path.stem)
    if config["model_type"] == "bert":
        _bert_metadata(writer, config)
    else:
        _decoder_metadata(writer, config, pre)
    finish(writer, _tensors(config, weights), quant)


def _bert_metadata(writer: gguf.GGUFWriter, config: Config) -> None:
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(config["type_vocab_size"])
    wordpieces(writer)


def _decoder_metadata(writer: gguf.GGUFWriter, config: Config, pre: str) -> None:
    writer.add_head_count_kv(config.get("num_key_value_heads", config["num_attention_heads"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if config.get("head_dim"):
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    if config["model_type"] == "llama":
        writer.add_vocab_size(config["vocab_size"])
        writer.add_rope_dimension_count(head_dim(config))
    rope_scaling(writer, config.get("rope_scaling") or {})
    tokens = gpt2_vocab()
    byte_pairs(writer, pre, tokens, MERGES, SPECIAL)
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)


def _tensors(config: Config, weights: Arrays) -> list[tuple[str, np.ndarray]]:
    """GGUF names and layouts."""
    name = tensor_name(config["model_type"], config["num_hidden_layers"])
    heads = config["num_attention_heads"]
    tensors = []
    if (config.get("rope_scaling") or {}).get("rope_type") == "llama3":
        tensors.append(("rope_freqs.weight", llama3_divisors(config)))
    for key, value in weights.items():
        if config["model_type"] == "llama" and ".q_proj." in key:
            value = interleave(value, heads)
        if config["model_type"] == "llama" and ".k_proj." in key:
            value = interleave(value, config.get("num_key_value_heads", heads))
        tensors.append((name(key), value))
    return tensors
