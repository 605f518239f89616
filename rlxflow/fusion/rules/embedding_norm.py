"""FuseEmbeddingNorm: the sum of one to three looked-up vectors per token, and its LayerNorm.

ids ──── gather(table) ──── ┐
0,1,2… ─ gather(positions)  add ─ layer_norm ─ y
types ── gather(type_table) ┘
"""

from __future__ import annotations

from rlxflow.dtypes import i64
from rlxflow.fusion.derived import fused_op
from rlxflow.fusion.rule import Rule
from rlxflow.ir.values import Value
from rlxflow.ops.checks import want_rank, want_shape
from rlxflow.ops.elementwise import add
from rlxflow.ops.leaves import iota
from rlxflow.ops.norm import layer_norm
from rlxflow.ops.shape import gather


def _plain_sum(
    ids: Value,
    table: Value,
    weight: Value,
    bias: Value | None,
    positions: Value | None,
    types: Value | None,
    type_table: Value | None,
    *,
    eps: float,
) -> None:
    want_rank("ids", ids, 2)
    for name, rows in (("table", table), ("positions", positions), ("type_table", type_table)):
        if rows is not None:
            want_shape(name, rows, (rows.dim(0), table.dim(1)))
    if types is not None:
        want_shape("types", types, ids.shape)


@fused_op(_plain_sum)
def embedding_norm(
    ids: Value,
    table: Value,
    weight: Value,
    bias: Value | None = None,
    positions: Value | None = None,
    types: Value | None = None,
    type_table: Value | None = None,
    *,
    eps: float,
) -> Value:
    """layer_norm(table[ids[b, s]] + positions[s] + type_table[types[b, s]]).

    ids, types: integer [B, S]; table: [V, H]; positions: [P, H] with P ≥ S; type_table: [T, H]; weight, bias:
    [H]. What is absent is left out of the sum. Result: [B, S, H].
    """
    x = gather(table, ids)
    if positions is not None:
        x = add(x, _positions(positions, ids))
    if types is not None and type_table is not None:
        x = add(x, gather(type_table, types))
    return layer_norm(x, weight, bias, eps=eps)


def _types_first(
    ids: Value,
    table: Value,
    weight: Value,
    bias: Value | None = None,
    positions: Value | None = None,
    types: Value | None = None,
    type_table: Value | None = None,
    *,
    eps: float,
) -> Value:
    """The sum in the order of HF's `BertEmbeddings`."""
    x = gather(table, ids)
    if types is not None and type_table is not None:
        x = add(x, gather(type_table, types))
    if positions is not None:
        x = add(x, _positions(positions, ids))
    return layer_norm(x, weight, bias, eps=eps)


def _positions(table: Value, ids: Value) -> Value:
    return gather(table, iota(size=ids.dim(1), dtype=i64))


embedding_norm.rows(lambda ids, *_, **__: 2)

RULE = Rule(
    "fuse-embedding-norm",
    embedding_norm,
    spellings=(_types_first,),
    together=(("types", "type_table"),),
)
