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


def token_counts(graph: Graph, inputs: Mapping[str, Array], batch: int, tokens: int) -> list[int]:
    """How many leading tokens of each row matter: up to the last one that a mask or new_len calls valid."""
    lengths = np.full(batch, tokens)
    for name, value in graph.inputs.items():
        readers = {(n.op.name, n.operands.index(value)) for n in graph.users.get(value, ())}
        if value.shape == (BATCH, TOKENS) and readers & {("attention", 3), ("mean_pool", 1)}:
            valid = inputs[name] != 0
            lengths = np.minimum(lengths, np.where(valid.any(1), tokens - valid[:, ::-1].argmax(1), 0))
        elif readers & {("cached_attention", 4), ("cache_append", 3)}:
            lengths = np.minimum(lengths, inputs[name])
    return [int(n) for n in lengths]


def cut(array: Array, shape: tuple[Dim, ...], row: int, count: int) -> Array:
    """Row `row` of an input or output as a batch of one, with `count` tokens where it has a token axis."""
    part = array[row : row + 1] if shape and shape[0] == BATCH else array
    return part[:, :count] if len(shape) > 1 and shape[1] == TOKENS else part
