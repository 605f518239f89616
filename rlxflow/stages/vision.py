"""From the patches of images to tokens, and the pooling of SigLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlxflow.dtypes import f32, i64
from rlxflow.flow.emit import Emit
from rlxflow.ir.values import Value
from rlxflow.ops.attention import attention
from rlxflow.ops.blocks import matmul_bias_act
from rlxflow.ops.elementwise import add, cast
from rlxflow.ops.leaves import iota
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import layer_norm
from rlxflow.ops.resize import resize_grid
from rlxflow.ops.shape import broadcast_to, concat, gather, reshape, slice_
from rlxflow.quick_dataclass import dataclass
from rlxflow.stages.ffn import MlpStage
from rlxflow.weights.plan import WeightSpec

if TYPE_CHECKING:
    from rlxflow.flow.vision_config import VisionConfig

Grid = tuple[int, int]


@dataclass(frozen=True)
class PatchTokensStage:
    """Tokens of an image: y[b, s] = patch[b, s] · kernelᵀ + table[s]; patches [B, S, C·P·Q] → [B, S, H].

    A patch is [C, P, Q]; with `{kernel_prefix}.weight` [H, C, P, Q] and `.bias` this is a convolution whose
    stride is its kernel. The table is made of that bias and the position table `positions_key` ([1, N, H], or
    [N, H] where `flat`). With `class_key` [1, 1, H] the first row of each is the class token's, and the patch
    given for it is zero. Where the `grid` of the position table is not that of the images (`wanted`), its
    patches are resized bicubically, as DINOv2 does.
    """

    kernel_prefix: str
    positions_key: str
    hidden_size: int
    channels: int
    patch: Grid
    grid: Grid
    wanted: Grid
    class_key: str | None = None
    flat: bool = False

    @classmethod
    def hf(
        cls,
        kernel_prefix: str,
        positions_key: str,
        config: VisionConfig,
        class_key: str | None = None,
        flat: bool = False,
    ) -> PatchTokensStage:
        """The tokens of a config's images."""
        sizes = (config.hidden_size, config.num_channels)
        grids = (config.patch, config.table_grid, config.grid)
        return cls(kernel_prefix, positions_key, *sizes, *grids, class_key, flat)

    def weights(self) -> tuple[WeightSpec, ...]:
        h, rows = self.hidden_size, self._front + self.grid[0] * self.grid[1]
        specs = [
            WeightSpec(f"{self.kernel_prefix}.weight", (h, self.channels, *self.patch)),
            WeightSpec(f"{self.kernel_prefix}.bias", (h,)),
            WeightSpec(self.positions_key, (rows, h) if self.flat else (1, rows, h)),
        ]
        return (*specs, *(WeightSpec(key, (1, 1, h)) for key in [self.class_key] if key is not None))

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        depth = self.channels * self.patch[0] * self.patch[1]
        kernel = reshape(e.weight(f"{self.kernel_prefix}.weight"), shape=(self.hidden_size, depth))
        return add(linear(x, kernel), gather(self._table(e), iota(size=x.dim(1), dtype=i64)))

    @property
    def _front(self) -> int:
        return 0 if self.class_key is None else 1

    def _table(self, e: Emit) -> Value:
        """What a token gets for its place; f32, worked out when weights are loaded."""
        rows = self._front + self.grid[0] * self.grid[1]
        table = reshape(e.weight(self.positions_key), shape=(rows, self.hidden_size))
        patches = slice_(table, axis=0, start=self._front, stop=rows)
        if self.grid != self.wanted:
            patches = resize_grid(patches, old=self.grid, new=self.wanted)
        patches = add(_wide(patches), _wide(e.weight(f"{self.kernel_prefix}.bias")))
        if self.class_key is None:
            return patches
        first = _wide(reshape(e.weight(self.class_key), shape=(1, self.hidden_size)))
        return concat(add(_wide(slice_(table, axis=0, start=0, stop=1)), first), patches, axis=0)


@dataclass(frozen=True)
class AttentionPoolStage:
    """SigLIP's head: p = attention of a learned probe to the tokens; y = p + mlp(LN(p)): [B, N, H] → [B, H].

    The probe asks at every token, and one answer is kept: attention stays one of tokens to tokens.

    Keys below `{prefix}.`: probe [1, 1, H]; attention.in_proj_weight [3H, H] and in_proj_bias, the rows of q,
    k and v; attention.out_proj; layernorm.
    """

    prefix: str
    hidden_size: int
    num_heads: int
    eps: float
    mlp: MlpStage

    def weights(self) -> tuple[WeightSpec, ...]:
        p, h = self.prefix, self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "probe": (1, 1, h),
            "attention.in_proj_weight": (3 * h, h),
            "attention.in_proj_bias": (3 * h,),
            "attention.out_proj.weight": (h, h),
            "attention.out_proj.bias": (h,),
            "layernorm.weight": (h,),
            "layernorm.bias": (h,),
        }
        own = tuple(WeightSpec(f"{p}.{name}", shape) for name, shape in shapes.items())
        return (*own, *self.mlp.weights())

    def emit(self, e: Emit, x: Value | None) -> Value:
        x = e.need(x)
        p, h, heads, batch = self.prefix, self.hidden_size, self.num_heads, x.dim(0)
        joined = [e.weight(f"{p}.attention.in_proj_{kind}") for kind in ("weight", "bias")]
        parts = [[slice_(w, axis=0, start=i * h, stop=(i + 1) * h) for w in joined] for i in range(3)]
        probe = broadcast_to(_wide(e.weight(f"{p}.probe")), shape=x.shape)
        q, k, v = (
            reshape(matmul_bias_act(y, *part), shape=(batch, x.dim(1), heads, h // heads))
            for y, part in zip((probe, x, x), parts, strict=True)
        )
        everywhere = reshape(attention(q, k, v, scale=(h // heads) ** -0.5), shape=x.shape)
        context = slice_(everywhere, axis=1, start=0, stop=1)
        out = [e.weight(f"{p}.attention.out_proj.{kind}") for kind in ("weight", "bias")]
        pooled = matmul_bias_act(context, *out)
        norm = [e.weight(f"{p}.layernorm.{kind}") for kind in ("weight", "bias")]
        y = add(pooled, self.mlp.emit(e, layer_norm(pooled, *norm, eps=self.eps)))
        return reshape(y, shape=(batch, h))


def _wide(weight: Value) -> Value:
    """A weight as f32, however it is stored."""
    return weight if weight.dtype == f32 else cast(weight, dtype=f32)
