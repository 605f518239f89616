"""The checked mode: every access is looked up in a table of buffers, and the first stray one is kept.

A stray access is redirected to a spare page, so that tests fail with the name of a step and not with a
crash. The table is global to the module: one call at a time.
"""

from __future__ import annotations

from typing import Any

from rlxflow.backends.cpu.code import I64, PTR, Code, Module, Value, i64

SPARE_BYTES = 4096


def checker(module: Module) -> Any:
    """The function (address, size) → an address that may be accessed."""
    table = module.variable("bounds", PTR)  # [count, spare, start 0, end 0, start 1, end 1, …]
    fault = module.variable("fault", I64)  # 1 + the step of the first stray access
    step = module.variable("step", I64)

    def body(code: Code, address: Value, size: Value) -> Value:
        place = code.ptrtoint(address, I64)
        bounds = code.load(table, typ=PTR)

        def entry(index: Value | int) -> Value:
            return code.load(code.at(bounds, index, I64), typ=I64)

        def test(i: Value, found: tuple[Value, ...]) -> tuple[Value, ...]:
            row = code.add(code.mul(i, i64(2)), i64(2))
            begins = code.icmp_unsigned(">=", place, entry(row))
            ends = code.icmp_unsigned("<=", code.add(place, size), entry(code.add(row, i64(1))))
            inside = code.zext(code.and_(begins, ends), I64)
            return (code.or_(found[0], inside),)

        (found,) = code.loop(0, entry(0), 1, test, (i64(0),))
        good = code.icmp_unsigned("!=", found, i64(0))
        with code.if_then(code.not_(good)):
            known = code.load(fault, typ=I64)
            fresh = code.icmp_unsigned("==", known, i64(0))
            now = code.add(code.load(step, typ=I64), i64(1))
            code.store(code.select(fresh, now, known), fault)
        return code.select(good, address, code.inttoptr(entry(1), PTR))

    return module.function("checker", [PTR, I64], body, returns=PTR)


def enter_step(code: Code, number: int) -> None:
    """Name the step that the following accesses belong to."""
    if code.owner.checked:
        code.store(i64(number), code.owner.variable("step", I64))


def emit_controls(module: Module) -> None:
    """`set_bounds(table)` and `take_fault(result)`, exported; only in checked mode."""
    if not module.checked:
        return

    def set_bounds(code: Code, table: Value) -> None:
        code.store(table, module.variable("bounds", PTR))
        code.store(i64(0), module.variable("fault", I64))

    def take_fault(code: Code, result: Value) -> None:
        code.store(code.load(module.variable("fault", I64), typ=I64), result)

    module.function("set_bounds", [PTR], set_bounds, export="set_bounds")
    module.function("take_fault", [PTR], take_fault, export="take_fault")
