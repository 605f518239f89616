"""Elementwise regions: several elementwise ops as one, so that a backend passes over memory once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from rlxflow.ir.op import OPS, op
from rlxflow.ir.values import Node, Type, Value
from rlxflow.ops.checks import broadcast_rows, fail

# (op, operands, attributes): i < n is operand i of the region, n + j the result of step j, -1 an absent one
Step: TypeAlias = tuple[str, tuple[int, ...], tuple[tuple[str, Any], ...]]
Program: TypeAlias = tuple[Step, ...]


@op("fused")
def elementwise_region(*xs: Value, program: Program) -> Type:
    """The last value of a program of elementwise ops over the operands, which broadcast.

    Its steps run in order; each reads operands of the region or results of earlier steps.
    """
    values = list(xs)
    for step in program:
        name, operands, attrs = _checked(step, len(values))
        row = OPS[name]
        given = tuple(None if i < 0 else values[i] for i in operands)
        bound, checked = row.bind(given, dict(attrs))
        values += Node(row, bound, checked, row.infer(bound, checked)).outputs
    if len(values) == len(xs):
        raise fail("the program is empty", "a region has two steps or more")
    return values[-1].type


def _checked(step: Any, known: int) -> Step:
    """A step in its form; raises `GraphError` for anything else that a text form may hold."""
    try:
        name, operands, attrs = step
        good = all(type(i) is int and -1 <= i < known for i in operands) and OPS[name].rows_fn is not None
        dict(attrs)
    except (TypeError, ValueError, KeyError) as error:
        raise fail(f"step {step!r} is not (op, operands, attributes)") from error
    if not good or OPS[name].num_outputs != 1:
        raise fail(f"step {step!r} is not an elementwise op on values before it")
    return name, operands, attrs


@elementwise_region.decompose
def _elementwise_region(*xs: Value, program: Program) -> Value:
    values: list[Value | None] = list(xs)
    for name, operands, attrs in program:
        values.append(OPS[name](*(None if i < 0 else values[i] for i in operands), **dict(attrs)))
    last = values[-1]
    assert last is not None
    return last


elementwise_region.rows(lambda *xs, program: broadcast_rows(*xs))


def program_of(nodes: Sequence[Node], operands: Sequence[Value]) -> Program:
    """The program of elementwise nodes (operands before users) over the values that they read."""
    places = {v: i for i, v in enumerate(operands)}
    steps: list[Step] = []
    for node in nodes:
        places[node.outputs[0]] = len(places)
        reads = tuple(-1 if v is None else places[v] for v in node.operands)
        steps.append((node.op.name, reads, tuple(sorted(node.attrs.items()))))
    return tuple(steps)
