"""Which nodes run together: products with their tails, attention, chains of row ops, also into a cache.

A region computes one value, its root; what else is inside lives in registers. Everything a region reads is
the root of another region, an input, constant, or computed on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import field
from typing import Literal

from rlxflow.backends.cpu.domain import VIEWS, View, refuse, rows_of, step_of_view
from rlxflow.backends.cpu.expression import PICKED, WHOLE_ROW, strip
from rlxflow.backends.cpu.host_values import host_values
from rlxflow.backends.cpu.kernels.elementwise import ELEMENTWISE
from rlxflow.backends.cpu.relative_bias import bias_nodes, buckets_of, table_of
from rlxflow.backends.rows import BATCH, TOKENS
from rlxflow.dtypes import f32
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value
from rlxflow.quick_dataclass import dataclass

# elementwise ops behind a product, among them residual sums; chains of row ops; residual sums and what
# quantises norms; q, k, v side by side; gate and up; norm and rope of keys with their append
FUSIONS = ("tails", "rows", "residual-norm", "qkv", "gate-up", "rope-append")
Kind = Literal["gemm", "attention", "cached_attention", "delta_rule", "rows", "concat", "join", "append"]
ROW_OPS = {*ELEMENTWISE, *WHOLE_ROW, *PICKED, "mean_pool"}
BLOCKS: dict[str, Kind] = {
    "attention": "attention",
    "cached_attention": "cached_attention",
    "gated_delta_rule": "delta_rule",
    "concat": "concat",
    "cache_append": "append",
}
SUPPORTED = ROW_OPS | {"linear", "rope_tables", *BLOCKS, *VIEWS}


@dataclass(eq=False)
class Region:
    """`inside` holds its nodes in graph order; empty for a plain copy of a value.

    `value` is what the rows of the region are: its root, or what an append writes.
    """

    kind: Kind
    root: Value
    inside: list[Node] = field(default_factory=list)

    @property
    def main(self) -> Node:
        """The product, attention or append of the region."""
        return self.root.node if self.kind == "append" else self.inside[0]

    @property
    def value(self) -> Value:
        return self.root.node.inputs[1] if self.kind == "append" else self.root


class Regions:
    """The regions of a graph, by root.

    `coded` tells what is only read quantised. `apart` names what is not fused, of FUSIONS. Flags are: they
    are never stored.
    """

    def __init__(
        self,
        graph: Graph,
        constants: set[Value],
        coded: Callable[[Value], object] = lambda _: None,
        apart: Collection[str] = (),
    ) -> None:
        self.graph, self.constants, self._apart = graph, constants, apart
        self.host = host_values(graph) - constants
        self.by_root: dict[Value, Region] = {}
        self._home: dict[Node, Region] = {}
        biases = bias_nodes(graph)
        self._nodes = [
            n
            for n in graph.nodes
            if n.op.name not in ("input", "full", "state")
            and n.outputs[0] not in constants | self.host
            and n not in biases
        ]
        for node in self._nodes:
            self._check(node)
        for node in self._nodes:
            if node.op.name == "linear":
                self._add_product(node, coded)
            elif _joins_tokens(node):
                self._add("join", node)
            elif node.op.name in BLOCKS:
                self._add(BLOCKS[node.op.name], node)
        for node in reversed(self._nodes):
            if node not in self._home and node.op.name in ROW_OPS:
                self._add_row_op(node)
        order = {n: i for i, n in enumerate(self._nodes)}
        for region in self.by_root.values():
            region.inside.sort(key=lambda n: (n.op.name != "linear", order[n]))
        for region in list(self.by_root.values()):
            self._materialise_operands(region)
        for value in graph.outputs.values():
            self._materialise_first(value)

    # -- what values are -----------------------------------------------------------------------------

    def view(self, value: Value) -> View:
        """The root, input or constant whose rows hold a value."""
        offset, first = 0, False
        while value not in self.by_root and value.node.op.name in VIEWS and value not in self.constants:
            step = step_of_view(value.node)
            assert step is not None  # checked at the start
            value, offset, first = step.base, offset + step.offset, first or step.first
        return View(value, offset, first)

    def origin(self, value: Value) -> View:
        """What the copy of a value, itself a root, is made from."""
        step = step_of_view(value.node) if value.node.op.name in VIEWS else None
        if step is None:
            return View(value)
        view = self.view(step.base)
        return View(view.base, step.offset + view.offset, step.first or view.first)

    def in_buffer(self, value: Value) -> bool:
        """Whether the rows of a value lie in a buffer of ours, a row per row."""
        view = self.view(value)
        return view.base in self.by_root and not view.first

    # -- forming -------------------------------------------------------------------------------------

    def _add(self, kind: Kind, node: Node) -> Region:
        region = self.by_root[node.outputs[0]] = Region(kind, node.outputs[0], [node])
        self._home[node] = region
        return region

    def _single_user(self, value: Value) -> Node | None:
        users = self.graph.users.get(value, ())
        return users[0] if self.graph.use_counts[value] == 1 and users else None

    def _add_product(self, node: Node, coded: Callable[[Value], object]) -> None:
        """A linear node and the elementwise ops behind it that nobody else reads in between."""
        nodes, value = [node], node.outputs[0]
        while "tails" not in self._apart and (user := self._single_user(value)) is not None:
            result = user.outputs[0]
            fits = user.op.name in ELEMENTWISE and user not in self._home and result.dtype == f32
            if not fits or rows_of(result) != rows_of(value) or self._sum_apart(user):
                break
            nodes.append(user)
            value = result
        read = {v for n in nodes[1:] for v in n.inputs if v.node not in nodes and v.node.op.name != "full"}
        if coded(value) and not read <= self.constants:
            nodes, value = [node], node.outputs[0]  # it reads another product, and is quantised at once
        region = self.by_root[value] = Region("gemm", value, nodes)
        self._home.update(dict.fromkeys(nodes, region))

    def _sum_apart(self, node: Node) -> bool:
        """Whether a node is a residual sum, and these are apart."""
        residual = node.op.name == "add" and not any(v in self.constants for v in node.inputs)
        return residual and "residual-norm" in self._apart

    def _add_row_op(self, node: Node) -> None:
        """Into the region of its only user where it fits there, else into one of its own."""
        value = node.outputs[0]
        user = self._single_user(value)
        region = None if user is None else self._home.get(user)
        if user is not None and region is not None and self._fits(node, user, region):
            region.inside.append(node)
            self._home[node] = region
        elif value.dtype != f32:
            raise refuse(self.graph, node, f"its {value.dtype} result would have to be stored")
        else:
            self._add("rows", node)

    def _fits(self, node: Node, user: Node, region: Region) -> bool:
        value = node.outputs[0]
        if "rows" in self._apart and value.dtype == f32:
            return False
        if self._sum_apart(node) or ("rope-append" in self._apart and region.kind == "append"):
            return False
        own, root = rows_of(value), rows_of(region.value)
        reads_rows = (
            *PICKED,
            "mean_pool",
            "linear",
            "attention",
            "cached_attention",
            "gated_delta_rule",
            "concat",
        )
        if own.owner != root.owner or user.op.name in reads_rows:
            return False
        if region.kind == "gemm":
            return node.op.name in ELEMENTWISE
        if region.kind not in ("rows", "append") or (region.kind == "append" and node.op.name in PICKED):
            return False
        whole = node.op.name in (*WHOLE_ROW, *PICKED, "mean_pool") or user.op.name in WHOLE_ROW
        return strip(own.inner) == strip(root.inner) if whole else True

    def _materialise_operands(self, region: Region) -> None:
        """Give a buffer to what a kernel must find there: x of products, q, k, v, pooled values, parts."""
        for node in region.inside:
            wanted: tuple[Value, ...] = ()
            if node.op.name in ("linear", "mean_pool", "select_token", "cached_attention"):
                wanted = node.inputs[:1]
            elif node.op.name == "attention":
                wanted = node.inputs[:3]
            elif node.op.name == "gated_delta_rule":
                wanted = node.inputs[:5]
            elif region.kind == "gemm":
                wanted = tuple(
                    v
                    for v in node.inputs
                    if v.node not in region.inside and v.node.op.name != "full" and v not in self.constants
                )
            for value in wanted:
                if not self.in_buffer(value):
                    self._copy(value)
            for value in node.inputs:
                if not value.type.state:
                    self._materialise_first(value)

    def _materialise_first(self, value: Value) -> None:
        """The first token's row of an input is read from a copy."""
        view = self.view(value)
        if view.first and view.base.node.op.name == "input":
            self._copy(view.base)

    def _copy(self, value: Value) -> None:
        if value.dtype != f32 or value in self.constants or value.node.op.name in ("full", "rope_tables"):
            raise refuse(self.graph, value.node, "its result is needed as f32 rows")
        self.by_root.setdefault(value, Region("rows", value))

    # -- what is not supported -----------------------------------------------------------------------

    def _check(self, node: Node) -> None:
        """Raise `BackendError` for a node that no kernel runs."""
        name = node.op.name
        if name not in SUPPORTED or name == "rope_tables":
            raise refuse(self.graph, node, "no kernel runs it")
        for value in node.outputs:
            if not value.type.state:
                rows_of(value)
        if name in VIEWS and step_of_view(node) is None:
            raise refuse(self.graph, node, "it moves data between rows")
        if name == "linear":
            self._check_product(node)
        elif name == "gather":
            self._check_gather(node)
        elif name in ("attention", "cached_attention", "mean_pool"):
            self._check_mask(node)
        elif name == "rope" and not all(v in self.host for v in node.inputs[1:]):
            raise refuse(self.graph, node, "its tables are not made by rope_tables from positions")
        elif name == "select_token" and node.inputs[1] not in self.host:
            raise refuse(self.graph, node, "its index is not computed from inputs")
        elif _joins_tokens(node):
            self._check_join(node)
        elif name in ("softmax", "concat") and node.attrs["axis"] not in (-1, node.outputs[0].rank - 1):
            raise refuse(self.graph, node, "only the last axis is supported")
        if name == "select_token" and rows_of(node.inputs[0]).axis != TOKENS:
            raise refuse(self.graph, node, f"its tokens are not those of {TOKENS}")
        if name == "concat" and not _joins_tokens(node) and len(strip(rows_of(node.outputs[0]).inner)) > 1:
            raise refuse(self.graph, node, "only rows of one axis are supported")
        if name in WHOLE_ROW and not rows_of(node.outputs[0]).inner:
            raise refuse(self.graph, node, "it reduces over a batch axis")

    def _check_join(self, node: Node) -> None:
        if any(rows_of(v).domain != "token" for v in node.inputs):
            raise refuse(self.graph, node, "it joins tokens with what is none")

    def _check_product(self, node: Node) -> None:
        x, weight = node.inputs
        if weight not in self.constants:
            raise refuse(self.graph, node, "its weight is not constant")
        if len(strip(rows_of(x).inner)) > 1:
            raise refuse(self.graph, node, f"x has rows of shape {list(rows_of(x).inner)}")

    def _check_gather(self, node: Node) -> None:
        table, ids = node.inputs
        given = ids.node.op.name == "input" and ids.shape[:1] == (BATCH,) and rows_of(ids).width == 1
        if table not in self.constants or not (given or ids in self.host):
            raise refuse(
                self.graph, node, "it wants a constant table, and ids that are an input or made from inputs"
            )

    def _check_mask(self, node: Node) -> None:
        operands = dict(zip(node.op.operand_names, node.operands, strict=True))
        mask, sinks = operands.get("mask"), operands.get("sinks")
        if mask is not None and (mask.node.op.name != "input" or mask.shape != (BATCH, TOKENS)):
            raise refuse(self.graph, node, f"its mask is not an input [{BATCH}, {TOKENS}]")
        bias = operands.get("bias")
        limited = mask is not None or bias is not None or node.attrs.get("causal") or node.attrs.get("window")
        if node.op.name == "attention" and node.inputs[0].dim(1) != node.inputs[1].dim(1) and limited:
            raise refuse(self.graph, node, "keys of other tokens are seen by all queries or none")
        if bias is not None and (buckets_of(bias) is None or table_of(bias) not in self.constants):
            raise refuse(self.graph, node, "only a bias by head and distance is supported")
        if sinks is not None and sinks not in self.constants:
            raise refuse(self.graph, node, "its sinks are not constant")


def _joins_tokens(node: Node) -> bool:
    """Whether a node puts the tokens of several axes one behind the other."""
    return node.op.name == "concat" and node.attrs["axis"] == 1 and node.outputs[0].shape[:1] == (BATCH,)
