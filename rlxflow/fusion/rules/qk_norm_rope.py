"""FuseQkNormRope: RMSNorm of each head of q and k, then rotation, in one op per attention (Qwen3).

q ─ rms_norm ─ rope ──────────── ┐
k ─ rms_norm ─ rope ─ [cache] ── attention
"""

from __future__ import annotations

from rlxflow.fusion.derived import fused_op
from rlxflow.fusion.roles import ATTENTIONS
from rlxflow.fusion.rule import Finder, Proposal, Rule
from rlxflow.ir.values import Node, Value
from rlxflow.ops.cache import cache_append
from rlxflow.ops.norm import rms_norm
from rlxflow.ops.rope import rope


@fused_op()
def qk_norm_rope(
    q: Value,
    k: Value,
    q_norm: Value,
    k_norm: Value,
    cos: Value,
    sin: Value,
    *,
    eps: float,
    unit_offset: bool = False,
    interleaved: bool = False,
) -> tuple[Value, Value]:
    """(rope(rms_norm(q)), rope(rms_norm(k))): see `rms_norm`, over each head, and `rope`.

    q: float [B, S, H, D]; k: float [B, S, Hkv, D]; q_norm, k_norm: [D]; cos, sin: [B, S, R/2];
    results: as q and k.
    """
    q, k = (
        rope(rms_norm(x, w, eps=eps, unit_offset=unit_offset), cos, sin, interleaved=interleaved)
        for x, w in ((q, q_norm), (k, k_norm))
    )
    return q, k


qk_norm_rope.rows(lambda q, *_, **__: 2)


def _query_key(consumer: Node) -> Proposal | str | None:
    q, k = consumer.inputs[:2]
    if k.node.op is cache_append:
        k = k.node.inputs[1]
    ropes = [v.node for v in (q, k) if v.node.op is rope]
    norms = [n.inputs[0].node for n in ropes if n.inputs[0].node.op is rms_norm]
    if not norms:
        return None  # a model without norms on q and k
    if len(norms) < 2:
        return "[op] only one of q and k is normed and rotated"
    if ropes[0].inputs[1:] != ropes[1].inputs[1:]:
        return "[operand] q and k are rotated by different tables"
    if ropes[0].attrs != ropes[1].attrs or norms[0].attrs != norms[1].attrs:
        return "[attribute] q and k are normed or rotated with different settings"
    (q, q_norm), (k, k_norm) = (n.inputs for n in norms)
    attrs = {**norms[0].attrs, **ropes[0].attrs}
    return Proposal((q, k, q_norm, k_norm, *ropes[0].inputs[1:]), attrs)


RULE = Rule("fuse-qk-norm-rope", qk_norm_rope, finders=(Finder(qk_norm_rope, ATTENTIONS, _query_key),))
