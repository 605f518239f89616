"""The reference backend: every op by its NumPy reference, one sequence at a time.

Sequences of a batch run alone and without their padding wherever the ops allow it, so a sequence's numbers
do not depend on its company.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rlxflow.backends.base import MemoryUse, largest_stored
from rlxflow.backends.reference.executable import ReferenceExecutable
from rlxflow.dequantize import dequantize
from rlxflow.dtypes import Array
from rlxflow.errors import BackendError
from rlxflow.ir.graph import Graph
from rlxflow.ir.op import Op
from rlxflow.ir.values import Node
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.memory import check_memory
from rlxflow.weights.source import Weights

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile


@dataclass(frozen=True)
class ReferenceBackend:
    """Runs any op that has a NumPy reference. Weights are widened to `compute` (f32, or f64 as an oracle)."""

    name = "reference"
    compute: type[np.floating[Any]] = np.float32

    def runs(self, op: Op[..., Any]) -> bool:
        return op.reference_fn is not None or op.name in ("input", "param", "state")

    def claims(self, node: Node) -> bool:
        return self.runs(node.op)

    def memory(self, graph: Graph, profile: CompileProfile, tokens: int) -> MemoryUse:
        wide = np.dtype(self.compute).itemsize
        held = 0
        for value in graph.params.values():
            count = math.prod(size for size in value.shape if isinstance(size, int))
            held += wide * count if value.dtype.is_float else value.dtype.nbytes((count,))
        return MemoryUse(held, largest_stored(graph), None)

    def compile(self, graph: Graph, weights: Weights, profile: CompileProfile) -> ReferenceExecutable:
        check_memory(self.memory(graph, profile, 1).loading)
        params = {v: self._widen(v.node, weights) for v in graph.params.values()}
        return ReferenceExecutable(graph, params)

    def _widen(self, node: Node, weights: Weights) -> Array:
        dtype, array = node.attrs["dtype"], weights.read(node.attrs["key"])
        if dtype.packed:
            array = dequantize(dtype, array)
        shape = node.attrs["shape"]
        if array.shape != shape:
            message = f"weight {node.attrs['key']!r} is read as {list(array.shape)}, not {list(shape)}"
            raise BackendError(message, code="RLX-B004", hint="build the flow again with these weights")
        return array.astype(self.compute, copy=False) if dtype.is_float else array
