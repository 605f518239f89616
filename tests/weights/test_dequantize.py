"""Packed blocks → float32: every bit against gguf-py, special scales included."""

from __future__ import annotations

import struct

import gguf
import numpy as np
import pytest

from rlxflow.dequantize import dequantize
from rlxflow.dtypes import DTYPES, f32

PACKED = [t for t in DTYPES.values() if t.packed]
# Byte offsets of the float16 scales in a block (ggml-common.h); q8_k has a float32 at 0.
SCALES_AT = {
    "q4_0": (0,),
    "q4_1": (0, 2),
    "q5_0": (0,),
    "q5_1": (0, 2),
    "q8_0": (0,),
    "q2_k": (80, 82),
    "q3_k": (108,),
    "q4_k": (0, 2),
    "q5_k": (0, 2),
    "q6_k": (208,),
}
SPECIAL = np.array([0.0, -0.0, 6e-8, -6e-8, 65504, -65504, np.inf, -np.inf, np.nan], np.float16)


def random_blocks(name: str, count: int, special: bool) -> np.ndarray:
    """Random blocks; scales are finite normals, or drawn from SPECIAL."""
    dtype = DTYPES[name]
    rng = np.random.default_rng([ord(c) for c in name])
    blocks = rng.integers(0, 256, (count, dtype.block_bytes), np.uint8)
    for at in SCALES_AT.get(name, ()):
        scales = rng.choice(SPECIAL, count) if special else rng.normal(0, 0.1, count).astype(np.float16)
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
    if name == "q8_k":
        values = rng.choice(SPECIAL, count) if special else rng.normal(0, 0.1, count)
        blocks[:, :4] = values.astype(np.float32).view(np.uint8).reshape(-1, 4)
    return blocks


def q8_k_by_struct(blocks: np.ndarray) -> np.ndarray:
    """q8_k from its C struct, one block at a time (gguf-py has no q8_k): x = d · qs."""
    rows = [struct.unpack("<f256b16h", block.tobytes()) for block in blocks]
    with np.errstate(all="ignore"):
        return np.stack([np.float32(row[0]) * np.array(row[1:257], np.float32) for row in rows])


def oracle(name: str, blocks: np.ndarray) -> np.ndarray:
    if name == "q8_k":
        return q8_k_by_struct(blocks)
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name.upper()])


@pytest.mark.parametrize("special", [False, True], ids=["finite", "special"])
@pytest.mark.parametrize("dtype", PACKED, ids=str)
def test_bit_equal_to_gguf(dtype, special):
    blocks = random_blocks(dtype.name, 10_000, special)
    ours, theirs = dequantize(dtype, blocks), oracle(dtype.name, blocks)
    assert ours.dtype == np.float32 and ours.shape == (10_000, dtype.block_size)
    numbers = ~np.isnan(theirs)
    assert np.array_equal(np.isnan(ours), ~numbers)
    assert np.array_equal(ours.view(np.uint32)[numbers], theirs.view(np.uint32)[numbers])
    assert special or numbers.all()


@pytest.mark.parametrize("dtype", PACKED, ids=str)
def test_rows_keep_their_shape(dtype):
    blocks = random_blocks(dtype.name, 24, False)
    rows = blocks.reshape(2, 4, 3 * dtype.block_bytes)
    whole = dequantize(dtype, blocks)
    assert np.array_equal(dequantize(dtype, rows), whole.reshape(2, 4, 3 * dtype.block_size))
    every_other = dequantize(dtype, rows[:, ::2])
    assert np.array_equal(every_other, whole.reshape(2, 4, -1)[:, ::2])
    assert dequantize(dtype, rows[:0]).shape == (0, 4, 3 * dtype.block_size)


@pytest.mark.parametrize("dtype", PACKED, ids=str)
def test_G45_non_finite_scales_show_in_the_values(dtype):
    at = SCALES_AT.get(dtype.name, (0,))[-1]
    for bad in (np.inf, -np.inf, np.nan):
        blocks = random_blocks(dtype.name, 3, False)
        kind = np.float32 if dtype.name == "q8_k" else np.float16
        scale = np.array([bad], kind).view(np.uint8)
        blocks[1, at : at + len(scale)] = scale
        assert list(np.isfinite(dequantize(dtype, blocks)).all(axis=1)) == [True, False, True]


def test_refuses_what_is_not_packed():
    with pytest.raises(ValueError, match="f32 has no packed blocks"):
        dequantize(f32, np.zeros((1, 4), np.uint8))
    with pytest.raises(ValueError, match="multiples of 18 bytes"):
        dequantize(DTYPES["q4_0"], np.zeros((1, 17), np.uint8))
    with pytest.raises(ValueError, match="multiples of 18 bytes"):
        dequantize(DTYPES["q4_0"], np.zeros((1, 18), np.int8))
