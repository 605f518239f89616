"""The scan of a Gated DeltaNet (arXiv 2412.06464), the linear attention of Qwen3-Next and Qwen3.5."""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.ir.dims import Shape
from rlxflow.ir.values import Value
from rlxflow.ops.delta_rule import gated_delta_rule
from rlxflow.ops.leaves import full
from rlxflow.ops.norm import rms_norm
from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.stream import load
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class GdnInputSlots:
    """The streams that a scan reads: q, k [B, S, H, K], v [B, S, H, V]; log decay g and beta [B, S, H]."""

    q: str = "gdn.q"
    k: str = "gdn.k"
    v: str = "gdn.v"
    g: str = "gdn.g"
    beta: str = "gdn.beta"


@dataclass(frozen=True)
class GdnScanStage:
    """S ← e^g·S; S ← S + k·(beta·(v − Sᵀk))ᵀ; y = Sᵀq · K^-1/2, token by token; y: [B, S, H, V].

    S [B, H, K, V] is a state of the flow under `state_key`, zero before a sequence's first token and carried
    from call to call: a prefill may come in chunks, and decoding goes on where it ended. With `qk_l2norm`, q
    and k are divided by √(Σx² + 1e-6) first (HF `l2norm`). `scale` defaults to K^-1/2.
    """

    state_key: str
    slots: GdnInputSlots = GdnInputSlots()
    qk_l2norm: bool = False
    scale: float | None = None

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value:
        slots = self.slots
        q, k, v, g, beta = (load(e, name) for name in (slots.q, slots.k, slots.v, slots.g, slots.beta))
        if self.qk_l2norm:
            q, k = _l2_normed(q), _l2_normed(k)
        key_size = q.dim(-1)
        scale = self.scale
        if scale is None:
            if not isinstance(key_size, int):
                raise e.error("RLX-F060", "q has no fixed size per head", "give scale=…")
            scale = key_size**-0.5
        shape: Shape = (q.dim(0), q.dim(2), key_size, v.dim(-1))
        before = e.new_state(self.state_key, shape)
        _, new_len = e.lengths()
        y, after = gated_delta_rule(q, k, v, g, beta, before, new_len, scale=scale)
        e.carry(self.state_key, before, after)
        return y


def _l2_normed(x: Value) -> Value:
    """x / √(Σx² + 1e-6), as an RMSNorm: Σx² is the mean times the size."""
    size = x.dim(-1)
    assert isinstance(size, int)
    weight = full(value=size**-0.5, dtype=x.dtype, shape=(size,))
    return rms_norm(x, weight, eps=1e-6 / size)
