"""Threads that work on one chunk together wait for each other after every step."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from rlxflow.backends.cpu.code import I32, I64, PTR, VOID, Code, Module, Value, i64
from rlxflow.backends.cpu.frame import Frame, read

SPINS = 2000  # looks at the barrier before the processor is offered to others
PHASE = 8  # words between the counter and the phase: they lie in different cache lines


def wait_for_all(module: Module) -> Any:
    """The function (frame): returns when all parts have called it. Counter and phase lie at BARRIER."""

    def body(code: Code, frame: Value) -> None:
        parts = read(code, frame, Frame.PARTS)
        with code.if_then(code.icmp_signed(">", parts, i64(1))):
            counter = read(code, frame, Frame.BARRIER)
            phase = code.at(counter, PHASE, I64)
            now = code.load_atomic(phase, "acquire", 8, typ=I64)
            arrived = code.atomic_rmw("add", counter, i64(1), "acq_rel")
            last = code.icmp_unsigned("==", code.add(arrived, i64(1)), parts)
            with code.if_else(last) as (then, otherwise):
                with then:
                    code.atomic_rmw("xchg", counter, i64(0), "monotonic")
                    code.atomic_rmw("add", phase, i64(1), "acq_rel")
                with otherwise:
                    wait_while(code, phase, now)

    return module.function("wait for all", [PTR], body)


def wait_while(code: Code, place: Value, value: Value) -> None:
    """Return when the word at `place` is no longer `value`: look SPINS times, then offer the processor."""
    before = code.block
    head, again, done = (code.append_basic_block(n) for n in ("look", "again", "seen"))
    code.branch(head)
    code.position_at_end(head)
    tries = code.phi(I64)
    tries.add_incoming(i64(0), before)
    now = code.load_atomic(place, "acquire", 8, typ=I64)
    code.cbranch(code.icmp_unsigned("==", now, value), again, done)
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
