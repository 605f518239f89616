"""Values that are computed with NumPy before the kernels run: positions, indices, tables of rotations.

They have one number (or a short row) per valid token or sequence of the call; a kernel would spend longer on
asking for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from rlxflow.backends.cpu.domain import rows_of, rows_of_shape
from rlxflow.backends.cpu.layout import Layout
from rlxflow.backends.cpu.ragged import Ragged
from rlxflow.backends.cpu.rope_rows import Found, Step, rope_rows
from rlxflow.backends.rows import TOKENS
from rlxflow.dtypes import Array
from rlxflow.ir.dims import Dim
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value

ARITHMETIC = ("add", "sub", "mul", "maximum", "minimum")
MOVES = ("reshape", "broadcast_to")
LEAVES = ("input", "iota", "full", "constant")


def host_values(graph: Graph) -> set[Value]:
    """What is computed on the host: integers, one per token or sequence, and rope tables made from them, also
    side by side."""
    found: set[Value] = set()
    for node in graph.nodes:
        if node.op.name == "rope_tables" or _is_row_of_tables(node) or _is_token_of_tables(node):
            if all(v in found for v in node.inputs):
                found.update(node.outputs)
            continue
        (value, *_) = node.outputs
        if value.dtype.kind == "int" and _is_number_per_row(value):
            known = (
                node.op.name in LEAVES
                or _is_column_of_input(node)
                or (node.op.name in (*ARITHMETIC, *MOVES) and all(v in found for v in node.inputs))
            )
            found.update(node.outputs if known else ())
    return found


def _is_row_of_tables(node: Node) -> bool:
    value = node.outputs[0]
    return node.op.name == "concat" and value.dtype.is_float and node.attrs["axis"] in (-1, value.rank - 1)


def _is_token_of_tables(node: Node) -> bool:
    if node.op.name != "select_token" or not node.outputs[0].dtype.is_float:
        return False
    return rows_of(node.inputs[0]).axis == TOKENS


def _is_column_of_input(node: Node) -> bool:
    return node.op.name == "slice" and node.inputs[0].node.op.name == "input"


def _is_number_per_row(value: Value) -> bool:
    rows = rows_of_shape(value.shape)
    return rows is not None and rows.width == 1


class HostValues:
    """Computes some host values for a call.

    What depends on the inputs named in `lasting` alone is the same for equal layouts, and computed once for
    each. `past` names the input that positions start from; `axes` are those of tokens.
    """

    def __init__(
        self, wanted: tuple[Value, ...], lasting: tuple[str, ...], past: str | None, axes: tuple[Dim, ...]
    ) -> None:
        self._past, self._axes = past, axes
        self.lasting = frozenset(v for v in wanted if _inputs_of(v) <= {*lasting})
        self._once = self._steps([v for v in wanted if v in self.lasting], frozenset())
        self._always = self._steps([v for v in wanted if v not in self.lasting], self.lasting)
        self._kept = [v for v in wanted if v in self.lasting], [v for v in wanted if v not in self.lasting]

    def _steps(self, wanted: list[Value], known: frozenset[Value]) -> list[tuple[Step, Node]]:
        """What to run for some values, operands first, where others are known."""
        found: dict[Node, Step] = {}
        stack: list[tuple[Node, Step | None]] = [(v.node, None) for v in wanted]
        while stack:
            node, ready = stack.pop()
            if node in found or known.issuperset(node.outputs):
                continue
            if ready is not None:
                found[node] = ready
                continue
            step, reads = self._step(node)
            stack += [(node, step), *((v.node, None) for v in reads)]
        return [(step, node) for node, step in found.items()]

    def compute(self, inputs: Mapping[str, Array], layout: Layout, positions: Array) -> dict[Value, Array]:
        """Value → [tokens, …] or [sequences, …] of the call, integers as i32.

        `positions` are those of the tokens, counted from `past`.
        """
        once, always = self._kept
        if not layout.known and once:
            layout.known.update(self._run(self._once, once, inputs, layout, positions))
        return {**layout.known, **self._run(self._always, always, inputs, layout, positions)}

    def _run(
        self,
        steps: list[tuple[Step, Node]],
        wanted: list[Value],
        inputs: Mapping[str, Array],
        layout: Layout,
        positions: Array,
    ) -> dict[Value, Array]:
        found: Found = dict(layout.known)
        for run, node in steps:
            axis = rows_of(node.outputs[0]).axis
            ragged = layout.axes[0 if axis is None else self._axes.index(axis)]
            result = run(inputs, ragged, positions, found)
            found.update(zip(node.outputs, result if len(node.outputs) > 1 else (result,), strict=True))
        return {
            v: np.ascontiguousarray(found[v], np.float32 if v.dtype.is_float else np.int32) for v in wanted
        }

    def _step(self, node: Node) -> tuple[Step, tuple[Value, ...]]:
        """How to compute a node, and what it reads."""
        if node.op.name == "rope_tables":
            return rope_rows(node)
        if self._past is not None and _counts_from(node, self._past):
            return (lambda inputs, ragged, positions, found: positions), ()
        if node.op.name in ("full", "constant"):
            reference: Any = node.op.reference_fn
            sizes = {"shape": ()} if node.op.name == "full" else {}  # one number for every row
            fixed = reference(**{**node.attrs, **sizes}).reshape(())
            return (lambda inputs, ragged, positions, found: fixed), ()
        if node.op.name == "input":
            return partial(_input, node.attrs["key"], rows_of(node.outputs[0]).domain == "token", 0), ()
        if _is_column_of_input(node):
            key, token = node.inputs[0].node.attrs["key"], rows_of(node.outputs[0]).domain == "token"
            return partial(_input, key, token, node.attrs["start"]), ()
        if _is_row_of_tables(node):
            tables = node.inputs
            return (lambda *_: np.concatenate([_[3][v] for v in tables], -1)), tables
        if node.op.name == "select_token":
            return _picked(node), node.inputs
        if node.op.name == "iota":
            return (lambda inputs, ragged, positions, found: ragged.position), ()
        return _elementwise(node), node.inputs


def _picked(node: Node) -> Step:
    table, index = node.inputs

    def run(inputs: Mapping[str, Array], ragged: Ragged, positions: Array, found: Found) -> Array:
        if ragged.tokens == ragged.sequences:  # one token each
            return found[table]
        # an index beyond the tokens is refused where it picks the row of x that is rotated
        return found[table].take(ragged.offsets[:-1] + found[index], 0, mode="clip")

    return run


def _inputs_of(value: Value) -> set[str]:
    """The names of the inputs that a value depends on."""
    seen, stack = {value.node}, [value.node]
    while stack:
        fresh = {v.node for v in stack.pop().inputs} - seen
        seen |= fresh
        stack += fresh
    return {node.attrs["key"] for node in seen if node.op.name == "input"}


def _counts_from(node: Node, past: str) -> bool:
    """Whether a node is past_len[b] + s."""
    if node.op.name != "add":
        return False
    sources = [v.node.inputs[0].node if v.node.op.name == "reshape" else v.node for v in node.inputs]
    kinds = sorted((n.op.name, n.attrs.get("key", "")) for n in sources)
    return kinds == [("input", past), ("iota", "")] and rows_of(node.outputs[0]).domain == "token"


def _elementwise(node: Node) -> Step:
    domain = rows_of(node.outputs[0]).domain
    spread = [domain == "token" and rows_of(v).domain == "sequence" for v in node.inputs]
    reference: Any = node.op.reference_fn

    def run(inputs: Mapping[str, Array], ragged: Ragged, positions: Array, found: Found) -> Array:
        operands = [
            found[v][ragged.sequence] if wide else found[v]
            for v, wide in zip(node.inputs, spread, strict=True)
        ]
        return operands[0] if node.op.name in MOVES else np.asarray(reference(*operands))

    return run


def _input(
    key: str,
    token: bool,
    column: int,
    inputs: Mapping[str, Array],
    ragged: Ragged,
    positions: Array,
    found: Found,
) -> Array:
    """A column of an input's rows."""
    rows = ragged.source if token else ragged.batch_row
    array = inputs[key]
    if array.ndim == 1 + token:
        return array.ravel()[rows]
    return array.reshape(-1, array.shape[-1])[rows, column]
