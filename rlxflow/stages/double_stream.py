"""FLUX's double-stream block: text and image tokens with weights of their own, attending to one another."""

from __future__ import annotations

from rlxflow.dtypes import i32
from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.attention import attention
from rlxflow.ops.blocks import matmul_bias_act
from rlxflow.ops.elementwise import add, mul
from rlxflow.ops.leaves import full
from rlxflow.ops.norm import rms_norm
from rlxflow.ops.rope import rope, rope_tables
from rlxflow.ops.shape import concat, reshape, slice_
from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.ffn import MlpStage
from rlxflow.stages.modulation import modulated, modulation, modulation_weights
from rlxflow.stages.stream import load, store, stream_id
from rlxflow.weights.plan import WeightSpec

PARTS = 6  # shift, scale and gate of the attention, then of the MLP
NORM_EPS = 1e-6


@dataclass(frozen=True)
class _Names:
    """What diffusers calls the parts of a stream."""

    stream: str
    modulation: str
    projections: tuple[str, str, str]
    norms: tuple[str, str]  # of queries and keys
    out: str
    mlp: str


TXT = _Names(
    stream_id.TXT,
    "norm1_context.linear",
    ("add_q_proj", "add_k_proj", "add_v_proj"),
    ("norm_added_q", "norm_added_k"),
    "to_add_out",
    "ff_context",
)
IMG = _Names(stream_id.IMG, "norm1.linear", ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"), "to_out.0", "ff")


@dataclass(frozen=True)
class AxisRopeTablesStage:
    """Rotary tables [B, N, Σ axes/2] of tokens with several coordinates: each axis turns channels of its own.

    `ids_input` names an integer input [B, N, len(axes)]; `axes` are the channels per head of each coordinate.
    The active value passes.
    """

    ids_input: str
    axes: tuple[int, ...]
    theta: float = 10000.0
    table: str = "rope"

    def weights(self) -> tuple[WeightSpec, ...]:
        return ()

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        ids = e.input(self.ids_input)
        lengths = full(value=0.0, dtype=i32, shape=ids.shape[:1])  # of no consequence without scaling
        found = []
        for i, channels in enumerate(self.axes):
            positions = reshape(slice_(ids, axis=2, start=i, stop=i + 1), shape=ids.shape[:2])
            found.append(rope_tables(positions, lengths, rotary_dim=channels, theta=self.theta))
        cos, sin = (concat(*tables, axis=-1) for tables in zip(*found, strict=True))
        e.state.rope[self.table] = cos, sin
        return x


@dataclass(frozen=True)
class DoubleStreamBlockSpec:
    """Sizes of one block; keys are `{prefix}.…` of diffusers' `FluxTransformerBlock`.

    Streams `img` [B, S, H] and `txt` [B, T, H], each with rotary tables of its name; `embedding` names the
    input [B, H] that modulates (time, guidance and pooled text).
    """

    prefix: str
    num_heads: int
    head_dim: int
    mlp_size: int
    eps: float = 1e-6
    embedding: str = "temb"

    @property
    def hidden_size(self) -> int:
        return self.num_heads * self.head_dim


@dataclass(frozen=True)
class DoubleStreamBlockStage:
    """h = x + gate₁ ⊙ out(attention(mod₁(x))); y = h + gate₂ ⊙ mlp(mod₂(h)) on the streams txt and img.

    Tokens of both attend to the tokens of both, the text's first; queries and keys have an RMSNorm per head.
    The active value passes.
    """

    spec: DoubleStreamBlockSpec

    def weights(self) -> tuple[WeightSpec, ...]:
        s, h = self.spec, self.spec.hidden_size
        specs: list[WeightSpec] = []
        for names in (TXT, IMG):
            specs += modulation_weights(f"{s.prefix}.{names.modulation}", h, PARTS)
            for name in (*names.projections, names.out):
                specs.append(WeightSpec(f"{s.prefix}.attn.{name}.weight", (h, h)))
                specs.append(WeightSpec(f"{s.prefix}.attn.{name}.bias", (h,)))
            specs += [WeightSpec(f"{s.prefix}.attn.{name}.weight", (s.head_dim,)) for name in names.norms]
            specs += self._mlp(names).weights()
        return tuple(specs)

    def emit(self, e: Emit, x: Value | None) -> Value | None:
        s = self.spec
        embedding = e.input(s.embedding)
        streams = [(names, load(e, names.stream)) for names in (TXT, IMG)]
        mods = [modulation(e, embedding, f"{s.prefix}.{n.modulation}", PARTS) for n, _ in streams]
        with e.scope("attention"):
            heads = [
                self._heads(e, modulated(y, mod[0], mod[1], NORM_EPS), names)
                for (names, y), mod in zip(streams, mods, strict=True)
            ]
            keys, values = (concat(*(h[i] for h in heads), axis=1) for i in (1, 2))
            contexts = [attention(h[0], keys, values, scale=s.head_dim**-0.5) for h in heads]
        for (names, y), mod, context in zip(streams, mods, contexts, strict=True):
            with e.scope(names.stream):
                merged = reshape(context, shape=y.shape)
                h = add(y, mul(mod[2], self._linear(e, merged, names.out)))
                inner = self._mlp(names).emit(e, modulated(h, mod[3], mod[4], NORM_EPS))
                store(e, names.stream, add(h, mul(mod[5], inner)))
        return x

    def _heads(self, e: Emit, x: Value, names: _Names) -> list[Value]:
        """Queries, keys and values [B, tokens, num_heads, head_dim]; the first two normed and rotated."""
        s = self.spec
        shape = (x.dim(0), x.dim(1), s.num_heads, s.head_dim)
        heads = [reshape(self._linear(e, x, name), shape=shape) for name in names.projections]
        cos, sin = e.rope_tables(names.stream)
        for i, norm in enumerate(names.norms):
            normed = rms_norm(heads[i], e.weight(f"{s.prefix}.attn.{norm}.weight"), eps=s.eps)
            heads[i] = rope(normed, cos, sin, interleaved=True)
        return heads

    def _linear(self, e: Emit, x: Value, name: str) -> Value:
        key = f"{self.spec.prefix}.attn.{name}"
        return matmul_bias_act(x, e.weight(f"{key}.weight"), e.weight(f"{key}.bias"))

    def _mlp(self, names: _Names) -> MlpStage:
        s, p = self.spec, f"{self.spec.prefix}.{names.mlp}.net"
        keys = (f"{p}.0.proj.weight", f"{p}.2.weight")
        return MlpStage(*keys, s.mlp_size, "gelu_tanh", s.hidden_size)
