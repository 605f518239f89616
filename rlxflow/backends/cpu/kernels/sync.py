"""Threads that work on one chunk together share out every step in parts, and wait for the parts.

A step is finished when its parts are, whoever did them: a thread that the system has put aside holds nobody
up unless it is in the middle of a part. Per step there are two counters, parts taken and parts finished, in
cache lines of their own; they start at 0 in every call.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from rlxflow.backends.cpu.code import I32, I64, PTR, VOID, Code, Module, Value, i64
from rlxflow.backends.cpu.frame import Frame, read
from rlxflow.backends.cpu.job import COUNTER_WORDS

SPINS = 2000  # looks at a counter before the processor is offered to others
FINISHED = 8  # words from the counter of parts taken to that of parts finished


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


def _counter(code: Code, frame: Value, step: Value) -> Value:
    return code.at(read(code, frame, Frame.COUNTERS), code.mul(step, i64(COUNTER_WORDS)), I64)


def _take(module: Module) -> Any:
    """The function (frame, step): the first part for this thread."""

    def body(code: Code, frame: Value, step: Value) -> Value:
        with code.if_then(_alone(code, frame)):
            code.ret(i64(0))
        return code.atomic_rmw("add", _counter(code, frame, step), i64(1), "acq_rel")

    return module.function("take", [PTR, I64], body, returns=I64)


def _finish(module: Module) -> Any:
    """The function (frame, step): a part is finished; the next one."""

    def body(code: Code, frame: Value, step: Value) -> Value:
        with code.if_then(_alone(code, frame)):
            code.ret(i64(1))
        counter = _counter(code, frame, step)
        code.atomic_rmw("add", code.at(counter, FINISHED, I64), i64(1), "acq_rel")
        return code.atomic_rmw("add", counter, i64(1), "acq_rel")

    return module.function("finish", [PTR, I64], body, returns=I64)


def _wait(module: Module) -> Any:
    """The function (frame, step): returns when all parts are finished."""

    def body(code: Code, frame: Value, step: Value) -> None:
        with code.if_then(_alone(code, frame)):
            code.ret_void()
        finished = code.at(_counter(code, frame, step), FINISHED, I64)
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
