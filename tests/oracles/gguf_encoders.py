"""Tiny RoBERTa and ModernBERT encoders as llama.cpp's converter writes them, with gguf-py.

The files are written where they are needed, from a config and tiny weights; only what two programs compute
from them is stored. A RoBERTa is a `bert` whose position table begins at the first token's row.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Quant
from gguf_decoders import VOCAB
from gguf_writing import Arrays, Config, begin, byte_pairs, finish, stored, tensor_name
from tiny_weights import tiny_weights

TOKENS = [*VOCAB, "<s>", "<pad>", "</s>", "<mask>"]
ARCHITECTURES = {"roberta": "bert", "modernbert": "modern-bert"}
PLAIN = ("position_embd.weight", "token_types.weight")  # matrices that the converter never quantises
PRE_TOKENIZERS = {"roberta": "roberta-bpe", "modernbert": "modern-bert"}


def write_case(path: Path, record: Config, seed: int) -> Path:
    """The file of a stored case; matrices in Q8_0 where its tags say so."""
    config, kind = record["config"], record["config"]["model_type"]
    shapes = {key: tuple(shape) for key, shape in record["shapes"].items()}
    positions = config["max_position_embeddings"] - _unused_positions(config)
    writer = begin(path, ARCHITECTURES[kind], {**config, "max_position_embeddings": positions})
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
    byte_pairs(writer, PRE_TOKENIZERS[kind], TOKENS, ["Ġ t"], [t for t in TOKENS if "<" in t and len(t) > 1])
    for add, token in (
        (writer.add_bos_token_id, "<s>"),
        (writer.add_eos_token_id, "</s>"),
        (writer.add_sep_token_id, "</s>"),
        (writer.add_pad_token_id, "<pad>"),
        (writer.add_mask_token_id, "<mask>"),
    ):
        add(TOKENS.index(token))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_add_sep_token(True)
    finish(writer, _tensors(config, tiny_weights(shapes, seed)), _quant(record), PLAIN)
    return path


def _quant(record: Config) -> Quant:
    return Quant.Q8_0 if "q8_0" in record["tags"] else Quant.F32


def _unused_positions(config: Config) -> int:
    return config["pad_token_id"] + 1 if config["model_type"] == "roberta" else 0


def _tensors(config: Config, weights: Arrays) -> list[tuple[str, np.ndarray]]:
    """GGUF names and layouts."""
    name = tensor_name(ARCHITECTURES[config["model_type"]], config["num_hidden_layers"])
    found = []
    for key, value in weights.items():
        if "position_embeddings" in key:
            value = value[_unused_positions(config) :]
        if not key.startswith("pooler."):
            found.append((name(key), value))
    return found


def as_stored(record: Config, weights: Arrays) -> Arrays:
    """The weights as float32 after a trip through the file."""
    plain = ("position_embeddings.weight", "token_type_embeddings.weight")
    return stored(weights, _quant(record), plain)
