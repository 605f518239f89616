"""Causal attention over a cache, read in place: of single tokens, and of many.

Keys are met in blocks with a running maximum, so that memory does not grow with the context. What a query
sums, and in which order, follows from the positions of its sequence alone.

- A single token: one item of work per key head and range of keys, whose query heads share every key that is
  read. The ranges' records are joined by `merge_ranges.py`.
- Several: one item per key head and some tokens, see `several_tokens.py`.
- Many, where the profile lets products be rounded: the same, see `bfloat_attention.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence as Items
from typing import Any

from rlxflow.backends.cpu.code import I32, I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.frame import Frame, read, share
from rlxflow.backends.cpu.kernels import bfloat_attention, several_tokens
from rlxflow.backends.cpu.kernels.bfloat_attention import bfloat_item
from rlxflow.backends.cpu.kernels.bfloat_tile import RoundedAttention
from rlxflow.backends.cpu.kernels.head_group import HeadGroup
from rlxflow.backends.cpu.kernels.key_scores import score_rows
from rlxflow.backends.cpu.kernels.row_values import caller_row
from rlxflow.backends.cpu.kernels.running_softmax import KEYS, Shape, begin_record, meet_block
from rlxflow.backends.cpu.kernels.several_tokens import several_item
from rlxflow.backends.cpu.quantised import Layout
from rlxflow.backends.cpu.target import Target
from rlxflow.quick_dataclass import dataclass

MOST_ITEMS = 32  # into which the work of a sequence is cut, whatever the number of threads
PROMPT_ITEMS = 16  # of a prompt, at least, per thread
PROMPT = 64  # tokens that make a prompt; fewer have the sums of f32 products, as single tokens have


@dataclass(frozen=True)
class CachedAttention:
    """See the op `cached_attention` for the meaning; strides are words between tokens, `half` caches f16,
    `bf16` allows products of bf16. With a `layout`, results are quantised. `last`: q and the result
    have a row per sequence, of its last token."""

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int
    softcap: float
    half: bool
    q_stride: int
    out_stride: int
    sinks: bool = False
    bf16: bool = False
    layout: Layout | None = None
    last: bool = False

    @property
    def group(self) -> HeadGroup:
        """The query heads of a key head."""
        shape = Shape(self.head_dim, self.scale, self.window, self.softcap)
        heads = self.heads // self.kv_heads
        return HeadGroup(shape, heads, self.half, self.sinks, self.q_stride, self.out_stride, self.layout)

    @property
    def rounded(self) -> RoundedAttention:
        """The same for prompts, with products of bf16."""
        group, row = self.group, self.head_dim
        return RoundedAttention(
            group.shape, group.heads, causal=True, masked=False, sinks=self.sinks, half=self.half,
            q_stride=self.q_stride, k_stride=row, v_stride=row, out_stride=self.out_stride,
            layout=self.layout,
        )  # fmt: skip

    def rounds(self, target: Target) -> bool:
        """Whether prompts are attended to with products of bf16."""
        return self.bf16 and not self.last and bfloat_attention.can_attend(target, self.head_dim)

    @property
    def ranges(self) -> int:
        """Ranges that the keys a single token sees are cut into, at most."""
        return -(-MOST_ITEMS // self.kv_heads)

    @property
    def range_floats(self) -> int:
        """Records of all ranges and heads of a sequence; a window may begin within one range more."""
        return (self.ranges + 1) * self.heads * self.group.shape.record_floats


def scratch_floats(a: CachedAttention, target: Target) -> int:
    """Scratch that a thread needs, whatever the context."""
    several = several_tokens.places(a.group, target.query_rows)[-1]
    return max(several, bfloat_attention.places(a.rounded)[-1] if a.rounds(target) else 0)


@dataclass(frozen=True)
class Sequence:
    """A sequence of the chunk: the first of its rows of queries, how many it has, and the position of the
    first."""

    row: Value
    length: Value
    position: Value


def sequence_at(code: Code, frame: Value, number: Value, last: bool) -> Sequence:
    offsets = read(code, frame, Frame.OFFSETS)
    start, stop = (code.wide(code.get(offsets, code.add(number, i64(n)), I32)) for n in (0, 1))
    row = code.sub(code.sub(stop, i64(1)) if last else start, read(code, frame, Frame.FIRST_TOKEN))
    position = code.wide(code.get(read(code, frame, Frame.POSITION), row, I32))
    return Sequence(number, i64(1), position) if last else Sequence(row, code.sub(stop, start), position)


def every_item(
    code: Code,
    frame: Value,
    last: bool,
    items: Callable[[Sequence], Value],
    run: Callable[[Value, Sequence, Value], None],
) -> None:
    """`run(sequence number, sequence, item)` for this part's share of all items.

    A range of them where a thread has several parts; else every so manieth one, for those of a sequence may
    take longer than others.
    """
    part, parts = read(code, frame, Frame.PART), read(code, frame, Frame.PARTS)
    few = _few_parts(code, frame)
    sequences = read(code, frame, Frame.SEQUENCES)

    def add(number: Value, total: tuple[Value, ...]) -> tuple[Value, ...]:
        return (code.add(total[0], items(sequence_at(code, frame, number, last))),)

    low, high = share(code, frame, code.loop(0, sequences, 1, add, (i64(0),))[0])

    def one(number: Value, carried: tuple[Value, ...]) -> tuple[Value, ...]:
        (before,) = carried
        sequence = sequence_at(code, frame, number, last)
        count = items(sequence)
        turn = code.sub(part, code.srem(before, parts))
        turn = code.select(code.icmp_signed("<", turn, i64(0)), code.add(turn, parts), turn)
        first = code.select(few, turn, code.maximum(code.sub(low, before), i64(0)))
        stop = code.select(few, count, code.minimum(code.sub(high, before), count))
        code.loop(first, stop, code.select(few, parts, i64(1)), lambda item, _: run(number, sequence, item))
        return (code.add(before, count),)

    code.loop(0, sequences, 1, one, (i64(0),))


@dataclass(frozen=True)
class Ranges:
    """How the keys that a single token sees are cut: `count` ranges of `size` positions from `first`·size on,
    of which the token sees `start` to `stop`."""

    start: Value
    stop: Value
    size: Value
    first: Value
    count: Value


def ranges_of(code: Code, a: CachedAttention, position: Value) -> Ranges:
    stop = code.add(position, i64(1))
    start = i64(0)
    if a.window:
        start = code.sub(stop, code.minimum(stop, i64(a.window)))
    step = KEYS * a.ranges
    blocks = code.sdiv(code.add(code.sub(stop, start), i64(step - 1)), i64(step))
    size = code.mul(blocks, i64(KEYS))
    first = code.sdiv(start, size)
    return Ranges(start, stop, size, first, code.add(code.sub(code.sdiv(position, size), first), i64(1)))


def cached_attention_kernel(module: Module, a: CachedAttention) -> Value:
    """The function (frame, q, keys, values, sinks, ranges, out); `ranges` takes records of single tokens."""
    group, record = a.group, a.group.shape.record_floats
    rounds = a.rounds(module.target)

    def tokens_of_items(code: Code, frame: Value, s: Sequence) -> Value:
        size = i64(several_tokens.TOKENS)
        if not rounds:
            return size
        items = code.mul(read(code, frame, Frame.THREADS), i64(PROMPT_ITEMS))
        fair = code.sdiv(code.mul(s.length, i64(a.kv_heads)), items)
        return code.select(
            _is_prompt(code, s), bfloat_attention.tokens_of_item(code, group.heads, fair), size
        )

    def body(
        code: Code,
        frame: Value,
        q: Value,
        keys: Value,
        values: Value,
        sinks: Value,
        ranges: Value,
        out: Value,
    ) -> None:
        def blocks(s: Sequence) -> Value:
            """Of tokens, or of keys of a single one."""
            size = tokens_of_items(code, frame, s)
            several = code.sdiv(code.sub(code.add(s.length, size), i64(1)), size)
            return code.select(_single(code, s), ranges_of(code, a, s.position).count, several)

        def items(s: Sequence) -> Value:
            return code.mul(blocks(s), i64(a.kv_heads))

        def run(number: Value, s: Sequence, item: Value) -> None:
            few, count, kv_heads = _few_parts(code, frame), blocks(s), i64(a.kv_heads)
            # later tokens see more keys: in a range they come first, so that a step ends in small items
            part = code.sub(code.sub(count, i64(1)), code.srem(item, count))
            part = code.select(few, code.sdiv(item, kv_heads), part)
            kv_head = code.select(few, code.srem(item, kv_heads), code.sdiv(item, count))
            head = code.mul(kv_head, i64(group.heads))
            batch = caller_row(code, frame, "sequence", number)
            row = code.add(code.mul(batch, i64(a.kv_heads)), kv_head)
            row = code.mul(row, read(code, frame, Frame.CACHE_CAPACITY))
            caches = [group.cached(code, cache, row) for cache in (keys, values)]
            caches.append(code.at(sinks, head) if a.sinks else sinks)
            scratch = read(code, frame, Frame.SCRATCH)

            def one() -> None:
                place = code.mul(code.add(code.mul(part, i64(a.heads)), head), i64(record))
                stride = module.target.row_stride(a.range_floats)
                records = code.at(ranges, code.add(code.mul(number, i64(stride)), place))
                query = group.query(code, q, s.row, head)
                code.call(_one_token(module, a), [query, *caches, records, scratch, s.position, part])

            if a.last:
                one()
                return
            with code.if_else(_single(code, s)) as (then, otherwise):
                with then:
                    one()
                with otherwise:
                    size = tokens_of_items(code, frame, s)
                    begin = code.mul(part, size)
                    first = code.add(s.row, begin)
                    query = group.query(code, q, first, head)
                    result = group.result(code, out, first, kv_head)
                    tokens = code.minimum(code.sub(s.length, begin), size)
                    arguments = [query, *caches, result, scratch, code.add(s.position, begin), tokens]
                    if not rounds:
                        code.call(several_item(module, group), arguments)
                        return
                    with code.if_else(_is_prompt(code, s)) as (many, several):
                        with many:
                            query, k, v, own, *rest = arguments
                            stop = code.add(rest[2], tokens)
                            code.call(bfloat_item(module, a.rounded), [query, k, v, own, own, *rest, stop])
                        with several:
                            code.call(several_item(module, group), arguments)

        every_item(code, frame, a.last, items, run)

    return module.function(("cached attention", a), [PTR] * 7, body)


def _few_parts(code: Code, frame: Value) -> Value:
    """Whether threads have one part of a step each."""
    return code.icmp_signed("<=", read(code, frame, Frame.PARTS), read(code, frame, Frame.THREADS))


def _single(code: Code, s: Sequence) -> Value:
    return code.icmp_signed("==", s.length, i64(1))


def _is_prompt(code: Code, s: Sequence) -> Value:
    return code.icmp_signed(">=", s.length, i64(PROMPT))


def _one_token(module: Module, a: CachedAttention) -> Any:
    """The function (q, keys, values, sinks, records, scratch, position, range), for a key head."""
    group, height, record = a.group, module.target.query_rows, a.group.shape.record_floats

    def body(
        code: Code, q: Value, keys: Value, values: Value, sinks: Value, records: Value, scratch: Value,
        position: Value, number: Value,
    ) -> None:  # fmt: skip
        ranges = ranges_of(code, a, position)
        edge = code.mul(code.add(ranges.first, number), ranges.size)
        start = code.select(code.icmp_signed(">", ranges.start, edge), ranges.start, edge)
        stop = code.minimum(ranges.stop, code.add(edge, ranges.size))
        for h in range(group.heads):
            begin_record(code, group.shape, code.at(records, h * record))
        if a.sinks:
            with code.if_then(code.icmp_signed("==", number, i64(0))):  # of the ranges, one meets them
                for h in range(group.heads):
                    begin_record(code, group.shape, code.at(records, h * record), code.get(sinks, h))

        def block(first: Value, _: tuple[Value, ...]) -> None:
            count = code.minimum(code.sub(stop, first), KEYS)
            k, v = (group.cached(code, cache, first) for cache in (keys, values))
            for h in range(0, group.heads, height):
                own = [code.at(q, h * a.head_dim), code.at(records, h * record)]
                tile = _tile(module, group, min(height, group.heads - h))
                code.call(tile, [*own, k, v, scratch, count, first, position])

        code.loop(start, stop, KEYS, block)

    return module.function(("one token", a), [PTR] * 6 + [I64] * 2, body)


def _tile(module: Module, group: HeadGroup, heads: int) -> Any:
    """The function (q, records, keys, values, scores, count, first key, position) that lets some heads of one
    token meet a block of keys as they lie."""
    shape = group.shape

    def body(
        code: Code, q: Value, records: Value, keys: Value, values: Value, scores: Value, count: Value,
        first: Value, position: Value,
    ) -> None:  # fmt: skip
        queries = [code.at(q, h * shape.head_dim) for h in range(heads)]
        own = [code.at(records, h * shape.record_floats) for h in range(heads)]

        def score(code: Code, lines: Items[Value], count: Value) -> None:
            score_rows(code, shape.head_dim, group.half, queries, keys, lines, count)

        meet_block(code, shape, scores, own, values, count, first, [position] * heads, score, group.half)

    return module.function(("heads meet a block", group, heads), [PTR] * 5 + [I64] * 3, body)
