"""Pre-norm vision layers with the checkpoint names of the original DINOv2 and of Nomic's vision model."""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.blocks import matmul_bias_act
from rlxflow.ops.elementwise import mul
from rlxflow.ops.norm import layer_norm
from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.attention import SelfAttentionSpec, SelfAttentionStage
from rlxflow.stages.encoder import EncoderLayerStage
from rlxflow.stages.ffn import MlpStage
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class VitSelfAttnSpec:
    """Attention of every token to every token: `{prefix}.{qkv}.*` [3H, H] and `{prefix}.{out}.*` [H, H].

    With `bias` both linears have one. Without a mask: an image has no padding.
    """

    prefix: str
    hidden_size: int
    num_heads: int
    qkv: str = "qkv"
    out: str = "proj"
    bias: bool = True

    def attention(self) -> SelfAttentionSpec:
        """The same as a `SelfAttentionSpec`."""
        return SelfAttentionSpec(
            self.prefix,
            hidden_size=self.hidden_size,
            num_heads=self.num_heads,
            num_kv_heads=self.num_heads,
            head_dim=self.hidden_size // self.num_heads,
            qkv_bias=self.bias,
            out_bias=self.bias,
            rope_table=None,
            cached=False,
            projections=(self.qkv,),
            out_projection=self.out,
        )


@dataclass(frozen=True)
class VitSelfAttnStage:
    """out(softmax(q·kᵀ / √head_dim) · v), with q, k and v the parts of qkv(x); x: [B, N, H]."""

    spec: VitSelfAttnSpec

    def weights(self) -> tuple[WeightSpec, ...]:
        return SelfAttentionStage(self.spec.attention()).weights()

    def emit(self, e: Emit, x: Value | None) -> Value:
        return SelfAttentionStage(self.spec.attention()).emit(e, x)


@dataclass(frozen=True)
class LayerScaleStage:
    """x ⊙ γ (arXiv 2103.17239); x: [..., H], γ: [H]."""

    gamma_key: str
    hidden_size: int | None = None

    def weights(self) -> tuple[WeightSpec, ...]:
        return (WeightSpec(self.gamma_key, (self.hidden_size,)),)

    def emit(self, e: Emit, x: Value | None) -> Value:
        return mul(e.need(x), e.weight(self.gamma_key))


@dataclass(frozen=True)
class VisionSwiGluFfnStage:
    """fc2(LN(fc11(x) ⊙ silu(fc12(x)))), all with biases; x: [..., H]; keys `{prefix}.fc11|fc12|norm|fc2`."""

    prefix: str
    hidden_size: int | None = None
    intermediate_size: int | None = None
    eps: float = 1e-6

    def weights(self) -> tuple[WeightSpec, ...]:
        n, h, p = self.intermediate_size, self.hidden_size, self.prefix
        shapes = {"fc11": (n, h), "fc12": (n, h), "fc2": (h, n)}
        specs = [WeightSpec(f"{p}.{name}.weight", shape) for name, shape in shapes.items()]
        specs += [WeightSpec(f"{p}.{name}.bias", shape[:1]) for name, shape in shapes.items()]
        return (*specs, *(WeightSpec(f"{p}.norm.{kind}", (n,)) for kind in ("weight", "bias")))

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        (up, gate, down, norm) = (
            [e.weight(f"{self.prefix}.{name}.{kind}") for kind in ("weight", "bias")]
            for name in ("fc11", "fc12", "fc2", "norm")
        )
        gated = matmul_bias_act(x, *gate, activation="silu")
        return matmul_bias_act(layer_norm(mul(matmul_bias_act(x, *up), gated), *norm, eps=self.eps), *down)


def dinov2_layer_fused(index: int, hidden_size: int, num_heads: int, eps: float) -> EncoderLayerStage:
    """Layer `blocks.{index}` of DINOv2's original checkpoints: LayerScale, MLP with exact GELU.

    It emits what rules fuse, like every stage; the name is that of older flows.
    """
    p = f"blocks.{index}"
    mlp = MlpStage(f"{p}.mlp.fc1.weight", f"{p}.mlp.fc2.weight", hidden_size=hidden_size)
    attention = VitSelfAttnSpec(f"{p}.attn", hidden_size, num_heads).attention()
    scales = (f"{p}.ls1.gamma", f"{p}.ls2.gamma")
    return _pre_norm(p, attention, mlp, hidden_size, eps, scales)


def nomic_vision_layer_fused(index: int, hidden_size: int, num_heads: int, eps: float) -> EncoderLayerStage:
    """Layer `layers.{index}` of Nomic's vision model: no LayerScale, a SwiGLU with a norm inside."""
    p = f"layers.{index}"
    attention = VitSelfAttnSpec(f"{p}.attn", hidden_size, num_heads, "Wqkv", "out_proj").attention()
    return _pre_norm(p, attention, VisionSwiGluFfnStage(f"{p}.mlp", hidden_size, eps=eps), hidden_size, eps)


def _pre_norm(
    prefix: str,
    attention: SelfAttentionSpec,
    mlp: MlpStage | VisionSwiGluFfnStage,
    hidden_size: int,
    eps: float,
    scales: tuple[str, str] | None = None,
) -> EncoderLayerStage:
    norms = (f"{prefix}.norm1", f"{prefix}.norm2")
    return EncoderLayerStage(
        SelfAttentionStage(attention), mlp, norms, hidden_size, eps, pre_norm=True, scales=scales
    )
