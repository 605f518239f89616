"""Causal attention over a cache, read in place: of single tokens, and of many.

Keys are met in blocks with a running maximum, so that memory does not grow with the context. What a query
sums, and in which order, follows from the positions of its sequence alone.

- A single token: one item of work per key head and range of keys, whose query heads share every key that is
  read. The ranges' records are joined by `merge_ranges.py`.
- Several: one item per key head and QUERIES tokens; keys are transposed once for all of those.
- Many, where the profile lets products be rounded: see `prompt_attention.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence as Items
from typing import Any

from rlxflow.backends.cpu.code import F32, HALF, I32, I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.frame import Frame, read
from rlxflow.backends.cpu.kernels import prompt_attention
from rlxflow.backends.cpu.kernels.key_scores import score_rows, score_transposed
from rlxflow.backends.cpu.kernels.prompt_attention import PromptAttention, prompt_item
from rlxflow.backends.cpu.kernels.row_values import caller_row
from rlxflow.backends.cpu.kernels.running_softmax import (
    KEYS,
    Shape,
    begin_record,
    finish_row,
    meet_block,
)
from rlxflow.backends.cpu.kernels.transpose import transpose_block
from rlxflow.backends.cpu.target import Target
from rlxflow.quick_dataclass import dataclass

QUERIES = 32  # tokens that share transposed keys
MOST_ITEMS = 32  # into which the work of a single token is cut, whatever the number of threads
PROMPT = 64  # tokens that make a prompt; fewer have the sums of f32 products, as single tokens have


@dataclass(frozen=True)
class CachedAttention:
    """See the op `cached_attention` for the meaning; strides are floats between tokens, `half` caches f16,
    `bf16` allows products of bf16."""

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

    @property
    def group(self) -> int:
        """Query heads of a key head."""
        return self.heads // self.kv_heads

    @property
    def shape(self) -> Shape:
        return Shape(self.head_dim, self.scale, self.window, self.softcap)

    def prompt(self, target: Target) -> PromptAttention | None:
        """How many tokens are attended to, where not as several are."""
        if not (self.bf16 and prompt_attention.can_attend(target, self.head_dim)):
            return None
        strides = (self.q_stride, self.out_stride)
        return PromptAttention(self.shape, self.group, self.half, self.sinks, *strides)

    @property
    def ranges(self) -> int:
        """Ranges that the keys a single token sees are cut into, at most."""
        return -(-MOST_ITEMS // self.kv_heads)

    @property
    def range_floats(self) -> int:
        """Records of all ranges and heads of a sequence; a window may begin within one range more."""
        return (self.ranges + 1) * self.heads * self.shape.record_floats


@dataclass(frozen=True)
class _Scratch:
    """Where the parts of a thread's scratch begin, in floats."""

    scores: int
    keys: int  # transposed
    wide_keys: int
    wide_values: int
    records: int
    size: int


def _scratch(a: CachedAttention, query_rows: int) -> _Scratch:
    block = KEYS * (-(-a.head_dim // 16) * 16)
    wide = block if a.half else 0
    scores, records = query_rows * KEYS, QUERIES * a.group * a.shape.record_floats
    starts = [0]
    for size in (scores, block, wide, wide, records):
        starts.append(starts[-1] + size)
    return _Scratch(*starts)


def scratch_floats(a: CachedAttention, target: Target) -> int:
    """Scratch that a thread needs, whatever the context."""
    prompt = a.prompt(target)
    return max(_scratch(a, target.query_rows).size, prompt.places[-1] if prompt else 0)


@dataclass(frozen=True)
class Sequence:
    """A sequence of the chunk: its first token row, how many it has, and the position of the first."""

    row: Value
    length: Value
    position: Value


def sequence_at(code: Code, frame: Value, number: Value) -> Sequence:
    offsets = read(code, frame, Frame.OFFSETS)
    start, stop = (code.wide(code.get(offsets, code.add(number, i64(n)), I32)) for n in (0, 1))
    row = code.sub(start, read(code, frame, Frame.FIRST_TOKEN))
    position = code.wide(code.get(read(code, frame, Frame.POSITION), row, I32))
    return Sequence(row, code.sub(stop, start), position)


def every_item(
    code: Code,
    frame: Value,
    items: Callable[[Sequence], Value],
    run: Callable[[Value, Sequence, Value], None],
) -> None:
    """`run(sequence number, sequence, item)` for this thread's share of all items: every so manieth one, for
    later ones take longer."""
    part, parts = read(code, frame, Frame.PART), read(code, frame, Frame.PARTS)

    def one(number: Value, carried: tuple[Value, ...]) -> tuple[Value, ...]:
        (before,) = carried
        sequence = sequence_at(code, frame, number)
        count = items(sequence)
        first = code.sub(part, code.srem(before, parts))
        first = code.select(code.icmp_signed("<", first, i64(0)), code.add(first, parts), first)
        code.loop(first, count, parts, lambda item, _: run(number, sequence, item))
        return (code.add(before, count),)

    code.loop(0, read(code, frame, Frame.SEQUENCES), 1, one, (i64(0),))


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

    prompt = a.prompt(module.target)

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
        def items(s: Sequence) -> Value:
            size = i64(QUERIES)
            if prompt is not None:
                size = code.select(_is_prompt(code, s), i64(prompt_attention.TOKENS), size)
            blocks = code.sdiv(code.sub(code.add(s.length, size), i64(1)), size)
            parts = code.select(_single(code, s), ranges_of(code, a, s.position).count, blocks)
            return code.mul(parts, i64(a.kv_heads))

        def run(number: Value, s: Sequence, item: Value) -> None:
            part, group = code.sdiv(item, i64(a.kv_heads)), code.srem(item, i64(a.kv_heads))
            batch = caller_row(code, frame, "sequence", number)
            capacity = read(code, frame, Frame.CACHE_CAPACITY)
            head = code.mul(code.add(code.mul(batch, i64(a.kv_heads)), group), capacity)
            kind = HALF if a.half else F32
            own = [code.at(cache, code.mul(head, i64(a.head_dim)), kind) for cache in (keys, values)]
            queries, result = (
                code.at(x, code.add(code.mul(s.row, i64(stride)), code.mul(group, i64(a.group * a.head_dim))))
                for x, stride in ((q, a.q_stride), (out, a.out_stride))
            )
            own.append(code.at(sinks, code.mul(group, i64(a.group))) if a.sinks else sinks)
            scratch = read(code, frame, Frame.SCRATCH)
            with code.if_else(_single(code, s)) as (then, otherwise):
                with then:
                    place = code.add(code.mul(part, i64(a.heads)), code.mul(group, i64(a.group)))
                    place = code.mul(place, i64(a.shape.record_floats))
                    stride = module.target.row_stride(a.range_floats)
                    records = code.at(ranges, code.add(code.mul(number, i64(stride)), place))
                    code.call(_one_token(module, a), [queries, *own, records, scratch, s.position, part])
                with otherwise:
                    arguments = [queries, *own, result, scratch, s.position, s.length, part]
                    if prompt is None:
                        code.call(_many_tokens(module, a), arguments)
                    else:
                        with code.if_else(_is_prompt(code, s)) as (many, several):
                            with many:
                                code.call(prompt_item(module, prompt), arguments)
                            with several:
                                code.call(_many_tokens(module, a), arguments)

        every_item(code, frame, items, run)

    return module.function(("cached attention", a), [PTR] * 7, body)


def _single(code: Code, s: Sequence) -> Value:
    return code.icmp_signed("==", s.length, i64(1))


def _is_prompt(code: Code, s: Sequence) -> Value:
    return code.icmp_signed(">=", s.length, i64(PROMPT))


def _one_token(module: Module, a: CachedAttention) -> Any:
    """The function (q, keys, values, sinks, records, scratch, position, range), for a key head."""
    height, record = module.target.query_rows, a.shape.record_floats
    places = _scratch(a, height)

    def body(
        code: Code, q: Value, keys: Value, values: Value, sinks: Value, records: Value, scratch: Value,
        position: Value, number: Value,
    ) -> None:  # fmt: skip
        ranges = ranges_of(code, a, position)
        edge = code.mul(code.add(ranges.first, number), ranges.size)
        start = code.select(code.icmp_signed(">", ranges.start, edge), ranges.start, edge)
        stop = code.minimum(ranges.stop, code.add(edge, ranges.size))
        for h in range(a.group):
            begin_record(code, a.shape, code.at(records, h * record))
        if a.sinks:
            with code.if_then(code.icmp_signed("==", number, i64(0))):  # of the ranges, one meets them
                for h in range(a.group):
                    begin_record(code, a.shape, code.at(records, h * record), code.get(sinks, h))

        def block(first: Value, _: tuple[Value, ...]) -> None:
            count = code.minimum(code.sub(stop, first), KEYS)
            kind = HALF if a.half else F32
            k, v = (code.at(cache, code.mul(first, i64(a.head_dim)), kind) for cache in (keys, values))
            for h in range(0, a.group, height):
                tile = _tile(module, a, min(height, a.group - h), False)
                own = [code.at(q, h * a.head_dim), code.at(records, h * record)]
                code.call(tile, [*own, k, v, code.at(scratch, places.scores), count, first, position])

        code.loop(start, stop, KEYS, block)

    return module.function(("one token", a), [PTR] * 6 + [I64] * 2, body)


def _many_tokens(module: Module, a: CachedAttention) -> Any:
    """The function (q, keys, values, sinks, out, scratch, first position, length, block of queries)."""
    height, record = module.target.query_rows, a.shape.record_floats
    places = _scratch(a, height)

    def body(
        code: Code, q: Value, keys: Value, values: Value, sinks: Value, out: Value, scratch: Value,
        position: Value, length: Value, number: Value,
    ) -> None:  # fmt: skip
        begin = code.mul(number, i64(QUERIES))
        rows = code.minimum(code.sub(length, begin), QUERIES)
        lowest = code.add(position, begin)
        stop, start = code.add(lowest, rows), i64(0)
        if a.window:
            seen = code.add(lowest, i64(1))
            start = code.sub(seen, code.minimum(seen, i64(a.window)))
            start = code.and_(start, i64(-KEYS))
        records = code.at(scratch, places.records)
        keys_t = code.at(scratch, places.keys)

        def record_at(h: Value, i: Value) -> Value:
            return code.at(records, code.mul(code.add(code.mul(h, i64(QUERIES)), i), i64(record)))

        def row_at(x: Value, stride: int, h: Value, i: Value) -> Value:
            row = code.mul(code.add(begin, i), i64(stride))
            return code.at(x, code.add(row, code.mul(h, i64(a.head_dim))))

        def every_row(run: Callable[[Value, Value], None], step: int) -> None:
            code.loop(0, a.group, 1, lambda h, _: code.loop(0, rows, step, lambda i, _: run(h, i)) and None)

        def block(first: Value, _: tuple[Value, ...]) -> None:
            count = code.minimum(code.sub(stop, first), KEYS)
            k = _block(code, a, keys, first, count, code.at(scratch, places.wide_keys))
            v = _block(code, a, values, first, count, code.at(scratch, places.wide_values))
            transpose_block(code, k, i64(a.head_dim), count, a.head_dim, keys_t, i64(KEYS))

            def tile(h: Value, i: Value) -> None:
                own = [row_at(q, a.q_stride, h, i), record_at(h, i)]
                rest = [keys_t, v, code.at(scratch, places.scores), count, first, code.add(lowest, i)]
                heights = range(1, height + 1)
                left = code.minimum(code.sub(rows, i), height)
                code.choose(left, heights, lambda n: code.call(_tile(module, a, n, True), [*own, *rest]))

            every_row(tile, height)

        def start_row(h: Value, i: Value) -> None:
            begin_record(code, a.shape, record_at(h, i), code.get(sinks, h) if a.sinks else None)

        every_row(start_row, 1)
        code.loop(start, stop, KEYS, block)
        every_row(lambda h, i: finish_row(code, a.shape, record_at(h, i), row_at(out, a.out_stride, h, i)), 1)

    return module.function(("many tokens", a), [PTR] * 6 + [I64] * 3, body)


def _tile(module: Module, a: CachedAttention, rows: int, tokens: bool) -> Any:
    """The function (q, records, keys, values, scores, count, first key, position) that lets some rows meet a
    block: consecutive tokens and transposed keys, or heads of one token and keys as they lie."""
    half = a.half and not tokens  # the keys and values of several tokens are widened for all of them

    def body(
        code: Code, q: Value, records: Value, keys: Value, values: Value, scores: Value, count: Value,
        first: Value, position: Value,
    ) -> None:  # fmt: skip
        stride = a.q_stride if tokens else a.head_dim
        queries = [code.at(q, r * stride) for r in range(rows)]
        own = [code.at(records, r * a.shape.record_floats) for r in range(rows)]
        positions = [code.add(position, i64(r)) if tokens else position for r in range(rows)]

        def score(code: Code, lines: Items[Value], count: Value) -> None:
            if tokens:
                score_transposed(code, a.head_dim, queries, keys, lines, count)
            else:
                score_rows(code, a.head_dim, half, queries, keys, lines, count)

        meet_block(code, a.shape, scores, own, values, count, first, positions, score, half)

    return module.function(("cached tile", a, rows, tokens), [PTR] * 5 + [I64] * 3, body)


def _block(code: Code, a: CachedAttention, cache: Value, first: Value, count: Value, wide: Value) -> Value:
    """The rows of a block of keys or values as f32: in place, or widened to `wide`."""
    source = code.at(cache, code.mul(first, i64(a.head_dim)), HALF if a.half else F32)
    if not a.half:
        return source

    def row(i: Value, _: tuple[Value, ...]) -> None:
        start = code.mul(i, i64(a.head_dim))
        line, target = code.at(source, start, HALF), code.at(wide, start)
        for d in range(0, a.head_dim, code.lanes):
            lanes = min(code.lanes, a.head_dim - d)
            code.put_vector(code.get_half(line, d, lanes), target, d, lanes)

    code.loop(0, count, 1, row)
    return wide
