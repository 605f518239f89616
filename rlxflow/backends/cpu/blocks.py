"""GGUF block formats as forms: what a row of words holds, and what a format must tell of its blocks.

Weights stay as packed as the file has them. A row is the 4-byte words of all its blocks, one block after the
other, and behind them all its float16 numbers (scales, and minima where there are any), two to a word. The
bits of four neighbouring elements lie in four neighbouring bytes in every GGUF format, so vectors of words,
a lane per row of the weights, are unpacked by shifts and masks alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from llvmlite import ir

from rlxflow.backends.cpu.code import I32, Code, Value, i64
from rlxflow.dtypes import Array, DType

HALF_LIMIT = 0x0F800000  # from here on, a float16 moved up by 13 bits is infinite or NaN


@dataclass(frozen=True)
class Run:
    """16 or 32 neighbouring elements of one scale: value = scale · (code - zero) - low.

    - `start`, `size`: its place among the elements of a unit;
    - `codes`: emits the codes of elements 4·g … 4·g + 3 of the run, one to a byte;
    - `scale`, `low`: f32 vectors; no `low`: 0.
    """

    start: int
    size: int
    codes: Callable[[int], Value]
    scale: Value
    zero: int = 0
    low: Value | None = None


@dataclass(frozen=True)
class Blocks:
    """How a GGUF format lies in memory.

    - `unit`: elements that the kernels unpack in one go: a block, or half of one;
    - `halves`: float16 numbers of a block, at its start, or at its end (`halves_last`);
    - `runs`: the runs of a unit, in the order of their elements;
    - `arrange`: in place, other bits for the words [n, words of a block] where they unpack faster.
    """

    dtype: DType
    unit: int
    halves: int
    runs: Callable[[Unit], list[Run]]
    halves_last: bool = False
    arrange: Callable[[Array], None] | None = None

    @property
    def block_words(self) -> int:
        """4-byte words of a block, beside its float16 numbers."""
        return (self.dtype.block_bytes - 2 * self.halves) // 4

    def words(self, depth: int) -> int:
        """Words of a row: those of the blocks, and the float16 numbers, two to a word."""
        blocks = depth // self.dtype.block_size
        return blocks * self.block_words + -(-blocks * self.halves // 2)

    def encode(self, rows: Array) -> Array:
        """Rows of packed bytes [n, row bytes] as words [n, words]."""
        size, numbers = self.dtype.block_bytes, 2 * self.halves
        blocks = np.ascontiguousarray(rows).reshape(len(rows), -1, size)
        start, at = (0, size - numbers) if self.halves_last else (numbers, 0)
        codes = blocks[:, :, start : start + size - numbers].copy().view(np.uint32)
        if self.arrange is not None:
            self.arrange(codes.reshape(-1, self.block_words))
        halves = np.ascontiguousarray(blocks[:, :, at : at + numbers]).view(np.uint16).reshape(len(rows), -1)
        if halves.shape[1] % 2:
            halves = np.pad(halves, ((0, 0), (0, 1)))
        return np.concatenate([codes.reshape(len(rows), -1), halves.view(np.uint32)], axis=1)


class Unit:
    """A unit of weights in one vector of a panel: its words and numbers, loaded where they are asked for."""

    def __init__(self, code: Code, blocks: Blocks, panel: Value, numbers: Value, number: Value) -> None:
        """`panel` and `numbers` are this vector's words and float16 numbers, `number` is the unit's."""
        self.code = code
        self._blocks, self._panel, self._numbers = blocks, panel, numbers
        per_block = blocks.dtype.block_size // blocks.unit
        self._block = number if per_block == 1 else code.lshr(number, i64(1))
        self._half = i64(0) if per_block == 1 else code.and_(number, i64(1))
        self._start = code.mul(self._block, i64(blocks.block_words))

    def word(self, index: int, per_half: int = 0) -> Value:
        """Word `index` of the block; of its second half, that of so many words later."""
        code = self.code
        at = code.add(self._start, i64(index))
        if per_half:
            at = code.add(at, code.mul(self._half, i64(per_half)))
        return code.get_as(self._panel, code.ints, code.mul(at, i64(code.owner.target.panel)))

    def by_half(self, word: Value, bits: int) -> Value:
        """The word, shifted down by so many bits in the second half of a block."""
        shift = self.code.trunc(self.code.mul(self._half, i64(bits)), I32)
        return self.code.lshr(word, self.code.splat(shift))

    def of_half(self, first: Value, second: Value) -> Value:
        """One of two vectors, by the half of the block."""
        return self.code.select(self.code.icmp_signed("==", self._half, i64(0)), first, second)

    def number(self, index: int) -> Value:
        """Float16 number `index` of the block, as f32."""
        code, panel = self.code, i64(self.code.owner.target.panel)
        if self._blocks.halves == 2:
            word = code.get_as(self._numbers, code.ints, code.mul(self._block, panel))
            return half_to_float(code, code.lshr(word, code.fill_int(16 * index)))
        pair = code.mul(code.lshr(self._block, i64(1)), panel)
        shift = code.trunc(code.shl(code.and_(self._block, i64(1)), i64(4)), I32)
        word = code.get_as(self._numbers, code.ints, pair)
        return half_to_float(code, code.lshr(word, code.splat(shift)))

    def bits(self, word: Value, shift: int, mask: int) -> Value:
        """(byte >> shift) & mask in every byte, for bits that stay within theirs; a negative shift goes up."""
        code = self.code
        if shift:
            count = code.fill_int(abs(shift))
            word = code.lshr(word, count) if shift > 0 else code.shl(word, count)
        return code.and_(word, code.fill_int(mask * 0x01010101))

    def byte(self, word: Value, index: int) -> Value:
        """A byte of every word as f32."""
        code = self.code
        low = code.and_(code.lshr(word, code.fill_int(8 * index)), code.fill_int(255))
        return code.sitofp(low, code.vector)

    def signed_byte(self, word: Value, index: int) -> Value:
        code = self.code
        up = code.shl(word, code.fill_int(24 - 8 * index))
        return code.sitofp(code.ashr(up, code.fill_int(24)), code.vector)


def half_to_float(code: Code, word: Value) -> Value:
    """The float16 in the low 16 bits of every lane, as f32."""
    target = code.owner.target
    if "x86" not in target.triple or target.has("f16c") or target.has("avx512f"):
        short, half = (ir.VectorType(t, code.lanes) for t in (ir.IntType(16), ir.HalfType()))
        return code.fpext(code.bitcast(code.trunc(word, short), half), code.vector)
    magnitude = code.shl(code.and_(word, code.fill_int(0x7FFF)), code.fill_int(13))
    value = code.fmul(code.bitcast(magnitude, code.vector), code.fill(2.0**112))
    special = code.icmp_signed(">=", magnitude, code.fill_int(HALF_LIMIT))
    bits = code.bitcast(value, code.ints)
    bits = code.select(special, code.or_(magnitude, code.fill_int(0x7F800000)), bits)
    sign = code.shl(code.and_(word, code.fill_int(0x8000)), code.fill_int(16))
    return code.bitcast(code.or_(bits, sign), code.vector)
