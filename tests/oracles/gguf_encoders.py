"""Tiny RoBERTa and ModernBERT encoders as llama.cpp's converter writes them, with gguf-py.

The files are written where they are needed, from a config and tiny weights; only what two programs compute
from them is stored. A RoBERTa is a `bert` whose position table begins at the first token's row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFWriter
from gguf_decoders import VOCAB
from tiny_weights import tiny_weights

Config = dict[str, Any]
Arrays = dict[str, np.ndarray]
Quant = gguf.GGMLQuantizationType

TOKENS = [*VOCAB, "<s>", "<pad>", "</s>", "<mask>"]
ARCHITECTURES = {"roberta": "bert", "modernbert": "modern-bert"}
PLAIN = ("position_embd.weight", "token_types.weight")  # matrices that the converter never quantises
PRE_TOKENIZERS = {"roberta": "roberta-bpe", "modernbert": "modern-bert"}


def write_case(path: Path, record: Config, seed: int) -> Path:
    """The file of a stored case; matrices in Q8_0 where its tags say so."""
    config, kind = record["config"], record["config"]["model_type"]
    shapes = {key: tuple(shape) for key, shape in record["shapes"].items()}
    writer = GGUFWriter(path, ARCHITECTURES[kind])
    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"] - _unused_positions(config))
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config.get("layer_norm_eps") or config["norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_vocab_size(config["vocab_size"])
    if kind == "roberta":
        writer.add_token_type_count(config["type_vocab_size"])
    else:
        writer.add_rope_freq_base(config["global_rope_theta"])
        writer.add_rope_freq_base_swa(config["local_rope_theta"])
        writer.add_sliding_window(config["local_attention"])
        writer.add_sliding_window_pattern(config["global_attn_every_n_layers"])
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    _vocabulary(writer, PRE_TOKENIZERS[kind])
    quant = Quant.Q8_0 if "q8_0" in record["tags"] else Quant.F32
    for name, value in tensors(config, tiny_weights(shapes, seed)):
        if value.ndim == 1 or name in PLAIN or quant == Quant.F32:
            writer.add_tensor(name, np.ascontiguousarray(value))
        else:
            writer.add_tensor(name, gguf.quantize(value, quant), raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _unused_positions(config: Config) -> int:
    return config["pad_token_id"] + 1 if config["model_type"] == "roberta" else 0


def _vocabulary(writer: GGUFWriter, pre: str) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    kinds = [gguf.TokenType.CONTROL if "<" in t and len(t) > 1 else gguf.TokenType.NORMAL for t in TOKENS]
    writer.add_token_types(kinds)
    writer.add_token_merges(["Ġ t"])
    writer.add_bos_token_id(TOKENS.index("<s>"))
    writer.add_eos_token_id(TOKENS.index("</s>"))
    writer.add_sep_token_id(TOKENS.index("</s>"))
    writer.add_pad_token_id(TOKENS.index("<pad>"))
    writer.add_mask_token_id(TOKENS.index("<mask>"))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_add_sep_token(True)


def tensors(config: Config, weights: Arrays) -> list[tuple[str, np.ndarray]]:
    """GGUF names and layouts."""
    arch = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[ARCHITECTURES[config["model_type"]]]
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    found = []
    for key, value in weights.items():
        if "position_embeddings" in key:
            value = value[_unused_positions(config) :]
        if not key.startswith("pooler."):
            found.append((names.get_name(key, try_suffixes=(".weight", ".bias")), value))
    return found


def as_stored(record: Config, weights: Arrays) -> Arrays:
    """The weights as float32 after a trip through the file."""
    if "q8_0" not in record["tags"]:
        return weights
    plain = ("position_embeddings.weight", "token_type_embeddings.weight")
    return {
        key: w
        if w.ndim == 1 or key.endswith(plain)
        else gguf.dequantize(gguf.quantize(w, Quant.Q8_0), Quant.Q8_0)
        for key, w in weights.items()
    }
