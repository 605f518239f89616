"""Self attention as a stage of its own: projections, rotary positions, attention, output projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from rlxflow.flow.emit import Emit
from rlxflow.flow.layer_protocols import KvCacheContract
from rlxflow.ir.dims import shape
from rlxflow.ir.values import Value
from rlxflow.ops.attention import attention, cached_attention
from rlxflow.ops.blocks import matmul_bias_act
from rlxflow.ops.norm import rms_norm
from rlxflow.ops.rope import rope
from rlxflow.ops.shape import reshape, slice_
from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.stream import load
from rlxflow.weights.plan import WeightSpec

if TYPE_CHECKING:
    from rlxflow.flow.encoder_config import EncoderConfig


@dataclass(frozen=True)
class SelfAttentionSpec:
    """Sizes, switches and keys of one attention: `{prefix}.q_proj|k_proj|v_proj|o_proj.weight|bias`.

    Causal over a key/value cache, as decoders want it; with `mask_input` (an integer input [B, S], non-zero =
    valid) or not `cached`, over the call's own tokens in both directions. `head_dim` need not be
    hidden_size / num_heads. `scale` defaults to head_dim^-1/2; `softcap` c > 0 turns scores s into
    c · tanh(s / c). `qk_norm_eps` gives each head of q and k an RMSNorm (`{prefix}.q_norm|k_norm.weight`),
    with `qk_norm_whole` one over all heads, and with `qk_norm_offset` by 1 + w. `window` > 0 limits attention
    to that many positions (in each direction, where not causal). Without `rope_table` there is no rotary
    embedding.

    With `sinks` every query also sees one score of its head's own, `{prefix}.sinks`, that has no value (HF's
    gpt-oss).

    `projections` are the names of the query, key and value projections, or one name where a checkpoint holds
    their rows in one weight. `position_bias` names a stream, [num_heads, S, S], that is added to the scores.
    """

    prefix: str
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm_eps: float | None = None
    qk_norm_whole: bool = False
    qk_norm_offset: bool = False
    window: int = 0
    scale: float | None = None
    softcap: float = 0.0
    sinks: bool = False
    interleaved_rope: bool = False
    rope_table: str | None = "rope"
    mask_input: str | None = None
    cached: bool = True
    projections: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    out_projection: str = "o_proj"
    position_bias: str | None = None

    @classmethod
    def encoder(
        cls, prefix: str, config: EncoderConfig, names: tuple[str, ...], bias: bool = True, **switches: Any
    ) -> Self:
        """Of every token to every token, with the sizes of a config, biases and no rotary embedding.

        `names` are the projections (three, or one for all), then the output projection; `switches` any
        further fields, by name.
        """
        heads = config.num_attention_heads
        usual: dict[str, Any] = {"qkv_bias": bias, "out_bias": bias, "rope_table": None, "cached": False}
        usual |= {"projections": names[:-1], "out_projection": names[-1]}
        return cls(prefix, config.hidden_size, heads, heads, config.head_size, **{**usual, **switches})

    @property
    def has_cache(self) -> bool:
        return self.cached and self.mask_input is None


@dataclass(frozen=True)
class SelfAttentionStage:
    """o(softmax(scale · q·kᵀ) · v), with q, k, v projected from x and q, k rotated; x: [B, S, H]."""

    spec: SelfAttentionSpec

    def weights(self) -> tuple[WeightSpec, ...]:
        s = self.spec
        rows = self._rows()
        if len(s.projections) == 1:
            rows = [sum(rows)]
        linears = [(name, n, s.hidden_size, s.qkv_bias) for name, n in zip(s.projections, rows, strict=True)]
        linears.append((s.out_projection, s.hidden_size, s.num_heads * s.head_dim, s.out_bias))
        specs = []
        for name, n, k, bias in linears:
            specs.append(WeightSpec(f"{s.prefix}.{name}.weight", (n, k)))
            if bias:
                specs.append(WeightSpec(f"{s.prefix}.{name}.bias", (n,)))
        if s.qk_norm_eps is not None:
            for name, n in zip("qk", self._rows(), strict=False):
                width = n if s.qk_norm_whole else s.head_dim
                specs.append(WeightSpec(f"{s.prefix}.{name}_norm.weight", (width,)))
        if s.sinks:
            specs.append(WeightSpec(f"{s.prefix}.sinks", (s.num_heads,)))
        return tuple(specs)

    def cache_contract(self) -> KvCacheContract | None:
        """The states that hold keys and values; None where there is no cache."""
        s = self.spec
        if not s.has_cache:
            return None
        return KvCacheContract(
            f"{s.prefix}.k", f"{s.prefix}.v", shape(("B", s.num_kv_heads, "C", s.head_dim))
        )

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        s = self.spec
        if s.num_kv_heads <= 0 or s.num_heads % s.num_kv_heads:
            message = f"{s.num_kv_heads} key heads do not divide {s.num_heads} query heads"
            raise e.error("RLX-F022", message, "choose num_kv_heads so that it divides num_heads")
        q, k = self._rotated(e, x, 0, s.num_heads), self._rotated(e, x, 1, s.num_kv_heads)
        context = self._attend(e, q, k, self._heads(e, x, 2, s.num_kv_heads))
        merged = reshape(context, shape=(x.dim(0), x.dim(1), s.num_heads * s.head_dim))
        key = f"{s.prefix}.{s.out_projection}"
        bias = e.weight(f"{key}.bias") if s.out_bias else None
        return matmul_bias_act(merged, e.weight(f"{key}.weight"), bias)

    def _attend(self, e: Emit, q: Value, k: Value, v: Value) -> Value:
        s = self.spec
        scale = s.head_dim**-0.5 if s.scale is None else s.scale
        sinks = e.weight(f"{s.prefix}.sinks") if s.sinks else None
        attrs: dict[str, Any] = {"scale": scale, "window": s.window, "softcap": s.softcap}
        if not s.has_cache:
            mask = None if s.mask_input is None else e.input(s.mask_input)
            bias = None if s.position_bias is None else load(e, s.position_bias)
            return attention(q, k, v, mask, bias, sinks, **attrs)
        keys = e.append_to_cache(f"{s.prefix}.k", k)
        values = e.append_to_cache(f"{s.prefix}.v", v)
        past_len, new_len = e.lengths()
        return cached_attention(q, keys, values, past_len, new_len, sinks, **attrs)

    def _rotated(self, e: Emit, x: Value, role: int, num_heads: int) -> Value:
        s = self.spec
        if s.qk_norm_whole:
            heads = self._split(self._normed(e, self._projected(e, x, role), role), num_heads)
        else:
            heads = self._normed(e, self._heads(e, x, role, num_heads), role)
        if s.rope_table is None:
            return heads
        cos, sin = e.rope_tables(s.rope_table)
        return rope(heads, cos, sin, interleaved=s.interleaved_rope)

    def _normed(self, e: Emit, x: Value, role: int) -> Value:
        s = self.spec
        if s.qk_norm_eps is None:
            return x
        weight = e.weight(f"{s.prefix}.{'qk'[role]}_norm.weight")
        return rms_norm(x, weight, eps=s.qk_norm_eps, unit_offset=s.qk_norm_offset)

    def _heads(self, e: Emit, x: Value, role: int, num_heads: int) -> Value:
        return self._split(self._projected(e, x, role), num_heads)

    def _split(self, x: Value, num_heads: int) -> Value:
        return reshape(x, shape=(x.dim(0), x.dim(1), num_heads, self.spec.head_dim))

    def _projected(self, e: Emit, x: Value, role: int) -> Value:
        bias = self._part(e, role, "bias") if self.spec.qkv_bias else None
        return matmul_bias_act(x, self._part(e, role, "weight"), bias)

    def _part(self, e: Emit, role: int, kind: str) -> Value:
        """The weight or bias of the query (0), key (1) or value (2) projection."""
        names = self.spec.projections
        if len(names) == 3:
            return e.weight(f"{self.spec.prefix}.{names[role]}.{kind}")
        rows = self._rows()
        start = sum(rows[:role])
        joined = e.weight(f"{self.spec.prefix}.{names[0]}.{kind}")
        return slice_(joined, axis=0, start=start, stop=start + rows[role])

    def _rows(self) -> list[int]:
        """Rows of the query, key and value projections."""
        s = self.spec
        return [s.num_heads * s.head_dim, s.num_kv_heads * s.head_dim, s.num_kv_heads * s.head_dim]
