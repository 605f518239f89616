"""One walk over a graph in which a function may replace nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph, State
from rlxflow.ir.op import Op, emitting
from rlxflow.ir.values import Node, Value

# The old node and its operands in the new graph → the value that takes its place, or None to keep it.
Rewrite = Callable[[Node, tuple[Value | None, ...]], Value | None]


def rewritten(graph: Graph, rewrite: Rewrite) -> Graph:
    """The graph with every node that `rewrite` replaces replaced; the same object where it replaces none.

    What `rewrite` emits carries the node's stage paths. It is asked about nodes with one output only, first
    about all of the graph as it is: most passes find nothing in most graphs, and then nothing is rebuilt.
    """
    if not _finds_something(graph, rewrite):
        return graph
    builder = GraphBuilder()
    moved: dict[Value, Value] = {}
    with emitting(builder):
        for node in graph.nodes:
            operands = tuple(None if v is None else moved[v] for v in node.operands)
            with builder.scope(*graph.stages.get(node, ())):
                new = rewrite(node, operands) if len(node.outputs) == 1 else None
                if new is None:
                    moved.update(
                        zip(node.outputs, builder.node(node.op, operands, node.attrs).outputs, strict=True)
                    )
                else:
                    moved[node.outputs[0]] = new
    return renamed(graph, builder, moved)


class _Emitted(Exception):
    """A rewrite began to write a replacement."""


class _NothingYet:
    """An emitter for asking only."""

    def call(self, op: Op[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise _Emitted


def _finds_something(graph: Graph, rewrite: Rewrite) -> bool:
    try:
        with emitting(_NothingYet()):
            return any(
                len(node.outputs) == 1 and rewrite(node, node.operands) is not None for node in graph.nodes
            )
    except _Emitted:
        return True


def renamed(graph: Graph, builder: GraphBuilder, moved: dict[Value, Value]) -> Graph:
    """What was built, with the inputs, outputs and states of `graph` in their new place."""
    return builder.finish(
        graph.name,
        {name: moved[v] for name, v in graph.inputs.items()},
        {name: moved[v] for name, v in graph.outputs.items()},
        tuple(State(s.name, moved[s.before], moved[s.after]) for s in graph.states),
    )
