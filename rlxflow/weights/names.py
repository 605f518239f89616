"""Hugging Face parameter names against GGUF tensor names, and GGUF weights seen through HF names.

A table is data: one row per parameter, `{i}` stands for the layer. It says what llama.cpp's converter
(`convert_hf_to_gguf.py`) does, read backwards. Each recipe gives its own (`GgufRecipe.names`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rlxflow.dtypes import Array
from rlxflow.errors import CorruptFile, ShapeMismatch, UnsupportedFile, printable
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.gguf_types import check_read
from rlxflow.weights.source import TensorInfo, missing

if TYPE_CHECKING:
    from rlxflow.weights.gguf import GgufFile

ROPE_FACTOR_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")

Heads: TypeAlias = Literal["", "q", "kv"]


@dataclass(frozen=True)
class GgufName:
    """One parameter: its HF name, its GGUF name, and what the converter does to its numbers.

    `heads` is "q" or "kv" where it interleaves the two halves of each head's rows (its rotary embedding
    pairs neighbours, HF's pairs halves), and "" where it leaves the rows alone. `added` is what it adds to
    every element (Gemma's norms are stored as 1 + w).
    """

    hf: str
    gguf: str
    heads: Heads = ""
    added: float = 0.0


def hf_row(rows: Iterable[GgufName], name: str) -> GgufName | None:
    """The row for a GGUF tensor name, its `{i}` filled in; None where there is none."""
    for row in rows:
        found = _pattern(row.gguf).fullmatch(name)
        if found:
            layer = found[1] if found.re.groups else ""
            return replace(row, hf=row.hf.replace("{i}", layer), gguf=name)
    return None


class GgufModel:
    """A GGUF file as a `WeightSource` under HF names and in HF layout.

    Rows that the converter permuted come back in HF order; a row of a packed type is whole bytes, so this
    is exact for packed types too. What it added is taken off again. A tensor that has no HF name is listed
    under its GGUF name, so that a load report can call it unexpected; the rotary factors, which `gguf_config`
    reads, are left out. A tied output head is simply not there.

    Raises `CorruptFile` (W045) where two tensors have one HF name. `info` and `read` raise `MissingTensor`
    for an unknown key, `UnsupportedFile` for a type that cannot be read or changed back,
    `ShapeMismatch` where rows do not divide into heads.
    """

    def __init__(self, file: GgufFile, names: Iterable[GgufName], num_heads: int, num_kv_heads: int) -> None:
        self.file = file
        self.path = file.path
        self._heads = {"q": num_heads, "kv": num_kv_heads}
        self._rows: dict[str, GgufName] = {}
        stored = file.keys()
        for name in stored:
            if name not in ROPE_FACTOR_TENSORS:
                row = hf_row(names, name) or GgufName(name, name)
                if row.hf in self._rows:
                    raise _named_twice(row, file)
                self._rows[row.hf] = row

    @classmethod
    def from_data(cls, file: GgufFile, data: Mapping[str, Any]) -> GgufModel:
        """The model of a file whose tensors have the names of the one that `as_data` told of."""
        model = cls(file, (), data["q"], data["kv"])
        model._rows = {row[0]: GgufName(*row) for row in data["rows"]}
        return model

    def as_data(self) -> dict[str, Any]:
        """Which tensor each parameter is, and how many heads there are; JSON can hold it."""
        return {**self._heads, "rows": [(r.hf, r.gguf, r.heads, r.added) for r in self._rows.values()]}

    def keys(self) -> Iterable[str]:
        return self._rows.keys()

    def info(self, key: str) -> TensorInfo:
        row = self._row(key)
        info = self.file.info(row.gguf)
        check_read(info)
        if row.heads:
            _check_heads(info, self._heads[row.heads])
        if row.added and info.dtype.packed:
            raise _packed_sum(info)
        return replace(info, key=key)

    def read(self, key: str) -> Array:
        self.info(key)
        row = self._row(key)
        data = self.file.read(row.gguf)
        if row.added:
            data = data - data.dtype.type(row.added)
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


def _packed_sum(info: TensorInfo) -> UnsupportedFile:
    return UnsupportedFile(
        f"tensor {printable(info.key)!r} is {info.dtype}: no number can be taken off its elements",
        code="RLX-W048",
        where=info.where,
        hint="keep norms in F32 when quantising",
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
