"""Can the sequences of a batch run one by one? And how many tokens of each are real?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.errors import InputError
from rlxflow.ir.dims import Shape, dim, names
from rlxflow.ir.graph import Graph
from rlxflow.ir.values import Node, Value

BATCH, TOKENS = dim("B"), dim("S")


def batch_independent(graph: Graph) -> bool:
    """True when row b of every output depends only on row b of the inputs and states.

    Follows the rows facts of the ops: a node may read values that depend on the batch only along axis 0,
    and must keep them apart there.
    """
    dependent: set[Value] = set()
    for node in graph.nodes:
        reads = [v for v in node.inputs if v in dependent]
        leaf = node.op.name in ("input", "state") and _mentions(node.outputs[0].shape, "B")
        if not reads and not leaf:
            continue
        if reads and rows_of(node) < 1:
            return False
        if any(v.rank == 0 or v.dim(0) != BATCH for v in (*reads, *node.outputs)):
            return False
        dependent.update(node.outputs)
    return bool(dependent) and all(v in dependent for v in graph.outputs.values())


def rows_of(node: Node) -> int:
    """How many leading axes of a node are independent; 0 for an op that does not say."""
    return 0 if node.op.rows_fn is None else node.op.rows_fn(*node.operands, **node.attrs)


def validity_inputs(graph: Graph) -> tuple[str, ...]:
    """The inputs (masks, token counts) that together say which tokens matter; empty where all may.

    A token may be left out only if every op that mixes tokens ignores it. So each such op must name a mask
    [B, S] or a count [B] among the inputs, and everything else must treat tokens one by one.
    """
    if any(_mentions(v.shape, "S", but=TOKENS) for v in (*graph.inputs.values(), *graph.outputs.values())):
        return ()
    by_value = {v: name for name, v in graph.inputs.items()}
    found: dict[str, None] = {}
    dependent = {v for v in graph.inputs.values() if TOKENS in v.shape}
    dependent |= {s.before for s in graph.states}
    for node in graph.nodes:
        reads = [v for v in node.inputs if v in dependent]
        if not reads:
            continue
        dependent.update(node.outputs)
        if node.op.validity is not None:
            source = node.operands[node.op.operand_names.index(node.op.validity)]
            if source not in by_value or source.shape not in ((BATCH, TOKENS), (BATCH,)):
                return ()
            found[by_value[source]] = None
        elif any(_mentions(v.shape, "S") for v in reads) and not _token_wise(node):
            return ()
    counts_only = all(graph.inputs[name].rank == 1 for name in found)
    if not counts_only and any(n.op.name == "select_token" for n in graph.nodes):
        return ()  # an index counts from the first column, which a mask may cut off
    return tuple(found)


def _token_wise(node: Node) -> bool:
    """Whether a node keeps tokens apart, or picks one that stays where it is."""
    first = node.op.name == "slice" and node.attrs == {"axis": 1, "start": 0, "stop": 1}
    return first or node.op.name == "select_token" or rows_of(node) >= 2


def _mentions(shape: Shape, name: str, but: object = None) -> bool:
    return any(name in names(d) and d != but for d in shape)


def token_spans(
    validity: tuple[str, ...], inputs: Mapping[str, Array], batch: int, tokens: int
) -> list[slice]:
    """Where each row's tokens are: from the first to the last one that any mask or count calls valid.

    Padding on either side is cut off, so positions count from a sequence's first token; holes stay.
    """
    if not validity:
        return [slice(0, tokens)] * batch
    valid = np.zeros((batch, tokens), bool)
    for name in validity:
        array = inputs[name]
        if array.ndim == 1 and ((array < 0) | (array > tokens)).any():
            message = f"{name} is {array.tolist()}, of {tokens} tokens"
            raise InputError(message, code="RLX-R008", hint=f"give numbers from 0 to {tokens}")
        valid |= np.arange(tokens) < array[:, None] if array.ndim == 1 else array != 0
    columns = (np.flatnonzero(row) for row in valid)
    return [slice(int(c[0]), int(c[-1]) + 1) if c.size else slice(0, 0) for c in columns]


def cut(array: Array, shape: Shape, row: int, span: slice) -> Array:
    """Row `row` of an input or output as a batch of one, its token axes cut to `span`."""
    index = {BATCH: slice(row, row + 1), TOKENS: span}
    return array[tuple(index.get(d, slice(None)) for d in shape)]
