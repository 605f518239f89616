"""The lengths of a decoder's call: which inputs hold them, and whether they fit the caches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlxflow.backends.cpu.domain import refuse
from rlxflow.backends.cpu.ragged import Ragged
from rlxflow.backends.rows import validity_inputs
from rlxflow.dtypes import Array, f16, f32
from rlxflow.errors import BackendError
from rlxflow.ir.graph import Graph
from rlxflow.ops.cache import want_lengths

CACHE_OPS = ("cache_append", "cached_attention")


def lengths_inputs(graph: Graph) -> tuple[str, str] | None:
    """The names of past_len and new_len; None for a graph without caches.

    Raises `BackendError` where caches disagree about them, or tokens beyond new_len may matter.
    """
    found: dict[tuple[str, str], None] = {}
    for node in graph.nodes:
        if node.op.name in CACHE_OPS:
            operands = dict(zip(node.op.operand_names, node.operands, strict=True))
            past_len, new_len = operands["past_len"], operands["new_len"]
            assert past_len is not None and new_len is not None
            if past_len.node.op.name != "input" or new_len.node.op.name != "input":
                raise refuse(graph, node, "its lengths are not inputs")
            if node.outputs[0].type.state and node.outputs[0].dtype not in (f32, f16):
                raise refuse(graph, node, f"its cache holds {node.outputs[0].dtype}, not f32 or f16")
            found[past_len.node.attrs["key"], new_len.node.attrs["key"]] = None
    if not graph.states:
        return None
    if len(found) != 1 or validity_inputs(graph) != (next(iter(found))[1],):
        raise BackendError(
            "the CPU backend runs decoders whose tokens are valid up to one new_len",
            code="RLX-B003",
            where=graph.name,
            hint="use the reference backend",
        )
    return next(iter(found))


def positions_of(
    lengths: tuple[str, str] | None, inputs: Mapping[str, Array], ragged: Ragged, capacity: int
) -> Array:
    """The position of every token of the call, i32; there is at least one.

    Raises `InputError` where past_len is negative or a position does not fit the caches.
    """
    if lengths is None:
        return ragged.position
    past = inputs[lengths[0]]
    if ragged.padded or ragged.tokens > ragged.sequences:
        positions = past[ragged.batch_row][ragged.sequence] + ragged.position
    else:  # one token each
        positions = past
    # negative ones are very large
    if np.maximum.reduce(positions.view(f"u{positions.itemsize}")) >= capacity:
        past = past[ragged.batch_row]
        counts = np.diff(ragged.offsets)
        want_lengths(past.astype(np.int64), counts, int(counts.max()), capacity)
    return np.ascontiguousarray(positions, np.int32)
