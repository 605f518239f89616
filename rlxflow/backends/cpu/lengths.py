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

CACHE_OPS = ("cache_append", "cached_attention", "gated_delta_rule")


def lengths_inputs(graph: Graph) -> tuple[str | None, str] | None:
    """The names of past_len (None where nobody asks) and new_len; None for a graph without states.

    Raises `BackendError` where caches disagree about them, or tokens beyond new_len may matter.
    """
    past_names: dict[str, None] = {}
    new_names: dict[str, None] = {}
    for node in graph.nodes:
        if node.op.name in CACHE_OPS:
            operands = dict(zip(node.op.operand_names, node.operands, strict=True))
            for name, names in (("past_len", past_names), ("new_len", new_names)):
                value = operands.get(name)
                if value is not None and value.node.op.name != "input":
                    raise refuse(graph, node, "its lengths are not inputs")
                names.update({} if value is None else {value.node.attrs["key"]: None})
            for state in (v for v in node.outputs if v.type.state):
                wanted = (f32,) if node.op.name == "gated_delta_rule" else (f32, f16)
                if state.dtype not in wanted:
                    raise refuse(
                        graph, node, f"its state holds {state.dtype}, not {' or '.join(map(str, wanted))}"
                    )
    if not graph.states:
        return None
    if len(past_names) > 1 or len(new_names) != 1 or validity_inputs(graph) != (*new_names,):
        raise BackendError(
            "the CPU backend runs decoders whose tokens are valid up to one new_len",
            code="RLX-B003",
            where=graph.name,
            hint="use the reference backend",
        )
    return next(iter(past_names), None), next(iter(new_names))


def positions_of(
    lengths: tuple[str | None, str] | None, inputs: Mapping[str, Array], ragged: Ragged, capacity: int
) -> Array:
    """The position of every token of the call, i32; there is at least one.

    Raises `InputError` where past_len is negative or a position does not fit the caches.
    """
    if lengths is None or lengths[0] is None:
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
