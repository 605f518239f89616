"""Types, values and nodes: the immutable pieces of a graph.

A node applies one op to values and yields one value per output. Nodes are compared by identity; a builder
gives equal nodes (op, operands, attributes) one identity, so a graph never holds the same node twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlxflow.dtypes import DType
from rlxflow.errors import GraphError
from rlxflow.ir.dims import Dim, Shape, shape_text
from rlxflow.quick_dataclass import dataclass

if TYPE_CHECKING:
    from rlxflow.ir.op import Op


@dataclass(frozen=True)
class Type:
    """Dtype and shape of a value. `state` marks a cache buffer, which is used linearly (see verify)."""

    dtype: DType
    shape: Shape
    state: bool = False

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __str__(self) -> str:
        return f"{'state ' if self.state else ''}{self.dtype}{shape_text(self.shape)}"


class Value:
    """One output of a node: what ops take and give."""

    __slots__ = ("index", "node", "type")

    def __init__(self, node: Node, index: int, type: Type) -> None:
        self.node = node
        self.index = index
        self.type = type

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def rank(self) -> int:
        return len(self.type.shape)

    def dim(self, axis: int) -> Dim:
        """The size of an axis, negative ones counted from the end; raises `GraphError` outside the rank."""
        try:
            return self.type.shape[axis]
        except IndexError:
            raise GraphError(
                f"axis {axis} is outside {shape_text(self.shape)}",
                code="RLX-I008",
                hint=f"the value has {self.rank} axes",
            ) from None

    def __repr__(self) -> str:
        suffix = f".{self.index}" if len(self.node.outputs) > 1 else ""
        return f"<{self.node.op.name}{suffix}: {self.type}>"


class Node:
    """An op applied to operands. `operands` has None where an optional operand is absent."""

    __slots__ = ("attrs", "op", "operands", "outputs")

    def __init__(
        self,
        op: Op[..., Any],
        operands: tuple[Value | None, ...],
        attrs: Mapping[str, Any],
        types: tuple[Type, ...],
    ) -> None:
        self.op = op
        self.operands = operands
        self.attrs = attrs
        self.outputs = tuple(Value(self, i, t) for i, t in enumerate(types))

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The operands that are present."""
        return tuple(v for v in self.operands if v is not None)

    def __repr__(self) -> str:
        return f"<{self.op.name} {dict(self.attrs)} -> {', '.join(str(v.type) for v in self.outputs)}>"
