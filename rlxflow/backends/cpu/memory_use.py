"""What a plan takes of memory, told before any weight is read."""

from __future__ import annotations

import math

from rlxflow.backends.base import MemoryUse, largest_stored
from rlxflow.backends.cpu.form import find_form
from rlxflow.backends.cpu.plan import Constant, Plan
from rlxflow.backends.cpu.target import Target
from rlxflow.ir.dims import bind_shape, names
from rlxflow.ir.graph import Graph


def memory_use(graph: Graph, plan: Plan, target: Target, threads: int, tokens: int) -> MemoryUse:
    """Of a plan for one sequence of so many tokens of each axis."""
    weights = sum(_nbytes(item, target) for item in plan.table if isinstance(item, Constant))
    every = {name: tokens for axis in plan.axes for name in names(axis)}
    sizes = bind_shape(plan.axes, every)
    floats = plan.arena.floats((1, *sizes)) + threads * plan.scratch.floats(max(sizes))
    return MemoryUse(weights, largest_stored(graph), 4 * floats)


def _nbytes(constant: Constant, target: Target) -> int:
    """Bytes of a constant as `packing.prepare` makes it."""
    sizes = [tuple(n for n in v.shape if isinstance(n, int)) for v in constant.values]
    if constant.kind == "packed":
        columns, depth = sum(size[0] for size in sizes), sizes[0][1]
        panels = -(-columns // target.panel)
        return 4 * panels * target.panel * find_form(constant.form).words(depth)
    count = sum(map(math.prod, sizes))
    return 4 * (count if constant.kind == "table" else count + 2 * target.panel)
