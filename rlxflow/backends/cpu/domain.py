"""Where the elements of a value live: per token, per sequence, or nowhere in the batch.

A value [B, S, …] or [S, …] has a row per valid token, [B, …] a row per sequence. Everything behind those
axes is the row, a run of contiguous floats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from rlxflow.backends.rows import BATCH, TOKENS
from rlxflow.errors import BackendError
from rlxflow.ir.dims import Shape
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value

Domain = Literal["token", "sequence", "none"]


@dataclass(frozen=True)
class Rows:
    """What has rows, and the shape of one."""

    domain: Domain
    inner: tuple[int, ...]

    @property
    def width(self) -> int:
        return math.prod(self.inner)


def rows_of_shape(shape: Shape) -> Rows | None:
    """None for a shape that is neither per token, per sequence nor constant."""
    lead = 2 if shape[:2] == (BATCH, TOKENS) else 1 if shape[:1] in ((BATCH,), (TOKENS,)) else 0
    inner = tuple(d for d in shape[lead:] if isinstance(d, int))
    if len(inner) != len(shape) - lead:
        return None
    domain: Domain = "none" if lead == 0 else "token" if TOKENS in shape[:lead] else "sequence"
    return Rows(domain, inner)


def rows_of(value: Value) -> Rows:
    """The rows of a value; raises `BackendError` for one that has none."""
    rows = rows_of_shape(value.shape)
    if rows is None:
        raise BackendError(
            f"the CPU backend has no rows for {value.type} of {value.node.op.name!r}",
            code="RLX-B003",
            hint="values are [B, S, …], [S, …], [B, …] or constant; use the reference backend",
        )
    return rows


def refuse(graph: Graph, node: Node, why: str) -> BackendError:
    return BackendError(
        f"the CPU backend cannot run {node.op.name!r} here: {why}",
        code="RLX-B003",
        where=graph.where(node),
        hint="use the reference backend",
    )


@dataclass(frozen=True)
class View:
    """A value as columns of another's rows, or as its first token's row."""

    base: Value
    offset: int = 0
    first: bool = False


VIEWS = ("reshape", "slice")


def step_of_view(node: Node) -> View | None:
    """What a reshape or slice looks at, where it only renames columns or picks the first token."""
    (x,) = node.inputs
    before, after = rows_of_shape(x.shape), rows_of_shape(node.outputs[0].shape)
    if before is None or after is None:
        return None
    if node.op.name == "reshape":
        same = before.domain == after.domain and before.width == after.width
        return View(x) if same and _lead(x.shape) == _lead(node.outputs[0].shape) else None
    axis, start, stop = node.attrs["axis"] % x.rank, node.attrs["start"], node.attrs["stop"]
    lead = x.rank - len(before.inner)
    if lead == 2 and axis == 1:
        return View(x, 0, True) if (start, stop) == (0, 1) else None
    if axis < lead or any(d != 1 for d in x.shape[lead:axis]):
        return None
    return View(x, start * math.prod(before.inner[axis - lead + 1 :]))


def _lead(shape: Shape) -> Shape:
    return tuple(d for d in shape if not isinstance(d, int))
