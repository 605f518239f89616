"""From a region of the graph to the expression that its kernel computes, and where its args come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from rlxflow.backends.cpu.domain import Rows as ValueRows, View, refuse, rows_of
from rlxflow.backends.cpu.expression import (
    PICKED,
    Arg,
    Expression,
    FromArg,
    FromStep,
    Operand,
    Rows,
    Step,
    strip,
)
from rlxflow.backends.cpu.plan import Constant, Given, Made
from rlxflow.backends.cpu.regions import Regions
from rlxflow.backends.rows import BATCH
from rlxflow.dtypes import f32, i32, i64
from rlxflow.ir.values import Node, Value

Source = (
    View | Constant | Given | Made
)  # rows of a buffer, weights, an array of the caller or made for the call


class Describer:
    """Describes regions. `stride_of` tells the floats between the rows of a value in its buffer, `table`
    how the rows of weights are kept that are gathered."""

    def __init__(
        self, regions: Regions, stride_of: Callable[[Value], int], table: Callable[[Value], Constant]
    ) -> None:
        self._regions, self._stride_of, self._table = regions, stride_of, table

    def expression(
        self, nodes: list[Node], root: Value, copy: bool = False
    ) -> tuple[Expression, list[Source]]:
        """What the nodes compute for `root`, and the args' sources.

        Without nodes the rows of `root` are read; for a `copy`, from what it is itself a copy of.
        """
        number = {n.outputs[0]: i for i, n in enumerate(nodes)}
        args: dict[tuple[Arg, Source], int] = {}

        def operand(value: Value | None, node: Node, index: int) -> Operand:
            if value is None:
                return None
            if value in number:
                return FromStep(number[value])
            if value.node.op.name == "full":
                return float(value.node.attrs["value"])
            return FromArg(args.setdefault(self._arg(value, node, index), len(args)))

        steps = [
            _step(n, [operand(v, n, i) for i, v in enumerate(n.operands)]) for n in nodes if not _given(n)
        ]
        steps = [Step("linear", (), ()) for n in nodes[:1] if _given(n)] + steps
        rows = rows_of(root)
        if not steps:
            view = self._regions.origin(root) if copy else self._regions.view(root)
            steps = [Step("broadcast_to", (), (FromArg(0),))]
            args[self._rows_of_view(root, view, root.node, copy and view.base is root)] = 0
        domain: Literal["token", "sequence"] = "token" if rows.domain == "token" else "sequence"
        expression = Expression(domain, strip(rows.inner), tuple(steps), tuple(a for a, _ in args))
        return expression, [source for _, source in args]

    def _arg(self, value: Value, node: Node, index: int) -> tuple[Arg, Source]:
        rows = rows_of(value)
        if node.op.name == "gather" and index == 0:
            stride = rows.width // rows.inner[0] if rows.inner[0] else 1
            table = self._table(value)
            return Arg("table", "none", stride, strip(rows.inner[1:]), form=table.form), table
        if value.dtype.is_float and value in self._regions.host:
            return Arg("host", _domain(rows), rows.width, strip(rows.inner)), Made(value)
        if node.op.name in PICKED and index == 1:
            return self._ids(value, node)
        if node.op.name == "mean_pool" and index == 1:
            return Arg("mask", "token", 1, ()), Given("mask", value.node.attrs["key"])
        return self._rows_arg(value, node)

    def _ids(self, value: Value, node: Node) -> tuple[Arg, Source]:
        domain = _domain(rows_of(value))
        if value.node.op.name != "input":
            return Arg("host", domain, 1, (), "i32"), Made(value)
        if value.dtype not in (i32, i64):
            raise refuse(self._regions.graph, node, f"its ids are {value.dtype}, not i32 or i64")
        return Arg("ids", domain, 1, (), value.dtype.name), Given("input", value.node.attrs["key"])

    def _rows_arg(self, value: Value, node: Node) -> tuple[Arg, Source]:
        """A value read row by row."""
        inner = strip(rows_of(value).inner)
        if value in self._regions.constants and value.dtype.is_float:
            return Arg("constant", "none", 0, inner), Constant("row", (value,))
        return self._rows_of_view(value, self._regions.view(value), node)

    def _rows_of_view(self, value: Value, view: View, node: Node, itself: bool = False) -> tuple[Arg, Source]:
        """`itself`: an input that has a copy is read, not the copy."""
        if value.dtype != f32:
            raise refuse(self._regions.graph, node, f"it reads {value.dtype}")
        inner, base = strip(rows_of(value).inner), rows_of(view.base)
        rows: Rows = "first" if view.first else base.domain
        if view.base in self._regions.by_root and not itself:
            return Arg("buffer", rows, self._stride_of(view.base), inner), view
        if base.domain == "none" or view.base.shape[0] != BATCH:
            raise refuse(self._regions.graph, node, f"{view.base.type} has no batch axis")
        return Arg("input", rows, base.width, inner), Given("input", view.base.node.attrs["key"], view.offset)


def _domain(rows: ValueRows) -> Rows:
    return "token" if rows.domain == "token" else "sequence"


def _given(node: Node) -> bool:
    """Whether the kernel itself computes the node."""
    return node.op.name == "linear"


def _step(node: Node, operands: list[Operand]) -> Step:
    attrs = {k: v for k, v in node.attrs.items() if isinstance(v, (bool, int, float))}
    return Step(node.op.name, tuple(sorted(attrs.items())), tuple(operands))
