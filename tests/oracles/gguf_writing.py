"""What all tiny GGUF files have in common, as llama.cpp's converter writes them: head, vocabulary, tensors.

Written with gguf-py, from a Hugging Face config and weights under Hugging Face names. `gguf_models.py`,
`gguf_decoders.py` and `gguf_encoders.py` add what each family has of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Quant, GGUFWriter

Config = dict[str, Any]
Arrays = dict[str, np.ndarray]

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
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WORDPIECES = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *"abcdefghijklmnopqrstuvwxyz0123456789.,!?'-",
    *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"),
    *("the", "cat", "sat", "on", "mat", "hello", "world", "##ing", "##ed", "un", "##able"),
)


def begin(path: Path, arch: str, config: Config, quant: Quant = Quant.F32, name: str = "tiny") -> GGUFWriter:
    """A writer that holds the sizes every architecture has."""
    writer = GGUFWriter(path, arch)
    writer.add_name(name)  # llama.cpp looks for tokens of its own where a name says phi3
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_file_type(FILE_TYPE[quant])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    return writer


def finish(
    writer: GGUFWriter,
    tensors: Iterable[tuple[str, np.ndarray]],
    quant: Quant = Quant.F32,
    plain: Collection[str] = (),
) -> None:
    """Write the file: matrices in `quant`, vectors and the matrices named `plain` in float32."""
    for name, value in tensors:
        value = np.ascontiguousarray(value, np.float32)
        if value.ndim == 1 or quant == Quant.F32 or name in plain:
            writer.add_tensor(name, value)
        else:
            writer.add_tensor(name, gguf.quantize(value, quant), raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def stored(weights: Arrays, quant: Quant, plain: tuple[str, ...] = ()) -> Arrays:
    """The weights as float32 after a trip through `quant`, but for keys that end in one of `plain`."""
    return {
        key: w if w.ndim == 1 or key.endswith(plain) else gguf.dequantize(gguf.quantize(w, quant), quant)
        for key, w in weights.items()
    }


def tensor_name(arch: str, layers: int) -> Callable[[str], str]:
    """What a file of the architecture calls the tensor of a Hugging Face key."""
    number = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}[arch]
    names = gguf.get_tensor_name_map(number, layers)

    def found(key: str) -> str:
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        assert name is not None, key
        return str(name)

    return found


def interleave(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from (first half, second half) to pairs, as llama.cpp's llama graph ropes them."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def head_dim(config: Config) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def rope_scaling(writer: GGUFWriter, rope: Mapping[str, Any]) -> None:
    """The keys of linear and yarn scaling."""
    kinds = {"linear": gguf.RopeScalingType.LINEAR, "yarn": gguf.RopeScalingType.YARN}
    if (kind := kinds.get(rope.get("rope_type", ""))) is not None:
        writer.add_rope_scaling_type(kind)
        writer.add_rope_scaling_factor(rope["factor"])
    if kind == gguf.RopeScalingType.YARN:
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def llama3_divisors(config: Config) -> np.ndarray:
    """By what each rope frequency is divided (the llama 3.1 rule), as the converter stores it."""
    rope = config["rope_scaling"]
    width, context = head_dim(config), rope["original_max_position_embeddings"]
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    divisors = []
    for i in range(0, width, 2):
        wavelength = 2 * math.pi * config["rope_theta"] ** (i / width)
        if wavelength < context / high:
            divisors.append(1.0)
        elif wavelength > context / low:
            divisors.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, np.float32)


def byte_pairs(
    writer: GGUFWriter, pre: str, tokens: list[str], merges: Iterable[str], special: Collection[str]
) -> None:
    """A vocabulary as GPT-2 has it."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL if token in special else kinds.NORMAL for token in tokens])
    writer.add_token_merges(list(merges))


def wordpieces(writer: GGUFWriter) -> None:
    """A vocabulary as BERT has it, where the converter marks word starts and drops the ## of other pieces."""
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    starts = {piece: f"\u2581{piece}" for piece in WORDPIECES if not piece.startswith(("##", "["))}
    writer.add_token_list([starts.get(piece, piece.removeprefix("##")) for piece in WORDPIECES])
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL if piece[0] == "[" else kinds.NORMAL for piece in WORDPIECES])
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)  # [CLS]
    writer.add_sep_token_id(3)
    writer.add_mask_token_id(4)
