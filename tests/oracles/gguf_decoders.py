"""Tiny decoders as llama.cpp's converter writes them: the families beside those of `gguf_models.py`.

The files are written where they are needed, from a config and tiny weights; only what two programs compute
from them is stored. `CASES` are the configs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFWriter
from gguf_models import SPECIAL
from tiny_weights import tiny_weights

Config = dict[str, Any]
Arrays = dict[str, np.ndarray]
Quant = gguf.GGMLQuantizationType

# the letters of printable bytes, of the newline and of the space, as GPT-2 writes them
VOCAB = [*map(chr, range(0x21, 0x7F)), "Ċ", "Ġ", "Ġt", *SPECIAL]
ARCHITECTURES = {"gemma3_text": "gemma3", "mistral": "llama"}
# Where the converter interleaves the halves of the heads of q and k, and adds 1 to norms.
PERMUTED = ("granite", "mistral", "smollm3")
NORMS_PLUS_ONE = ("gemma", "gemma2", "gemma3_text")


def write(path: Path, config: Config, weights: Arrays, quant: Quant = Quant.F32) -> None:
    """Write `weights`, float32 under Hugging Face names, as a GGUF file; matrices in `quant`."""
    kind = config["model_type"]
    writer = GGUFWriter(path, ARCHITECTURES.get(kind, kind))
    _shared(writer, config)
    FAMILIES[kind](writer, config)
    _vocabulary(writer)
    for name, value in _tensors(config, weights):
        value = np.ascontiguousarray(value, np.float32)
        if value.ndim == 1 or quant == Quant.F32:
            writer.add_tensor(name, value)
        else:
            writer.add_tensor(name, gguf.quantize(value, quant), raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _shared(writer: GGUFWriter, config: Config) -> None:
    writer.add_name("tiny")  # llama.cpp looks for tokens of its own where a name says phi3
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    if "rms_norm_eps" in config:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    if "rope_theta" in config:
        writer.add_rope_freq_base(config["rope_theta"])
    scaling = config.get("rope_scaling") or {}
    if scaling.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])


def _llama(writer: GGUFWriter, config: Config) -> None:
    writer.add_vocab_size(config["vocab_size"])
    writer.add_rope_dimension_count(_head_dim(config))


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
    writer.add_rope_dimension_count(int(_head_dim(config) * config.get("partial_rotary_factor", 1.0)))
    writer.add_sliding_window(config["sliding_window"] or 0)
    if config.get("rope_scaling"):
        ratio = config["max_position_embeddings"] / original
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(ratio) / math.log(original)))


def _cohere2(writer: GGUFWriter, config: Config) -> None:
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_logit_scale(config["logit_scale"])
    writer.add_sliding_window(config["sliding_window"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_rope_dimension_count(_head_dim(config))
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


def _vocabulary(writer: GGUFWriter) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(VOCAB)
    kinds = [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in VOCAB]
    writer.add_token_types(kinds)
    writer.add_token_merges(["Ġ t"])
    writer.add_bos_token_id(VOCAB.index("<|endoftext|>"))
    writer.add_eos_token_id(VOCAB.index("<|im_end|>"))
    writer.add_add_bos_token(False)


def _tensors(config: Config, weights: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    """GGUF names and layouts."""
    kind = config["model_type"]
    arch = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[ARCHITECTURES.get(kind, kind)]
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for key, value in weights.items():
        part = key.split(".")[-2]
        if kind in PERMUTED and part in heads:
            halves = value.reshape(heads[part], 2, -1, *value.shape[1:])
            value = halves.swapaxes(1, 2).reshape(value.shape)
        if kind in NORMS_PLUS_ONE and key.endswith("norm.weight"):
            value = value + 1
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        assert name is not None, key
        yield name, value
    for length in ("long", "short"):
        factors = (config.get("rope_scaling") or {}).get(f"{length}_factor")
        if factors:
            yield f"rope_factors_{length}.weight", np.array(factors)


def _head_dim(config: Config) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def write_case(path: Path, record: Config, seed: int, quant: Quant = Quant.F32) -> Path:
    """The file of a stored case: its config, and weights of the shapes it lists."""
    shapes = {key: tuple(shape) for key, shape in record["shapes"].items()}
    write(path, record["config"], tiny_weights(shapes, seed), quant)
    return path


def as_stored(weights: Arrays, quant: Quant) -> Arrays:
    """The weights as float32 after a trip through `quant`, whose blocks lie along rows."""
    return {
        key: w if w.ndim == 1 else gguf.dequantize(gguf.quantize(w, quant), quant)
        for key, w in weights.items()
    }
