"""Rotary position tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rlxflow.dtypes import i32
from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.elementwise import add
from rlxflow.ops.leaves import full, iota
from rlxflow.ops.rope import rope_tables
from rlxflow.ops.rope_frequencies import Scaling
from rlxflow.ops.shape import broadcast_to, reshape
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec

if TYPE_CHECKING:
    from rlxflow.flow.rope_config import RopeConfig


@dataclass(frozen=True)
class RopeTablesStage:
    """Install the (cos, sin) tables [B, S, rotary_dim/2] under a name.

    Positions are past_len[b] + s, or s where not `cached` (encoders). `scaling` holds HF's rope_parameters as
    sorted pairs; see `rlxflow.ops.rope_frequencies`. The active value passes.
    """

    rotary_dim: int
    theta: float
    scaling: Scaling = ()
    table: str = "rope"
    cached: bool = True

    @classmethod
    def of(cls, rope: RopeConfig, table: str = "rope", cached: bool = True) -> Self:
        """With the settings of a config."""
        return cls(rope.rotary_dim, rope.theta, rope.scaling, table, cached)

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        if self.table in e.state.rope:
            raise e.error(
                "RLX-F018", f"rope tables {self.table!r} are installed twice", "name the second table"
            )
        e.state.failed_rope.add(self.table)  # until it is there, so that no layer reports it again
        positions, lengths = self._positions(e, e.need(x))
        e.state.rope[self.table] = rope_tables(
            positions,
            lengths,
            rotary_dim=self.rotary_dim,
            theta=self.theta,
            scaling=self.scaling,
        )
        e.state.failed_rope.remove(self.table)
        return x

    def _positions(self, e: Emit, x: Value) -> tuple[Value, Value]:
        """Positions [B, S], and the length of each sequence [B]."""
        batch, num_tokens = x.shape[:2]
        steps = iota(size=num_tokens, dtype=i32)
        if self.cached:
            past_len, new_len = e.lengths()
            return add(reshape(past_len, shape=(batch, 1)), steps), add(past_len, new_len)
        kind = dict(self.scaling).get("rope_type")
        if kind in ("dynamic", "longrope"):
            message = f"rope kind {kind!r} wants lengths, which only a decoder's inputs tell"
            raise e.error("RLX-F031", message, "use another kind")
        return broadcast_to(steps, shape=(batch, num_tokens)), full(value=0.0, dtype=i32, shape=(batch,))
