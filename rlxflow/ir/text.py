"""The text form of a graph: one line per node, stable, diffable, and parsed back to an equal graph.

    graph "name" {
      %0 = input {key="input_ids" dtype=!i64 shape=(<B> <S>)} : i64[B,S]
      %1 = param {key="embed.weight" dtype=!f32 shape=(100 32)} : f32[100,32] @ "embed"
      %2 = gather(%1, %0) : f32[B,S,32] @ "embed"
      input "input_ids" = %0
      output "hidden" = %2
    }

Attributes equal to their default are left out. An absent optional operand is `_`. A node with several
outputs is written `%2:2 = …` and read as `%2.0`, `%2.1`. A state is written `state "name" = %3 -> %9`, its
value before and after. `@` lists the stage paths.
"""

from __future__ import annotations

from typing import Any

from rlxflow.errors import GraphError, nearest, printable
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.graph import Graph, State, attr_text, type_text
from rlxflow.ir.op import OPS, find_op
from rlxflow.ir.scan import Line, malformed
from rlxflow.ir.values import Node, Value


def print_graph(graph: Graph) -> str:
    """The text form, ending in a newline."""
    names: dict[Value | None, str] = {None: "_"}
    lines = [f"graph {attr_text(graph.name)} {{"]
    for i, node in enumerate(graph.nodes):
        many = len(node.outputs) > 1
        for value in node.outputs:
            names[value] = f"%{i}.{value.index}" if many else f"%{i}"
        lines.append("  " + _node_text(graph, node, names, f"%{i}:{len(node.outputs)}" if many else f"%{i}"))
    lines += [f"  input {attr_text(k)} = {_name(names, v)}" for k, v in graph.inputs.items()]
    lines += [
        f"  state {attr_text(s.name)} = {_name(names, s.before)} -> {_name(names, s.after)}"
        for s in graph.states
    ]
    lines += [f"  output {attr_text(k)} = {_name(names, v)}" for k, v in graph.outputs.items()]
    return "\n".join([*lines, "}", ""])


def _name(names: dict[Value | None, str], value: Value | None) -> str:
    return names.get(value, "%undefined")  # only a graph that the verifier refuses has undefined values


def _node_text(graph: Graph, node: Node, names: dict[Value | None, str], label: str) -> str:
    operands = list(node.operands)
    while operands and operands[-1] is None:
        operands.pop()
    args = ", ".join(_name(names, v) for v in operands)
    attrs = " ".join(
        f"{name}={attr_text(value)}"
        for name, value in node.attrs.items()
        if not _is_default(node, name, value)
    )
    text = f"{label} = {node.op.name}" + (f"({args})" if args else "") + (f" {{{attrs}}}" if attrs else "")
    text += " : " + ", ".join(type_text(v.type) for v in node.outputs)
    paths = graph.stages.get(node, ())
    return text + (" @ " + " ".join(attr_text(p) for p in paths) if paths else "")


def _is_default(node: Node, name: str, value: object) -> bool:
    spec = node.op.attrs.get(name)
    return spec is not None and not spec.required and attr_text(value) == attr_text(spec.default)


def parse_graph(text: str) -> Graph:
    """The graph of a text form; raises `GraphError` with the line that is wrong.

    Types are inferred anew and must be the ones written.
    """
    parser = _Parser()
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        try:
            parser.line(Line(line))
        except GraphError as error:
            error.where = f"line {number}"
            raise
    return parser.finish(f"line {len(lines)}")


class _Parser:
    def __init__(self) -> None:
        self.name: str | None = None
        self.closed = False
        self.builder = GraphBuilder()
        self.values: dict[str, Value] = {}
        self.inputs: dict[str, Value] = {}
        self.outputs: dict[str, Value] = {}
        self.states: dict[str, State] = {}

    def line(self, line: Line) -> None:
        first = line.take()
        if not first:
            return
        if self.closed:
            raise malformed("text after the closing brace")
        if self.name is None:
            if first != "graph":
                raise malformed('a graph starts with: graph "name" {')
            self.name = line.string()
            line.expect("{")
        elif first == "}":
            self.closed = True
        elif first.startswith("%"):
            self.node(first, line)
        else:
            self.binding(first, line)
        line.expect("")

    def node(self, label: str, line: Line) -> None:
        count = line.take() if line.skip(":") else "1"
        line.expect("=")
        op_name = line.take()
        op = find_op(op_name)
        if op is None:
            hint = nearest(op_name, OPS) or "see `rlxflow list ops`"
            raise malformed(f"no op {printable(op_name, 60)!r}", hint)
        operands = self.operands(line) if line.skip("(") else []
        attrs = self.attrs(line) if line.skip("{") else {}
        line.expect(":")
        types = self.types(line)
        paths = []
        if line.skip("@"):
            while line.peek():
                paths.append(line.string())
        with self.builder.scope(*paths):
            outputs = self.builder.node(op, *op.bind(tuple(operands), attrs)).outputs
        inferred = [type_text(v.type) for v in outputs]
        if types != inferred or count != str(len(outputs)):
            raise malformed(f"{op_name} gives {', '.join(inferred)}, the text says {', '.join(types)}")
        for value in outputs:
            self.define(f"{label}.{value.index}" if len(outputs) > 1 else label, value)

    def operands(self, line: Line) -> list[Value | None]:
        operands: list[Value | None] = []
        while True:
            operands.append(None if line.skip("_") else self.used(line.take()))
            if not line.skip(","):
                line.expect(")")
                return operands

    def attrs(self, line: Line) -> dict[str, Any]:
        attrs: dict[str, Any] = {}
        while not line.skip("}"):
            name = line.take()
            if name in attrs:
                raise malformed(f"attribute {printable(name, 60)!r} is given twice")
            line.expect("=")
            attrs[name] = line.value()
        return attrs

    def types(self, line: Line) -> list[str]:
        types = [line.take()]
        while line.skip(","):
            types.append(line.take())
        return types

    def binding(self, kind: str, line: Line) -> None:
        tables: dict[str, dict[str, Any]] = {
            "input": self.inputs,
            "output": self.outputs,
            "state": self.states,
        }
        if kind not in tables:
            raise malformed(f"no binding {printable(kind, 60)!r}", "input, state or output")
        name = line.string()
        if name in tables[kind]:
            raise malformed(f"{kind} {printable(name)!r} is given twice")
        line.expect("=")
        value = self.used(line.take())
        if kind == "state":
            line.expect("->")
            self.states[name] = State(name, value, self.used(line.take()))
        else:
            tables[kind][name] = value

    def define(self, label: str, value: Value) -> None:
        if label in self.values:
            raise malformed(f"{label} is defined twice")
        self.values[label] = value

    def used(self, label: str) -> Value:
        if label not in self.values:
            raise malformed(f"{printable(label or 'the end of the line', 60)!r} is not a value defined above")
        return self.values[label]

    def finish(self, where: str) -> Graph:
        if self.name is None or not self.closed:
            error = malformed("the text ends before the graph does")
            error.where = where
            raise error
        return self.builder.finish(self.name, self.inputs, self.outputs, tuple(self.states.values()))
