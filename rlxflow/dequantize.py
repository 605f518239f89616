"""Packed GGUF blocks to float32, bit for bit what ggml's `dequantize_row_*` gives.

Layouts are those of ggml-common.h. In each format the elements of a block are stored in planes: a byte
holds the bits of several elements that lie 16, 32 or 64 apart, so one shift of a whole byte row yields a
run of neighbouring elements. Arithmetic is float32, one rounding per operation, in ggml's order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rlxflow.dtypes import Array, DType

# Blocks converted at a time: temporaries stay near the size of a processor's cache.
_CHUNK_BLOCKS = 1024


def dequantize(dtype: DType, blocks: Array) -> Array:
    """The values of packed rows: `uint8 [..., row_bytes]` → `float32 [..., row]`.

    `row_bytes` must be a multiple of `dtype.block_bytes`; `row` is `row_bytes / block_bytes * block_size`.
    Non-finite scales give non-finite values, without a warning. Raises `ValueError` for a dtype that is
    not packed or a row that is not whole blocks.
    """
    unpack = _UNPACK.get(dtype.name)
    if unpack is None:
        raise ValueError(f"{dtype} has no packed blocks; packed types are {', '.join(_UNPACK)}")
    if blocks.dtype != np.uint8 or blocks.ndim == 0 or blocks.shape[-1] % dtype.block_bytes:
        raise ValueError(
            f"{dtype} rows are uint8 in multiples of {dtype.block_bytes} bytes, not {blocks.shape}"
        )
    flat = np.ascontiguousarray(blocks).reshape(-1, dtype.block_bytes)
    out = np.empty((len(flat), dtype.block_size), np.float32)
    with np.errstate(all="ignore"):
        for start in range(0, len(flat), _CHUNK_BLOCKS):
            part = slice(start, start + _CHUNK_BLOCKS)
            out[part] = unpack(flat[part]).reshape(-1, dtype.block_size)
    row = blocks.shape[-1] // dtype.block_bytes * dtype.block_size
    return out.reshape(*blocks.shape[:-1], row)


def _half(blocks: Array, at: int) -> Array:
    """The float16 at byte `at` of each block, as float32 `[n, 1]`."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


def _planes(data: Array, width: int, shifts: tuple[int, ...], mask: int) -> Array:
    """Bit planes: `[n, g·width]` bytes → `[n, g, len(shifts), width]` of `(byte >> shift) & mask`."""
    groups = data.reshape(len(data), -1, 1, width)
    shifted: Array = groups >> np.array(shifts, np.uint8)[:, None]
    return shifted & np.uint8(mask)


def _nibbles(data: Array, width: int) -> Array:
    """4-bit elements, the low halves of `width` bytes before their high halves: `[n, g, 2, width]`."""
    return _planes(data, width, (0, 4), 15)


def _fifth_bits(data: Array) -> Array:
    """The 32 high bits of a q5_0 or q5_1 block (`[n, 4]` bytes, little endian) as `0 or 16`: `[n, 32]`."""
    return np.unpackbits(data, axis=1, bitorder="little") << np.uint8(4)


def _signed(codes: Array, zero: int) -> Array:
    """Unsigned codes around `zero` as float32."""
    return (codes.view(np.int8) - np.int8(zero)).astype(np.float32)


def _q4_0(b: Array) -> Array:  # d f16, 16 bytes of nibbles
    return _half(b, 0) * _signed(_nibbles(b[:, 2:], 16).reshape(-1, 32), 8)


def _q4_1(b: Array) -> Array:  # d f16, m f16, 16 bytes of nibbles
    return _half(b, 0) * _nibbles(b[:, 4:], 16).reshape(-1, 32).astype(np.float32) + _half(b, 2)


def _q5_0(b: Array) -> Array:  # d f16, 4 bytes of fifth bits, 16 bytes of nibbles
    codes = _nibbles(b[:, 6:], 16).reshape(-1, 32) | _fifth_bits(b[:, 2:6])
    return _half(b, 0) * _signed(codes, 16)


def _q5_1(b: Array) -> Array:  # d f16, m f16, 4 bytes of fifth bits, 16 bytes of nibbles
    codes = _nibbles(b[:, 8:], 16).reshape(-1, 32) | _fifth_bits(b[:, 4:8])
    return _half(b, 0) * codes.astype(np.float32) + _half(b, 2)


def _q8_0(b: Array) -> Array:  # d f16, 32 int8
    return _half(b, 0) * b[:, 2:].view(np.int8).astype(np.float32)


def _q2_k(b: Array) -> Array:  # 16 × (scale, min) nibbles, 64 bytes of crumbs, d f16, dmin f16
    scale = _half(b, 80) * (b[:, :16] & np.uint8(15)).astype(np.float32)
    low = _half(b, 82) * (b[:, :16] >> np.uint8(4)).astype(np.float32)
    codes = _planes(b[:, 16:80], 32, (0, 2, 4, 6), 3).reshape(-1, 16, 16).astype(np.float32)
    values: Array = scale[:, :, None] * codes - low[:, :, None]
    return values


def _q3_k(b: Array) -> Array:  # 32 bytes of third bits, 64 bytes of crumbs, 12 bytes of scales, d f16
    # 16 scales of 6 bits: low nibbles in 8 bytes, high crumbs in the other 4.
    low = _nibbles(b[:, 96:104], 8).reshape(-1, 16)
    high = _planes(b[:, 104:108], 4, (0, 2, 4, 6), 3).reshape(-1, 16)
    scale = _half(b, 108) * _signed(low | (high << np.uint8(4)), 32)
    crumbs = _planes(b[:, 32:96], 32, (0, 2, 4, 6), 3).reshape(-1, 16, 16)
    third = _planes(b[:, :32], 32, tuple(range(8)), 1).reshape(-1, 16, 16)
    # A set third bit means 0…3, a clear one −4…−1: the code is crumb + 4·bit − 4.
    return scale[:, :, None] * _signed(crumbs | (third << np.uint8(2)), 4)


def _scales_mins(b: Array) -> tuple[Array, Array]:
    """The 8 scales and 8 minima (6 bits each) of a q4_k or q5_k block, times d and dmin: `[n, 8, 1]` each."""
    first, second, mixed = b[:, 4:8], b[:, 8:12], b[:, 12:16]
    top = np.uint8(0x30)
    scale_high = (mixed & np.uint8(15)) | ((first >> np.uint8(2)) & top)
    min_high = (mixed >> np.uint8(4)) | ((second >> np.uint8(2)) & top)
    scale = np.concatenate([first & np.uint8(63), scale_high], axis=1).astype(np.float32)
    low = np.concatenate([second & np.uint8(63), min_high], axis=1).astype(np.float32)
    return (_half(b, 0) * scale)[:, :, None], (_half(b, 2) * low)[:, :, None]


def _q4_k(b: Array) -> Array:  # d f16, dmin f16, 12 bytes of scales, 128 bytes of nibbles
    scale, low = _scales_mins(b)
    codes = _nibbles(b[:, 16:], 32).reshape(-1, 8, 32)
    values: Array = scale * codes.astype(np.float32) - low
    return values


def _q5_k(b: Array) -> Array:  # as q4_k, with 32 bytes of fifth bits before the nibbles
    scale, low = _scales_mins(b)
    fifth = _planes(b[:, 16:48], 32, tuple(range(8)), 1).reshape(-1, 8, 32) << np.uint8(4)
    codes = _nibbles(b[:, 48:], 32).reshape(-1, 8, 32) | fifth
    values: Array = scale * codes.astype(np.float32) - low
    return values


def _q6_k(b: Array) -> Array:  # 128 bytes of nibbles, 64 bytes of crumbs, 16 int8 scales, d f16
    scale = _half(b, 208) * b[:, 192:208].view(np.int8).astype(np.float32)
    low = _nibbles(b[:, :128], 64).reshape(-1, 2, 128)
    high = _planes(b[:, 128:192], 32, (0, 2, 4, 6), 3).reshape(-1, 2, 128)
    return scale[:, :, None] * _signed(low | (high << np.uint8(4)), 32).reshape(-1, 16, 16)


def _q8_k(b: Array) -> Array:  # d f32, 256 int8, 16 int16 sums that only dot products use
    d = np.ascontiguousarray(b[:, :4]).view(np.float32)
    return d * b[:, 4:260].view(np.int8).astype(np.float32)


_UNPACK: dict[str, Callable[[Array], Array]] = {
    "q4_0": _q4_0,
    "q4_1": _q4_1,
    "q5_0": _q5_0,
    "q5_1": _q5_1,
    "q8_0": _q8_0,
    "q2_k": _q2_k,
    "q3_k": _q3_k,
    "q4_k": _q4_k,
    "q5_k": _q5_k,
    "q6_k": _q6_k,
    "q8_k": _q8_k,
}
