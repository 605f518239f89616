"""Joining what the heads of a single token gathered from ranges of its keys, in the order of the ranges."""

from __future__ import annotations

from rlxflow.backends.cpu import math
from rlxflow.backends.cpu.code import F32, PTR, Code, Module, Value, f32, i64
from rlxflow.backends.cpu.frame import Frame, read
from rlxflow.backends.cpu.kernels.cached_attention import (
    CachedAttention,
    Sequence,
    every_item,
    ranges_of,
)
from rlxflow.backends.cpu.kernels.quantise import row_quantiser
from rlxflow.backends.cpu.kernels.running_softmax import SUMS, TOP, TOTAL
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class MergeRanges:
    """The attention whose records are joined."""

    attention: CachedAttention


def merge_kernel(module: Module, merge: MergeRanges) -> Value:
    """The function (frame, ranges, out): this thread's share of the key heads of all single tokens."""
    a = merge.attention

    def body(code: Code, frame: Value, ranges: Value, out: Value) -> None:
        width = a.group.heads * a.head_dim
        quantise = None if a.layout is None else row_quantiser(code, a.layout, width)
        plain = read(code, frame, Frame.SCRATCH)  # has room for more than that, of the attention itself

        def items(s: Sequence) -> Value:
            return code.select(code.icmp_signed("==", s.length, i64(1)), i64(a.kv_heads), i64(0))

        def run(number: Value, s: Sequence, kv_head: Value) -> None:
            start = code.mul(number, i64(module.target.row_stride(a.range_floats)))
            count, place = ranges_of(code, a, s.position).count, a.group.result(code, out, s.row, kv_head)
            row = place if quantise is None else plain

            def one(h: Value, _: tuple[Value, ...]) -> None:
                head = code.add(code.mul(kv_head, i64(a.group.heads)), h)
                records = code.at(ranges, code.add(start, code.mul(head, i64(a.group.shape.record_floats))))
                _join(code, a, records, count, code.at(row, code.mul(h, i64(a.head_dim))))

            code.loop(0, a.group.heads, 1, one)
            if quantise is not None:
                quantise(plain, place)

        every_item(code, frame, a.last, items, run)

    return module.function(("merge", merge), [PTR] * 3, body)


def _join(code: Code, a: CachedAttention, records: Value, count: Value, out: Value) -> None:
    """out = Σ exp(top_r − top) · sums_r / Σ exp(top_r − top) · total_r"""

    def record(r: Value) -> Value:
        return code.at(records, code.mul(r, i64(a.heads * a.group.shape.record_floats)))

    def look(r: Value, tops: tuple[Value, ...]) -> tuple[Value, ...]:
        own = code.get(record(r), TOP, F32)
        return (code.select(code.fcmp_ordered(">", own, tops[0]), own, tops[0]),)

    (top,) = code.loop(0, count, 1, look, (f32(float("-inf")),))
    columns = range(0, a.head_dim, code.lanes)

    def add(r: Value, carried: tuple[Value, ...]) -> list[Value]:
        own = record(r)
        weight = math.exp(code, code.splat(code.fsub(code.get(own, TOP), top)))
        total = code.fma_(weight, code.splat(code.get(own, TOTAL)), carried[0])
        sums = [code.fma_(weight, code.get_vector(own, SUMS + c), s)
                for c, s in zip(columns, carried[1:], strict=True)]  # fmt: skip
        return [total, *sums]

    total, *sums = code.loop(0, count, 1, add, [code.zero] * (1 + len(columns)))
    for c, value in zip(columns, sums, strict=True):
        code.put_vector(code.fdiv(value, total), out, c, min(code.lanes, a.head_dim - c))
