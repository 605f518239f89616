"""Threads that work on one chunk together share out every step in parts, and wait for the parts.

Every thread has a run of neighbouring parts, the same in every step, and does those of others when it is
through: rows that it wrote lie in its own caches when the next step reads them. A step is finished when its
parts are, whoever did them: a thread that the system has put aside holds nobody up unless it is in the middle
of a part. Per step there are counters of the parts taken, one for each thread's run, and behind them one of
the parts finished, in cache lines of their own; they start at 0 in every call.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from rlxflow.backends.cpu.code import I32, I64, PTR, VOID, Code, Module, Value, i64
from rlxflow.backends.cpu.frame import Frame, read
from rlxflow.backends.cpu.job import COUNTER_WORDS

SPINS = 2000  # looks at a counter before the processor is offered to others


def in_parts(code: Code, frame: Value, step: int, run: Any) -> None:
    """`run()` for every part of a step that this thread gets; returns when all parts are finished.

    A thread that works on its chunk alone does the step as one part.
    """
    parts = read(code, frame, Frame.PARTS)
    first = code.call(_take(code.owner), [frame, i64(step)])
    before = code.block
    head, inside, done = (code.append_basic_block(n) for n in ("part", "work", "rest"))
    code.branch(head)
    code.position_at_end(head)
    part = code.phi(I64)
    part.add_incoming(first, before)
    code.cbranch(code.icmp_signed("<", part, parts), inside, done)
    code.position_at_end(inside)
    code.put(part, code.at(frame, int(Frame.PART), I64))
    run()
    part.add_incoming(code.call(_finish(code.owner), [frame, i64(step)]), code.block)
    code.branch(head)
    code.position_at_end(done)
    code.call(_wait(code.owner), [frame, i64(step)])


def _alone(code: Code, frame: Value) -> Value:
    return code.icmp_signed("==", read(code, frame, Frame.PARTS), i64(1))


def _counter(code: Code, frame: Value, step: Value, number: Value) -> Value:
    """Counter `number` of a step."""
    row = code.mul(step, code.add(read(code, frame, Frame.THREADS), i64(1)))
    words = code.mul(code.add(row, number), i64(COUNTER_WORDS))
    return code.at(read(code, frame, Frame.COUNTERS), words, I64)


def _take(module: Module) -> Any:
    """The function (frame, step): a part for this thread, or the number of parts if there is none left."""

    def body(code: Code, frame: Value, step: Value) -> Value:
        with code.if_then(_alone(code, frame)):
            code.ret(i64(0))
        threads, parts = read(code, frame, Frame.THREADS), read(code, frame, Frame.PARTS)
        size = code.sdiv(parts, threads)

        def run(number: Value, _: tuple[Value, ...]) -> None:
            owner = code.srem(code.add(read(code, frame, Frame.THREAD), number), threads)
            counter = _counter(code, frame, step, owner)
            with code.if_then(code.icmp_signed("<", code.load_atomic(counter, "acquire", 8, typ=I64), size)):
                taken = code.atomic_rmw("add", counter, i64(1), "acq_rel")
                with code.if_then(code.icmp_signed("<", taken, size)):
                    code.ret(code.add(code.mul(owner, size), taken))

        code.loop(0, threads, 1, run)
        return parts

    return module.function("take", [PTR, I64], body, returns=I64)


def _finish(module: Module) -> Any:
    """The function (frame, step): a part is finished; the next one."""

    def body(code: Code, frame: Value, step: Value) -> Value:
        with code.if_then(_alone(code, frame)):
            code.ret(i64(1))
        finished = _counter(code, frame, step, read(code, frame, Frame.THREADS))
        code.atomic_rmw("add", finished, i64(1), "acq_rel")
        return code.call(_take(module), [frame, step])

    return module.function("finish", [PTR, I64], body, returns=I64)


def _wait(module: Module) -> Any:
    """The function (frame, step): returns when all parts are finished."""

    def body(code: Code, frame: Value, step: Value) -> None:
        with code.if_then(_alone(code, frame)):
            code.ret_void()
        finished = _counter(code, frame, step, read(code, frame, Frame.THREADS))
        wait_until(code, finished, read(code, frame, Frame.PARTS))

    return module.function("wait", [PTR, I64], body)


def wait_until(code: Code, place: Value, count: Value) -> None:
    """Return when the word at `place` has reached `count`: look SPINS times, then offer the processor."""
    before = code.block
    head, again, done = (code.append_basic_block(n) for n in ("look", "again", "seen"))
    code.branch(head)
    code.position_at_end(head)
    tries = code.phi(I64)
    tries.add_incoming(i64(0), before)
    now = code.load_atomic(place, "acquire", 8, typ=I64)
    code.cbranch(code.icmp_signed("<", now, count), again, done)
    code.position_at_end(again)
    relax(code)
    with code.if_then(code.icmp_unsigned(">", tries, i64(SPINS))):
        code.call(code.owner.intrinsic("sched_yield", I32, []), [])
    tries.add_incoming(code.add(tries, i64(1)), code.block)
    code.branch(head)
    code.position_at_end(done)


def relax(code: Code) -> None:
    """Tell the processor that this is a waiting loop."""
    if "x86" in code.owner.target.triple:
        code.call(code.owner.intrinsic("llvm.x86.sse2.pause", VOID, []), [])
    elif "aarch64" in code.owner.target.triple or "arm64" in code.owner.target.triple:
        code.call(code.owner.intrinsic("llvm.aarch64.hint", VOID, [I32]), [ir.Constant(I32, 1)])
