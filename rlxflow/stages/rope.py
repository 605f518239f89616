"""Rotary position tables."""

from __future__ import annotations

from dataclasses import dataclass

from rlxflow.dtypes import i32
from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.elementwise import add
from rlxflow.ops.leaves import iota
from rlxflow.ops.rope import rope_tables
from rlxflow.ops.rope_frequencies import Scaling
from rlxflow.ops.shape import reshape
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class RopeTablesStage:
    """Install the (cos, sin) tables [B, S, rotary_dim/2] of a decoder under a name.

    Positions are past_len[b] + s. `scaling` holds HF's rope_parameters as sorted pairs; see
    `rlxflow.ops.rope_frequencies`. The active value passes.
    """

    rotary_dim: int
    theta: float
    scaling: Scaling = ()
    table: str = "rope"

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        if self.table in e.state.rope:
            raise e.error(
                "RLX-F018", f"rope tables {self.table!r} are installed twice", "name the second table"
            )
        e.state.failed_rope.add(self.table)  # until it is there, so that no layer reports it again
        past_len, new_len = e.lengths()
        num_tokens = e.need(x).dim(1)
        positions = add(reshape(past_len, shape=(past_len.dim(0), 1)), iota(size=num_tokens, dtype=i32))
        e.state.rope[self.table] = rope_tables(
            positions,
            add(past_len, new_len),
            rotary_dim=self.rotary_dim,
            theta=self.theta,
            scaling=self.scaling,
        )
        e.state.failed_rope.remove(self.table)
        return x
