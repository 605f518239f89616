"""Hugging Face parameter names against GGUF tensor names, and GGUF weights seen through HF names.

The tables are data: one row per parameter, `{i}` stands for the layer. They say what llama.cpp's converter
(`convert_hf_to_gguf.py`) does, read backwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

from rlxflow.dtypes import Array
from rlxflow.errors import CorruptFile, ShapeMismatch, UnsupportedFile, printable
from rlxflow.weights.gguf import GgufFile, check_read
from rlxflow.weights.source import TensorInfo, missing


@dataclass(frozen=True, slots=True)
class GgufName:
    """One parameter: its HF name, its GGUF name, and whose heads its rows are permuted by.

    `heads` is "q" or "kv" where the converter interleaves the two halves of each head's rows (its rotary
    embedding pairs neighbours, HF's pairs halves), and "" where it leaves the data alone.
    """

    hf: str
    gguf: str
    heads: str = ""


@dataclass(frozen=True, slots=True)
class GgufNames:
    """The parameters of one architecture."""

    rows: tuple[GgufName, ...]

    def to_hf(self, name: str) -> GgufName | None:
        """The row for a GGUF tensor name, its `{i}` filled in; None where there is none."""
        for row in self.rows:
            found = _pattern(row.gguf).fullmatch(name)
            if found:
                layer = found[1] if found.re.groups else ""
                return GgufName(row.hf.replace("{i}", layer), name, row.heads)
        return None


class GgufModel:
    """A GGUF file as a `WeightSource` under HF names and in HF layout.

    Rows that the converter permuted come back in HF order; a row of a packed type is whole bytes, so this
    is exact for packed types too. A tensor that has no HF name is listed under its GGUF name, so that a
    load report can call it unexpected; the rotary factors, which `gguf_config` reads, are left out. A tied
    output head is simply not there.

    Raises `CorruptFile` (W045) where two tensors have one HF name. `info` and `read` raise `MissingTensor`
    for an unknown key, `UnsupportedFile` for a type that cannot be read, `ShapeMismatch` where rows do not
    divide into heads.
    """

    def __init__(self, file: GgufFile, names: GgufNames, num_heads: int, num_kv_heads: int) -> None:
        self.file = file
        self.path = file.path
        self._heads = {"q": num_heads, "kv": num_kv_heads}
        self._rows: dict[str, GgufName] = {}
        stored = file.keys()
        for name in stored:
            if name not in ROPE_FACTOR_TENSORS:
                row = names.to_hf(name) or GgufName(name, name)
                if row.hf in self._rows:
                    raise _named_twice(row, file)
                self._rows[row.hf] = row

    def keys(self) -> Iterable[str]:
        return self._rows.keys()

    def info(self, key: str) -> TensorInfo:
        row = self._row(key)
        info = self.file.info(row.gguf)
        check_read(info)
        if row.heads:
            _check_heads(info, self._heads[row.heads])
        return replace(info, key=key)

    def read(self, key: str) -> Array:
        self.info(key)
        row = self._row(key)
        data = self.file.read(row.gguf)
        return unpermute_rows(data, self._heads[row.heads]) if row.heads else data

    def _row(self, key: str) -> GgufName:
        if key not in self._rows:
            raise missing(key, self._rows, printable(self.file.path))
        return self._rows[key]


def _named_twice(row: GgufName, file: GgufFile) -> CorruptFile:
    return CorruptFile(
        f"two tensors are {printable(row.hf)!r}, under its GGUF name and its Hugging Face name",
        code="RLX-W045",
        where=file.info(row.gguf).where,
        hint="convert the model again; a GGUF file has GGUF names only",
    )


def unpermute_rows(rows: Array, num_heads: int) -> Array:
    """Undo the converter's permutation of Q and K: `[num_heads · head_dim, …]` in, the same shape out.

    With p the GGUF row in a head and d = head_dim / 2: HF row `(p mod 2) · d + p div 2` is GGUF row p.
    """
    pairs = rows.reshape(num_heads, -1, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _check_heads(info: TensorInfo, num_heads: int) -> None:
    if info.dtype.packed and len(info.shape) == 1:
        raise UnsupportedFile(
            f"tensor {printable(info.key)!r} is one packed row ({info.dtype}) that cannot be permuted",
            code="RLX-W048",
            where=info.where,
            hint="keep vectors in F32 when quantising",
        )
    if not info.shape or info.shape[0] % (2 * num_heads):
        raise ShapeMismatch(
            f"tensor {printable(info.key)!r} is {list(info.shape)}: no even head size for {num_heads} heads",
            code="RLX-W048",
            where=info.where,
            hint="the head counts in the metadata do not fit the tensors; convert the model again",
        )


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\{i\}", "(0|[1-9][0-9]{0,5})"))


ROPE_FACTOR_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")

_HF, _GGUF = "model.layers.{i}", "blk.{i}"


def _decoder(*, permuted: bool) -> tuple[GgufName, ...]:
    """llama and its relatives: pre-norm, gated FFN, biases where the file has them."""
    q, kv = ("q", "kv") if permuted else ("", "")
    linear = [
        ("self_attn.q_proj", "attn_q", q),
        ("self_attn.k_proj", "attn_k", kv),
        ("self_attn.v_proj", "attn_v", ""),
        ("self_attn.o_proj", "attn_output", ""),
        ("mlp.gate_proj", "ffn_gate", ""),
        ("mlp.up_proj", "ffn_up", ""),
        ("mlp.down_proj", "ffn_down", ""),
    ]
    return (
        GgufName("model.embed_tokens.weight", "token_embd.weight"),
        GgufName("model.norm.weight", "output_norm.weight"),
        GgufName("lm_head.weight", "output.weight"),
        GgufName(f"{_HF}.input_layernorm.weight", f"{_GGUF}.attn_norm.weight"),
        GgufName(f"{_HF}.post_attention_layernorm.weight", f"{_GGUF}.ffn_norm.weight"),
        *(
            GgufName(f"{_HF}.{hf}.{part}", f"{_GGUF}.{gguf}.{part}", heads)
            for hf, gguf, heads in linear
            for part in ("weight", "bias")
        ),
    )


_QK_NORM = (
    GgufName(f"{_HF}.self_attn.q_norm.weight", f"{_GGUF}.attn_q_norm.weight"),
    GgufName(f"{_HF}.self_attn.k_norm.weight", f"{_GGUF}.attn_k_norm.weight"),
)

_BERT = (
    GgufName("embeddings.word_embeddings.weight", "token_embd.weight"),
    GgufName("embeddings.position_embeddings.weight", "position_embd.weight"),
    GgufName("embeddings.token_type_embeddings.weight", "token_types.weight"),
    *(
        GgufName(f"{hf}.{part}", f"{gguf}.{part}")
        for hf, gguf in [
            ("embeddings.LayerNorm", "token_embd_norm"),
            ("encoder.layer.{i}.attention.self.query", "blk.{i}.attn_q"),
            ("encoder.layer.{i}.attention.self.key", "blk.{i}.attn_k"),
            ("encoder.layer.{i}.attention.self.value", "blk.{i}.attn_v"),
            ("encoder.layer.{i}.attention.output.dense", "blk.{i}.attn_output"),
            ("encoder.layer.{i}.attention.output.LayerNorm", "blk.{i}.attn_output_norm"),
            ("encoder.layer.{i}.intermediate.dense", "blk.{i}.ffn_up"),
            ("encoder.layer.{i}.output.dense", "blk.{i}.ffn_down"),
            ("encoder.layer.{i}.output.LayerNorm", "blk.{i}.layer_output_norm"),
        ]
        for part in ("weight", "bias")
    ),
)

# By `general.architecture`. Mistral, SmolLM and others of llama's shape are written as "llama".
GGUF_NAMES: dict[str, GgufNames] = {
    "llama": GgufNames(_decoder(permuted=True)),
    "qwen2": GgufNames(_decoder(permuted=False)),
    "qwen3": GgufNames(_decoder(permuted=False) + _QK_NORM),
    "bert": GgufNames(_BERT),
}
