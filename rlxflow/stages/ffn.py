"""Feed-forward networks."""

from __future__ import annotations

from rlxflow.flow.emit import Emit
from rlxflow.ir.dims import UNKNOWN, Shape
from rlxflow.ir.values import Value
from rlxflow.ops.activation import Activation
from rlxflow.ops.blocks import gated_mlp, matmul_bias_act
from rlxflow.ops.elementwise import mul
from rlxflow.ops.shape import slice_
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.plan import WeightSpec


@dataclass(frozen=True)
class GatedMlpStage:
    """(act(x · gateᵀ) ⊙ (x · upᵀ)) · downᵀ: SwiGLU with silu, GeGLU with gelu_tanh (arXiv 2002.05202).

    x: [..., H]; gate, up: [intermediate_size, H]; down: [H, intermediate_size]. With `bias`, each of the
    three has one under the key `….bias`. Without `up_key`, the weight `gate_key` holds the rows of gate, then
    those of up, and `intermediate_size` must be given.
    """

    gate_key: str
    up_key: str | None
    down_key: str
    intermediate_size: int | None = None
    activation: Activation = "silu"
    bias: bool = False
    hidden_size: int | None = None

    @classmethod
    def hf(
        cls,
        prefix: str,
        intermediate_size: int | None = None,
        activation: Activation = "silu",
        bias: bool = False,
        hidden_size: int | None = None,
    ) -> GatedMlpStage:
        """Keys `{prefix}.gate_proj|up_proj|down_proj.weight`, as in HF's `LlamaMLP`."""
        gate, up, down = (f"{prefix}.{name}_proj.weight" for name in ("gate", "up", "down"))
        return cls(gate, up, down, intermediate_size, activation, bias, hidden_size)

    def weights(self) -> tuple[WeightSpec, ...]:
        n, h = self.intermediate_size, self.hidden_size
        shapes = [(self.gate_key, (n, h)), (self.down_key, (h, n))]
        if self.up_key is not None:
            shapes.insert(1, (self.up_key, (n, h)))
        elif n is not None:
            shapes[0] = (self.gate_key, (2 * n, h))
        specs = tuple(WeightSpec(key, shape) for key, shape in shapes)
        if not self.bias:
            return specs
        return specs + tuple(WeightSpec(_bias_key(key), shape[:1]) for key, shape in shapes)

    def intermediate_shape(self, hidden: Shape) -> Shape:
        return intermediate_shape(hidden, self.intermediate_size)

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        gate, up = self._gate_and_up(e, "weight")
        down = e.weight(self.down_key)
        if not self.bias:
            return gated_mlp(x, gate, up, down, activation=self.activation)
        gate_bias, up_bias = self._gate_and_up(e, "bias")
        gated = matmul_bias_act(x, gate, gate_bias, activation=self.activation)
        inner = mul(gated, matmul_bias_act(x, up, up_bias))
        return matmul_bias_act(inner, down, e.weight(_bias_key(self.down_key)))

    def _gate_and_up(self, e: Emit, kind: str) -> tuple[Value, Value]:
        key_of = _bias_key if kind == "bias" else str
        gate = e.weight(key_of(self.gate_key))
        if self.up_key is not None:
            return gate, e.weight(key_of(self.up_key))
        n = self.intermediate_size
        if n is None:
            message = f"{self.gate_key!r} holds gate and up, and nothing says where up begins"
            raise e.error("RLX-F030", message, "give intermediate_size")
        return slice_(gate, axis=0, start=0, stop=n), slice_(gate, axis=0, start=n, stop=2 * n)


def intermediate_shape(hidden: Shape, intermediate_size: int | None) -> Shape:
    """The shape between two projections."""
    return (*hidden[:-1], UNKNOWN if intermediate_size is None else intermediate_size)


def _bias_key(weight_key: str) -> str:
    return weight_key.removesuffix(".weight") + ".bias"


@dataclass(frozen=True)
class MlpStage:
    """act(x · w₁ᵀ + b₁) · w₂ᵀ + b₂; x: [..., H], w₁: [intermediate_size, H], w₂: [H, intermediate_size]."""

    in_key: str
    out_key: str
    intermediate_size: int | None = None
    activation: Activation = "gelu"
    hidden_size: int | None = None

    @classmethod
    def hf_bert(
        cls,
        prefix: str,
        intermediate_size: int | None = None,
        activation: Activation = "gelu",
        hidden_size: int | None = None,
    ) -> MlpStage:
        """Keys `{prefix}.intermediate.dense.*` and `{prefix}.output.dense.*`."""
        in_key, out_key = f"{prefix}.intermediate.dense.weight", f"{prefix}.output.dense.weight"
        return cls(in_key, out_key, intermediate_size, activation, hidden_size)

    def weights(self) -> tuple[WeightSpec, ...]:
        n, h = self.intermediate_size, self.hidden_size
        return (
            WeightSpec(self.in_key, (n, h)),
            WeightSpec(_bias_key(self.in_key), (n,)),
            WeightSpec(self.out_key, (h, n)),
            WeightSpec(_bias_key(self.out_key), (h,)),
        )

    def intermediate_shape(self, hidden: Shape) -> Shape:
        return intermediate_shape(hidden, self.intermediate_size)

    def emit(self, e: Emit, x: Value | None) -> Value:
        in_bias, out_bias = e.weight(_bias_key(self.in_key)), e.weight(_bias_key(self.out_key))
        hidden = matmul_bias_act(e.need(x), e.weight(self.in_key), in_bias, activation=self.activation)
        return matmul_bias_act(hidden, e.weight(self.out_key), out_bias)
