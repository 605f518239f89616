"""Can the sequences of a batch run one by one? And how many tokens of each are real?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.ir.dims import Dim, dim
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Value

BATCH, TOKENS = dim("B"), dim("S")


def batch_independent(graph: Graph) -> bool:
    """True when row b of every output depends only on row b of the inputs and states.

    Follows the rows facts of the ops: a node may read values that depend on the batch only along axis 0,
    and must keep them apart there.
    """
    dependent: set[Value] = set()
    for node in graph.nodes:
        reads = [v for v in node.inputs if v in dependent]
        leaf = node.op.name in ("input", "state")
        if not reads and not leaf:
            continue
        if reads and (node.op.rows_fn is None or node.op.rows_fn(*node.operands, **node.attrs) < 1):
            return False
        if any(v.rank == 0 or v.dim(0) != BATCH for v in (*reads, *node.outputs)):
            return False
        dependent.update(node.outputs)
    return all(v in dependent for v in graph.outputs.values())


def token_spans(graph: Graph, inputs: Mapping[str, Array], batch: int, tokens: int) -> list[slice]:
    """Where each row's tokens are: from the first to the last that a mask calls valid, or the first new_len.

    Padding on either side is cut off, so positions count from a sequence's first token; holes stay.
    """
    start, stop = np.zeros(batch, int), np.full(batch, tokens)
    for name, value in graph.inputs.items():
        readers = {(n.op.name, n.operands.index(value)) for n in graph.users.get(value, ())}
        if value.shape == (BATCH, TOKENS) and readers & {("attention", 3), ("mean_pool", 1)}:
            valid = inputs[name] != 0
            start = np.maximum(start, valid.argmax(1) if tokens else 0)
            stop = np.minimum(
                stop, np.where(valid.any(1), tokens - valid[:, ::-1].argmax(1), 0) if tokens else 0
            )
        elif readers & {("cached_attention", 4), ("cache_append", 3)}:
            stop = np.minimum(stop, inputs[name])
    return [slice(int(a), int(b)) for a, b in zip(start, stop, strict=True)]


def cut(array: Array, shape: tuple[Dim, ...], row: int, span: slice) -> Array:
    """Row `row` of an input or output as a batch of one, its tokens (if it has any) cut to `span`."""
    part = array[row : row + 1] if shape and shape[0] == BATCH else array
    return part[:, span] if len(shape) > 1 and shape[1] == TOKENS else part
