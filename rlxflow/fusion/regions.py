"""Elementwise regions: an elementwise node and the elementwise nodes that it alone reads become one op."""

from __future__ import annotations

from collections.abc import Callable

from rlxflow.fusion.rewriting import renamed
from rlxflow.fusion.weight_time import weight_only
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Node, Value
from rlxflow.ops.region import elementwise_region, program_of
from rlxflow.quick_dataclass import dataclass

MAX_NODES = 32
MAX_OPERANDS = 8

_ELEMENTWISE = frozenset(
    [
        *("add", "sub", "mul", "div", "maximum", "minimum", "where", "less", "cast", "neg", "exp", "tanh"),
        *("sqrt", "rsqrt", "gelu", "gelu_tanh", "quick_gelu", "silu", "relu", "relu2", "sigmoid"),
    ]
)


@dataclass(frozen=True, eq=False)
class _Region:
    nodes: tuple[Node, ...]
    operands: tuple[Value, ...]


def form_regions(graph: Graph, claims: Callable[[Node], bool] | None) -> Graph:
    """The graph with its elementwise regions as one op each, where the backend claims that op.

    A region has two nodes or more, all of its result's shape, at most MAX_NODES of them, and reads at most
    MAX_OPERANDS values. No value inside is read outside, so nothing is computed twice. Weights are worked out
    at load and stay out of regions.
    """
    regions = _regions(graph)
    if not regions:
        return graph
    inside = {node for region in regions.values() for node in region.nodes}
    builder = GraphBuilder()
    moved: dict[Value, Value] = {}
    with emitting(builder):
        for node in graph.nodes:
            if node in regions:
                _emit_region(graph, builder, regions[node], moved, claims)
            elif node not in inside:
                with builder.scope(*graph.stages.get(node, ())):
                    _emit_node(builder, node, moved)
    return renamed(graph, builder, moved)


def _emit_region(
    graph: Graph,
    builder: GraphBuilder,
    region: _Region,
    moved: dict[Value, Value],
    claims: Callable[[Node], bool] | None,
) -> None:
    operands = tuple(moved[v] for v in region.operands)
    attrs = {"program": program_of(region.nodes, region.operands)}
    types = elementwise_region.infer(operands, attrs)
    if claims is None or claims(Node(elementwise_region, operands, attrs, types)):
        with builder.scope(*dict.fromkeys(p for n in region.nodes for p in graph.stages.get(n, ()))):
            made = builder.node(elementwise_region, operands, attrs)
        moved[region.nodes[-1].outputs[0]] = made.outputs[0]
        return
    for node in region.nodes:
        with builder.scope(*graph.stages.get(node, ())):
            _emit_node(builder, node, moved)


def _emit_node(builder: GraphBuilder, node: Node, moved: dict[Value, Value]) -> None:
    operands = tuple(None if v is None else moved[v] for v in node.operands)
    moved.update(zip(node.outputs, builder.node(node.op, operands, node.attrs).outputs, strict=True))


def _regions(graph: Graph) -> dict[Node, _Region]:
    """Result node → region; grown upwards from the last nodes first."""
    kept = set(graph.outputs.values())
    place = {node: i for i, node in enumerate(graph.nodes)}
    weights = weight_only(graph)
    taken: set[Node] = set()
    found: dict[Node, _Region] = {}
    for root in reversed(graph.nodes):
        if root in taken or root.op.name not in _ELEMENTWISE or root in weights:
            continue
        nodes = _grow(graph, root, kept, weights)
        if len(nodes) > 1:
            taken |= nodes
            ordered = tuple(sorted(nodes, key=place.__getitem__))
            found[root] = _Region(ordered, _reads(nodes, ordered))
    return found


def _grow(graph: Graph, root: Node, kept: set[Value], weights: set[Node]) -> set[Node]:
    nodes = {root}
    waiting = list(root.inputs)
    while waiting:
        value = waiting.pop()
        node = value.node
        if node in nodes or node.op.name not in _ELEMENTWISE or node in weights or value in kept:
            continue
        if value.shape != root.outputs[0].shape or not nodes.issuperset(graph.users[value]):
            continue
        grown = {*nodes, node}
        if len(grown) <= MAX_NODES and len(_reads(grown, tuple(grown))) <= MAX_OPERANDS:
            nodes = grown
            waiting = [v for n in nodes for v in n.inputs]
    return nodes


def _reads(nodes: set[Node], ordered: tuple[Node, ...]) -> tuple[Value, ...]:
    """The values that nodes read from outside, each once."""
    return tuple(dict.fromkeys(v for n in ordered for v in n.inputs if v.node not in nodes))
