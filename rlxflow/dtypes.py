"""Element types: plain ones (a NumPy type each) and packed ones (GGUF blocks along the last axis)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from rlxflow.quick_dataclass import dataclass

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class DType:
    """One element type.

    A plain type stores one element in `block_bytes` bytes (`block_size` 1). A packed type stores
    `block_size` elements of the last axis in `block_bytes` bytes; only its rows can be addressed.
    """

    name: str
    kind: str  # "float", "int", "bool" or "packed"
    block_bytes: int
    block_size: int = 1

    @property
    def packed(self) -> bool:
        return self.kind == "packed"

    @property
    def is_float(self) -> bool:
        """True where arithmetic on the values is floating point; packed weights count."""
        return self.kind in ("float", "packed")

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a dense array of `shape`; exact, in Python integers."""
        count = 1
        for size in shape:
            count *= size
        return count // self.block_size * self.block_bytes

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"DType({self.name})"


f64 = DType("f64", "float", 8)
f32 = DType("f32", "float", 4)
f16 = DType("f16", "float", 2)
bf16 = DType("bf16", "float", 2)
i64 = DType("i64", "int", 8)
i32 = DType("i32", "int", 4)
i16 = DType("i16", "int", 2)
i8 = DType("i8", "int", 1)
u8 = DType("u8", "int", 1)
u16 = DType("u16", "int", 2)
u32 = DType("u32", "int", 4)
u64 = DType("u64", "int", 8)
bool_ = DType("bool", "bool", 1)

# ggml block formats (ggml-common.h): elements per block, bytes per block.
q4_0 = DType("q4_0", "packed", 18, 32)
q4_1 = DType("q4_1", "packed", 20, 32)
q5_0 = DType("q5_0", "packed", 22, 32)
q5_1 = DType("q5_1", "packed", 24, 32)
q8_0 = DType("q8_0", "packed", 34, 32)
q2_k = DType("q2_k", "packed", 84, 256)
q3_k = DType("q3_k", "packed", 110, 256)
q4_k = DType("q4_k", "packed", 144, 256)
q5_k = DType("q5_k", "packed", 176, 256)
q6_k = DType("q6_k", "packed", 210, 256)
q8_k = DType("q8_k", "packed", 292, 256)

DTYPES: dict[str, DType] = {
    t.name: t
    for t in (
        *(f64, f32, f16, bf16),
        *(i64, i32, i16, i8, u8, u16, u32, u64, bool_),
        *(q4_0, q4_1, q5_0, q5_1, q8_0),
        *(q2_k, q3_k, q4_k, q5_k, q6_k, q8_k),
    )
}


@cache
def to_numpy(dtype: DType) -> np.dtype[Any]:
    """The NumPy type that stores `dtype`: packed blocks are bytes, bf16 comes from ml_dtypes."""
    if dtype.packed:
        return np.dtype(np.uint8)
    if dtype is bf16 or dtype == bf16:
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    names = {"f": "float", "i": "int", "u": "uint"}
    return np.dtype("bool" if dtype.kind == "bool" else names[dtype.name[0]] + dtype.name[1:])


def from_numpy(array_dtype: np.dtype[Any]) -> DType | None:
    """The DType of a NumPy type in native byte order, or None where there is none."""
    name = array_dtype.name
    if name == "bfloat16":
        return bf16
    short = name.replace("float", "f").replace("uint", "u").replace("int", "i")
    found = DTYPES.get(short)
    return None if found is None or found.packed else found
