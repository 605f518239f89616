"""Building graphs: emission with type checks, one identity per distinct node, and stage paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rlxflow.errors import GraphError
from rlxflow.ir.graph import Graph, State, attrs_text, live_nodes
from rlxflow.ir.op import Op, emitting
from rlxflow.ir.values import Node, Type, Value


def never(op: Op[..., Any]) -> bool:
    """Expand no op."""
    return False


class GraphBuilder:
    """Collects nodes. Ops for which `expand` is true are replaced by their `decompose` as they are emitted.

    >>> b = GraphBuilder()
    >>> with emitting(b):
    ...     y = add(x, x)
    >>> graph = b.finish("double", {"x": x}, {"y": y})
    """

    def __init__(self, expand: Callable[[Op[..., Any]], bool] = never) -> None:
        self._expand = expand
        self._interned: dict[tuple[Any, ...], Node] = {}
        self._stages: dict[Node, dict[str, None]] = {}  # every node of this builder, with its ordered paths
        self._path: tuple[str, ...] = ()

    @contextmanager
    def scope(self, *paths: str) -> Iterator[None]:
        """Nodes emitted within the block carry these stage paths."""
        saved, self._path = self._path, paths
        try:
            yield
        finally:
            self._path = saved

    def call(self, op: Op[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call of an op row under this builder."""
        return self.emit(op, *op.bind(args, kwargs))

    def emit(self, op: Op[..., Any], operands: tuple[Value | None, ...], attrs: dict[str, Any]) -> Any:
        """The output of the node (a tuple where the op has several)."""
        if op.decompose_fn is not None and self._expand(op):
            self._infer(op, operands, attrs)  # a misuse is reported in the words of the op that was written
            with emitting(self):
                return op.decompose_fn(*operands, **attrs)
        outputs = self.node(op, operands, attrs).outputs
        return outputs[0] if len(outputs) == 1 else outputs

    def node(self, op: Op[..., Any], operands: tuple[Value | None, ...], attrs: Mapping[str, Any]) -> Node:
        """The node with this op, operands and attributes: the existing one if there is one."""
        key = (op, operands, attrs_text(attrs))
        node = self._interned.get(key)
        if node is None:
            types = self._infer(op, operands, attrs)
            node = self._interned[key] = Node(op, operands, attrs, types)
            self._stages[node] = {}
        self._stages[node].update(dict.fromkeys(self._path))
        return node

    def _infer(
        self, op: Op[..., Any], operands: tuple[Value | None, ...], attrs: Mapping[str, Any]
    ) -> tuple[Type, ...]:
        try:
            for value in operands:
                if value is not None and not self.owns(value):
                    hint = "use values of this build only; do not keep any between builds"
                    raise op.error(f"operand {value!r} belongs to another graph", hint, code="RLX-I012")
            return op.infer(operands, dict(attrs))
        except GraphError as error:
            error.where = error.where or ", ".join(self._path)
            raise

    def owns(self, value: Value) -> bool:
        """Whether a value was made by this builder."""
        return value.node in self._stages

    def finish(
        self,
        name: str,
        inputs: Mapping[str, Value],
        outputs: Mapping[str, Value],
        states: tuple[State, ...] = (),
    ) -> Graph:
        """The graph of what has been built."""
        nodes = live_nodes(self._interned.values(), inputs, outputs, states)
        stages = {n: tuple(self._stages[n]) for n in nodes if self._stages.get(n)}
        return Graph(name, dict(inputs), dict(outputs), states, nodes, stages)


def rebuild(graph: Graph, expand: Callable[[Op[..., Any]], bool]) -> Graph:
    """The graph with every op for which `expand` is true replaced by its decomposition."""
    builder = GraphBuilder(expand)
    moved: dict[Value, Value] = {}
    with emitting(builder):
        for node in graph.nodes:
            operands = tuple(None if v is None else moved[v] for v in node.operands)
            with builder.scope(*graph.stages.get(node, ())):
                result = builder.emit(node.op, operands, dict(node.attrs))
            moved.update(zip(node.outputs, result if isinstance(result, tuple) else (result,), strict=True))
    return builder.finish(
        graph.name,
        {name: moved[v] for name, v in graph.inputs.items()},
        {name: moved[v] for name, v in graph.outputs.items()},
        tuple(State(s.name, moved[s.before], moved[s.after]) for s in graph.states),
    )
