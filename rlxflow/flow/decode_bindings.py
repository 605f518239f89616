"""`DecodeBindings`: what a decoder flow has bound so far, for stages that write raw graph."""

from __future__ import annotations

from collections.abc import Mapping

from rlxflow.flow.emit import Emit
from rlxflow.ir.graph import State
from rlxflow.ir.values import Value
from rlxflow.quick_dataclass import dataclass


@dataclass(frozen=True)
class DecodeBindings:
    """The inputs and states from which decoding follows.

    `past_len`, `new_len`: i32 [B]; positions, causality and padding follow from them, so there is no mask.
    `rope`: tables by name, (cos, sin) f32 [B, S, rotary_dim/2]. `caches`: cache states by name, in the order
    in which layers wrote them: keys before values, each [B, num_kv_heads, C, head_dim].
    """

    past_len: Value
    new_len: Value
    rope: Mapping[str, tuple[Value, Value]]
    caches: Mapping[str, State]

    @classmethod
    def of(cls, e: Emit) -> DecodeBindings:
        """The bindings at this point of the flow; raises `FlowError` (F005) in a flow that is no decoder."""
        past_len, new_len = e.lengths()
        return cls(past_len, new_len, dict(e.state.rope), dict(e.state.caches))
