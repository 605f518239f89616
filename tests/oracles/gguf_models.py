"""Tiny models as llama.cpp's converter writes them: metadata, names, permuted rows, a small vocabulary.

Written with gguf-py, from a Hugging Face config and weights under Hugging Face names.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Quant

Config = dict[str, Any]
Arrays = dict[str, np.ndarray]

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
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

WORDPIECES = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *"abcdefghijklmnopqrstuvwxyz0123456789.,!?'-",
    *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"),
    *("the", "cat", "sat", "on", "mat", "hello", "world", "##ing", "##ed", "un", "##able"),
)

FILE_TYPE = {
    Quant.F32: gguf.LlamaFileType.ALL_F32,
    Quant.F16: gguf.LlamaFileType.MOSTLY_F16,
    Quant.BF16: gguf.LlamaFileType.MOSTLY_BF16,
    Quant.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
    Quant.Q4_0: gguf.LlamaFileType.MOSTLY_Q4_0,
    Quant.Q4_1: gguf.LlamaFileType.MOSTLY_Q4_1,
    Quant.Q5_0: gguf.LlamaFileType.MOSTLY_Q5_0,
    Quant.Q5_1: gguf.LlamaFileType.MOSTLY_Q5_1,
}


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
    writer = gguf.GGUFWriter(path, config["model_type"])
    writer.add_name(path.stem)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_file_type(FILE_TYPE[quant])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    if config["model_type"] == "bert":
        _bert_metadata(writer, config)
    else:
        _decoder_metadata(writer, config, pre)
    for name, value in _tensors(config, weights):
        if value.ndim == 1 or quant == Quant.F32:
            writer.add_tensor(name, value)
        else:
            writer.add_tensor(name, gguf.quantize(value, quant), raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def stored(weights: Arrays, quant: Quant) -> Arrays:
    """The weights as float32 after a trip through `quant`."""
    return {
        key: value if value.ndim == 1 else gguf.dequantize(gguf.quantize(value, quant), quant)
        for key, value in weights.items()
    }


def _bert_metadata(writer: gguf.GGUFWriter, config: Config) -> None:
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    # The converter marks word starts with U+2581 and drops the ## of continuations.
    starts = {piece: f"\u2581{piece}" for piece in WORDPIECES if not piece.startswith(("##", "["))}
    pieces = [starts.get(piece, piece.removeprefix("##")) for piece in WORDPIECES]
    kinds = [
        gguf.TokenType.CONTROL if piece.startswith("[") else gguf.TokenType.NORMAL for piece in WORDPIECES
    ]
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)  # [CLS]
    writer.add_sep_token_id(3)
    writer.add_mask_token_id(4)


def _decoder_metadata(writer: gguf.GGUFWriter, config: Config, pre: str) -> None:
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_scaling") or {}
    writer.add_head_count_kv(config.get("num_key_value_heads", heads))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if config.get("head_dim"):
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if config["model_type"] == "llama":
        writer.add_vocab_size(config["vocab_size"])
        writer.add_rope_dimension_count(head_dim)
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope.get("rope_type") == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    tokens = gpt2_vocab()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens]
    )
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)


def _tensors(config: Config, weights: Arrays) -> list[tuple[str, np.ndarray]]:
    """GGUF names and layouts."""
    arch = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[config["model_type"]]
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", heads)
    tensors = []
    if (config.get("rope_scaling") or {}).get("rope_type") == "llama3":
        tensors.append(("rope_freqs.weight", _llama3_divisors(config)))
    for key, value in weights.items():
        if config["model_type"] == "llama" and ".q_proj." in key:
            value = _interleave(value, heads)
        if config["model_type"] == "llama" and ".k_proj." in key:
            value = _interleave(value, kv_heads)
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        assert name is not None, key
        tensors.append((name, np.ascontiguousarray(value)))
    return tensors


def _interleave(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from (first half, second half) to pairs, as llama.cpp's llama graph ropes them."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def _llama3_divisors(config: Config) -> np.ndarray:
    """By what each rope frequency is divided (the llama 3.1 rule), as the converter stores it."""
    rope = config["rope_scaling"]
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    context = rope["original_max_position_embeddings"]
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    divisors = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * math.pi * config["rope_theta"] ** (i / head_dim)
        if wavelength < context / high:
            divisors.append(1.0)
        elif wavelength > context / low:
            divisors.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, np.float32)
