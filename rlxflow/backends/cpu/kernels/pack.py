"""Packing weights [N, K] into panels [N / panel][K][panel], the order a tile reads them in."""

from __future__ import annotations

from rlxflow.backends.cpu.code import I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.kernels.transpose import square

PACK = "pack"


def emit_pack(module: Module) -> None:
    """`pack(words, packed, first, last, n, k)`, exported: the panels from `first` up to `last`.

    Columns beyond N hold anything: nobody reads what a product makes of them.
    """
    panel = module.target.panel

    def body(
        code: Code, weights: Value, packed: Value, first: Value, last: Value, n: Value, k: Value
    ) -> None:
        lanes = code.lanes
        whole = code.sub(k, code.srem(k, i64(lanes)))

        def half(number: Value, _: tuple[Value, ...]) -> None:
            """One vector of the columns of a panel."""
            row = code.mul(number, i64(lanes))
            rows = code.sub(n, row)
            source = code.at(weights, code.mul(row, k))
            start = code.mul(code.sdiv(row, i64(panel)), code.mul(k, i64(panel)))
            target = code.at(packed, code.add(start, code.srem(row, i64(panel))))

            def move(width: int, c: Value) -> None:
                place = code.at(target, code.mul(c, i64(panel)))
                code.call(square(module, width), [code.at(source, c), k, rows, place, i64(panel)])

            code.loop(0, whole, lanes, lambda c, _: move(lanes, c))
            code.loop(whole, k, 1, lambda c, _: move(1, c))

        halves = code.sdiv(code.add(n, i64(lanes - 1)), i64(lanes))
        code.loop(code.mul(first, i64(2)), code.minimum(code.mul(last, i64(2)), halves), 1, half)

    module.function(PACK, [PTR, PTR, I64, I64, I64, I64], body, export=PACK)
