"""One walk over a graph in which a function may replace nodes."""

from __future__ import annotations

from collections.abc import Callable

from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph, State
from rlxflow.ir.op import emitting
from rlxflow.ir.values import Node, Value

# The old node and its operands in the new graph → the value that takes its place, or None to keep it.
Rewrite = Callable[[Node, tuple[Value | None, ...]], Value | None]


def rewritten(graph: Graph, rewrite: Rewrite) -> Graph:
    """The graph with every node that `rewrite` replaces replaced; the same object where it replaces none.

    What `rewrite` emits carries the node's stage paths. It is asked about nodes with one output only.
    """
    builder = GraphBuilder()
    moved: dict[Value, Value] = {}
    changed = False
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
                    changed = True
    return renamed(graph, builder, moved) if changed else graph


def renamed(graph: Graph, builder: GraphBuilder, moved: dict[Value, Value]) -> Graph:
    """What was built, with the inputs, outputs and states of `graph` in their new place."""
    return builder.finish(
        graph.name,
        {name: moved[v] for name, v in graph.inputs.items()},
        {name: moved[v] for name, v in graph.outputs.items()},
        tuple(State(s.name, moved[s.before], moved[s.after]) for s in graph.states),
    )
