"""Tiny decoders as llama.cpp's converter writes them: the families beside those of `gguf_models.py`.

The files are written where they are needed, from a config and tiny weights; only what two programs compute
from them is stored. `CASES` are the configs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Quant, GGUFWriter
from gguf_writing import (
    SPECIAL,
    Arrays,
    Config,
    begin,
    byte_pairs,
    finish,
    head_dim,
    interleave,
    rope_scaling,
    tensor_name,
)
from tiny_weights import tiny_weights

# the letters of printable bytes, of the newline and of the space, as GPT-2 writes them
VOCAB = [*map(chr, range(0x21, 0x7F)), "Ċ", "Ġ", "Ġt", *SPECIAL]
ARCHITECTURES = {"gemma3_text": "gemma3", "mistral": "llama"}
# Where the converter interleaves the halves of the heads of q and k, and adds 1 to norms.
PERMUTED = ("granite", "mistral", "smollm3")
NORMS_PLUS_ONE = ("gemma", "gemma2", "gemma3_text")


def write_case(path: Path, record: Config, seed: int, quant: Quant = Quant.F32) -> Path:
    """The file of a stored case: its config, and weights of the shapes it lists; matrices in `quant`."""
    shapes = {key: tuple(shape) for key, shape in record["shapes"].items()}
    config = record["config"]
    kind = config["model_type"]
    writer = begin(path, ARCHITECTURES.get(kind, kind), config)
    writer.add_head_count_kv(config["num_key_value_heads"])
    if "rms_norm_eps" in config:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if "rope_theta" in config:
        writer.add_rope_freq_base(config["rope_theta"])
    rope_scaling(writer, config.get("rope_scaling") or {})
    FAMILIES[kind](writer, config)
    byte_pairs(writer, "llama-bpe", VOCAB, ["Ġ t"], SPECIAL)
    writer.add_bos_token_id(VOCAB.index("<|endoftext|>"))
    writer.add_eos_token_id(VOCAB.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    finish(writer, _tensors(config, tiny_weights(shapes, seed)), quant)
    return path


def _llama(writer: GGUFWriter, config: Config) -> None:
    writer.add_vocab_size(config["vocab_size"])
    writer.add_rope_dimension_count(head_dim(config))


def _granite(writer: GGUFWriter, config: Config) -> None:
    _llama(writer, config)
    writer.add_attention_scale(config["attention_multiplier"])
    writer.add_embedding_scale(config["embedding_multiplier"])
    writer.add_residual_scale(config["residual_multiplier"])
    writer.add_logit_scale(config["logits_scaling"])


def _gemma(writer: GGUFWriter, config: Config) -> None:
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])


def _gemma2(writer: GGUFWriter, config: Config) -> None:
    _gemma(writer, config)
    writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    writer.add_sliding_window(config["sliding_window"])


def _gemma3(writer: GGUFWriter, config: Config) -> None:
    _gemma(writer, config)
    writer.add_sliding_window(config["sliding_window"])
    if config.get("final_logit_softcapping"):
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])


def _phi3(writer: GGUFWriter, config: Config) -> None:
    original = config["original_max_position_embeddings"]
    writer.add_rope_scaling_orig_ctx_len(original)
    writer.add_rope_dimension_count(int(head_dim(config) * config.get("partial_rotary_factor", 1.0)))
    writer.add_sliding_window(config["sliding_window"] or 0)
    if config.get("rope_scaling"):
        ratio = config["max_position_embeddings"] / original
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(ratio) / math.log(original)))


def _cohere2(writer: GGUFWriter, config: Config) -> None:
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_logit_scale(config["logit_scale"])
    writer.add_sliding_window(config["sliding_window"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_rope_dimension_count(head_dim(config))
    writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)


FAMILIES: dict[str, Callable[[GGUFWriter, Config], None]] = {
    "cohere2": _cohere2,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "granite": _granite,
    "mistral": _llama,
    "olmo2": lambda writer, config: None,
    "phi3": _phi3,
    "smollm3": _llama,
}


def _tensors(config: Config, weights: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    """GGUF names and layouts."""
    kind = config["model_type"]
    name = tensor_name(ARCHITECTURES.get(kind, kind), config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for key, value in weights.items():
        part = key.split(".")[-2]
        if kind in PERMUTED and part in heads:
            value = interleave(value, heads[part])
        if kind in NORMS_PLUS_ONE and key.endswith("norm.weight"):
            value = value + 1
        yield name(key), value
    for length in ("long", "short"):
        factors = (config.get("rope_scaling") or {}).get(f"{length}_factor")
        if factors:
            yield f"rope_factors_{length}.weight", np.array(factors)
