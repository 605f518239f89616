"""BERT's post-norm encoder layer (arXiv 1810.04805; HF `BertLayer`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.activation import Activation
from rlxflow.ops.attention import attention
from rlxflow.ops.blocks import matmul_bias_act, residual_layer_norm
from rlxflow.ops.shape import reshape
from rlxflow.stages.norm import old_norm_names
from rlxflow.weights.plan import WeightSpec


class BertQkvStyle(Enum):
    """Where a checkpoint keeps the query, key and value projections of a layer."""

    BERT = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    MPNET = ("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o")

    def __repr__(self) -> str:
        return f"BertQkvStyle.{self.name}"


@dataclass(frozen=True)
class BertEncoderLayerSpec:
    """Sizes and keys of one layer; `attention_mask` names an integer input [B, S], non-zero = valid."""

    layer_prefix: str
    qkv_style: BertQkvStyle
    hidden_size: int
    num_heads: int
    intermediate_size: int | None
    eps: float
    activation: Activation = "gelu"
    attention_mask: str = "attention_mask"

    @classmethod
    def hf(
        cls,
        layer_prefix: str,
        qkv_style: BertQkvStyle,
        *,
        hidden_size: int,
        num_heads: int,
        eps: float,
        intermediate_size: int | None = None,
        activation: Activation = "gelu",
    ) -> BertEncoderLayerSpec:
        """A layer with HF's sizes; without `intermediate_size` the weight file tells it."""
        return cls(layer_prefix, qkv_style, hidden_size, num_heads, intermediate_size, eps, activation)


@dataclass(frozen=True)
class BertEncoderLayerStage:
    """h = LN(x + Attn(x)); y = LN(h + W₂·act(W₁·h + b₁) + b₂); every linear has a bias. x, y: [B, S, H]."""

    spec: BertEncoderLayerSpec

    def weights(self) -> tuple[WeightSpec, ...]:
        h, n = self.spec.hidden_size, self.spec.intermediate_size
        linears: list[tuple[str, int | None, int | None]] = [
            (name, h, h) for name in self.spec.qkv_style.value
        ]
        linears += [("intermediate.dense", n, h), ("output.dense", h, n)]
        norms = (_attention_norm(self.spec.qkv_style), "output.LayerNorm")
        shapes: list[tuple[str, tuple[int | None, ...]]] = []
        for name, rows, columns in linears:
            shapes += [(f"{name}.weight", (rows, columns)), (f"{name}.bias", (rows,))]
        for name in norms:
            shapes += [(f"{name}.weight", (h,)), (f"{name}.bias", (h,))]
        return tuple(
            WeightSpec(
                f"{self.spec.layer_prefix}.{key}", shape, old_norm_names(f"{self.spec.layer_prefix}.{key}")
            )
            for key, shape in shapes
        )

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        with e.scope("attention"):
            attended = self._attention(e, x)
        h = self._norm(e, attended, x, _attention_norm(self.spec.qkv_style))
        with e.scope("mlp"):
            hidden = self._linear(e, h, "intermediate.dense", self.spec.activation)
            out = self._linear(e, hidden, "output.dense")
        return self._norm(e, out, h, "output.LayerNorm")

    def _attention(self, e: Emit, x: Value) -> Value:
        spec = self.spec
        if spec.hidden_size % spec.num_heads:
            message = f"{spec.num_heads} heads do not divide hidden_size {spec.hidden_size}"
            raise e.error("RLX-F022", message, "choose num_heads so that it divides hidden_size")
        head_dim = spec.hidden_size // spec.num_heads
        *projections, out = spec.qkv_style.value
        heads = (x.dim(0), x.dim(1), spec.num_heads, head_dim)
        q, k, v = (reshape(self._linear(e, x, name), shape=heads) for name in projections)
        context = attention(q, k, v, e.input(spec.attention_mask), scale=head_dim**-0.5)
        return self._linear(e, reshape(context, shape=x.shape), out)

    def _linear(self, e: Emit, x: Value, name: str, activation: Activation = "none") -> Value:
        key = f"{self.spec.layer_prefix}.{name}"
        return matmul_bias_act(x, e.weight(f"{key}.weight"), e.weight(f"{key}.bias"), activation=activation)

    def _norm(self, e: Emit, x: Value, residual: Value, name: str) -> Value:
        key = f"{self.spec.layer_prefix}.{name}"
        return residual_layer_norm(
            x, residual, e.weight(f"{key}.weight"), e.weight(f"{key}.bias"), eps=self.spec.eps
        )


def _attention_norm(style: BertQkvStyle) -> str:
    return "attention.LayerNorm" if style is BertQkvStyle.MPNET else "attention.output.LayerNorm"
