"""From a plan to LLVM's text: one function per kernel, one that runs the steps, one that a thread calls."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from rlxflow.backends.cpu.checked import emit_controls, enter_step
from rlxflow.backends.cpu.code import I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.form import find_form
from rlxflow.backends.cpu.frame import Frame, frame_of, read
from rlxflow.backends.cpu.job import AXIS_WORDS, COUNTER_WORDS, Job
from rlxflow.backends.cpu.kernels.attention import Attention, attention_kernel
from rlxflow.backends.cpu.kernels.cached_attention import CachedAttention, cached_attention_kernel
from rlxflow.backends.cpu.kernels.delta_rule import DeltaRule, delta_rule_kernel
from rlxflow.backends.cpu.kernels.gemm import Gemm, gemm_kernel
from rlxflow.backends.cpu.kernels.merge_ranges import MergeRanges, merge_kernel
from rlxflow.backends.cpu.kernels.quantise import Quantise, quantise_kernel
from rlxflow.backends.cpu.kernels.rows import row_kernel
from rlxflow.backends.cpu.kernels.sync import in_parts
from rlxflow.backends.cpu.plan import Address, InFrame, InSlot, Plan
from rlxflow.backends.cpu.target import Target
from rlxflow.backends.cpu.traced import emit_trace_controls, traced

if TYPE_CHECKING:
    from rlxflow.backends.cpu.plan import Kernel


def emit(plan: Plan, target: Target, checked: bool = False, with_trace: bool = False) -> str:
    """The module of a plan: exports `run(job, thread)`, and the packers of the weights' forms."""
    module = Module(target, checked, with_trace)
    steps = _steps(module, plan)
    _run(module, plan, steps)
    for name in plan.forms:
        find_form(name).pack(module)
    emit_controls(module)
    emit_trace_controls(module)
    return str(module.ir)


def _kernel(module: Module, kernel: Kernel) -> Any:
    if isinstance(kernel, Gemm):
        return gemm_kernel(module, kernel)
    if isinstance(kernel, Quantise):
        return quantise_kernel(module, kernel)
    if isinstance(kernel, Attention):
        return attention_kernel(module, kernel)
    if isinstance(kernel, CachedAttention):
        return cached_attention_kernel(module, kernel)
    if isinstance(kernel, MergeRanges):
        return merge_kernel(module, kernel)
    if isinstance(kernel, DeltaRule):
        return delta_rule_kernel(module, kernel)
    return row_kernel(module, kernel)


def _steps(module: Module, plan: Plan) -> Any:
    """The function (frame, table, wanted) that runs all steps over one chunk."""

    def body(code: Code, frame: Value, table: Value, wanted: Value) -> None:
        slots = read(code, frame, Frame.SLOTS)
        frames = [frame_of(code, frame, axis) for axis in range(len(plan.axes))]
        capacities = [read(code, frame, Frame.SEQUENCE_CAPACITY)]
        capacities += [read(code, own, Frame.TOKEN_CAPACITY) for own in frames]

        starts = []
        for slot in plan.arena.slots:
            start = i64(slot.fixed)
            for capacity, floats in zip(capacities, slot.before, strict=True):
                start = code.add(start, code.mul(capacity, i64(floats))) if floats else start
            starts.append(code.at(slots, start))

        def pointer(address: Address) -> Value:
            if isinstance(address, InFrame):
                return frames[address.axis]
            start = starts[address.index] if isinstance(address, InSlot) else entry(address.index)
            return code.at(start, address.offset) if address.offset else start

        def entry(index: int) -> Value:
            return code.get(table, index, PTR)

        for number, step in enumerate(plan.steps):
            needed = code.icmp_unsigned("!=", code.and_(wanted, i64(step.outputs)), i64(0))
            with code.if_then(needed):
                enter_step(code, number)
                kernel = _kernel(module, step.kernel)
                own = frames[step.axis]
                call = partial(code.call, kernel, [own, *map(pointer, step.addresses)])
                in_parts(code, own, number, partial(traced, code, frame, number, call))

    return module.function("steps", [PTR, PTR, I64], body)


def _run(module: Module, plan: Plan, steps: Any) -> None:
    """`run(job, thread)`, exported: the part of a call that one thread does."""
    axes = range(len(plan.axes))

    def body(code: Code, job: Value, thread: Value) -> None:
        def word(name: int, kind: Any = I64) -> Value:
            return code.get(code.at(job, int(name), I64), 0, kind)

        together = code.icmp_unsigned("!=", word(Job.TOGETHER), i64(0))
        chunks, count = word(Job.CHUNKS, PTR), word(Job.NUM_CHUNKS)
        places, table, wanted = word(Job.PLACES, PTR), word(Job.TABLE, PTR), word(Job.WANTED)
        mine = code.mul(thread, i64(3))
        frame, scratch = code.get(places, mine, PTR), code.get(places, code.add(mine, i64(1)), PTR)
        owner = code.select(together, i64(0), thread)
        arena = code.get(places, code.add(code.mul(owner, i64(3)), i64(2)), PTR)

        def put(name: Frame, value: Value, only: int | None = None) -> None:
            for axis in axes if only is None else (only,):
                code.put(value, code.at(frame, axis * Frame.SIZE + int(name), I64))

        put(Frame.PARTS, code.select(together, word(Job.PARTS), i64(1)))
        put(Frame.THREAD, thread)
        put(Frame.THREADS, word(Job.THREADS))
        put(Frame.SCRATCH, scratch)
        put(Frame.SLOTS, arena)
        for name in ("SEQUENCE_CAPACITY", "CACHE_CAPACITY"):
            put(Frame[name], word(Job[name]))
        first_chunk = code.select(together, i64(0), _take(code, job))

        def chunk(number: Value) -> None:
            lines = code.mul(number, code.add(word(Job.THREADS), i64(1)))
            counters = code.mul(lines, i64(COUNTER_WORDS * len(plan.steps)))
            put(Frame.COUNTERS, code.at(word(Job.COUNTERS, PTR), counters, I64))
            for axis in axes:
                _set_rows(code, word, partial(put, only=axis), chunks, number, axis)
            code.call(steps, [frame, table, wanted])

        before = code.block
        head, inside, done = (code.append_basic_block(n) for n in ("next", "chunk", "finished"))
        code.branch(head)
        code.position_at_end(head)
        number = code.phi(I64)
        number.add_incoming(first_chunk, before)
        code.cbranch(code.icmp_signed("<", number, count), inside, done)
        code.position_at_end(inside)
        chunk(number)
        with code.if_else(together) as (then, otherwise):
            with then:
                following = code.add(number, i64(1))
                then_block = code.block
            with otherwise:
                taken = _take(code, job)
                otherwise_block = code.block
        after = code.phi(I64)
        after.add_incoming(following, then_block)
        after.add_incoming(taken, otherwise_block)
        number.add_incoming(after, code.block)
        code.branch(head)
        code.position_at_end(done)

    module.function("run", [PTR, I64], body, export="run")


def _take(code: Code, job: Value) -> Value:
    """The next chunk that nobody has taken."""
    return code.atomic_rmw("add", code.at(job, int(Job.NEXT), I64), i64(1), "acq_rel")


def _set_rows(code: Code, word: Any, put: Any, chunks: Value, number: Value, axis: int) -> None:
    """The frame's words that say which rows a chunk has, for the tokens of an axis."""
    from rlxflow.backends.cpu.code import I32

    first, last = code.get(chunks, number, I64), code.get(chunks, code.add(number, i64(1)), I64)
    place = {name: Job.AXES + len(AXIS_WORDS) * axis + i for i, name in enumerate(AXIS_WORDS)}
    offsets = word(place[Frame.OFFSETS], PTR)
    start = code.wide(code.get(offsets, first, I32))
    stop = code.wide(code.get(offsets, last, I32))
    put(Frame.TOKENS, code.sub(stop, start))
    put(Frame.SEQUENCES, code.sub(last, first))
    put(Frame.FIRST_TOKEN, start)
    put(Frame.FIRST_SEQUENCE, first)
    put(Frame.TOKEN_CAPACITY, word(place[Frame.TOKEN_CAPACITY]))
    for name, row in (("SOURCE", start), ("POSITION", start), ("SEQUENCE", start), ("OFFSETS", first),
                      ("BATCH_ROW", first)):  # fmt: skip
        put(Frame[name], code.at(word(place[Frame[name]], PTR), row, I32))
