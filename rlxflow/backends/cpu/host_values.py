"""Values that are computed with NumPy before the kernels run: positions, indices, tables of rotations.

They have one number (or a short row) per valid token or sequence of the call; a kernel would spend longer on
asking for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from rlxflow.backends.cpu.domain import rows_of, rows_of_shape
from rlxflow.backends.cpu.ragged import Ragged
from rlxflow.backends.cpu.rope_rows import rope_rows
from rlxflow.dtypes import Array
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value

ARITHMETIC = ("add", "sub", "mul", "maximum", "minimum")
MOVES = ("reshape", "broadcast_to")
LEAVES = ("input", "iota", "full", "constant")


def host_values(graph: Graph) -> set[Value]:
    """What is computed on the host: integers, one per token or sequence, and rope tables made from them."""
    found: set[Value] = set()
    for node in graph.nodes:
        if node.op.name == "rope_tables":
            if all(v in found for v in node.inputs):
                found.update(node.outputs)
            continue
        (value, *_) = node.outputs
        if value.dtype.kind == "int" and _is_number_per_row(value):
            known = node.op.name in LEAVES or (
                node.op.name in (*ARITHMETIC, *MOVES) and all(v in found for v in node.inputs)
            )
            found.update(node.outputs if known else ())
    return found


def _is_number_per_row(value: Value) -> bool:
    rows = rows_of_shape(value.shape)
    return rows is not None and rows.width == 1


class HostValues:
    """Computes some host values for a call."""

    def __init__(self, wanted: tuple[Value, ...]) -> None:
        self._wanted = wanted
        self._steps: list[tuple[Callable[..., Any], Node]] = []
        self._fixed: dict[Value, Array] = {}
        seen: set[Node] = set()
        for value in wanted:
            self._add(value.node, seen)

    def _add(self, node: Node, seen: set[Node]) -> None:
        """The node after all it reads; such chains are a few nodes long."""
        if node in seen:
            return
        seen.add(node)
        for value in node.inputs:
            self._add(value.node, seen)
        if node.op.name in ("full", "constant"):
            reference: Any = node.op.reference_fn
            sizes = {"shape": ()} if node.op.name == "full" else {}  # one number for every row
            self._fixed[node.outputs[0]] = reference(**{**node.attrs, **sizes}).reshape(())
        elif node.op.name == "rope_tables":
            self._steps.append((rope_rows(node), node))
        else:
            self._steps.append((_step(node), node))

    def compute(self, inputs: Mapping[str, Array], ragged: Ragged) -> dict[Value, Array]:
        """Value → [tokens, …] or [sequences, …] of the call, integers as i32."""
        found = dict(self._fixed)
        for run, node in self._steps:
            result = run(inputs, ragged, found)
            found.update(zip(node.outputs, result if len(node.outputs) > 1 else (result,), strict=True))
        return {v: _ready(found[v]) for v in self._wanted}


def _ready(array: Array) -> Array:
    kind = np.float32 if array.dtype.kind == "f" else np.int32
    return np.ascontiguousarray(array, kind)


def _step(node: Node) -> Callable[[Mapping[str, Array], Ragged, dict[Value, Array]], Array]:
    if node.op.name == "input":
        return partial(_input, node.attrs["key"], rows_of(node.outputs[0]).domain == "token")
    if node.op.name == "iota":
        return lambda inputs, ragged, found: ragged.position
    domain = rows_of(node.outputs[0]).domain
    spread = [domain == "token" and rows_of(v).domain == "sequence" for v in node.inputs]
    reference: Any = node.op.reference_fn

    def run(inputs: Mapping[str, Array], ragged: Ragged, found: dict[Value, Array]) -> Array:
        operands = [
            found[v][ragged.sequence] if wide else found[v]
            for v, wide in zip(node.inputs, spread, strict=True)
        ]
        return operands[0] if node.op.name in MOVES else np.asarray(reference(*operands))

    return run


def _input(
    key: str, token: bool, inputs: Mapping[str, Array], ragged: Ragged, found: dict[Value, Array]
) -> Array:
    return inputs[key].ravel()[ragged.source if token else ragged.batch_row]
