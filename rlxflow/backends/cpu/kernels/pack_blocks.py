"""Packing rows of GGUF blocks, as a file has them, into panels: one pass from bytes to what a tile reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir

from rlxflow.backends.cpu.code import I8, I32, I64, PTR, Code, Module, Value, i64

if TYPE_CHECKING:
    from rlxflow.backends.cpu.blocks import Blocks


def emit_pack_blocks(module: Module, blocks: Blocks, name: str) -> None:
    """`name(rows, packed, first, last, n, row bytes)`, exported: the panels from `first` up to `last`.

    As `emit_pack`, but of rows of bytes.
    """
    panel, lanes = module.target.panel, module.target.lanes
    block_bytes, group = blocks.dtype.block_bytes, blocks.group

    def body(
        code: Code, rows: Value, packed: Value, first: Value, last: Value, n: Value, size: Value
    ) -> None:
        count = code.sdiv(size, i64(block_bytes))
        groups, lone = code.sdiv(count, i64(group)), code.srem(count, i64(group))
        words = code.add(code.mul(count, i64(blocks.block_words)), code.add(groups, lone))

        def half(number: Value, _: tuple[Value, ...]) -> None:
            """One vector of the columns of a panel."""
            row = code.mul(number, i64(lanes))
            source = code.at(rows, code.mul(row, size), I8)
            start = code.mul(code.sdiv(row, i64(panel)), code.mul(words, i64(panel)))
            target = code.at(packed, code.add(start, code.srem(row, i64(panel))))
            left = code.sub(n, row)

            def move(index: Value, members: int) -> None:
                here = code.at(source, code.mul(index, i64(group * block_bytes)), I8)
                there = code.at(target, code.mul(index, i64((1 + group * blocks.block_words) * panel)))
                code.call(_pack_group(module, blocks, members), [here, size, left, there])

            code.loop(0, groups, 1, lambda index, _: move(index, group))
            with code.if_then(code.icmp_signed("!=", lone, i64(0))):
                move(groups, 1)

        halves = code.sdiv(code.add(n, i64(lanes - 1)), i64(lanes))
        code.loop(code.mul(first, i64(2)), code.minimum(code.mul(last, i64(2)), halves), 1, half)

    module.function(name, [PTR, PTR, I64, I64, I64, I64], body, export=name)


def _pack_group(module: Module, blocks: Blocks, members: int) -> Any:
    """The function (block, stride, rows, target) that packs so many blocks of a group of each row.

    `stride` is bytes from row to row.
    """
    panel = module.target.panel
    block_bytes, halves = blocks.dtype.block_bytes, 2 * blocks.halves
    codes_at, numbers_at = (0, block_bytes - halves) if blocks.halves_last else (halves, 0)

    def body(code: Code, source: Value, stride: Value, rows: Value, target: Value) -> None:
        numbers = code.nothing
        for b in range(members):
            block = code.at(source, b * block_bytes, I8)
            own = _numbers(code, code.at(block, numbers_at, I8), stride, rows, halves)
            numbers = code.or_(numbers, code.shl(own, code.fill_int(16 * b)) if b else own)
            there = code.at(target, (1 + b * blocks.block_words) * panel)
            code.call(_pack_codes(module, blocks), [code.at(block, codes_at, I8), stride, rows, there])
        code.put_as(numbers, target)

    return module.function(("pack group", blocks.dtype.name, members), [PTR, I64, I64, PTR], body)


def _pack_codes(module: Module, blocks: Blocks) -> Any:
    """The function (codes, stride, rows, target) that packs the words of a block of each row."""
    panel, lanes, count = module.target.panel, module.target.lanes, blocks.block_words

    def body(code: Code, source: Value, stride: Value, rows: Value, target: Value) -> None:
        room = code.alloca(code.ints, i64(count))
        for first in range(0, count, lanes):
            move = _columns(module, min(lanes, count - first))
            code.call(move, [code.at(source, first), stride, rows, code.at(room, first * lanes)])

        def word(i: int) -> Value:
            return code.load(code.at(room, i * lanes), typ=code.ints)

        words = map(word, range(count)) if blocks.arrange is None else blocks.arrange(code, word)
        for i, value in enumerate(words):
            code.put_as(value, target, i * panel)

    return module.function(("pack codes", blocks.dtype.name), [PTR, I64, I64, PTR], body)


def _rows(code: Code, source: Value, stride: Value, rows: Value) -> list[Value]:
    """Where the rows of a vector begin; the last one stands in for those beyond."""
    last = code.sub(rows, i64(1))
    return [code.at(source, code.mul(code.minimum(i64(i), last), stride), I8) for i in range(code.lanes)]


def _numbers(code: Code, source: Value, stride: Value, rows: Value, size: int) -> Value:
    """An integer of so many bytes of every row."""
    found = code.nothing
    for lane, place in enumerate(_rows(code, source, stride, rows)):
        number = code.get_as(place, ir.IntType(8 * size))
        wide = code.zext(number, I32) if size < 4 else number
        found = code.insert_element(found, wide, I32(lane))
    return found


def _columns(module: Module, count: int) -> Any:
    """The function (source, stride, rows, room) that transposes so many words of every row: vectors of the
    stack, which checked mode does not know."""

    def body(code: Code, source: Value, stride: Value, rows: Value, room: Value) -> None:
        words = [code.get_words(row, 0, count) for row in _rows(code, source, stride, rows)]
        for i, word in enumerate(code.transposed(words)[:count]):
            code.store(word, code.at(room, i * code.lanes))

    return module.function(("columns", count), [PTR, I64, I64, PTR], body)
