"""The gated delta rule: per sequence, head and vector of value channels, one token after the other.

The state is changed in place. Channels of the values do not meet, so a vector of them goes through all tokens
while its part of the state stays near the processor.
"""

from __future__ import annotations

from rlxflow.backends.cpu import math
from rlxflow.backends.cpu.code import I32, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.frame import Frame, read, share
from rlxflow.backends.cpu.kernels.row_values import caller_row
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class DeltaRule:
    """See the op `gated_delta_rule` for the meaning; `strides` are floats between tokens, of its first five
    operands and of the result."""

    heads: int
    key_size: int
    value_size: int
    scale: float
    strides: tuple[int, ...]


def delta_rule_kernel(module: Module, d: DeltaRule) -> Value:
    """The function (frame, q, k, v, g, beta, state, out): this thread's share of (sequence, head)."""
    widths = (d.key_size, d.key_size, d.value_size, 1, 1, d.value_size)

    def body(code: Code, frame: Value, *pointers: Value) -> None:
        *inputs, state, out = pointers
        offsets, first = read(code, frame, Frame.OFFSETS), read(code, frame, Frame.FIRST_TOKEN)

        def item(number: Value, _: tuple[Value, ...]) -> None:
            sequence, head = code.sdiv(number, i64(d.heads)), code.srem(number, i64(d.heads))
            start, stop = (
                code.sub(code.wide(code.get(offsets, code.add(sequence, i64(n)), I32)), first) for n in (0, 1)
            )
            batch = caller_row(code, frame, "sequence", sequence)
            place = code.add(code.mul(batch, i64(d.heads)), head)
            own = code.at(state, code.mul(place, i64(d.key_size * d.value_size)))
            heads = [code.at(x, code.mul(head, i64(n))) for x, n in zip([*inputs, out], widths, strict=True)]
            for column in range(0, d.value_size, code.lanes):

                def token(row: Value, _: tuple[Value, ...], column: int = column) -> None:
                    rows = [code.at(x, code.mul(row, i64(n))) for x, n in zip(heads, d.strides, strict=True)]
                    _token(code, d, rows, own, column)

                code.loop(start, stop, 1, token)

        count = code.mul(read(code, frame, Frame.SEQUENCES), i64(d.heads))
        code.loop(*share(code, frame, count), 1, item)

    return module.function(("delta rule", d), [PTR] * 8, body)


def _token(code: Code, d: DeltaRule, rows: list[Value], state: Value, column: int) -> None:
    """S ← e^g · S; S ← S + k · (beta · (v − Sᵀk))ᵀ; y = scale · Sᵀq, of some value channels."""
    q, k, v, g, beta, out = rows
    lanes = min(code.lanes, d.value_size - column)
    decay = math.exp(code, code.splat(code.get(g)))

    def line(i: Value) -> Value:
        return code.at(state, code.add(code.mul(i, i64(d.value_size)), i64(column)))

    def recall(i: Value, found: tuple[Value, ...]) -> tuple[Value, ...]:
        kept = code.fmul(code.get_vector(line(i), 0, lanes), decay)
        code.put_vector(kept, line(i), 0, lanes)
        return (code.fma_(code.splat(code.get(k, i)), kept, found[0]),)

    (recalled,) = code.loop(0, d.key_size, 1, recall, (code.zero,))
    change = code.fmul(code.fsub(code.get_vector(v, column, lanes), recalled), code.splat(code.get(beta)))

    def learn(i: Value, found: tuple[Value, ...]) -> tuple[Value, ...]:
        new = code.fma_(code.splat(code.get(k, i)), change, code.get_vector(line(i), 0, lanes))
        code.put_vector(new, line(i), 0, lanes)
        return (code.fma_(code.splat(code.get(q, i)), new, found[0]),)

    (y,) = code.loop(0, d.key_size, 1, learn, (code.zero,))
    code.put_vector(code.fmul(y, code.fill(d.scale)), out, column, lanes)
