"""The text form of a graph: one line per node, stable, diffable, and parsed back to an equal graph.

    graph "name" {
      %input_ids = input {key="input_ids" dtype=!i64 shape=(<B> <S>)} : i64[B,S]
      %0 = param {key="embed.weight" dtype=!f32 shape=(100 32)} : f32[100,32]   @ "embed"
      %1 = gather(%0, %input_ids) : f32[B,S,32]
      output "hidden" = %1
    }

Attributes equal to their default are left out. An absent optional operand is `_`. A node with several
outputs is written `%2:2 = …` and read as `%2.0`, `%2.1`. `@` lists the stage paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rlxflow.dtypes import DTYPES
from rlxflow.errors import GraphError, nearest, printable
from rlxflow.ir.builder import GraphBuilder
from rlxflow.ir.dims import dim
from rlxflow.ir.graph import Graph, State, attr_text, type_text
from rlxflow.ir.op import OPS
from rlxflow.ir.values import Node, Value


def print_graph(graph: Graph) -> str:
    """The text form, ending in a newline."""
    names: dict[Value, str] = {}
    lines = [f"graph {attr_text(graph.name)} {{"]
    for i, node in enumerate(graph.nodes):
        many = len(node.outputs) > 1
        for value in node.outputs:
            names[value] = f"%{i}.{value.index}" if many else f"%{i}"
        lines.append("  " + _node_text(graph, node, names, f"%{i}:{len(node.outputs)}" if many else f"%{i}"))
    lines += [f"  input {attr_text(k)} = {names[v]}" for k, v in graph.inputs.items()]
    lines += [f"  state {attr_text(s.name)} = {names[s.before]} -> {names[s.after]}" for s in graph.states]
    lines += [f"  output {attr_text(k)} = {names[v]}" for k, v in graph.outputs.items()]
    return "\n".join([*lines, "}", ""])


def _node_text(graph: Graph, node: Node, names: dict[Value, str], label: str) -> str:
    operands = list(node.operands)
    while operands and operands[-1] is None:
        operands.pop()
    args = ", ".join("_" if v is None else names[v] for v in operands)
    attrs = " ".join(
        f"{n}={attr_text(node.attrs[n])}"
        for n, s in node.op.attrs.items()
        if s.required or node.attrs[n] != s.default
    )
    text = f"{label} = {node.op.name}" + (f"({args})" if args else "") + (f" {{{attrs}}}" if attrs else "")
    text += " : " + ", ".join(type_text(v.type) for v in node.outputs)
    paths = graph.stages.get(node, ())
    return text + (" @ " + " ".join(attr_text(p) for p in paths) if paths else "")


_NODE = re.compile(r"%(\d+)(?::\d+)? = (\w+)(?:\(([^)]*)\))?(?: \{(.*)\})? : (.*?)(?: @ (.*))?")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|x\'[0-9a-f]*\'|<[^>]*>|[()]|[^\s()="<>]+|=')


def parse_graph(text: str) -> Graph:
    """The graph of a text form; raises `GraphError` with the line that is wrong.

    Types are inferred anew and must be the ones written.
    """
    parser = _Parser()
    for number, line in enumerate(text.splitlines(), 1):
        try:
            parser.line(line.strip())
        except GraphError as error:
            error.where = error.where or f"line {number}"
            raise
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise _bad(f"cannot read {printable(line.strip())!r}", f"line {number}") from error
    return parser.finish()


def _bad(
    message: str, where: str = "", hint: str = "compare with a text that `rlxflow build` printed"
) -> GraphError:
    return GraphError(message, code="RLX-I007", where=where, hint=hint)


class _Parser:
    def __init__(self) -> None:
        self.name: str | None = None
        self.closed = False
        self.builder = GraphBuilder()
        self.values: dict[str, Value] = {}
        self.inputs: dict[str, Value] = {}
        self.outputs: dict[str, Value] = {}
        self.states: list[State] = []

    def line(self, line: str) -> None:
        if not line:
            return
        if self.closed:
            raise _bad("text after the closing brace")
        if self.name is None:
            if not line.startswith("graph ") or not line.endswith("{"):
                raise _bad('a graph starts with: graph "name" {')
            self.name = _values(line[len("graph ") : -1])[0]
        elif line == "}":
            self.closed = True
        elif line.startswith("%"):
            self.node(line)
        else:
            self.binding(line)

    def node(self, line: str) -> None:
        match = _NODE.fullmatch(line)
        if match is None:
            raise _bad(f"cannot read {printable(line)!r}")
        label, op_name, args, attrs, types, paths = match.groups()
        op = OPS.get(op_name)
        if op is None:
            raise _bad(f"no op {op_name!r}", hint=nearest(op_name, OPS) or "see `rlxflow list ops`")
        operands = [None if a == "_" else self.values[a] for a in (args.split(", ") if args else [])]
        bound = op.bind(tuple(operands), _attrs(attrs or ""))
        with self.builder.scope(*(_values(paths) if paths else ())):
            node = self.builder.node(op, *bound)
        written = ", ".join(type_text(v.type) for v in node.outputs)
        if written != types:
            raise _bad(f"{op_name} gives {written}, the text says {types}")
        for value in node.outputs:
            self.values[f"%{label}.{value.index}" if len(node.outputs) > 1 else f"%{label}"] = value

    def binding(self, line: str) -> None:
        kind, rest = line.split(" ", 1)
        name, target = rest.rsplit(" = ", 1)
        (key,) = _values(name)
        if kind == "input":
            self.inputs[key] = self.values[target]
        elif kind == "output":
            self.outputs[key] = self.values[target]
        elif kind == "state":
            before, after = target.split(" -> ")
            self.states.append(State(key, self.values[before], self.values[after]))
        else:
            raise _bad(f"no binding {printable(kind)!r}", hint="input, state or output")

    def finish(self) -> Graph:
        if self.name is None or not self.closed:
            raise _bad("the text ends before the graph does")
        return self.builder.finish(self.name, self.inputs, self.outputs, tuple(self.states))


def _attrs(text: str) -> dict[str, Any]:
    tokens = iter(_TOKEN.findall(text))
    attrs = {}
    for name in tokens:
        if next(tokens, "") != "=":
            raise _bad(f"attribute {printable(name)!r} has no value")
        attrs[name] = _value(next(tokens), tokens)
    return attrs


def _values(text: str) -> list[Any]:
    tokens = iter(_TOKEN.findall(text))
    return [_value(t, tokens) for t in tokens]


def _value(token: str, rest: Iterator[str]) -> Any:
    """One attribute value; nested tuples are read with an explicit stack."""
    stack: list[list[Any]] = []
    while True:
        if token == "(":
            stack.append([])
        else:
            done = tuple(stack.pop()) if token == ")" else _scalar(token)
            if not stack:
                return done
            stack[-1].append(done)
        token = next(rest, "")
        if not token:
            raise _bad("a list is not closed")


_WORDS = {"True": True, "False": False, "None": None}


def _scalar(token: str) -> Any:
    if token in _WORDS:
        return _WORDS[token]
    if token.startswith('"'):
        return token[1:-1].encode("latin-1", "backslashreplace").decode("unicode_escape")
    if token.startswith("!"):
        return DTYPES[token[1:]]
    if token.startswith("<"):
        return dim(token[1:-1])
    if token.startswith("x'"):
        return bytes.fromhex(token[2:-1])
    return float(token) if any(c in token for c in ".einf") else int(token)
