"""Packing weights [N, K] into panels [N / panel][K][panel], zero beyond N: the order a tile reads them in."""

from __future__ import annotations

from rlxflow.backends.cpu.code import I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.kernels.transpose import transpose_block

BLOCK = 64  # columns of k that are moved at a time; a multiple of every vector width


def emit_pack(module: Module) -> None:
    """`pack(weights, packed, first, last, n, k)`, exported: the panels from `first` up to `last`."""
    panel = module.target.panel

    def copy(code: Code, source: Value, target: Value, rows: Value, width: int, stride: Value) -> None:
        """`width` columns of up to `lanes` rows, into half a panel."""
        transpose_block(code, source, stride, rows, width, target, i64(panel))

    def body(
        code: Code, weights: Value, packed: Value, first: Value, last: Value, n: Value, k: Value
    ) -> None:
        whole = code.and_(k, i64(-BLOCK))

        def half(number: Value, _: tuple[Value, ...]) -> None:
            row = code.mul(number, i64(code.lanes))
            rows = code.minimum(code.sub(n, row), code.lanes)
            source = code.at(weights, code.mul(row, k))
            start = code.mul(code.sdiv(row, i64(panel)), code.mul(k, i64(panel)))
            target = code.at(packed, code.add(start, code.srem(row, i64(panel))))
            block = module.function(
                "pack block",
                [PTR, PTR, I64, I64],
                lambda code, source, target, rows, stride: copy(code, source, target, rows, BLOCK, stride),
            )
            single = module.function(
                "pack column",
                [PTR, PTR, I64, I64],
                lambda code, source, target, rows, stride: copy(code, source, target, rows, 1, stride),
            )

            def move(kernel: Value, c: Value) -> None:
                place = code.at(target, code.mul(c, i64(panel)))
                code.call(kernel, [code.at(source, c), place, rows, k])

            code.loop(0, whole, BLOCK, lambda c, _: move(block, c))
            code.loop(whole, k, 1, lambda c, _: move(single, c))

        halves = code.minimum(
            code.mul(last, i64(2)), code.sdiv(code.add(n, i64(code.lanes - 1)), i64(code.lanes))
        )
        code.loop(code.mul(first, i64(2)), halves, 1, half)

    module.function("pack", [PTR, PTR, I64, I64, I64, I64], body, export="pack")
