"""Where the elements of a value live: per token, per sequence, or nowhere in the batch.

A value [B, S, …] or [S, …] has a row per valid token, [B, …] a row per sequence. Everything behind those
axes is the row, a run of contiguous floats. Tokens may be of several axes: S, T and S + T of two streams.
"""

from __future__ import annotations

import math
from typing import Literal

from rlxflow.backends.rows import BATCH, TOKENS
from rlxflow.errors import BackendError
from rlxflow.ir.dims import Dim, Shape, Sym, names
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value
from rlxflow.quick_dataclass import dataclass

Domain = Literal["token", "sequence", "none"]


@dataclass(frozen=True)
class Rows:
    """What has rows, and the shape of one; `axis` says which tokens."""

    domain: Domain
    inner: tuple[int, ...]
    axis: Dim | None = None

    @property
    def owner(self) -> tuple[Domain, Dim | None]:
        """What has rows."""
        return self.domain, self.axis

    @property
    def width(self) -> int:
        return math.prod(self.inner)


def rows_of_shape(shape: Shape) -> Rows | None:
    """None for a shape that is neither per token, per sequence nor constant."""
    batch = shape[:1] == (BATCH,)
    axis = next((d for d in shape[batch : batch + 1] if _counts_tokens(d)), None)
    lead = batch + (axis is not None)
    inner = tuple(d for d in shape[lead:] if isinstance(d, int))
    if len(inner) != len(shape) - lead:
        return None
    return Rows("token" if axis is not None else "sequence" if batch else "none", inner, axis)


def _counts_tokens(size: Dim) -> bool:
    return isinstance(size, Sym) and names(size).isdisjoint(("B", "C", "?"))


def token_axes(graph: Graph) -> tuple[Dim, ...]:
    """The axes of tokens that values have, S first."""
    found: dict[Dim, None] = {TOKENS: None}
    for value in (v for node in graph.nodes for v in node.outputs):
        rows = None if value.type.state else rows_of_shape(value.shape)
        if rows is not None and rows.axis is not None:
            found[rows.axis] = None
    return tuple(found)


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
        same = before.owner == after.owner and before.width == after.width
        return View(x) if same and _lead(x.shape) == _lead(node.outputs[0].shape) else None
    axis, start, stop = node.attrs["axis"] % x.rank, node.attrs["start"], node.attrs["stop"]
    lead = x.rank - len(before.inner)
    if lead == 2 and axis == 1:
        return View(x, 0, True) if (start, stop) == (0, 1) and before.axis == TOKENS else None
    if axis < lead or any(d != 1 for d in x.shape[lead:axis]):
        return None
    return View(x, start * math.prod(before.inner[axis - lead + 1 :]))


def _lead(shape: Shape) -> Shape:
    return tuple(d for d in shape if not isinstance(d, int))
